"""A server of this test's own and an agent with a home of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.agent import Agent
from edge_agent.config import Config, InstallConfig, NetworkConfig, SourceConfig, SpoolConfig
from tests.edge_agent.publisher import DEVICE, MODEL, Server


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def config(server: Server, tmp_path: Path) -> Config:
    return Config(
        device_id=DEVICE,
        server_url=server.url,
        home=tmp_path / "home",
        models=(MODEL,),
        join_token="join",
        network=NetworkConfig(
            connect_timeout_s=30.0, read_timeout_s=30.0, backoff_base_s=0.01, backoff_max_s=0.05
        ),
        install=InstallConfig(disk_reserve_bytes=0, download_attempts=4, watch_min_inferences=5),
        source=SourceConfig(rate_per_s=200.0),
        spool=SpoolConfig(flush_interval_s=0.05, upload_interval_s=0.1),
    )


@pytest.fixture
def agent(config: Config) -> Iterator[Agent]:
    agent = Agent(config)
    agent.enroll()
    yield agent
    agent.close()

"""One live server for all contract tests."""

from collections.abc import Iterator

import pytest

from tests.live import LiveServer, running_server


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with running_server(tmp_path_factory.mktemp("live"), "contract") as server:
        server.story.publish_first_version()
        yield server

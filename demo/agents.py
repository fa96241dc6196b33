"""The devices: real agents as processes of their own, each with its own directory and inputs."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo import inputs
from demo.stack import REPOSITORY
from servers.kept import run
from servers.patience import QUIET_SECONDS
from servers.processes import ManagedProcess

RECORDS_PER_SECOND = 12.0
SITES = {"lab": 3, "line-a": 3, "line-b": 4}
CANARY_SITE = "lab"
DISTURBED_SITE = "line-b"

_CONFIG = """\
[agent]
device_id = "{device_id}"
server_url = "{server_url}"
home = "state"
attributes = {{ site = "{site}", hardware_class = "demo-cpu" }}

[network]
backoff_base_s = 0.5
backoff_max_s = 2.0

[install]
watch_seconds = 3.0
watch_min_inferences = 10

[source]
path = "inputs.npz"
rate_per_s = {rate}

[spool]
flush_interval_s = 0.5
upload_interval_s = 1.0

[monitor]
telemetry_interval_s = 5.0
sample_interval_s = 2.0
# Every agent shares this one machine, so its load says nothing about one device.
max_cpu_percent = 101.0
max_memory_percent = 101.0

[drift]
check_interval_s = 1.0
fire_latency_ratio = 1000.0
"""


@dataclass(frozen=True)
class DeviceSpec:
    """One device of the demonstration; `seed` orders its images."""

    device_id: str
    site: str
    seed: int


def planned_devices() -> list[DeviceSpec]:
    """Ten devices at three sites; those of the lab are the canaries."""
    rows = [(site, number) for site, count in SITES.items() for number in range(1, count + 1)]
    return [
        DeviceSpec(f"{site}-{number:02d}", site, seed) for seed, (site, number) in enumerate(rows)
    ]


class Agent:
    """One device's agent; `enroll`, `start`, `status` and `stop` are what a person would type."""

    def __init__(self, spec: DeviceSpec, home: Path) -> None:
        self.spec = spec
        self.home = home / spec.device_id
        self.config_path = self.home / "agent.toml"
        self.inputs_path = self.home / "inputs.npz"
        self._process: ManagedProcess | None = None

    @property
    def is_known_here(self) -> bool:
        return (self.home / "state").exists()

    def prepare(self, server_url: str, *, is_disturbed: bool) -> None:
        """Write the configuration and what the device is to see."""
        self.home.mkdir(parents=True, exist_ok=True)
        self.config_path.write_text(
            _CONFIG.format(
                device_id=self.spec.device_id,
                server_url=server_url,
                site=self.spec.site,
                rate=RECORDS_PER_SECOND,
            ),
            encoding="utf-8",
        )
        self.feed(is_disturbed=is_disturbed)

    def feed(self, *, is_disturbed: bool) -> None:
        images = inputs.held_out_digits(self.spec.seed)
        if is_disturbed:
            images = inputs.disturb(images, self.spec.seed)
        inputs.write_inputs(self.inputs_path, images)

    def enroll(self, join_token: str) -> None:
        # In the environment, so that the token is in no list of processes.
        answer = self._call("enroll", extra_environment={"AVIARY_JOIN_TOKEN": join_token})
        if answer.returncode:
            raise RuntimeError(f"{self.spec.device_id} could not enrol: {answer.stderr[-600:]}")

    def start(self) -> None:
        self._process = ManagedProcess(
            self.spec.device_id,
            self._command("run"),
            log_path=self.home / "agent.log",
            env=self._environment(),
            cwd=REPOSITORY,
            drop_root=False,
        )

    def stop(self) -> None:
        if self._process is not None:
            # It sends what it holds before it ends.
            self._process.stop(timeout_seconds=QUIET_SECONDS)

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.is_running()

    def status(self) -> dict[str, Any]:
        """What `status --json` prints."""
        answer = self._call("status", "--json")
        if answer.returncode:
            raise RuntimeError(f"{self.spec.device_id} gave no status: {answer.stderr[-600:]}")
        return dict(json.loads(answer.stdout))

    def running_version(self, model: str) -> str | None:
        """The version this device says it runs, or None."""
        models = self.status().get("models", {})
        return models.get(model, {}).get("version")

    def _command(self, *arguments: str) -> list[str]:
        return [
            sys.executable, "-m", "edge_agent", "--config", str(self.config_path), *arguments,
        ]  # fmt: skip

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}

    def _call(
        self, *arguments: str, extra_environment: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        environment = {**self._environment(), **(extra_environment or {})}
        return run(self._command(*arguments), cwd=REPOSITORY, env=environment)

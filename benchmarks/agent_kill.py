"""Kills a real agent at random moments while releases arrive, and looks at its disk each time.

`python -m benchmarks.agent_kill --kills 500` prints one line of JSON; the exit status is 1 after
any violation. The looking is done without the agent's own code: digests, signatures and state are
read from the files. Half of the kills take the agent alone, half its self-test with it.
"""

import argparse
import base64
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from nacl.exceptions import BadSignatureError

from tests.edge_agent.publisher import DEVICE, MANIFEST_KEY, MODEL, Server, make_golden, make_model

REPOSITORY = Path(__file__).resolve().parent.parent
MAX_TRIES = 3
SETTINGS = """\
[agent]
device_id = "{device}"
server_url = "{url}"
home = "home"
models = ["{model}"]
join_token = "join"
log_level = "WARNING"
[network]
backoff_base_s = 0.05
backoff_max_s = 0.2
[install]
disk_reserve_bytes = 0
watch_min_inferences = 5
watch_seconds = 0.5
[source]
path = "inputs.npz"
rate_per_s = 50.0
[spool]
flush_interval_s = 0.1
upload_interval_s = 0.2
"""


@dataclass
class Findings:
    kills: int = 0
    during_trial: int = 0
    during_download: int = 0
    commits: int = 0
    given_up: int = 0
    violations: list[str] = field(default_factory=list)


class Soak:
    def __init__(self, folder: Path, *, seed: int) -> None:
        self.random = random.Random(seed)
        self.folder = folder
        self.home = folder / "home"
        self.server = Server()
        self.good: set[str] = set()
        self.newest_good = ""
        self.releases = 0
        self.tries: dict[str, int] = {}
        self.findings = Findings()
        self._last = ""
        settings = SETTINGS.format(device=DEVICE, url=self.server.url, model=MODEL)
        (folder / "agent.toml").write_text(settings)
        np.savez(folder / "inputs.npz", x=np.ones((8, 4), dtype=np.float32))
        self.server.hooks.append(("/blobs/", self._disturb))

    def play(self, kills: int) -> None:
        self.publish(is_good=True)
        startup_s = self.run_until_current()
        for number in range(1, kills + 1):
            if self.random.random() < 0.5:
                self.publish(is_good=self.random.random() < 0.7)
            self.kill_once(self.random.uniform(0.0, 2.0 * startup_s))
            self.look()
            if number % 50 == 0:
                print(json.dumps({"kills": number, **self.summary()}), file=sys.stderr, flush=True)
        self.publish(is_good=True)
        self.run_until_current()
        self.look()

    def publish(self, *, is_good: bool) -> None:
        self.releases += 1
        model = make_model(seed=self.releases)
        golden = make_golden(model, offset=0.0 if is_good else 0.5)
        padding = self.random.randbytes(200_000)
        digest = self.server.publish(
            model,
            golden=golden,
            extra={"labels.txt": ("labels", padding)},
            counter=self.releases,
            sequence=self.releases,
            version=f"1.{self.releases}.0",
        )
        if is_good:
            self.good.add(digest)
            self.newest_good = digest

    def start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "edge_agent", "--config", str(self.folder / "agent.toml")]
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [*command, "run"],
                cwd=REPOSITORY,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill_once(self, after_s: float) -> None:
        process = self.start()
        time.sleep(after_s)
        if process.poll() is not None:
            self.findings.violations.append(f"the agent ended by itself with {process.returncode}")
        elif self.random.random() < 0.5:
            os.kill(process.pid, signal.SIGKILL)
        else:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self.findings.kills += 1

    def run_until_current(self) -> float:
        """Seconds until the newest good release is current, undisturbed by kills."""
        process, started = self.start(), time.monotonic()
        try:
            while (self.read_model().get("current") or {}).get(
                "manifest_sha256"
            ) != self.newest_good:
                if time.monotonic() - started > 120 or process.poll() is not None:
                    self.findings.violations.append("the agent did not recover by itself")
                    break
                time.sleep(0.02)
            return time.monotonic() - started
        finally:
            process.kill()
            process.wait()

    def read_model(self) -> dict[str, Any]:
        try:
            document = json.loads((self.home / "state.json").read_bytes())
        except FileNotFoundError:
            return {}
        return dict(document["models"].get(MODEL) or {})

    def look(self) -> None:
        """Notes every rule that what lies on the disk now breaks."""
        try:
            model = self.read_model()
        except (ValueError, KeyError) as error:
            self.findings.violations.append(f"state.json cannot be read: {error}")
            return
        for path in (self.home / "blobs").iterdir():
            if hashlib.sha256(path.read_bytes()).hexdigest() != path.name:
                self.findings.violations.append(f"blob {path.name[:12]} holds other bytes")
        current = (model.get("current") or {}).get("manifest_sha256", "")
        if not current:
            self.findings.violations.append("nothing is runnable")
            return
        if current not in self.good:
            self.findings.violations.append(f"a release that fails its test runs: {current[:12]}")
        self._check_release(current)
        self.findings.commits += current != self._last
        self._last = current
        trial = model.get("trial")
        if trial:
            self.findings.during_trial += 1
            self.tries[trial["manifest_sha256"]] = model["tries"]
        self.findings.during_download += any((self.home / "part").iterdir())
        for digest in sorted(self.good & set(model["blocked"])):
            # A release under test at three kills in a row looks like one that kills the device.
            reason = model["blocked"][digest]
            if reason.startswith("self_test_interrupted") and self.tries.get(digest) == MAX_TRIES:
                self.findings.given_up += 1
            else:
                self.findings.violations.append(f"a good release is blocked: {reason}")
            self.good.discard(digest)
            if digest == self.newest_good:
                self.publish(is_good=True)

    def _check_release(self, digest: str) -> None:
        try:
            envelope = json.loads((self.home / "manifests" / f"{digest}.json").read_bytes())
            payload = base64.b64decode(envelope["payload"])
            kind = envelope["payloadType"].encode()
            message = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
            signature = base64.b64decode(envelope["signatures"][0]["sig"])
            MANIFEST_KEY.verify_key.verify(message, signature)
            if hashlib.sha256(payload).hexdigest() != digest:
                raise ValueError("the manifest has another digest")
            for row in json.loads(payload)["files"]:
                data = (self.home / "blobs" / row["sha256"]).read_bytes()
                if hashlib.sha256(data).hexdigest() != row["sha256"]:
                    raise ValueError(f"{row['path']} has another digest")
        except (OSError, ValueError, KeyError, BadSignatureError) as error:
            self.findings.violations.append(f"the current release is not whole: {error}")

    def _disturb(self, request: Any) -> bool:
        """One download in five breaks off after a third."""
        data = self.server.blobs[request.path.removeprefix("/blobs/")]
        if self.random.random() > 0.2 or request.headers.get("Range"):
            return False
        request.send_response(200)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data[: len(data) // 3])
        request.close_connection = True
        return True

    def summary(self) -> dict[str, Any]:
        found = self.findings
        return {
            "kills": found.kills,
            "violations": len(found.violations),
            "releases": self.releases,
            "commits_seen": found.commits,
            "kills_in_a_trial": found.during_trial,
            "kills_in_a_download": found.during_download,
            "given_up_after_three_interrupted_tries": found.given_up,
        }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(Path(folder), seed=arguments.seed)
        try:
            soak.play(arguments.kills)
        finally:
            soak.server.close()
    for violation in soak.findings.violations[:20]:
        print(violation, file=sys.stderr)
    print(json.dumps({"seed": arguments.seed, **soak.summary()}))
    return 1 if soak.findings.violations else 0


if __name__ == "__main__":
    sys.exit(main())

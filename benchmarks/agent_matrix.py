"""Installs the agent's wheel with each Python found, enrols it, runs a model; a table, then JSON.

`python -m benchmarks.agent_matrix WHEEL [python …]`: without names, every `python3.11` to
`python3.14` on the path and below `~/.pyenv/versions` is tried. A real control plane of the
repository's test suite (signed documents over HTTP) answers; pip takes the dependencies from its
own index. Versions that are not found are rows of their own, and no failure.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from tests.edge_agent.publisher import DEVICE, MODEL, Server, make_model

VERSIONS = ("3.11", "3.12", "3.13", "3.14")


def find_interpreters() -> dict[str, str]:
    """Version to an interpreter of it, for those there are."""
    found = {}
    for version in VERSIONS:
        candidates = [shutil.which(f"python{version}")]
        versions = Path.home() / ".pyenv" / "versions"
        candidates += [str(path) for path in sorted(versions.glob(f"{version}.*/bin/python"))]
        for candidate in candidates:
            if candidate and version_of(candidate) == version:
                found[version] = candidate
                break
    return found


def version_of(python: str) -> str:
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True)
    return done.stdout.strip()


def run(*command: str | Path, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"{Path(command[0]).name} {command[1:3]}: {done.stderr[-400:]}")
    return done.stdout


def try_interpreter(python: str, wheel: Path) -> dict[str, Any]:
    """What a person would type on a device of this interpreter, one after the other."""
    server = Server()
    row: dict[str, Any] = {"python": version_of(python)}
    try:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            run(python, "-m", "venv", folder / "venv", cwd=folder)
            pip = [folder / "venv/bin/python", "-m", "pip", "--disable-pip-version-check"]
            run(*pip, "install", "--quiet", wheel, cwd=folder)
            installed = json.loads(run(*pip, "list", "--format", "json", cwd=folder))
            row |= {r["name"]: r["version"] for r in installed if r["name"] == "onnxruntime"}
            agent, config = folder / "venv/bin/aviary-agent", folder / "agent.toml"
            arguments = ["--server", server.url, "--device-id", DEVICE, "--join-token", "join"]
            run(
                agent, "--config", config, "enroll", *arguments,
                "--home", folder / "home", cwd=folder,
            )  # fmt: skip
            server.publish(make_model())
            with config.open("a", encoding="utf-8") as stream:
                stream.write(f'models = ["{MODEL}"]\n')
            run(agent, "--config", config, "sync", cwd=folder)
            np.savez(folder / "x.npz", x=np.ones((3, 4), dtype=np.float32))
            answers = run(agent, "--config", config, "infer", folder / "x.npz", cwd=folder)
            row["inferences"] = len(answers.splitlines())
            doctor = subprocess.run(
                [agent, "--config", config, "doctor"], cwd=folder, capture_output=True, text=True
            )
            row["doctor"] = "ok" if doctor.returncode == 0 else doctor.stdout.strip()[-300:]
    except RuntimeError as error:
        row["error"] = str(error)
    finally:
        server.close()
    return row


def main() -> int:
    if len(sys.argv) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    wheel = Path(sys.argv[1]).resolve()
    found = {version_of(python): python for python in sys.argv[2:]} or find_interpreters()
    rows = [try_interpreter(python, wheel) for python in found.values()]
    missing = [version for version in VERSIONS if version not in found]
    rows += [{"python": version, "error": "not found"} for version in missing]
    print(f"{'Python':8} {'runtime':10} {'inferences':>10}  doctor")
    for row in rows:
        print(
            f"{row['python']:8} {row.get('onnxruntime', '-'):10} {row.get('inferences', '-'):>10}  "
            f"{row.get('doctor', row.get('error', ''))}"
        )
    print(json.dumps({row["python"]: "error" not in row for row in rows}))
    return int(any("error" in row for row in rows if row["python"] in found))


if __name__ == "__main__":
    sys.exit(main())

"""Web servers to be measured: ours, a bare one on the same server, and MLflow."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import urllib3

from servers.processes import ManagedProcess, free_port, is_listening

REPOSITORY = Path(__file__).resolve().parents[2]
MLFLOW = REPOSITORY / ".venv-mlflow" / "bin" / "mlflow"
WORKERS = 2


@contextlib.contextmanager
def aviary(folder: Path, **changes: str) -> Iterator[str]:
    """The product's web server on the servers of the environment; its address."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    line = [sys.executable, "-m", "config.serve", "--port", str(port), "--workers", str(WORKERS)]
    environment = {**os.environ, "AVIARY_PUBLIC_URL": url, "LOG_LEVEL": "WARNING", **changes}
    with _running("web", line, folder, environment, port):
        urllib3.request("GET", f"{url}/readyz", timeout=60, retries=False)
        yield url


@contextlib.contextmanager
def bare(folder: Path, interface: str) -> Iterator[str]:
    """A function that answers an empty 304, on the same server with the same limits.

    Args:
        interface: `rsgi`, which the product speaks, or `wsgi`.
    """
    from config.serve import command

    port = free_port()
    line = command("127.0.0.1", port, WORKERS)
    line[line.index("rsgi")] = interface
    line[-1] = "benchmarks.poll.bare:" + ("application" if interface == "rsgi" else "wsgi")
    with _running(f"bare-{interface}", line, folder, dict(os.environ), port):
        yield f"http://127.0.0.1:{port}/"


@contextlib.contextmanager
def mlflow(folder: Path) -> Iterator[str]:
    """MLflow's server with one model and one alias; the address that answers what it names."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    line = [
        MLFLOW, "server", "--host", "127.0.0.1", "--port", str(port), "--workers", str(WORKERS),
        "--backend-store-uri", f"sqlite:///{folder}/mlflow.sqlite3",
        "--artifacts-destination", folder / "artifacts",
    ]  # fmt: skip
    with _running("mlflow", [str(part) for part in line], folder, dict(os.environ), port):
        api = f"{url}/api/2.0/mlflow"
        _post(f"{api}/registered-models/create", {"name": "shapes"})
        _post(
            f"{api}/model-versions/create",
            {"name": "shapes", "source": "s3://shapes/1"},
        )
        _post(
            f"{api}/registered-models/alias",
            {"name": "shapes", "alias": "champion", "version": "1"},
        )
        yield f"{api}/registered-models/alias?name=shapes&alias=champion"


def has_mlflow() -> bool:
    """True when its environment was made."""
    return shutil.which(str(MLFLOW)) is not None


@contextlib.contextmanager
def _running(
    name: str, line: list[str], folder: Path, environment: dict[str, str], port: int
) -> Iterator[None]:
    process = ManagedProcess(
        name, line, log_path=folder / f"{name}.log", env=environment, cwd=REPOSITORY,
        drop_root=False,
    )  # fmt: skip
    try:
        process.wait_until(lambda: is_listening(port))
        yield
    finally:
        process.stop()


def _post(url: str, body: dict[str, str]) -> None:
    answer = urllib3.request("POST", url, json=body, timeout=60, retries=False)
    if answer.status != 200:
        raise RuntimeError(f"{url} answered {answer.status}: {answer.data!r}")

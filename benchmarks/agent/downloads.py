"""The agent's download, verified and durable, beside a bare stream that is only hashed."""

import hashlib
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import urllib3

from benchmarks.agent.figures import Figure
from edge_agent.config import InstallConfig, NetworkConfig
from edge_agent.control.transport import Transport
from edge_agent.files import DiskFiles, make_dirs
from edge_agent.install.download import Downloader
from edge_agent.releases.state import Layout
from edge_agent.releases.trust import ManifestFile

SIZE_BYTES = 128 << 20
ROUNDS = 15
CHUNK_BYTES = 1 << 20


def measure(folder: Path) -> list[Figure]:
    """The median over rounds of the ratio of the two rates in the same round."""
    content = os.urandom(SIZE_BYTES)
    (folder / "blob").write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    del content
    os.sync()
    # A process of its own: a server in this one would share the interpreter's lock.
    server = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.agent.fileserver", str(folder / "blob")],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    url = server.stdout.readline().strip()
    try:
        limits, rates = [], []
        for number in range(ROUNDS):
            # What earlier rounds and parts left for the disk to do is not this round's work.
            os.sync()
            limits.append(rate_plain(url, sha256))
            rates.append(rate_agent(url, sha256, folder / str(number)))
    finally:
        server.terminate()
        server.wait(timeout=10)
    ratio = statistics.median(ours / limit for ours, limit in zip(rates, limits, strict=True))
    return [
        Figure(
            "download_verify_ratio",
            ratio,
            "",
            f"{statistics.median(rates):,.0f} MB/s to a synced file; urllib3 and SHA-256 with "
            f"nothing written {statistics.median(limits):,.0f} MB/s",
            0.8,
            is_more_better=True,
        )
    ]


def rate_plain(url: str, sha256: str) -> float:
    """MB/s of the stream through SHA-256 and nowhere else."""
    pool = urllib3.PoolManager(retries=False)
    started = time.perf_counter()
    response = pool.request("GET", url, preload_content=False)
    digest = hashlib.sha256()
    for chunk in response.stream(CHUNK_BYTES):
        digest.update(chunk)
    seconds = time.perf_counter() - started
    if digest.hexdigest() != sha256:
        raise RuntimeError("the stream brought other bytes")
    return SIZE_BYTES / seconds / 1e6


def rate_agent(url: str, sha256: str, home: Path) -> float:
    """MB/s of the agent's own downloader: hashed, written, synced, renamed, folder synced."""
    layout, files = Layout(home), DiskFiles()
    for path in layout.folders():
        make_dirs(files, path)
    transport = Transport(NetworkConfig(), user_agent="bench")
    config = InstallConfig(disk_reserve_bytes=0)
    downloader = Downloader(files, layout, transport, config, sleep=lambda failures: None)
    file = ManifestFile("model.onnx", "model", sha256, SIZE_BYTES)
    started = time.perf_counter()
    downloader.fetch(file, lambda is_expired: url)
    seconds = time.perf_counter() - started
    layout.blob(sha256).unlink()
    return SIZE_BYTES / seconds / 1e6

"""Tries a release in a child process: a model that crashes or hangs takes nothing else with it.

The child is `python -m edge_agent.install.examination`.
"""

import dataclasses
import json
import signal
import sys
from pathlib import Path

from edge_agent.config import Config, InferenceConfig, InstallConfig, SandboxConfig
from edge_agent.config.provider_options import PROVIDERS
from edge_agent.files import FileLayer
from edge_agent.install.decisions import SelfTestResult
from edge_agent.releases.bundles import place_files
from edge_agent.releases.state import Layout
from edge_agent.releases.trust import Manifest


def examine_release(
    manifest: Manifest, *, config: Config, layout: Layout, files: FileLayer
) -> SelfTestResult:
    """The verdict on a release that lies in `layout`, whole."""
    golden, images = manifest.golden_file, manifest.processor_golden_file
    guest = manifest.file_of_role("processor")
    return run_self_test(
        files.read(layout.manifest(manifest.digest)) or b"",
        model_path=place_files(manifest, layout, files),
        golden_path=layout.blob(golden.sha256) if golden else None,
        inference=config.inference,
        install=config.install,
        cache=layout.optimised,
        processor_path=layout.blob(guest.sha256) if guest else None,
        processor_golden_path=layout.blob(images.sha256) if images else None,
        sandbox=config.sandbox,
    )


def run_self_test(
    envelope: bytes,
    *,
    model_path: Path,
    golden_path: Path | None,
    inference: InferenceConfig,
    install: InstallConfig,
    cache: Path | None = None,
    processor_path: Path | None = None,
    processor_golden_path: Path | None = None,
    sandbox: SandboxConfig | None = None,
) -> SelfTestResult:
    """The verdict on a release whose files are whole.

    Args:
        envelope: the manifest's envelope as stored; the caller has verified it.
        golden_path: the golden vectors, or None when the release has none: then it must only load
            and answer finite numbers to zeros.
        cache: where the optimised graph and engines are kept for the process that will run them.
        processor_path: the guest module, when the release has one; it is compiled here, under the
            time limit, and kept in `cache`.
        processor_golden_path: raw images and what it must answer to them.
    """
    request = {
        "payload": json.loads(envelope)["payload"],
        "model_path": str(model_path),
        "golden_path": str(golden_path) if golden_path else "",
        "inference": dataclasses.asdict(inference),
        "memory_mb": install.selftest_memory_mb,
        "cache": str(cache) if cache else "",
        "processor_path": str(processor_path) if processor_path else "",
        "processor_golden_path": str(processor_golden_path) if processor_golden_path else "",
        "sandbox": dataclasses.asdict(sandbox or SandboxConfig()),
    }
    timeout_s = install.selftest_timeout_s
    timeout_s *= max(PROVIDERS[name].first_load_factor for name in inference.providers)
    # With the first release: a device that waits for it stays small.
    import subprocess

    try:
        child = subprocess.run(
            [sys.executable, "-m", "edge_agent.install.examination"],
            input=json.dumps(request).encode(),
            capture_output=True,
            timeout=timeout_s,
            cwd=Path(__file__).resolve().parents[2],
        )
    except subprocess.TimeoutExpired:
        return SelfTestResult(False, "self_test_timeout", f"over {timeout_s} s")
    if child.returncode < 0:
        detail = f"signal {-child.returncode}"
        if child.returncode == -signal.SIGKILL:
            detail += ": killed, as the kernel does when memory runs out"
        return SelfTestResult(False, "self_test_crashed", detail)
    try:
        row = json.loads(child.stdout.splitlines()[-1])
        return SelfTestResult(**row)
    except (ValueError, IndexError, TypeError):
        detail = child.stderr.decode(errors="replace")[-300:]
        return SelfTestResult(False, "self_test_crashed", f"exit {child.returncode}: {detail}")

"""The self-test's child process: reads a request from stdin and prints one JSON line.

numpy and the runtime are imported here, never in the process that asks.
"""

import base64
import dataclasses
import io
import json
import resource
import sys
from pathlib import Path
from typing import Any

from edge_agent.config import InferenceConfig, SandboxConfig
from edge_agent.install.decisions import SelfTestResult
from edge_agent.releases.trust import Manifest, parse_manifest


def examine(
    manifest: Manifest,
    model_path: Path,
    golden_path: Path | None,
    config: InferenceConfig,
    cache: Path | None = None,
    processor_path: Path | None = None,
    processor_golden_path: Path | None = None,
    sandbox: SandboxConfig | None = None,
) -> SelfTestResult:
    """Loads the model in this process and compares it with its golden vectors; tries its processor
    on a few images."""
    import numpy as np

    from edge_agent.exceptions import InferenceError, ProviderError
    from edge_agent.inference.session import ModelSession
    from edge_agent.install.measuring import measure
    from edge_agent.reading.golden import mark_close, to_array

    try:
        session = ModelSession(model_path, manifest, config, cache=cache)
    except ProviderError as error:
        return SelfTestResult(False, error.code, str(error), is_device_fault=True)
    except InferenceError as error:
        return SelfTestResult(False, "load_failed", str(error))
    golden = load_golden(golden_path) if golden_path else Golden(zeros(session), {})
    inputs, expected = golden.inputs, golden.expected
    if set(session.input_names) != set(inputs):
        detail = f"model takes {session.input_names}, golden has {sorted(inputs)}"
        return SelfTestResult(False, "self_test_failed", detail)
    try:
        outputs = dict(zip(session.output_names, session.run(inputs)[0], strict=True))
        _, elapsed = session.run(inputs)
    except Exception as error:  # noqa: BLE001 the runtime raises its own kinds
        return SelfTestResult(False, "self_test_failed", str(error)[:300])
    arrays = {name: to_array(output) for name, output in outputs.items()}
    if any(
        a is not None and a.dtype.kind == "f" and not np.isfinite(a).all() for a in arrays.values()
    ):
        return SelfTestResult(False, "non_finite", "an output is NaN or infinite")
    rules = manifest.document.get("golden") or {}
    close, total = 0, 0
    for name, want in expected.items():
        got = arrays.get(name)
        if got is None or got.shape != want.shape:
            shape = None if got is None else got.shape
            detail = f"output {name}: expected shape {want.shape}, got {shape}"
            return SelfTestResult(False, "self_test_failed", detail)
        is_close = mark_close(want, got, rules.get("atol", 1e-3), rules.get("rtol", 1e-3))
        close += int(is_close.sum())
        total += want.size
    # Against what the server's machine answered; a test that fails tells it all the more.
    measured = (
        measure(session, inputs, outputs, expected, golden.truth, rules) if expected else None
    )
    fraction = close / total if total else 1.0
    needed = rules.get("min_fraction", 1.0)
    if fraction < needed:
        detail = f"{close} of {total} golden outputs agree; needed {needed:.4f}"
        return SelfTestResult(False, "self_test_failed", detail, measured=measured)
    if processor_path is not None:
        from edge_agent.sandbox.compiled import CompiledCache
        from edge_agent.sandbox.processor import open_processor

        compiled = CompiledCache(cache) if cache else None
        try:
            module = processor_path.read_bytes()
            processor = open_processor(session, module, sandbox or SandboxConfig(), compiled)
            processor.try_out()
            if processor_golden_path is not None:
                with np.load(processor_golden_path, allow_pickle=False) as archive:
                    wanted = {name: archive[name] for name in archive.files}
                processor.compare(
                    wanted["image"], wanted["class_id"], wanted.get("confidence"), rules
                )
        except InferenceError as error:
            detail = f"{error.code}: {error}"
            return SelfTestResult(False, "processor_failed", detail, measured=measured)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    detail = f"golden {close}/{total}, batch {elapsed / 1e6:.2f} ms, peak {peak_mb} MB"
    detail += f", on {'+'.join(session.providers.active)}"
    for fallback in session.providers.fallbacks:
        detail += f"; {fallback.provider} {fallback.kind}: {fallback.detail}"
    return SelfTestResult(True, "", detail, measured=measured)


@dataclasses.dataclass(frozen=True)
class Golden:
    """Golden vectors: arrays by the names of the model's inputs and outputs."""

    inputs: dict[str, Any]
    expected: dict[str, Any]
    truth: Any = None
    """The class of each row, int `[rows]`, -1 where unknown; None without labels."""


def load_golden(path: Path) -> Golden:
    """The golden vectors of a release; pickled arrays are refused by numpy itself."""
    import numpy as np

    from edge_agent.install.measuring import TRUTH
    from edge_agent.reading.golden import to_input

    with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    inputs = {
        n.removeprefix("input_"): to_input(a) for n, a in arrays.items() if n.startswith("input_")
    }
    outputs = {n.removeprefix("output_"): a for n, a in arrays.items() if n.startswith("output_")}
    truth = arrays.get(TRUTH)
    is_read = truth is not None and truth.ndim == 1 and truth.dtype.kind in "iu"
    return Golden(inputs, outputs, truth if is_read else None)


def zeros(session: Any) -> dict[str, Any]:
    import numpy as np

    found = {}
    for name, (dtype, shape) in session.inputs.items():
        sizes = [size if isinstance(size, int) and size > 0 else 1 for size in shape]
        found[name] = np.full(sizes, "", object) if dtype == "str" else np.zeros(sizes, dtype)
    return found


def volunteer() -> None:
    """Lets the kernel end this process before any other when memory runs out."""
    try:
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    except OSError:
        return  # no such file outside Linux; then the largest process goes


def main() -> int:
    volunteer()
    request = json.load(sys.stdin)
    if request["memory_mb"]:
        limit = request["memory_mb"] << 20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    inference = request["inference"]
    inference["providers"] = tuple(inference["providers"])
    result = examine(
        parse_manifest(base64.b64decode(request["payload"])),
        Path(request["model_path"]),
        Path(request["golden_path"]) if request["golden_path"] else None,
        InferenceConfig(**inference),
        Path(request["cache"]) if request["cache"] else None,
        Path(request["processor_path"]) if request["processor_path"] else None,
        Path(request["processor_golden_path"]) if request["processor_golden_path"] else None,
        SandboxConfig(**request["sandbox"]),
    )
    print(json.dumps(dataclasses.asdict(result)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

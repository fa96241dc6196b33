"""Other tools on the same files, each as its own documentation says, in a limited child.

`python -m benchmarks.zoo.peers FOLDER` reads job.json, and writes result.onnx or reason.txt.
"""

import json
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx

from registry.limited_process.limits import limit_process

Peer = Callable[[Path, Any, Path], None]
PEERS_BY_KIND = {
    "dynamic": ("ort-dynamic",),
    "static": ("ort-static", "nncf-static"),
    "fp16": ("converter-fp16",),
}


def quantize_dynamic(model: Path, feeds: Any, result: Path) -> None:
    from onnxruntime.quantization import quantize_dynamic as quantize

    quantize(str(model), str(result))


def quantize_static(model: Path, feeds: Any, result: Path) -> None:
    from onnxruntime.quantization import CalibrationDataReader, quant_pre_process
    from onnxruntime.quantization import quantize_static as quantize

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._feeds: Iterator[dict[str, Any]] = iter(feeds())

        def get_next(self) -> dict[str, Any] | None:
            return next(self._feeds, None)

    prepared = result.with_suffix(".prepared.onnx")
    quant_pre_process(str(model), str(prepared), skip_symbolic_shape=True)
    quantize(str(prepared), str(result), Reader(), per_channel=True)


def convert_fp16(model: Path, feeds: Any, result: Path) -> None:
    from onnxconverter_common import float16

    graph = onnx.load(str(model))
    onnx.save(float16.convert_float_to_float16(graph, keep_io_types=True), str(result))


def quantize_nncf(model: Path, feeds: Any, result: Path) -> None:
    import nncf

    rows = feeds()
    quantized = nncf.quantize(
        onnx.load(str(model)), nncf.Dataset(rows), subset_size=max(len(rows), 1)
    )
    onnx.save(quantized, str(result))


PEERS: dict[str, Peer] = {
    "ort-dynamic": quantize_dynamic,
    "ort-static": quantize_static,
    "nncf-static": quantize_nncf,
    "converter-fp16": convert_fp16,
}


def main(folder: Path) -> int:
    """Runs the peer that job.json names."""
    job = json.loads((folder / "job.json").read_text())
    limit_process(
        memory_bytes=job["memory_bytes"],
        cpu_seconds=job["cpu_seconds"],
        file_bytes=2**31,
        threads=1,
    )
    from benchmarks.zoo.feeding import list_feeds, read_rows

    model = folder / "model.onnx"
    try:
        PEERS[job["peer"]](
            model, lambda: list_feeds(read_rows(model, folder / "calibration.npz")), folder / "made"
        )
    except Exception as error:  # noqa: BLE001 what a peer says is its result
        traceback.print_exc()
        (folder / "reason.txt").write_text(f"{type(error).__name__}: {error}"[:400])
        return 3
    (folder / "made").rename(folder / "result.onnx")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

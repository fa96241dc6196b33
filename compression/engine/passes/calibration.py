"""Calibration in chunks: 100 samples at once took 3.7 GB, ten at a time 553 MB."""

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, create_calibrator
from onnxruntime.quantization.calibrate import save_tensors_data

from compression.engine.passes.context import Progress, ignore_progress
from compression.exceptions import DataSetUnusableError
from compression.measure.samples import Samples

MAX_CHUNK_BYTES = 256 * 1024**2
METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "percentile": CalibrationMethod.Percentile,
    "entropy": CalibrationMethod.Entropy,
}


@dataclass(frozen=True)
class Ranges:
    """The range of every activation, in a file that the quantizer reads.

    `method` is the one that was used: histograms of a tensor that hardly moves, or of one in FP16,
    cannot be made, and then the least and largest values are taken.
    """

    path: Path
    method: str


class ChunkReader(CalibrationDataReader):
    """Feeds of a few rows each."""

    def __init__(self, samples: Samples, rows: int) -> None:
        self._batches = samples.batches(rows)

    def get_next(self) -> dict[str, NDArray] | None:
        feed, _ = next(self._batches, (None, 0))
        return feed


def calibrate(
    model_path: Path,
    samples: Samples,
    folder: Path,
    *,
    parameters: dict[str, Any],
    is_symmetric: bool,
    report_progress: Progress = ignore_progress,
) -> Ranges:
    """The range of every activation.

    A file in `folder` that an earlier call made of the same model, rows and parameters is used
    again.

    Args:
        parameters: those of `quantize.static`: method, percentile, chunk.
    """
    try:
        path = _calibrate(model_path, samples, folder, parameters, is_symmetric, report_progress)
    except ValueError:
        if parameters["method"] == "minmax":
            raise
        plain = {**parameters, "method": "minmax"}
        path = _calibrate(model_path, samples, folder, plain, is_symmetric, report_progress)
        return Ranges(path, "minmax")
    return Ranges(path, parameters["method"])


def _calibrate(
    model_path: Path,
    samples: Samples,
    folder: Path,
    parameters: dict[str, Any],
    is_symmetric: bool,
    report_progress: Progress,
) -> Path:
    cache_path = folder / f"ranges-{_digest(model_path, samples, parameters, is_symmetric)}.json"
    if cache_path.exists():
        return cache_path
    options: dict[str, Any] = {"symmetric": is_symmetric}
    if parameters["method"] == "percentile":
        options["percentile"] = parameters["percentile"]
    calibrator = create_calibrator(
        str(model_path),
        augmented_model_path=str(cache_path.with_suffix(".augmented.onnx")),
        calibrate_method=METHODS[parameters["method"]],
        extra_options=options,
    )
    calibrator.set_execution_providers(["CPUExecutionProvider"])
    fixed = samples.rows.fixed_rows
    wanted = bound_chunk(model_path, parameters["chunk"])
    rows = samples.count_rows(min(wanted, len(samples)))
    if len(samples) < rows:
        raise DataSetUnusableError(
            f"Calibration needs at least {rows} rows, the batch size of the graph; "
            f"found {len(samples)}."
        )
    chunk = max(rows, wanted)
    # A graph with a fixed batch size cannot take the last few rows; any other can.
    total = len(samples) - (len(samples) % fixed if fixed else 0)
    for start in range(0, total, chunk):
        stop = min(start + chunk, total)
        calibrator.collect_data(ChunkReader(samples.take(np.arange(start, stop)), rows))
        report_progress(stop, total)
    save_tensors_data(calibrator.compute_data(), str(cache_path))
    return cache_path


def bound_chunk(model_path: Path, wanted: int) -> int:
    """Rows at a time, at most `wanted`, whose activations together stay within 256 MiB.

    Percentile and entropy keep every activation of a chunk until its histogram is made. Tensors
    whose shape is not known do not count.
    """
    model = onnx.load(str(model_path), load_external_data=False)
    try:
        graph = onnx.shape_inference.infer_shapes(model).graph
    except (RuntimeError, onnx.shape_inference.InferenceError):
        return wanted
    row_bytes = 0
    for item in [*graph.input, *graph.value_info, *graph.output]:
        dims = [dim.dim_value for dim in item.type.tensor_type.shape.dim][1:]
        if dims and all(dim > 0 for dim in dims):
            row_bytes += 4 * math.prod(dims)
    return max(1, min(wanted, MAX_CHUNK_BYTES // max(row_bytes, 1)))


def _digest(
    model_path: Path, samples: Samples, parameters: dict[str, Any], is_symmetric: bool
) -> str:
    digest = hashlib.sha256(model_path.read_bytes())
    for name in sorted(samples.inputs):
        digest.update(name.encode())
        value = samples.inputs[name]
        digest.update(value.tobytes() if value.dtype.kind != "O" else repr(value.tolist()).encode())
    chosen = [parameters[key] for key in ("method", "percentile", "chunk")]
    digest.update(json.dumps([*chosen, is_symmetric]).encode())
    return digest.hexdigest()[:16]

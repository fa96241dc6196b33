"""Mixed precision: INT8 everywhere, except for the nodes that measurably suffer from it."""

import time
from pathlib import Path

import onnx
from numpy.typing import NDArray
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

from compression.arrays import Samples
from compression.exceptions import DataSetUnusableError, ModelUnsupportedError
from compression.passes.calibration import calibrate
from compression.passes.context import PassContext, PassResult
from compression.passes.mixed_plan import find_excluded, rank_nodes
from compression.passes.quantize import finish_file, run_static, static_settings
from compression.passes.weights import store_weights, weight_axes
from compression.statistics import accuracy_of, mean_divergence

# These only hand on what others have quantized: alone they change nothing.
_FOLLOWERS = {"Flatten", "MaxPool", "Reshape", "Slice", "Split", "Squeeze"} | {
    "Transpose",
    "Unsqueeze",
}
QUANTIZABLE = {*QDQRegistry, *QLinearOpsRegistry} - _FOLLOWERS


def search_mixed(context: PassContext) -> PassResult:
    """Keeps few nodes out of INT8; their weights go to 8 bits where that is harmless.

    The search judges on calibration samples alone; the gates judge on the evaluation set.
    """
    if context.calibration is None:
        raise DataSetUnusableError("mixed.search needs calibration samples.")
    search = _Search(context, context.calibration)
    ranked, divergence = search.rank()
    excluded = find_excluded(ranked, search.is_good)
    if excluded is None:
        raise ModelUnsupportedError(
            "No mix of INT8 and FP32 stays within "
            f"{context.parameters['max_drop_points']} points; is the calibration data right?"
        )
    search.build(excluded, context.destination)
    weights_only = search.shrink_excluded(excluded, context.destination)
    reasons = {
        name: f"quantizing it alone moves the output by {divergence.get(name, 0.0):.4g} nats"
        + ("; its weights alone are 8 bits" if name in weights_only else "")
        for name in excluded
    }
    facts = {
        "nodes": len(ranked),
        "excluded": len(excluded),
        "weights_only": len(weights_only),
        "trials": search.trials,
        "seconds": round(time.monotonic() - search.started, 2),
    }
    return PassResult(reasons, facts)


class _Search:
    """Calibrated once; builds and judges candidates until trials or seconds are used up."""

    def __init__(self, context: PassContext, calibration: Samples) -> None:
        self.context = context
        self.started = time.monotonic()
        self.trials = 0
        self.parameters = {**context.parameters, "format": "qdq", "per_channel": True}
        self.settings = static_settings(self.parameters, context.target.isa)
        self.samples = calibration.pick(context.parameters["samples"], context.seed)
        self.probe = self.samples.head(context.parameters["probe"])
        self.model = onnx.load(str(context.source))
        self.candidate = context.scratch / "candidate.onnx"
        self.judged: dict[tuple[str, ...], bool] = {}
        self.cache = calibrate(
            context.source,
            self.samples,
            context.scratch,
            parameters=self.parameters,
            is_symmetric=self.settings.is_symmetric,
        )
        self.reference = self._scores(context.source, self.samples)

    def rank(self) -> tuple[list[str], dict[str, float]]:
        """Quantizable nodes, most harmful per byte first, and each one's divergence."""
        nodes = [node for node in self.model.graph.node if node.op_type in QUANTIZABLE]
        sizes = {tensor.name: len(tensor.raw_data) for tensor in self.model.graph.initializer}
        head = self.reference[: len(self.probe)]
        divergence = {}
        for index, node in enumerate(nodes):
            self._check_time()
            self._quantize(self.candidate, only=[node.name])
            divergence[node.name] = mean_divergence(head, self._scores(self.candidate, self.probe))
            self.context.report_progress(index + 1, len(nodes))
        bytes_of = {node.name: sum(sizes.get(i, 0) for i in node.input) for node in nodes}
        return rank_nodes(divergence, bytes_of), divergence

    def is_good(self, excluded: list[str]) -> bool:
        """Whether the model with these nodes kept out loses little enough."""
        key = tuple(sorted(excluded))
        if key not in self.judged:
            if self.trials >= self.context.search.trials:
                return False
            self._check_time()
            self.trials += 1
            self.build(excluded, self.candidate)
            self.judged[key] = self._is_file_good(self.candidate)
        return self.judged[key]

    def build(self, excluded: list[str], path: Path) -> None:
        """Writes the model with these nodes kept out of INT8."""
        self._quantize(path, excluded=excluded)

    def shrink_excluded(self, excluded: list[str], path: Path) -> list[str]:
        """Stores the weights of kept-out nodes in 8 bits, one node at a time, where harmless."""
        done = []
        for name in excluded:
            model = onnx.load(str(path))
            others = {node.name for node in model.graph.node} - {name}
            if not store_weights(model, weight_axes(model, others), 8):
                continue
            onnx.save(model, str(self.candidate))
            if self._is_file_good(self.candidate):
                finish_file(self.candidate)
                path.write_bytes(self.candidate.read_bytes())
                done.append(name)
        return done

    def _quantize(
        self, path: Path, *, excluded: list[str] | None = None, only: list[str] | None = None
    ) -> None:
        run_static(
            self.context.source,
            path,
            self.cache,
            self.parameters,
            self.settings,
            excluded=excluded,
            only=only,
        )

    def _is_file_good(self, path: Path) -> bool:
        """Points of accuracy lost on calibration samples, or of agreement where unlabelled."""
        scores = self._scores(path, self.samples)
        if self.samples.labels is not None:
            before = accuracy_of(self.reference, self.samples.labels).value
            lost = before - accuracy_of(scores, self.samples.labels).value
        else:
            lost = 1.0 - self.context.scoring.compare(self.reference, scores).value
        return 100.0 * lost <= self.context.parameters["max_drop_points"]

    def _scores(self, path: Path, samples: Samples) -> NDArray:
        return self.context.scoring.score(path, samples, self.context.threads)

    def _check_time(self) -> None:
        if time.monotonic() - self.started > self.context.search.seconds:
            raise ModelUnsupportedError(
                f"mixed.search used up its {self.context.search.seconds} seconds (search.seconds)."
            )

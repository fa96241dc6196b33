"""Mixed precision: INT8 everywhere, except for the nodes that measurably suffer from it."""

import time
from pathlib import Path

import onnx
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

from compression.engine.graph.structure import describe_graph
from compression.engine.passes.calibration import calibrate
from compression.engine.passes.context import PassContext, PassResult
from compression.engine.passes.finish import finish_file
from compression.engine.passes.known_types import state_types
from compression.engine.passes.ladder import FP32, LADDERS, apply_rung
from compression.engine.passes.mixed_plan import find_excluded, rank_nodes
from compression.engine.passes.quantize import make_quantizable, run_static, static_settings
from compression.exceptions import DataSetUnusableError, ModelUnsupportedError
from compression.measure.answers import Answers
from compression.measure.samples import Samples

# These only hand on what others have quantized: alone they change nothing.
_FOLLOWERS = {"Flatten", "MaxPool", "Reshape", "Slice", "Split", "Squeeze"} | {
    "Transpose",
    "Unsqueeze",
}
QUANTIZABLE = {*QDQRegistry, *QLinearOpsRegistry} - _FOLLOWERS


# Multiply-accumulates that ranking and judging may spend on FP32 rows: a 300-million-MAC network on
# two cores then takes about 20 and 10 seconds for them, and a small one sees all its rows.
RANKING_MACS = 3 * 10**11
JUDGING_MACS = 3 * 10**10
MIN_RANKING_ROWS = 8
MIN_JUDGING_ROWS = 64


def search_mixed(context: PassContext) -> PassResult:
    """Keeps few nodes out of INT8, each on the lowest rung of the ladder that does no harm.

    The search judges on calibration samples alone; the gates judge on the evaluation set.
    """
    if context.calibration is None:
        raise DataSetUnusableError("mixed.search needs calibration samples.")
    search = _Search(context, context.calibration)
    ranked, divergence = ([], {}) if search.is_good([]) else search.rank()
    excluded = find_excluded(ranked, search.is_good)
    if excluded is None:
        raise ModelUnsupportedError(
            "No mix of INT8 and FP32 stays within "
            f"{context.parameters['max_drop_points']} points; is the calibration data right?"
        )
    plan = search.lower(excluded)
    search.build(plan, context.destination)
    reasons = {
        name: f"{rung}: quantizing it alone moves the output by {divergence[name]:.4g} nats"
        for name, rung in plan.items()
    }
    facts = {
        "nodes": len(search.nodes),
        "excluded": len(plan),
        "rungs": {rung: list(plan.values()).count(rung) for rung in sorted(set(plan.values()))},
        "weights_only": sum(rung in ("w8", "w16") for rung in plan.values()),
        "collapsed_trials": search.collapsed,
        "calibration_rows": len(search.samples),
        "ranking_rows": len(search.probe),
        "trials": search.trials,
        "seconds": round(time.monotonic() - search.started, 2),
    }
    return PassResult(reasons, facts)


class _Search:
    """Calibrated once; builds and judges plans until trials or seconds are used up.

    A plan names the rung of each node that is kept out of INT8.
    """

    def __init__(self, context: PassContext, calibration: Samples) -> None:
        self.context = context
        self.started = time.monotonic()
        self.trials = 0
        self.collapsed: dict[str, int] = {}
        self.parameters = {**context.parameters, "format": "qdq", "per_channel": True}
        self.settings = static_settings(self.parameters, context.target.isa)
        self.ladder = context.parameters["ladder"]
        if self.ladder is None:
            self.ladder = LADDERS[context.target.isa]
        named = make_quantizable(context.source, context.scratch / "named.onnx")
        self.model = onnx.load(str(named))
        self.nodes = [node for node in self.model.graph.node if node.op_type in QUANTIZABLE]
        macs = describe_graph(context.source)["macs"] or 1
        rows = max(JUDGING_MACS // macs, MIN_JUDGING_ROWS)
        self.samples = calibration.pick(min(context.parameters["samples"], rows), context.seed)
        rows = max(RANKING_MACS // (macs * max(len(self.nodes), 1)), MIN_RANKING_ROWS)
        self.probe = self.samples.head(min(context.parameters["probe"], rows))
        self.candidate = context.scratch / "candidate.onnx"
        self.judged: dict[tuple[tuple[str, str], ...], bool] = {}
        self.source = state_types(named, context.scratch / "typed.onnx")
        self.ranges = calibrate(
            self.source,
            self.samples,
            context.scratch,
            parameters=self.parameters,
            is_symmetric=self.settings.is_symmetric,
        )
        self.reference = self._scores(context.source, self.samples)

    def rank(self) -> tuple[list[str], dict[str, float]]:
        """Quantizable nodes, most harmful per byte first, and each one's divergence."""
        sizes = {tensor.name: tensor.ByteSize() for tensor in self.model.graph.initializer}
        head = self.reference.head(len(self.probe))
        divergence = {}
        for index, node in enumerate(self.nodes):
            self._check_time()
            self._quantize(self.candidate, only=[node.name])
            answers = self._scores(self.candidate, self.probe)
            divergence[node.name] = self.context.scoring.divergence(head, answers)
            self.context.report_progress(index + 1, len(self.nodes))
        bytes_of = {node.name: sum(sizes.get(i, 0) for i in node.input) for node in self.nodes}
        return rank_nodes(divergence, bytes_of), divergence

    def is_good(self, excluded: list[str]) -> bool:
        """Whether the model with these nodes kept in FP32 loses little enough."""
        return self.is_plan_good(dict.fromkeys(excluded, FP32))

    def is_plan_good(self, plan: dict[str, str]) -> bool:
        """Whether the model of that plan loses little enough; False once nothing may be tried."""
        key = tuple(sorted(plan.items()))
        if key not in self.judged:
            if self.trials >= self.context.search.trials:
                return False
            if self._is_late() and any(self.judged.values()):
                # What is known to be good already is kept, unimproved.
                return False
            self._check_time()
            self.trials += 1
            self.judged[key] = self.build(plan, self.candidate) and self._is_file_good()
        return self.judged[key]

    def build(self, plan: dict[str, str], path: Path) -> bool:
        """Writes the model of the plan; False when a rung has nothing to change at its node.

        A candidate is only run, so compacting and checking it is left out: it moves answers by
        less than INT8 itself by far.
        """
        lowered = {name: rung for name, rung in plan.items() if rung != FP32}
        self._quantize(path, excluded=list(plan))
        changed = []
        if lowered:
            model = onnx.load(str(path))
            changed = [
                apply_rung(model, name, rung, self.ranges.path) for name, rung in lowered.items()
            ]
            onnx.save(model, str(path))
        if path != self.candidate:
            finish_file(path)
        return all(changed)

    def lower(self, excluded: list[str]) -> dict[str, str]:
        """The plan with each node on the lowest rung that keeps the model good."""
        plan = dict.fromkeys(excluded, FP32)
        for name in excluded:
            for rung in self.ladder:
                if self.is_plan_good({**plan, name: rung}):
                    plan[name] = rung
                    break
        return plan

    def _quantize(
        self,
        path: Path,
        *,
        excluded: list[str] | None = None,
        only: list[str] | None = None,
    ) -> None:
        run_static(
            self.source,
            path,
            self.ranges,
            self.parameters,
            self.settings,
            excluded=excluded,
            only=only,
            is_final=False,
        )

    def _is_file_good(self) -> bool:
        """Points of accuracy lost on calibration samples, or of agreement where unlabelled."""
        scores = self._scores(self.candidate, self.samples)
        scoring = self.context.scoring
        flags = scoring.list_collapses(self.reference, scores)
        for flag in flags:
            self.collapsed[flag] = self.collapsed.get(flag, 0) + 1
        if flags:
            return False
        if self.samples.labels is not None:
            before = scoring.accuracy(self.reference, self.samples.labels).value
            lost = before - scoring.accuracy(scores, self.samples.labels).value
        else:
            lost = 1.0 - scoring.compare(self.reference, scores).value
        return 100.0 * lost <= self.context.parameters["max_drop_points"]

    def _scores(self, path: Path, samples: Samples) -> Answers:
        return self.context.scoring.score(path, samples, self.context.threads)

    def _is_late(self) -> bool:
        return time.monotonic() - self.started > self.context.search.seconds

    def _check_time(self) -> None:
        if self._is_late():
            raise ModelUnsupportedError(
                f"mixed.search used up its {self.context.search.seconds} seconds (search.seconds)."
            )

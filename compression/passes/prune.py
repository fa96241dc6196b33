"""Structured pruning as a pass: choose, drop, repair."""

from dataclasses import dataclass, field
from typing import Any

import onnx
from numpy.typing import NDArray

from compression.alignment import FLOAT_ALIGNMENT
from compression.arrays import Samples
from compression.exceptions import DataSetUnusableError, ModelUnsupportedError
from compression.passes.context import PassContext, PassResult
from compression.passes.prepare import name_nodes
from compression.pruning.graph import PruningGraph
from compression.pruning.importance import rank_group, weigh_axes
from compression.pruning.normalize import count_parameters
from compression.pruning.repair import repair_consumers
from compression.pruning.selection import STEPS, allocate_ratios, choose_classes
from compression.pruning.surgery import Pruned, count_kept, drop_classes
from compression.pruning.verification import check_pruned
from compression.sessions import open_session, run_samples
from compression.statistics import mean_divergence
from compression.structure import strip_metadata

PROBE_ROWS = 256
CHECK_ROWS = 8


def prune_structured(context: PassContext) -> PassResult:
    """Removes the wanted share of channels and repairs what read them."""
    if context.calibration is None:
        raise DataSetUnusableError("prune.structured needs calibration samples.")
    parameters = context.parameters
    samples = context.calibration.pick(parameters["samples"], context.seed)
    model = onnx.load(str(context.source))
    pruner = _Pruner(PruningGraph(model), samples, context)
    if not pruner.importances:
        reasons = ", ".join(sorted(pruner.graph.table.pin_reasons)) or "no convolution found"
        raise ModelUnsupportedError(f"No channel of this model can be removed ({reasons}).")
    ratios = pruner.choose_ratios()
    pruned = pruner.prune(ratios)
    before, after = count_parameters(pruner.graph.model), count_parameters(pruned.model)
    if after == before:
        raise ModelUnsupportedError(
            f"Nothing was removed: every group is at its minimum of {parameters['min_keep']} "
            f"channels in multiples of {pruner.align}."
        )
    check_pruned(pruner.graph, pruned.model, pruner.choose(ratios), samples.head(CHECK_ROWS))
    result = pruned.model
    repaired: list[str] = []
    if parameters["repair"]:
        result, repaired = repair_consumers(
            pruner.graph.model,
            pruned,
            samples,
            seed=context.seed,
            threads=context.threads,
            report_progress=context.report_progress,
        )
    name_nodes(result)
    onnx.save(strip_metadata(result), str(context.destination))
    widths = [len(item) for item in pruner.importances]
    facts: dict[str, Any] = {
        "parameters_before": before,
        "parameters_after": after,
        "align": pruner.align,
        "groups": len(widths),
        "widths": widths,
        "ratios": ratios,
        "repaired": len(repaired),
        "pinned": pruner.graph.table.pin_reasons,
    }
    return PassResult(facts=facts)


@dataclass
class _Pruner:
    """The graph with its importances, and what narrowing a group alone would cost."""

    graph: PruningGraph
    samples: Samples
    context: PassContext
    importances: list[dict[int, float]] = field(init=False)
    _reference: NDArray = field(init=False)
    _probe: Samples = field(init=False)

    def __post_init__(self) -> None:
        values = weigh_axes(self.graph, self.samples.head(PROBE_ROWS), self.context.threads)
        groups = self.graph.find_groups()
        self.importances = [rank_group(self.graph, group, values) for group in groups]
        self._probe = self.samples.head(PROBE_ROWS)
        self._reference = self._scores(self.graph.model)
        self._alone: dict[tuple[int, float], tuple[float, int]] = {}
        self._tried: dict[frozenset[int], tuple[float, int]] = {}

    @property
    def align(self) -> int:
        """The multiple of kept widths; a recipe has decided it from the passes that follow."""
        return self.context.parameters["align"] or FLOAT_ALIGNMENT

    def choose_ratios(self) -> list[float]:
        """One ratio for all, or one per group for as few parameters as one for all would leave.

        The target is that of exact widths: aligned ones are all rounded up, and a wide multiple
        would leave half of what was to go.
        """
        ratio = self.context.parameters["ratio"]
        uniform = [ratio] * len(self.importances)
        if self.context.parameters["allocation"] == "uniform" or len(self.importances) < 2:
            return uniform
        target = count_kept(self.graph, self.choose(uniform, align=1))
        for index in range(len(self.importances)):
            for step in STEPS[1:]:
                self._narrow(index, step)
            self.context.report_progress(index + 1, len(self.importances))
        return allocate_ratios(
            len(self.importances),
            target,
            cost_of=lambda index, step: self._narrow(index, step)[0],
            parameters_of=lambda ratios: count_kept(self.graph, self.choose(ratios)),
            saving_of=lambda index, step: self._narrow(index, step)[1],
        )

    def choose(self, ratios: list[float], align: int | None = None) -> set[int]:
        """The classes that go when each group is narrowed by its ratio."""
        min_keep = self.context.parameters["min_keep"]
        multiple = align or self.align
        return choose_classes(self.importances, ratios, align=multiple, min_keep=min_keep)

    def prune(self, ratios: list[float]) -> Pruned:
        return drop_classes(self.graph, self.choose(ratios))

    def _narrow(self, index: int, step: float) -> tuple[float, int]:
        """Divergence and parameters saved with one group alone narrowed."""
        if step == 0.0:
            return 0.0, 0
        if (index, step) not in self._alone:
            ratios = [0.0] * len(self.importances)
            ratios[index] = step
            self._alone[index, step] = self._try(self.choose(ratios))
        return self._alone[index, step]

    def _try(self, dropped: set[int]) -> tuple[float, int]:
        saved = count_kept(self.graph, set()) - count_kept(self.graph, dropped)
        if not saved:
            return 0.0, 0
        key = frozenset(dropped)
        if key not in self._tried:
            model = drop_classes(self.graph, dropped, is_checked=False).model
            cost = mean_divergence(self._reference, self._scores(model))
            # Alignment makes neighbouring steps drop the same classes.
            self._tried[key] = (cost, saved)
        return self._tried[key]

    def _scores(self, model: onnx.ModelProto) -> NDArray:
        session = open_session(model.SerializeToString(), threads=self.context.threads)
        first = run_samples(session, self._probe, [session.get_outputs()[0].name])[0]
        return first.reshape(len(first), -1)

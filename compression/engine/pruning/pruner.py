"""A graph with the importance of its channels, and how much of each group is to go."""

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from compression.engine.passes.context import Progress, ignore_progress
from compression.engine.pruning.graph import PruningGraph
from compression.engine.pruning.importance import rank_group, weigh_axes
from compression.engine.pruning.kernels import (
    FLOAT_KERNELS,
    INT8_KERNELS,
    estimate_nanoseconds,
    find_filtered,
)
from compression.engine.pruning.repair import repair_consumers
from compression.engine.pruning.selection import STEPS, allocate_ratios, choose_classes
from compression.engine.pruning.surgery import count_kept, drop_classes, kept_shapes
from compression.engine.pruning.verification import check_pruned
from compression.exceptions import ModelUnsupportedError
from compression.measure.samples import Samples
from compression.measure.sessions import list_row_outputs, open_session, run_samples
from compression.measure.statistics import mean_divergence
from compression.recipe.alignment import FLOAT_ALIGNMENT

PROBE_ROWS = 256
CHECK_ROWS = 8


@dataclass
class Pruner:
    """The graph with its importances, and what narrowing a group alone would cost.

    Attributes:
        samples: calibration samples; the first `PROBE_ROWS` weigh the channels, all repair.
        align: the multiple of kept widths.
        min_keep: no group gets narrower than this.
        latency_share: how much a group's share of the model's time counts beside its share of the
            parameters where groups compete to be narrowed, in [0, 1].
        folder: where a pruner of the same graph, rows and widths finds what this one measured; a
            search prunes one graph by many ratios.

    Raises:
        ModelUnsupportedError: no channel of the graph can be removed.
    """

    graph: PruningGraph
    samples: Samples
    align: int
    min_keep: int = 8
    latency_share: float = 0.0
    threads: int = 1
    report_progress: Progress = ignore_progress
    folder: Path | None = None
    importances: list[dict[int, float]] = field(init=False)

    def __post_init__(self) -> None:
        self._probe = self.samples.head(PROBE_ROWS)
        values = weigh_axes(self.graph, self._probe, self.threads)
        groups = self.graph.find_groups()
        self.importances = [rank_group(self.graph, group, values) for group in groups]
        if not self.importances:
            reasons = ", ".join(sorted(self.graph.table.pin_reasons)) or "no convolution found"
            raise ModelUnsupportedError(f"No channel of this model can be removed ({reasons}).")
        self._reference = self._scores(self.graph.model)
        self._filtered = find_filtered(self.graph, groups)
        # A multiple of 16 was chosen for INT8.
        self._kernels = INT8_KERNELS if self.align > FLOAT_ALIGNMENT else FLOAT_KERNELS
        self._whole = self._measure(set())
        self._alone: dict[tuple[int, float], tuple[float, float]] = {}
        self._tried: dict[frozenset[int], tuple[float, float]] = {}

    def spread_ratio(self, ratio: float) -> list[float]:
        """One ratio per group for as few parameters as `ratio` for all would leave.

        The target is that of exact widths: aligned ones are all rounded up, and a wide multiple
        would leave half of what was to go.
        """
        uniform = [ratio] * len(self.importances)
        if len(self.importances) < 2:
            return uniform
        target = count_kept(self.graph, self.choose(uniform, align=1))
        return self.reach_size(lambda dropped: count_kept(self.graph, dropped), target)

    def reach_size(self, size_of: Callable[[set[int]], int], target: float) -> list[float]:
        """One ratio per group that bring a size down to `target` where it hurts least.

        Args:
            size_of: the size left by dropping classes; never more for dropping more.
        """
        self._measure_groups()
        return allocate_ratios(
            len(self.importances),
            target,
            cost_of=lambda index, step: self._narrow(index, step)[0],
            parameters_of=lambda ratios: size_of(self.choose(ratios)),
            saving_of=lambda index, step: self._narrow(index, step)[1],
        )

    def estimate_time(self, dropped: set[int]) -> float:
        """About the nanoseconds of convolutions and products on one row; 0 where unknown."""
        return self._measure(dropped)[1]

    def choose(self, ratios: list[float], align: int | None = None) -> set[int]:
        """The classes that go when each group is narrowed by its ratio."""
        multiple = align or self.align
        return choose_classes(
            self.importances,
            ratios,
            align=multiple,
            min_keep=self.min_keep,
            filtered=self._filtered,
        )

    def _measure_groups(self) -> None:
        """Every step of every group, from the folder where it is there already."""
        kept = None if self.folder is None else self.folder / f"groups-{self._digest()}.json"
        if kept is not None and kept.exists():
            rows = json.loads(kept.read_text())
            self._alone = {(index, step): (cost, gain) for index, step, cost, gain in rows}
            return
        for index in range(len(self.importances)):
            for step in STEPS[1:]:
                self._narrow(index, step)
            self.report_progress(index + 1, len(self.importances))
        if kept is not None:
            rows = [[*key, *value] for key, value in self._alone.items()]
            # A search may be interrupted between any two instructions.
            half = kept.with_suffix(".half")
            half.write_text(json.dumps(rows))
            half.replace(kept)

    def _digest(self) -> str:
        digest = hashlib.sha256(self.graph.model.SerializeToString())
        for name, values in self._probe.inputs.items():
            digest.update(name.encode() + np.ascontiguousarray(values).tobytes())
        digest.update(f"{self.align} {self.min_keep} {self.latency_share}".encode())
        return digest.hexdigest()

    def _narrow(self, index: int, step: float) -> tuple[float, float]:
        """Divergence and gain, a share of the model, with one group alone narrowed."""
        if step == 0.0:
            return 0.0, 0.0
        if (index, step) not in self._alone:
            ratios = [0.0] * len(self.importances)
            ratios[index] = step
            self._alone[index, step] = self._try(self.choose(ratios))
        return self._alone[index, step]

    def _try(self, dropped: set[int]) -> tuple[float, float]:
        if not dropped:
            return 0.0, 0.0
        key = frozenset(dropped)
        if key not in self._tried:
            model = drop_classes(self.graph, dropped, is_checked=False).model
            cost = mean_divergence(self._reference, self._scores(model))
            # Alignment makes neighbouring steps drop the same classes.
            self._tried[key] = (cost, self._gain(dropped))
        return self._tried[key]

    def _gain(self, dropped: set[int]) -> float:
        """What is saved: the shares of parameters and of time, weighed by `latency_share`."""
        (parameters, nanoseconds), (all_parameters, all_time) = self._measure(dropped), self._whole
        if not all_time:
            return 1.0 - parameters / all_parameters
        saved_time = 1.0 - nanoseconds / all_time
        saved_parameters = 1.0 - parameters / all_parameters
        return self.latency_share * saved_time + (1.0 - self.latency_share) * saved_parameters

    def _measure(self, dropped: set[int]) -> tuple[int, float]:
        """Parameters and modelled nanoseconds that are left."""
        shapes = kept_shapes(self.graph, dropped)
        nanoseconds = estimate_nanoseconds(self.graph, shapes, self._kernels)
        return sum(math.prod(shape) for shape in shapes.values()), nanoseconds

    def _scores(self, model: onnx.ModelProto) -> NDArray:
        session = open_session(model.SerializeToString(), threads=self.threads)
        rows = list_row_outputs(session, self._probe)
        # How many boxes are selected may differ from model to model, and numbers of classes jump.
        floats = [item.name for item in session.get_outputs() if item.type == "tensor(float)"]
        name = next((name for name in rows if name in floats), rows[0])
        first = run_samples(session, self._probe, [name])[0]
        return first.reshape(len(first), -1)


def cut_and_repair(
    pruner: Pruner, ratios: list[float], *, is_repaired: bool = True, seed: int = 0
) -> tuple[onnx.ModelProto, list[str]]:
    """The graph with each group narrowed by its ratio, and the outputs of repaired nodes.

    Raises:
        ModelUnsupportedError: the pruned graph does not compute what it should.
    """
    dropped = pruner.choose(ratios)
    pruned = drop_classes(pruner.graph, dropped)
    check_pruned(pruner.graph, pruned.model, dropped, pruner.samples.head(CHECK_ROWS))
    if not is_repaired:
        return pruned.model, []
    return repair_consumers(
        pruner.graph.model,
        pruned,
        pruner.samples,
        seed=seed,
        threads=pruner.threads,
        report_progress=pruner.report_progress,
    )

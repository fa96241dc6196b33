"""Building candidates and judging them on held-out rows, cheapest first, until time is short."""

import hashlib
import logging
import math
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from compression.engine.passes.context import PassContext
from compression.engine.passes.guard import run_guarded
from compression.engine.search.deadline import interrupt_after
from compression.engine.search.judgement import Candidate, is_clearly_worse, list_violations
from compression.engine.search.space import (
    Base,
    Format,
    fits_at_best,
    fits_when_pruned,
    list_formats,
    name_candidate,
)
from compression.exceptions import BudgetSpentError, CompressionError
from compression.measure.answers import Answers
from compression.measure.samples import Samples
from compression.measure.sessions import open_session
from compression.measure.smoke import signature_of
from compression.recipe.passes import PASSES
from compression.recipe.recipe import Gates, Search

logger = logging.getLogger(__name__)

TRAINING_SHARE = 0.35
LAST_RESORT_SECONDS = 5.0
LAST_RESORT_FORMATS = 3


@dataclass
class Built:
    """A candidate with its file; `is_ruled_out` where no full judgement is needed."""

    candidate: Candidate
    path: Path
    excluded: dict[str, str]
    is_ruled_out: bool = False


@dataclass(frozen=True)
class Made:
    """A file with the steps that made it, as they can be run again, and the nodes they left."""

    path: Path
    steps: list[dict[str, Any]] = field(default_factory=list)
    excluded: dict[str, str] = field(default_factory=dict)


@dataclass
class Explorer:
    """Makes bases and candidates; keeps what was skipped with the reason.

    `fitting` rows calibrate and train, `selection` rows judge: a candidate is never judged on what
    it was fitted to.
    """

    context: PassContext
    fitting: Samples
    selection: Samples
    deadline: float
    bases: list[Base]
    built: list[Built] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._made: dict[str, Made] = {"": Made(self.context.source)}
        self._named = {base.name: base for base in self.bases}
        self._digests = {_digest(self.context.source): ""}
        self._reference = self._score(self.context.original)
        self._signature = signature_of(open_session(self.context.source, is_optimized=False))
        self._failed_ratio = float("inf")

    @property
    def gates(self) -> Gates:
        """The constraints of the recipe."""
        return self.context.gates

    def explore(self, base: Base) -> None:
        """Builds the base and each of its formats that can still keep the constraints."""
        why_not = self._find_obstacle(base)
        if why_not:
            self._skip(base.name, why_not)
            return
        if not self._make_base(base):
            return
        path = self._made[base.name].path
        if base.name and self._is_base_lost(base, path):
            self._skip(base.name, "already FP32 clearly loses more accuracy than allowed")
            if not base.is_trained:
                self._failed_ratio = min(self._failed_ratio, base.ratio)
            return
        parameters = _count_float_parameters(path)
        for form in list_formats():
            self._try_format(base, form, parameters)

    def build_smallest(self) -> None:
        """What fits best although it cannot fit, so that the answer has something to name."""
        name = min(self._made, key=lambda key: _count_float_parameters(self._made[key].path))
        self.deadline = max(self.deadline, time.monotonic() + LAST_RESORT_SECONDS)
        smallest = [form for form in list_formats() if form.bytes_per_parameter == 1]
        for form in smallest[:LAST_RESORT_FORMATS]:
            self._try_format(self._named[name], form, 0)

    def _find_obstacle(self, base: Base) -> str:
        if self._left() <= 0:
            return "no time left"
        if len(self.built) >= self.context.search.trials:
            return f"search.trials ({self.context.search.trials}) used up"
        if not base.is_trained and base.ratio > self._failed_ratio:
            return f"a ratio of {self._failed_ratio:g} already lost too much"
        is_last = base.ratio == max(item.ratio for item in self.bases)
        if base.ratio and not is_last and not self._fits_when_pruned(base.ratio):
            return f"with {base.ratio:.0%} of the channels removed it is still too large"
        return ""

    def _fits_when_pruned(self, ratio: float) -> bool:
        parameters = _count_float_parameters(self.context.source)
        return fits_when_pruned(parameters, ratio, self.gates.max_bytes)

    def _make_base(self, base: Base) -> bool:
        if base.name in self._made:
            return True
        # What is too inaccurate pruned may come right trained, so the parent may be missing.
        if not self._make_base(self._named[base.parent]):
            return False
        try:
            made = self._run(base.steps, self._made[base.parent], base.name)
        except CompressionError as error:
            self._skip(base.name, str(error))
            if base.ratio and not base.is_trained and not isinstance(error, BudgetSpentError):
                self._failed_ratio = min(self._failed_ratio, base.ratio)
            return False
        twin = self._digests.setdefault(_digest(made.path), base.name)
        if twin != base.name:
            self._skip(base.name, f"the same file as {twin or 'the source'}")
            return False
        self._made[base.name] = made
        return True

    def _is_base_lost(self, base: Base, path: Path) -> bool:
        limit = self.gates.max_accuracy_drop_points
        if limit is None or self.selection.labels is None:
            return False
        return is_clearly_worse(self._hits(self._reference), self._hits(self._score(path)), limit)

    def _try_format(self, base: Base, form: Format, parameters: int) -> None:
        name = name_candidate(base, form)
        if not base.name and form.name == "fp32":
            return
        if len(self.built) >= self.context.search.trials:
            self._skip(name, f"search.trials ({self.context.search.trials}) used up")
            return
        if not fits_at_best(parameters, form, self.gates.max_bytes):
            needed = parameters * form.bytes_per_parameter
            self._skip(name, f"needs at least {needed:,} bytes for {parameters:,} parameters")
            return
        try:
            made = self._run(form.steps, self._made[base.name], name)
            scores = self._score(made.path)
        except CompressionError as error:
            self._skip(name, str(error))
            return
        twin = self._digests.setdefault(_digest(made.path), name)
        if twin not in (name, base.name):
            self._skip(name, f"the same file as {twin}")
            return
        built = Built(self._judge(name, made, scores), made.path, made.excluded)
        built.is_ruled_out = self._is_ruled_out(built.candidate, scores)
        self.built.append(built)

    def _judge(self, name: str, made: Made, scores: Answers) -> Candidate:
        candidate = Candidate(name, made.steps, made.path.stat().st_size)
        candidate.collapse_flags = self.context.scoring.list_collapses(self._reference, scores)
        candidate.agreement = self.context.scoring.compare(self._reference, scores).value
        if self.selection.labels is not None:
            before = float(self._hits(self._reference).mean())
            candidate.accuracy = float(self._hits(scores).mean())
            candidate.drop_points = round(100.0 * (before - candidate.accuracy), 4)
        candidate.held_out_accuracy = candidate.accuracy
        candidate.held_out_drop_points = candidate.drop_points
        candidate.held_out_agreement = candidate.agreement
        return candidate

    def _is_ruled_out(self, candidate: Candidate, scores: Answers) -> bool:
        """Too large, collapsed, or clearly too inaccurate; the reason is noted."""
        limit = self.gates.max_accuracy_drop_points
        certain = replace(candidate, drop_points=None, agreement=None)
        broken = [sentence for sentence, _ in list_violations(certain, self.gates)]
        if limit is not None and self.selection.labels is not None:
            hits, reference = self._hits(scores), self._hits(self._reference)
            if is_clearly_worse(reference, hits, limit):
                rows = len(hits)
                broken.append(
                    f"{candidate.drop_points:g} points lost on {rows} held-out rows, clearly "
                    f"more than {limit:g}"
                )
        candidate.reason = "; ".join(broken)
        return bool(broken)

    def _run(self, steps: tuple[dict[str, Any], ...], start: Made, name: str) -> Made:
        """What the steps make of `start`."""
        made = start
        folder = self.context.scratch / (name or "source").replace("+", "_")
        folder.mkdir(parents=True, exist_ok=True)
        with interrupt_after(self._left()):
            for index, step in enumerate(steps):
                declared = PASSES[step["pass"]]
                complete = {"pass": declared.name, **declared.defaults, **step}
                parameters = {key: value for key, value in complete.items() if key != "pass"}
                if declared.trains:
                    # Other bases want to be trained too.
                    parameters["seconds"] = max(int(self._left() * TRAINING_SHARE), 1)
                    parameters["steps"] = (
                        self.context.parameters["training_steps"] or parameters["steps"]
                    )
                context = replace(
                    self.context,
                    source=made.path,
                    destination=folder / f"{index}.onnx",
                    scratch=self.context.scratch,
                    parameters=parameters,
                    calibration=self.fitting,
                    evaluation=None,
                    search=self._inner_search(),
                    report_progress=lambda done, total: None,
                )
                result = run_guarded(declared, context, self._signature, self.selection)
                if declared.trains:
                    # As many as there was time for: a recipe of its own can ask for them.
                    complete["steps"] = result.facts["steps"]
                excluded = {**made.excluded, **result.excluded}
                made = Made(context.destination, [*made.steps, complete], excluded)
        return made

    def _inner_search(self) -> Search:
        return replace(self.context.search, seconds=max(int(self._left()), 1))

    def _score(self, path: Path) -> Answers:
        return self.context.scoring.score(path, self.selection, self.context.threads)

    def _hits(self, scores: Answers) -> NDArray[np.bool_]:
        assert self.selection.labels is not None
        return self.context.scoring.hits(scores, self.selection.labels)

    def _left(self) -> float:
        return self.deadline - time.monotonic()

    def _skip(self, name: str, reason: str) -> None:
        logger.info("search skipped %s: %s", name, reason)
        self.skipped.append({"name": name, "reason": reason})


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _count_float_parameters(path: Path) -> int:
    tensors = onnx.load(str(path)).graph.initializer
    floats = [tensor for tensor in tensors if tensor.data_type == onnx.TensorProto.FLOAT]
    return sum(math.prod(tensor.dims) for tensor in floats)

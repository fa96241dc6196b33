"""The full judgement of the few that are left: whole evaluation set, latency in turns."""

import time
from dataclasses import dataclass
from pathlib import Path

from compression.engine.passes.context import PassContext
from compression.engine.search.deadline import interrupt_after
from compression.engine.search.exploration import Built
from compression.engine.search.judgement import (
    Candidate,
    find_front,
    list_violations,
    measure_excess,
    rank_candidates,
)
from compression.exceptions import BudgetSpentError
from compression.measure.advantage import is_better
from compression.measure.answers import Answers
from compression.measure.latency import measure_latency
from compression.measure.models import OpenModel
from compression.measure.samples import Samples
from compression.recipe.recipe import Gates

SOURCE_NAME = "fp32"
QUICK_RUNS = 30
FINAL_RUNS = 120


@dataclass
class Finals:
    """Judges finalists until the deadline; the source stands beside them as control."""

    context: PassContext
    evaluation: Samples
    deadline: float

    def __post_init__(self) -> None:
        started = time.monotonic()
        original = self.context.original
        self._reference = self._score(original)
        self.seconds_per_judgement = time.monotonic() - started
        self.source = Candidate(SOURCE_NAME, [], original.stat().st_size)
        self._judge_quality(self.source, self._reference)
        self.source.reason = "the source itself, as control"

    def time_quickly(self, built: list[Built], seconds: float) -> None:
        """Latency good enough to order candidates by."""
        self._time(built, QUICK_RUNS, seconds)

    def judge(self, shortlist: list[Built], wanted: int) -> list[Built]:
        """Those that were judged, in the order given: `wanted`, or more until one is feasible.

        The first is judged whatever the time, so that there always is an answer.
        """
        judged: list[Built] = []
        for item in shortlist:
            is_enough = len(judged) >= wanted and any(
                not list_violations(other.candidate, self.context.gates) for other in judged
            )
            if is_enough or (judged and not self._has_time_for_another()):
                break
            scores = self._score(item.path)
            item.candidate.collapse_flags = self.context.scoring.list_collapses(
                self._reference, scores
            )
            self._judge_quality(item.candidate, scores)
            item.candidate.reason = ""
            judged.append(item)
        # Half of what is left: measuring latency must not eat the budget on a large model.
        self._time(judged, FINAL_RUNS, max(0.5 * (self.deadline - time.monotonic()), 0.0))
        candidates = [item.candidate for item in judged]
        for candidate in [self.source, *candidates]:
            broken = [sentence for sentence, _ in list_violations(candidate, self.context.gates)]
            if candidate is not self.source and not self._is_better(candidate):
                broken.append("neither smaller nor faster than FP32")
            candidate.is_feasible = not broken
            if broken:
                candidate.reason = "; ".join(broken)
        for candidate in find_front([self.source, *candidates]):
            candidate.is_on_front = True
        return judged

    def _is_better(self, candidate: Candidate) -> bool:
        mine, control = candidate.p50_ms, self.source.p50_ms
        p50_ms = None if mine is None or control is None else (mine, control)
        return is_better([(candidate.bytes, self.source.bytes)], p50_ms)

    def _score(self, path: Path) -> Answers:
        return self.context.scoring.score(path, self.evaluation, self.context.threads)

    def _judge_quality(self, candidate: Candidate, scores: Answers) -> None:
        candidate.judged_on = "full"
        candidate.accuracy = candidate.drop_points = None
        candidate.agreement = self.context.scoring.compare(self._reference, scores).value
        labels = self.evaluation.labels
        if labels is not None:
            before = self.context.scoring.accuracy(self._reference, labels).value
            candidate.accuracy = self.context.scoring.accuracy(scores, labels).value
            candidate.drop_points = round(100.0 * (before - candidate.accuracy), 4)

    def _has_time_for_another(self) -> bool:
        left = self.deadline - time.monotonic()
        # A variant may run slower than FP32, and latency is still to be measured.
        return left > 3.0 * self.seconds_per_judgement

    def _time(self, built: list[Built], runs: int, seconds: float) -> None:
        target = self.context.target
        models = {SOURCE_NAME: OpenModel(self.context.original)}
        models |= {item.candidate.name: OpenModel(item.path) for item in built}
        try:
            with interrupt_after(max(self.deadline - time.monotonic(), 1.0)):
                times = measure_latency(
                    models,
                    self.evaluation.head(target.batch),
                    threads=target.threads,
                    batch=target.batch,
                    runs=runs,
                    seconds=seconds,
                )
        except BudgetSpentError:
            return
        for candidate in [self.source, *(item.candidate for item in built)]:
            figures = times[candidate.name]
            candidate.p50_ms, candidate.p95_ms = figures["p50_ms"], figures["p95_ms"]


def choose_shortlist(built: list[Built], gates: Gates, objective: str, wanted: int) -> list[Built]:
    """Candidates in the order in which to judge them fully.

    Half of the `wanted` are those that keep every constraint on the held-out rows, best by the
    objective first; then come those no other beats, so that the front is more than one corner,
    then the rest. At the end stand the ones that were ruled out, nearest to the constraints first,
    so that a search that fails can name the closest.
    """
    by_name = {item.candidate.name: item for item in built}
    open_ones = [item.candidate for item in built if not item.is_ruled_out]
    others = [item.candidate for item in built if item.is_ruled_out]
    others.sort(key=lambda item: (measure_excess(item, gates), item.bytes, item.name))
    likely = [item for item in open_ones if not list_violations(item, gates)]
    doubtful = [item for item in open_ones if list_violations(item, gates)]
    first = rank_candidates(likely, objective)[: (wanted + 1) // 2]
    front = rank_candidates(find_front(open_ones), objective)
    front = [item for item in front if item not in first]
    ranked = [*rank_candidates(likely, objective), *rank_candidates(doubtful, objective)]
    rest = [item for item in ranked if item not in first and item not in front]
    return [by_name[candidate.name] for candidate in [*first, *front, *rest, *others]]

"""The best variant under the recipe's gates, found by trying the other passes."""

import shutil
import time

import numpy as np

from compression.engine.passes.context import PassContext, PassResult
from compression.engine.search.exploration import Built, Explorer
from compression.engine.search.finals import Finals, choose_shortlist
from compression.engine.search.judgement import (
    Candidate,
    Choice,
    choose_closest,
    describe_figures,
    list_violations,
    recommend,
)
from compression.engine.search.space import list_bases
from compression.engine.training.requirement import MIN_TRAINING_MEMORY_BYTES, find_engine
from compression.exceptions import DataSetUnusableError, ModelUnsupportedError
from compression.measure.samples import Samples
from compression.recipe.recipe import Gates

SELECTION_SHARE = 1 / 3
MAX_SELECTION_ROWS = 2000
EXPLORING_SHARE = 0.6
TIMING_SHARE = 0.1

_SUPERLATIVES = {"size": "smallest", "latency": "fastest", "accuracy": "most accurate"}

_KIND = "So the evaluation set had a part in the choice, and its figures are slightly kind."


def search_best(context: PassContext) -> PassResult:
    """The recommended variant, or the closest one where nothing keeps the constraints.

    Candidates are fitted on two thirds of the calibration rows and compared, and the winner is
    chosen, on the others. Finalists are judged on the whole evaluation set, in turns with FP32 for
    latency: it can refuse a candidate and gives the figures, but it ranks none.

    Args:
        context: its `gates` are the constraints, `search` holds objective, trials and seconds.
    """
    if context.calibration is None or context.evaluation is None:
        raise DataSetUnusableError("search.best needs calibration and evaluation samples.")
    started = time.monotonic()
    seconds = context.search.seconds
    fitting, selection = split_samples(context.calibration, context.seed)
    finals = Finals(context, context.evaluation, started + seconds * 0.97)
    bases = list_bases(
        context.parameters["max_ratio"],
        context.search.objective,
        can_train=_can_train(context),
        source_bytes=context.original.stat().st_size,
        max_bytes=context.gates.max_bytes,
    )
    deadline = started + seconds * EXPLORING_SHARE
    explorer = Explorer(context, fitting, selection, deadline, bases)
    for index, base in enumerate(bases):
        explorer.explore(base)
        context.report_progress(index + 1, len(bases) + 1)
    if not explorer.built:
        explorer.build_smallest()
    if not explorer.built:
        reasons = "; ".join(f"{item['name']}: {item['reason']}" for item in explorer.skipped[:5])
        raise ModelUnsupportedError(f"search.best could build no candidate ({reasons}).")
    objective = context.search.objective
    if objective == "latency" or context.gates.max_p95_ms is not None:
        open_ones = [item for item in explorer.built if not item.is_ruled_out]
        finals.time_quickly(open_ones, seconds * TIMING_SHARE)
    wanted = context.parameters["finalists"]
    shortlist = choose_shortlist(explorer.built, context.gates, objective, wanted)
    judged = finals.judge(shortlist, wanted)
    context.report_progress(len(bases) + 1, len(bases) + 1)
    _explain_rest(explorer.built, judged)
    choice = recommend([item.candidate for item in judged], context.gates, objective)
    closest = choice.candidate or choose_closest([i.candidate for i in judged], context.gates)
    winner = next(item for item in judged if item.candidate is closest)
    shutil.copyfile(winner.path, context.destination)
    candidates = [finals.source, *(item.candidate for item in explorer.built)]
    return PassResult(
        winner.excluded,
        {
            "search": {
                "objective": objective,
                "constraints": list_constraints(context.gates),
                "budget_seconds": seconds,
                "seconds": round(time.monotonic() - started, 2),
                "candidates": [candidate.to_json() for candidate in candidates],
                "skipped": explorer.skipped,
                "recommended": choice.candidate.name if choice.candidate else None,
                "chosen_on": "held_out" if choice.is_held_out else "evaluation",
                "passed_over": list(choice.passed_over),
                "closest": closest.name,
                "sentence": _write_sentence(choice, closest, finals, len(selection), context),
                "selection_rows": len(selection),
                "evaluation_rows": len(context.evaluation),
            }
        },
    )


def split_samples(samples: Samples, seed: int) -> tuple[Samples, Samples]:
    """Rows to fit on and rows to select on, disjoint, the same for the same seed."""
    count = min(int(len(samples) * SELECTION_SHARE), MAX_SELECTION_ROWS)
    if count < 1:
        raise DataSetUnusableError(f"search.best needs 3 calibration rows, found {len(samples)}.")
    order = np.random.default_rng(seed).permutation(len(samples))
    return samples.take(np.sort(order[count:])), samples.take(np.sort(order[:count]))


def list_constraints(gates: Gates) -> dict[str, float | int]:
    """The gates that are set."""
    values = {
        "max_bytes": gates.max_bytes,
        "max_accuracy_drop_points": gates.max_accuracy_drop_points,
        "max_p95_ms": gates.max_p95_ms,
        "min_agreement": gates.min_agreement,
    }
    return {name: value for name, value in values.items() if value is not None}


def _can_train(context: PassContext) -> bool:
    """Whether training is wanted, an engine is there and the process may hold what it needs."""
    limit = context.memory_bytes
    has_memory = limit is None or limit >= MIN_TRAINING_MEMORY_BYTES
    return bool(context.parameters["train"]) and find_engine() is not None and has_memory


def _explain_rest(built: list[Built], judged: list[Built]) -> None:
    names = {item.candidate.name for item in judged}
    for item in built:
        if item.candidate.name not in names and not item.candidate.reason:
            item.candidate.reason = "not among the finalists: others rank before it"


def _write_sentence(
    choice: Choice, closest: Candidate, finals: Finals, held_out_rows: int, context: PassContext
) -> str:
    figures = describe_figures(closest, finals.evaluation.labels is not None)
    chosen = choice.candidate
    if chosen is None:
        broken = closest.reason or "; ".join(
            sentence for sentence, _ in list_violations(closest, context.gates)
        )
        return f"No candidate keeps every constraint. The closest is {closest.name}: {broken}."
    word = _SUPERLATIVES[context.search.objective]
    limits = ", ".join(f"{k} {v:g}" for k, v in list_constraints(context.gates).items())
    speed = ""
    if chosen.p50_ms and finals.source.p50_ms:
        speed = f" ({finals.source.p50_ms / chosen.p50_ms:.2f} × the speed of FP32)"
    start = (
        f"{chosen.name} is the {word} under {limits or 'no limit'} by {held_out_rows} held-out rows"
    )
    full = f"on the whole evaluation set ({len(finals.evaluation)} rows) {figures}{speed}."
    if choice.is_held_out:
        return f"{start}, which chose it; {full}"
    if not choice.passed_over:
        return f"{start}, although it breaks a limit there; {full} {_KIND}"
    count = len(choice.passed_over)
    return f"{start} once {count} ranked before it failed on the evaluation set; {full} {_KIND}"

"""Whether a variant may be promoted: the recipe's gates judged on a report. Pure."""

from dataclasses import asdict, dataclass
from typing import Any

from compression.measure.distance import find_excess
from compression.measure.kernels.instruction_sets import TARGETS_WITHOUT_VNNI, WITHOUT_VNNI
from compression.measure.portability import saturated_row
from compression.recipe.recipe import Gates

MAX_NAMED_COLUMNS = 5

#: What the report's own gates are called; those of a recipe have the titles of the form.
TITLES = {
    "instruction_sets": "Accuracy where sums saturate",
    "relative_error": "Distance of the answers",
    "task_agreement": "Agreement in the terms of the task",
    "collapsed_columns": "Columns that became constant",
}


@dataclass(frozen=True)
class Verdict:
    """One gate: what was measured against what was allowed."""

    gate: str
    limit: float
    measured: float | None
    passed: bool
    sentence: str


def judge_gates(gates: Gates, report: dict[str, Any]) -> list[Verdict]:
    """The verdict of every gate that is set. A figure that was not measured does not pass."""
    variant = report["variant"]
    latency = variant.get("latency") or {}
    agreement = variant.get("agreement") or {}
    checks = (
        (
            "max_accuracy_drop_points",
            gates.max_accuracy_drop_points,
            report.get("accuracy_drop_points"),
            "points of accuracy lost",
            False,
        ),
        ("max_bytes", gates.max_bytes, variant["bytes"], "bytes", False),
        ("max_p95_ms", gates.max_p95_ms, latency.get("p95_ms"), "ms at p95", False),
        ("min_agreement", gates.min_agreement, agreement.get("value"), "agreement", True),
    )
    return [
        _judge(name, limit, measured, unit, is_minimum)
        for name, limit, measured, unit, is_minimum in checks
        if limit is not None and not _is_unlabelled(name, report)
    ]


def judge_saturation(gates: Gates, report: dict[str, Any], target_isa: str) -> Verdict | None:
    """The gate on accuracy where 16-bit sums saturate; None where that is not asked for.

    A target for every processor, or for x86 without VNNI, has to be as accurate there.
    """
    row, limit = saturated_row(report), gates.max_accuracy_drop_points
    if row is None or limit is None or target_isa not in TARGETS_WITHOUT_VNNI:
        return None
    unit = f"points of accuracy lost by saturation on {WITHOUT_VNNI}"
    if not report.get("has_labels"):
        return None
    return _judge("instruction_sets", limit, row["accuracy_drop_points"], unit, is_minimum=False)


def judge_distance(report: dict[str, Any]) -> Verdict | None:
    """Fails answers that are too far from the source's for their task; None where they are not.

    The class of such answers can be the same by luck, and of other tasks nothing else looks at the
    size of answers.
    """
    variant = report["variant"]
    excess = find_excess(
        report["task"],
        variant.get("relative_error"),
        variant["agreement"]["value"],
        variant.get("task_figures") or {},
    )
    if excess is None:
        return None
    return _judge(
        excess.gate, excess.limit, excess.measured, excess.unit, is_minimum=excess.is_minimum
    )


def judge_columns(report: dict[str, Any]) -> Verdict | None:
    """Fails outputs of which a column is constant that is not in the source; None where none is.

    All rows can agree although one class never comes up any more, or every box has the same score.
    """
    columns = report["variant"].get("collapsed_columns") or []
    if not columns:
        return None
    more = f" and {len(columns) - MAX_NAMED_COLUMNS} more" * (len(columns) > MAX_NAMED_COLUMNS)
    sentence = (
        f"{', '.join(columns[:MAX_NAMED_COLUMNS])}{more}: constant here and not in the source"
    )
    return Verdict("collapsed_columns", 0, len(columns), False, sentence)


def has_judged_answers(gates: Gates, report: dict[str, Any]) -> bool:
    """False where the answers were held against nothing: no labels, and no gate on agreement."""
    return bool(report["has_labels"]) or gates.min_agreement is not None


def judge_search(search: dict[str, Any]) -> Verdict:
    """Whether a search found anything; if not, its closest candidate must not pass by luck."""
    count = sum(item["is_feasible"] for item in search["candidates"] if item["passes"])
    return Verdict("search.best", 1, count, search["recommended"] is not None, search["sentence"])


def _is_unlabelled(name: str, report: dict[str, Any]) -> bool:
    """Without labels no accuracy exists; the default gate on it then says nothing."""
    return name == "max_accuracy_drop_points" and not report.get("has_labels")


def _judge(name: str, limit: float, measured: float | None, unit: str, is_minimum: bool) -> Verdict:
    if measured is None:
        return Verdict(name, limit, None, False, f"{unit}: not measured")
    # Both sides come from counts divided by counts: the tolerance only absorbs rounding.
    passed = measured >= limit - 1e-9 if is_minimum else measured <= limit + 1e-9
    word = "at least" if is_minimum else "at most"
    sentence = f"{measured:g} {unit}, {word} {limit:g} allowed"
    return Verdict(name, limit, measured, passed, sentence)


def outcome_of(report: dict[str, Any], verdicts: list[Verdict]) -> str:
    """`collapsed`, `failed_gate` or `passed`."""
    if report["variant"].get("collapse_flags"):
        return "collapsed"
    return "passed" if all(verdict.passed for verdict in verdicts) else "failed_gate"


def verdicts_to_json(verdicts: list[Verdict]) -> list[dict[str, Any]]:
    """Plain objects for the stored report."""
    return [asdict(verdict) for verdict in verdicts]

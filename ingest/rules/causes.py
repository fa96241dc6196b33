"""Which breaches have one cause, what the cause is called, and how it is said in words."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from registry.units import write_count

Cell = TypeVar("Cell", int, str)
#: How telling a metric is, the most telling first; a feature's name follows its colon.
TELLING = (
    "nonfinite_rate",
    "error_rate",
    "prediction_psi",
    "same_hours_psi",
    "confidence_drop",
    "latency_p95_ratio",
    "confidence_psi",
    "feature_psi",
    "changed_devices",
)
MOST_NAMED = 3
_COUNTS = {2: "twice", 3: "three times", 4: "four times", 5: "five times"}


def metric_rank(metric: str) -> int:
    """Place of a metric in `TELLING`; unknown ones come last."""
    name = metric.partition(":")[0]
    return TELLING.index(name) if name in TELLING else len(TELLING)


def name_cause(
    members: Mapping[str, Sequence[Cell]],
    breached: Mapping[str, Sequence[str]],
    is_breach: Callable[[Sequence[Cell], str], bool],
    devices_in: Callable[[Collection[Cell]], int] = len,
) -> str:
    """The smallest slice without whose devices nothing else would be in breach.

    Args:
        members: the cells of each slice, that is the devices that no slice tells apart; `all` holds
            every cell.
        breached: metrics in breach of each slice that has some.
        is_breach: whether the metric is in breach for these cells alone.
        devices_in: how many devices are in cells; one in each where it is not given.

    Returns:
        A slice, or several values of one label joined by commas (`site=a, site=b`) where only
        together they explain the rest; `all` where nothing smaller does.
    """

    def size(name: str) -> int:
        return devices_in(members.get(name, ()))

    slices = sorted(breached, key=lambda name: (size(name), name == "all", name))
    by_label: dict[str, list[str]] = {}
    for name in slices:
        if name != "all":
            by_label.setdefault(name.partition("=")[0], []).append(name)
    candidates: list[tuple[str, ...]] = [(name,) for name in slices]
    for together in by_label.values():
        if 1 < len(together) <= MOST_NAMED:
            candidates.append(tuple(sorted(together)))
    everyone = size("all")

    def cells(names: Sequence[str]) -> set[Cell]:
        return {cell for name in names for cell in members.get(name, ())}

    for names in sorted(
        candidates, key=lambda names: (devices_in(cells(names)), len(names), names[0] != "all")
    ):
        inside = cells(names)
        if len(names) > 1 and 2 * devices_in(inside) > everyone:
            continue
        if _explains(inside, set(names), members, breached, is_breach):
            return ", ".join(names)
    return "all"


def _explains(
    inside: set[Cell],
    names: set[str],
    members: Mapping[str, Sequence[Cell]],
    breached: Mapping[str, Sequence[str]],
    is_breach: Callable[[Sequence[Cell], str], bool],
) -> bool:
    for other, metrics in breached.items():
        if other in names:
            continue
        theirs = members.get(other, ())
        rest = [cell for cell in theirs if cell not in inside]
        if len(rest) == len(theirs):
            return False
        if rest and any(is_breach(rest, metric) for metric in metrics):
            return False
    return True


def slice_words(name: str) -> str:
    """Who a slice is, at the start of a sentence."""
    if name == "all":
        return "The fleet"
    values = [part.partition("=")[2] or part for part in name.split(", ")]
    is_hardware = name.startswith("hardware_class=")
    joined = " and ".join([", ".join(values[:-1]), values[-1]] if len(values) > 1 else values)
    return f"Hardware {joined}" if is_hardware else joined


def times_words(ratio: float) -> str:
    """`ratio` as people say it: three times, 2.4 times."""
    whole = round(ratio)
    if whole in _COUNTS and abs(ratio - whole) <= 0.1 * whole:
        return _COUNTS[whole]
    return f"{ratio:.1f} times" if ratio < 10 else f"{ratio:.0f} times"


def describe_breach(
    metric: str, slice_name: str, value: float | None, details: Mapping[str, Any]
) -> str:
    """What is wrong, in one clause without its time: `line-b answers 4 three times as often …`.

    Args:
        details: those of the judgement.
    """
    who, kind = slice_words(slice_name), metric.partition(":")[0]
    shown = 0.0 if value is None else value
    if kind == "prediction_psi":
        return _class_words(who, details)
    if metric == "same_hours_psi:prediction":
        return f"{_class_words(who, details)}, at the same hours"
    if kind == "same_hours_psi":
        return (
            f"{who} is sure of its answers in another way than at the same hours of the days "
            f"before (PSI {shown:.2f})"
        )
    if kind == "confidence_drop":
        return f"{who} is less sure: mean confidence fell by {100 * shown:.0f} points"
    if kind == "confidence_psi":
        return f"{who} is sure of its answers in another way than before (PSI {shown:.2f})"
    if kind == "latency_p95_ratio":
        now, then = details.get("p95_ms"), details.get("reference_p95_ms")
        figures = f": p95 {now:.1f} ms, before {then:.1f} ms" if now and then else ""
        return f"{who} needs {times_words(shown)} as long for an inference{figures}"
    if kind == "error_rate":
        return f"{who} fails in {100 * shown:.1f} % of its inferences"
    if kind == "nonfinite_rate":
        return f"{who} computes numbers that are none in {100 * shown:.1f} % of its inferences"
    if kind == "changed_devices":
        changed = int(details.get("changed", 0))
        verb = "differs" if changed == 1 else "differ"
        return f"{who} has {write_count(changed, 'device')} that {verb} from their own past"
    if kind == "feature_psi":
        feature = metric.partition(":")[2]
        sigma = details.get("wasserstein_sigma")
        far = f" by {sigma:.1f} standard deviations" if sigma else ""
        return f"{who} is given other inputs than before: {feature} moved{far}"
    return f"{who}: {metric} is {shown:.3g}"


def power_words(details: Mapping[str, Any], n_eff: float) -> str:
    """What the evidence of a judgement finds in nine of ten cases; empty where nothing is known.

    Args:
        details: those of the judgement, with its `power`.
        n_eff: effective records now.
    """
    power = details.get("power")
    if not power:
        return ""
    found = power["found_psi"]
    text = f"With {n_eff:,.0f} effective records a PSI of {found:.2f} is found in nine of ten cases"
    critical, needed = power["critical_psi"], power["records_for_critical"]
    if found <= critical:
        return text + "."
    if needed is None:
        return text + f"; one of {critical:.2f} never with so small a reference."
    return text + f"; one of {critical:.2f} from {needed:,} records on."


def _class_words(who: str, details: Mapping[str, Any]) -> str:
    labels, then, now = _by_class(details)
    if not labels or not sum(then) or not sum(now):
        return f"{who} answers in another mix than before"
    p, q = np.asarray(then) / sum(then), np.asarray(now) / sum(now)
    grown = [int(index) for index in np.argsort(p - q) if q[index] - p[index] >= 0.02]
    if not grown:
        return f"{who} answers in another mix than before"
    most = q[grown[0]] - p[grown[0]]
    grown = [index for index in grown[:MOST_NAMED] if q[index] - p[index] >= most / 2]
    names = [labels[index] for index in grown]
    joined = " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
    before, after = float(p[grown].sum()), float(q[grown].sum())
    if before < 0.002:
        return f"{who} answers {joined} in {100 * after:.0f} % of cases, before almost never"
    if after / before < 1.5:
        return (
            f"{who} answers {joined} in {100 * after:.0f} % of cases, before {100 * before:.0f} %"
        )
    return f"{who} answers {joined} {times_words(after / before)} as often as before"


def _by_class(details: Mapping[str, Any]) -> tuple[list[str], list[float], list[float]]:
    """Names and counts of the merged bins, the reference's and now."""
    labels, plan = details.get("labels") or [], details.get("plan") or []
    members: dict[int, list[str]] = {}
    for index, merged in enumerate(plan):
        # What is beyond the label map is mostly empty and shares a bin with a class.
        if index < len(labels) - 1 or merged not in members:
            name = str(labels[index]) if index < len(labels) else "another class"
            members.setdefault(merged, []).append(name)
    names = [
        texts[0] if len(texts) == 1 else f"one of {len(texts)} rare classes"
        for _, texts in sorted(members.items())
    ]
    then, now = details.get("reference") or [], details.get("current") or []
    return (names, then, now) if len(names) == len(then) == len(now) else ([], [], [])

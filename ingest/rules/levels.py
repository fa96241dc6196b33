"""From tests to levels, for all metrics and slices of one evaluation together."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ingest.rules import psi as drift
from ingest.rules.judgement import CHANGED_DEVICES, Judgement
from ingest.rules.laws import Law, PsiLaw, size_that_finds, warning_law

LEVEL = 1 - drift.LEVEL


def settle_levels(judged: Sequence[Judgement]) -> list[Judgement]:
    """Gives each tested judgement its level, holding the false discovery rate at 1 %.

    The family is every tested metric of every slice of one evaluation; the shares of changed
    devices are a family of their own. The lines shown are those of the family as it came out: a
    value lies above its line exactly when it is a finding.
    """
    result = list(judged)
    for is_share in (False, True):
        family = [
            index
            for index, item in enumerate(judged)
            if item.laws is not None and (item.metric == CHANGED_DEVICES) is is_share
        ]
        _settle_family(result, family)
    return result


def _settle_family(result: list[Judgement], family: Sequence[int]) -> None:
    if not family:
        return
    strictest = 1 - LEVEL / len(family)
    warning_laws = [_warning(result[index], strictest) for index in family]
    critical_laws = [pair[1] for index in family if (pair := result[index].laws) is not None]
    sets = []
    for laws in (warning_laws, critical_laws):
        p = [law.p_value(result[i].value or 0.0) for i, law in zip(family, laws, strict=True)]
        q = drift.benjamini_hochberg(p)
        rejected = sum(value < LEVEL for value in q)
        sets.append((laws, p, q, 1 - LEVEL * max(rejected, 1) / len(family)))
    for place, index in enumerate(family):
        (warning, p_warning, q_warning, line), (critical, p_critical, q_critical, high) = sets
        item = result[index]
        status = "healthy" if item.is_enough else "insufficient"
        if q_warning[place] < LEVEL:
            status = "critical" if q_critical[place] < LEVEL else "warning"
        threshold = warning[place].threshold(line)
        result[index] = replace(
            item,
            status=status,
            threshold=threshold,
            threshold_critical=max(critical[place].threshold(high), threshold),
            p_warning=p_warning[place],
            p_critical=p_critical[place],
            q_value=q_warning[place],
            details={**item.details, **_power(item, warning[place], threshold, strictest)},
        )


def _warning(item: Judgement, level: float) -> Law:
    assert item.laws is not None
    warning, critical = item.laws
    if isinstance(warning, PsiLaw) and isinstance(critical, PsiLaw):
        return warning_law(warning, critical.tolerated, level)
    return warning


def _power(item: Judgement, warning: Law, line: float, level: float) -> dict[str, Any]:
    """What the evidence at hand finds in nine of ten cases, and what would find a critical PSI."""
    if not isinstance(warning, PsiLaw) or item.laws is None:
        return {}
    critical = item.laws[1]
    assert isinstance(critical, PsiLaw)
    original = item.laws[0]
    assert isinstance(original, PsiLaw)
    found = warning.found(line)
    size = None
    if found > critical.tolerated:
        size = size_that_finds(original, critical.tolerated, level, item.n_eff)
    return {
        "power": {
            "found_psi": round(found, 4),
            "critical_psi": critical.tolerated,
            "tolerated_psi": round(warning.tolerated, 4),
            "records_for_critical": None if size is None else round(size),
        }
    }

"""The prediction gate on models of 10, 201 and 1,000 classes, five canaries, thirty looks.

Devices have mixes of their own (Dirichlet); each is compared with its own past of 3,000 records.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ingest.rules.distribution_gate import NO_LOOK, Look, Side, judge_distribution

Array = NDArray[np.float64]
DEVICES, PAST, RECORDS_A_LOOK, THRESHOLD = 5, 3_000, 100, 0.25
LOOKS = (1, 2, 3, 5, 8, 12, 20, 30)


def simulate(
    rng: np.random.Generator, classes: int, likeness: float, collapsed: float
) -> tuple[Array, Array]:
    """Counts after each look, (looks, devices, classes), and of the past, (devices, classes).

    Args:
        likeness: concentration of the devices' mixes; the larger the more alike.
        collapsed: share of the answers that turn into class 1, whatever the input.
    """
    mixes = rng.dirichlet(np.full(classes, likeness / classes) + 1e-9, size=DEVICES)
    past = np.array([rng.multinomial(PAST, mix) for mix in mixes], dtype=float)
    now = (1 - collapsed) * mixes
    now[:, 1] += collapsed
    steps = np.diff([0, *LOOKS]) * RECORDS_A_LOOK
    counts = np.array([[rng.multinomial(step, mix) for mix in now] for step in steps])
    return counts.cumsum(axis=0).astype(float), past


def judge(canary: tuple[Array, Array], control: tuple[Array, Array]) -> str:
    """`fail`, `pass` or `open`: the first decision of the product's law."""
    look: Look = NO_LOOK
    for index in range(len(LOOKS)):
        answer = judge_distribution(
            Side(canary[0][index], canary[1]), Side(control[0][index], control[1]), THRESHOLD, look
        )
        assert answer is not None
        look = answer.look
        if answer.is_failing(THRESHOLD):
            return "fail"
        if answer.is_passing(THRESHOLD):
            return "pass"
    return "open"


def figures(seconds: float) -> dict[str, float]:
    """Collapses found, and harmless canaries failed and passed; in percent of rollouts."""
    runs = int(min(max(seconds / 2, 20), 300))
    rng = np.random.default_rng(20262)
    found: dict[str, float] = {}
    collapses: list[str] = []
    harmless: list[str] = []
    for classes in (10, 201, 1_000):
        for likeness in (1e6, 20.0):
            for collapsed, into in ((1.0, collapses), (0.0, harmless)):
                into += [
                    judge(
                        simulate(rng, classes, likeness, collapsed),
                        simulate(rng, classes, likeness, 0.0),
                    )
                    for _ in range(runs)
                ]
        recent = slice(-2 * runs, None)
        found[f"class_collapse_found_percent_{classes}"] = _percent(collapses[recent], "fail")
        found[f"class_harmless_pass_percent_{classes}"] = _percent(harmless[recent], "pass")
    found["many_class_collapse_found_percent"] = _percent(collapses, "fail")
    found["many_class_harmless_fail_percent"] = _percent(harmless, "fail")
    found["many_class_harmless_pass_percent"] = _percent(harmless, "pass")
    return found


def _percent(answers: list[str], wanted: str) -> float:
    return 100 * answers.count(wanted) / len(answers)

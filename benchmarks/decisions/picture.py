"""Draws `docs/screenshots/gate-looks.svg`: two simulated rollouts at every look, by our law.

`python -m benchmarks.decisions.picture` writes it again, byte for byte.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.decisions.gates import (
    LOOKS,
    MARGIN,
    PAST_RECORDS,
    RECORD_SD,
    RECORDS_A_LOOK,
    Fleet,
    simulate,
)
from fleet.rules.confidence_sequence import confidence_interval
from fleet.rules.device_changes import Changes, estimate_effect

TARGET = Path(__file__).resolve().parents[2] / "docs" / "screenshots" / "gate-looks.svg"
WIDTH, HEIGHT, LEFT, TOP, PANEL = 860, 330, 56, 40, 370
#: Drawn from −LOW to HIGH in the unit of the effect.
LOW, HIGH = -0.1, 0.2


def follow(canary: Fleet, control: Fleet) -> list[tuple[float, float, float]]:
    """Effect, lower and upper end at each look of the first run."""
    found = []
    for look in range(LOOKS):
        records = (look + 1) * RECORDS_A_LOOK
        variance = RECORD_SD**2 * (1 / records + 1 / PAST_RECORDS)
        sides = [
            Changes(side.now[look, :, 0] - side.past[:, 0], np.full(side.now.shape[1], variance))
            for side in (canary, control)
        ]
        effect = estimate_effect(sides[0], sides[1])
        assert effect is not None
        ends = confidence_interval(effect.estimate, effect.error, effect.degrees, MARGIN)
        found.append((float(effect.estimate), float(ends.lower), float(ends.upper)))
    return found


def draw() -> str:
    """The picture as SVG."""
    rng = np.random.default_rng(2)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
    ]
    for index, (effect, title) in enumerate(
        ((0.0, "A harmless release"), (2 * MARGIN, "Twice the margin worse"))
    ):
        looks = follow(simulate(rng, 5, 1, effect), simulate(rng, 5, 1, 0.0))
        parts += _panel(LEFT + index * (PANEL + 60), title, looks)
    return "\n".join([*parts, "</svg>", ""])


def _panel(left: float, title: str, looks: list[tuple[float, float, float]]) -> list[str]:
    bottom = HEIGHT - 50

    def x(look: int) -> float:
        return left + PANEL * look / (LOOKS - 1)

    def y(value: float) -> float:
        return bottom - (bottom - TOP) * (min(max(value, LOW), HIGH) - LOW) / (HIGH - LOW)

    band = [f"{x(i):.1f},{y(row[2]):.1f}" for i, row in enumerate(looks)]
    band += [f"{x(i):.1f},{y(row[1]):.1f}" for i, row in reversed(list(enumerate(looks)))]
    line = " ".join(f"{x(i):.1f},{y(row[0]):.1f}" for i, row in enumerate(looks))
    decided = next((i for i, row in enumerate(looks) if row[1] > MARGIN or row[2] <= MARGIN), None)
    parts = [
        f'<text x="{left}" y="22" font-size="14" font-weight="bold" fill="#1f2937">{title}</text>',
        f'<polygon points="{" ".join(band)}" fill="#93c5fd" fill-opacity="0.55"/>',
        f'<polyline points="{line}" fill="none" stroke="#1d4ed8" stroke-width="2"/>',
        f'<line x1="{left}" x2="{left + PANEL}" y1="{y(MARGIN):.1f}" y2="{y(MARGIN):.1f}" '
        'stroke="#b91c1c" stroke-dasharray="6 4"/>',
        f'<text x="{left + PANEL}" y="{y(MARGIN) - 5:.1f}" text-anchor="end" fill="#b91c1c">'
        f"margin {MARGIN}</text>",
        f'<line x1="{left}" x2="{left}" y1="{TOP}" y2="{bottom}" stroke="#6b7280"/>',
    ]
    parts += [
        f'<text x="{left - 6}" y="{y(value) + 4:.1f}" text-anchor="end" fill="#374151">'
        f"{value:g}</text>"
        for value in (-0.1, 0.0, 0.1, 0.2)
    ]
    parts.append(
        f'<text x="{left + PANEL / 2}" y="{HEIGHT - 12}" text-anchor="middle" fill="#374151">'
        f"looks, one a minute ({RECORDS_A_LOOK} records a device each)</text>"
    )
    parts += [
        f'<text x="{x(look - 1):.1f}" y="{bottom + 16}" text-anchor="middle" fill="#374151">'
        f"{look}</text>"
        for look in (1, 30, 60, 90, 120)
    ]
    if decided is not None:
        verdict = "FAIL" if looks[decided][1] > MARGIN else "PASS"
        parts += [
            f'<line x1="{x(decided):.1f}" x2="{x(decided):.1f}" y1="{TOP}" y2="{bottom}" '
            'stroke="#111827"/>',
            f'<text x="{x(decided) + 5:.1f}" y="{TOP + 12}" font-weight="bold" fill="#111827">'
            f"{verdict} at look {decided + 1}</text>",
        ]
    return parts


if __name__ == "__main__":
    TARGET.write_text(draw(), encoding="utf-8")
    print(TARGET)

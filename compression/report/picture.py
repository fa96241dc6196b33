"""The Pareto picture: size against quality, with speed as colour. Pure."""

import math
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from registry.units import write_bytes

WIDTH, HEIGHT = 860, 440
LEFT, RIGHT, TOP, BOTTOM = 70, 30, 40, 70
# From fast to slow; readable on white and told apart by people who confuse red and green.
_COLOURS = ((253, 231, 37), (33, 145, 140), (68, 1, 84))
_STYLE = (
    "text{font:13px sans-serif;fill:#1e293b}.axis{stroke:#94a3b8}.grid{stroke:#e2e8f0}"
    ".front{stroke:#0d9488;stroke-width:2;stroke-dasharray:3 4;fill:none}.name{font-weight:700}"
)


def draw_points(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What the picture needs of rows of a comparison or candidates of a search."""
    listed = list(rows)
    control = next((row for row in listed if row.get("is_source") or row["name"] == "fp32"), None)
    is_labelled = any(row["accuracy"] is not None for row in listed)
    points = []
    for row in listed:
        relative = row.get("relative_p50")
        if relative is None and control and control["p50_ms"] and row["p50_ms"]:
            relative = row["p50_ms"] / control["p50_ms"]
        points.append(
            {
                "name": row["name"],
                "bytes": row["bytes"],
                "quality": row["accuracy"] if is_labelled else row["agreement"],
                "measure": "accuracy" if is_labelled else "agreement with FP32",
                "low": row.get("accuracy_low"),
                "high": row.get("accuracy_high"),
                "relative_p50": relative,
                "p50_ms": row["p50_ms"],
                "is_source": row is control,
                "is_on_front": row["is_on_front"],
                "is_able": row.get("is_feasible", row.get("is_promotable", True)),
            }
        )
    return points


def draw_svg(points: list[dict[str, Any]], title: str) -> str:
    """A picture of `draw_points` that stands alone, for reports and pages elsewhere."""
    known = [point for point in points if point["quality"] is not None]
    frame = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title)}"><style>{_STYLE}</style>'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>'
        f'<text class="name" x="{LEFT}" y="22">{escape(title)}</text>'
    ]
    if not known:
        nothing = f'<text x="{LEFT}" y="{HEIGHT / 2}">Nothing has been measured yet.</text>'
        return "".join([*frame, nothing, "</svg>"])
    scale = _Scale(known)
    front = sorted((p for p in known if p["is_on_front"]), key=lambda p: p["bytes"])
    line = " ".join(f"{scale.x(p['bytes']):.1f},{scale.y(p['quality']):.1f}" for p in front)
    marks = [_draw_mark(point, scale) for point in known]
    return "".join([*frame, *_draw_axes(scale, known), _draw_line(line), *marks, "</svg>"])


class _Scale:
    """Where a size (logarithmic) and a quality lie in the picture, and the colour of a speed."""

    def __init__(self, points: list[dict[str, Any]]) -> None:
        sizes = [math.log10(point["bytes"]) for point in points]
        shares = [point["quality"] for point in points]
        self.sizes = (min(sizes) - 0.1, max(sizes) + 0.1)
        margin = max((max(shares) - min(shares)) * 0.15, 0.005)
        self.shares = (min(shares) - margin, max(shares) + margin)
        speeds = [p["relative_p50"] for p in points if p["relative_p50"] is not None] or [1.0]
        self.speeds = (min(speeds), max(speeds))

    def x(self, size: float) -> float:
        low, high = self.sizes
        return LEFT + (math.log10(size) - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y(self, share: float) -> float:
        low, high = self.shares
        return HEIGHT - BOTTOM - (share - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    def colour(self, speed: float | None) -> str:
        low, high = self.speeds
        if speed is None:
            return "#ffffff"
        place = 2 * (speed - low) / (high - low) if high > low else 0.0
        index = min(int(place), 1)
        mix = zip(_COLOURS[index], _COLOURS[index + 1], strict=True)
        return "#" + "".join(f"{round(a + (b - a) * (place - index)):02x}" for a, b in mix)


def _draw_axes(scale: _Scale, points: list[dict[str, Any]]) -> list[str]:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    for size in _list_sizes(*scale.sizes):
        x = f"{scale.x(size):.1f}"
        parts.append(
            f'<line class="grid" x1="{x}" x2="{x}" y1="{TOP}" y2="{bottom}"/>'
            f'<text x="{x}" y="{bottom + 18}" text-anchor="middle">{_round_bytes(size)}</text>'
        )
    low, high = scale.shares
    for step in range(5):
        share = low + (high - low) * step / 4
        y = f"{scale.y(share):.1f}"
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{y}" y2="{y}"/>'
            f'<text x="{LEFT - 8}" y="{y}" dy="4" text-anchor="end">{share:.1%}</text>'
        )
    fast, slow = scale.speeds
    words = f"yellow {fast:.2f} × the time of FP32 (p50) to violet {slow:.2f} ×"
    return [
        *parts,
        f'<path class="axis" fill="none" d="M{LEFT} {TOP}V{bottom}H{right}"/>',
        f'<text x="{LEFT}" y="{bottom + 40}">Size, logarithmic, against '
        f"{points[0]['measure']}; {words}.</text>",
        f'<text x="{LEFT}" y="{bottom + 58}">The dotted line joins the front; '
        "a cross cannot be promoted.</text>",
    ]


def _draw_line(line: str) -> str:
    return f'<polyline class="front" points="{line}"/>'


def _draw_mark(point: dict[str, Any], scale: _Scale) -> str:
    x, y = scale.x(point["bytes"]), scale.y(point["quality"])
    speed = point["relative_p50"]
    words = f"{point['name']}: {write_bytes(point['bytes'])}, {point['quality']:.2%}"
    words += "" if speed is None else f", {speed:.2f} × the time of FP32"
    ink = "#0d9488" if point["is_on_front"] else "#1e293b"
    fill = scale.colour(speed)
    if point["is_able"]:
        shape = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="7" fill="{fill}" stroke="{ink}"/>'
    else:
        arms = "".join(f"M{x - 6:.1f} {y - 6 * s:.1f}L{x + 6:.1f} {y + 6 * s:.1f}" for s in (1, -1))
        shape = f'<path d="{arms}" stroke="{ink}" stroke-width="3"/>'
    label = ""
    if point["is_on_front"] or point["is_source"]:
        label = f'<text class="name" x="{x:.1f}" y="{y - 12:.1f}" text-anchor="middle">'
        label += f"{escape(point['name'])}</text>"
    return f"<g><title>{escape(words)}</title>{shape}{label}</g>"


def _list_sizes(low: float, high: float) -> list[float]:
    """1, 2 and 5 times the powers of ten between two decimal logarithms."""
    powers = range(math.floor(low), math.ceil(high) + 1)
    sizes = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
    return [size for size in sizes if low <= math.log10(size) <= high]


def _round_bytes(size: float) -> str:
    number, unit = write_bytes(size).split()
    return f"{float(number):g} {unit}"

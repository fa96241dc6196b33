"""A small picture of what came from what: nodes and edges in, SVG out."""

from collections.abc import Sequence
from dataclasses import dataclass

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

NODE_WIDTH, NODE_HEIGHT = 168, 40
COLUMN, ROW, MARGIN = 216, 54, 8


@dataclass(frozen=True)
class Node:
    """A box of the picture; `parents` are keys of other nodes."""

    key: str
    label: str
    detail: str
    url: str = ""
    parents: tuple[str, ...] = ()
    is_current: bool = False


def draw_lineage(nodes: Sequence[Node]) -> SafeString:
    """The graph from left (older) to right (derived); parents that are not given are not drawn."""
    columns = _columns(nodes)
    place: dict[str, tuple[int, int]] = {}
    filled: dict[int, int] = {}
    for node in nodes:
        column = columns[node.key]
        row = filled.get(column, 0)
        filled[column] = row + 1
        place[node.key] = (MARGIN + column * COLUMN, MARGIN + row * ROW)
    width = 2 * MARGIN + max(filled, default=0) * COLUMN + NODE_WIDTH
    height = 2 * MARGIN + (max(filled.values(), default=1) - 1) * ROW + NODE_HEIGHT
    edges = format_html_join(
        "",
        '<path d="M{} {} C{} {} {} {} {} {}" fill="none" stroke="currentColor" opacity=".45"/>',
        (
            _curve(place[parent], place[node.key])
            for node in nodes
            for parent in node.parents
            if parent in place
        ),
    )
    boxes = format_html_join("", "{}", ((_box(node, *place[node.key]),) for node in nodes))
    return format_html(
        '<svg role="group" aria-label="Lineage" width="{0}" height="{1}" viewBox="0 0 {0} {1}" '
        'font-size="12" font-family="inherit">{2}{3}</svg>',
        width,
        height,
        edges,
        boxes,
    )


def _columns(nodes: Sequence[Node]) -> dict[str, int]:
    known = {node.key: node for node in nodes}
    columns = dict.fromkeys(known, 0)
    # Longest path by relaxation; as many rounds as nodes end it even if rows formed a ring.
    for _ in nodes:
        for node in nodes:
            parents = [columns[parent] + 1 for parent in node.parents if parent in known]
            columns[node.key] = min(max([columns[node.key], *parents]), len(nodes))
    return columns


def _curve(start: tuple[int, int], end: tuple[int, int]) -> tuple[int, ...]:
    x1, y1 = start[0] + NODE_WIDTH, start[1] + NODE_HEIGHT // 2
    x2, y2 = end[0], end[1] + NODE_HEIGHT // 2
    middle = (x1 + x2) // 2
    return (x1, y1, middle, y1, middle, y2, x2, y2)


def _box(node: Node, x: int, y: int) -> SafeString:
    box = format_html(
        '<title>{7} · {8}</title><rect x="{0}" y="{1}" width="{2}" height="{3}" rx="6" '
        'fill="{4}" fill-opacity=".12" stroke="{4}"/>'
        '<text x="{5}" y="{6}" fill="currentColor" font-weight="600">{9}</text>'
        '<text x="{5}" y="{10}" fill="currentColor" opacity=".9" font-size="11">{11}</text>',
        x,
        y,
        NODE_WIDTH,
        NODE_HEIGHT,
        "#0f766e" if node.is_current else "#888888",
        x + 10,
        y + 17,
        node.label,
        node.detail,
        _cut(node.label, 23),
        y + 32,
        _cut(node.detail, 27),
    )
    return format_html('<a href="{}">{}</a>', node.url, box) if node.url else box


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"

"""Rows of measurements, the table a person reads and the figures a program reads. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

# The model whose figures carry the short names, and that of the demonstration.
HEADLINE_MODEL = "digits-mobilenet"
DEMO_MODEL = "demo-digits"
SHORT_NAMES = {
    "static_int8": (HEADLINE_MODEL, "static-int8"),
    "prune40_int8": (HEADLINE_MODEL, "prune40-int8"),
    "prune40_kd_int8": (HEADLINE_MODEL, "prune40-kd-int8"),
    "distilled_int8": (HEADLINE_MODEL, "distilled-pruned-int8"),
}
COLUMNS = (
    "model",
    "variant",
    "accuracy % (95 %)",
    "drop",
    "agree %",
    "kB",
    "ratio",
    "p50",
    "p95",
    "p99 ms",
    "FP32 p50",
    "speed-up",
    "took s",
)


@dataclass(frozen=True)
class Row:
    """One variant of one model. `reason` says why nothing was measured."""

    model: str
    variant: str
    report: dict[str, Any] | None = None
    seconds: float = 0.0
    reason: str = ""
    has_accuracy: bool = True

    def cells(self) -> list[str]:
        """The cells of `COLUMNS`; what was not measured is a dash."""
        report = self.report
        if report is None:
            return [self.model, self.variant, self.reason]
        variant, source = report["variant"], report["source"]
        accuracy, latency = variant["accuracy"], variant["latency"]
        return [
            self.model,
            self.variant,
            format_share(accuracy) if self.has_accuracy and accuracy else "-",
            f"{report['accuracy_drop_points']:+.2f}"
            if self.has_accuracy and report["accuracy_drop_points"] is not None
            else "-",
            f"{100 * variant['agreement']['value']:.1f}" if self.has_accuracy else "-",
            f"{variant['bytes'] / 1000:.0f}",
            f"{report['ratio']:.2f}",
            *(f"{latency[key]:.3f}" for key in ("p50_ms", "p95_ms", "p99_ms")),
            f"{source['latency']['p50_ms']:.3f}",
            f"{report['speedup']:.2f}",
            f"{self.seconds:.0f}",
        ]


def format_share(share: dict[str, float]) -> str:
    """A share with its interval in percent."""
    return f"{100 * share['value']:.2f} ({100 * share['low']:.1f}-{100 * share['high']:.1f})"


def source_row(report: dict[str, Any], model: str, has_accuracy: bool) -> Row:
    """The row of the FP32 model itself, from the report of any variant of it."""
    same = {"value": 1.0}
    itself = {
        **report,
        "variant": {**report["source"], "agreement": same},
        "ratio": 1.0,
        "speedup": 1.0,
        "accuracy_drop_points": 0.0 if has_accuracy else None,
    }
    return Row(model, "fp32", itself, has_accuracy=has_accuracy)


def format_table(rows: Iterable[Row]) -> str:
    """A table in Markdown, columns padded; a row without figures gives its reason instead."""
    lines = [list(COLUMNS), *(row.cells() for row in rows)]
    full = [cells for cells in lines if len(cells) == len(COLUMNS)]
    widths = [max(len(cells[index]) for cells in full) for index in range(len(COLUMNS))]
    text = []
    for number, cells in enumerate(lines):
        padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=False)]
        text.append(f"| {' | '.join(padded)} |")
        if number == 0:
            text.append(f"|{'|'.join('-' * (width + 2) for width in widths)}|")
    return "\n".join(text)


def collect_figures(rows: Sequence[Row]) -> dict[str, Any]:
    """Every figure under `<model>_<variant>_<what>_<unit>`, and the headline ones by short name."""
    figures: dict[str, Any] = {"headline_model": HEADLINE_MODEL, "distilled_model": HEADLINE_MODEL}
    for row in rows:
        if row.report is None:
            continue
        name = f"{row.model}_{row.variant}".replace("-", "_")
        values = _values_of(row)
        figures |= {f"{name}_{key}": value for key, value in values.items()}
        for short, named in SHORT_NAMES.items():
            if (row.model, row.variant) == named:
                figures |= {f"{short}_{key}": value for key, value in values.items()}
        if (row.model, row.variant) == ("mobilenetv2-224", "static-int8"):
            figures["mbv2_static_int8_mb"] = round(row.report["variant"]["bytes"] / 1e6, 3)
    return figures


def _values_of(row: Row) -> dict[str, Any]:
    report = row.report
    assert report is not None
    values: dict[str, Any] = {
        "bytes": report["variant"]["bytes"],
        "ratio": report["ratio"],
        "p50_ms": report["variant"]["latency"]["p50_ms"],
        "speedup": report["speedup"],
    }
    if row.has_accuracy and report["accuracy_drop_points"] is not None:
        values["accuracy"] = round(report["variant"]["accuracy"]["value"], 4)
        values["drop_points"] = report["accuracy_drop_points"]
    return values

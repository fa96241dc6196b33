"""A job in words and table rows, for its page. Pure but for the row it is given."""

import json
from typing import Any

from compression.models import Job
from compression.parameters import PASSES
from compression.states import JobState

_VERDICTS = {
    JobState.PASSED: "Passed every gate and is a variant of the version.",
    JobState.FAILED_GATE: "Failed a gate: kept for study, not a variant.",
    JobState.COLLAPSED: "The model no longer computes anything useful: kept for study.",
    JobState.CANCELLED: "Cancelled. Nothing was attached.",
    JobState.QUEUED: "Waiting for a worker.",
    JobState.RUNNING: "Running.",
}


def describe_job(job: Job) -> dict[str, Any]:
    """Verdict, pass list, figures and recipe text of a job's page."""
    state = JobState(job.state)
    return {
        "verdict": _VERDICTS.get(state, job.error or state.label),
        "passes": _list_passes(job),
        "figures": _list_figures(job.report) if job.report else [],
        "gates": (job.report or {}).get("gates", []),
        "warnings": (job.report or {}).get("warnings", []),
        "excluded": (job.report or {}).get("excluded", {}),
        "recipe_text": json.dumps(job.recipe, indent=2),
    }


def _list_passes(job: Job) -> list[dict[str, Any]]:
    """Each pass of the recipe, and measuring, with how far it is."""
    latest = {event["index"]: event for event in job.log if event.get("event") == "step"}
    rows = []
    for index, step in enumerate([*job.recipe["passes"], {"pass": "evaluate"}]):
        name = step["pass"]
        event = latest.get(index, {})
        state = event.get("state", "waiting")
        notes = event.get("notes") or {}
        parameters = {key: value for key, value in step.items() if key != "pass"}
        row = {
            "name": name,
            "title": PASSES[name].title if name in PASSES else "Measure against FP32",
            "parameters": ", ".join(f"{k} {v}" for k, v in parameters.items() if v is not None),
            "state": state if job.is_active or state != "started" else "done",
            "seconds": notes.get("seconds"),
            "bytes": notes.get("bytes"),
            "done": None,
        }
        progress = job.progress or {}
        if state == "started" and progress.get("index") == index and progress.get("total"):
            row |= {
                "done": progress["done"],
                "total": progress["total"],
                "eta_seconds": progress["eta_seconds"],
            }
        rows.append(row)
    return rows


def _list_figures(report: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Label, FP32 and variant, as the table shows them."""
    left, right = report["source"], report["variant"]
    rows = [
        ("Bytes", f"{left['bytes']:,}", f"{right['bytes']:,} ({report['ratio']:.2f} × smaller)"),
        ("Compressed bytes", f"{left['compressed_bytes']:,}", f"{right['compressed_bytes']:,}"),
        ("Accuracy", _share(left["accuracy"]), _share(right["accuracy"])),
    ]
    if report["accuracy_drop_points"] is not None:
        rows.append(("Accuracy lost", "", f"{report['accuracy_drop_points']:.2f} points"))
    rows.append(("Agreement with FP32", "", _share(right["agreement"])))
    if right["divergence_nats"] is not None:
        rows.append(("Divergence (KL)", "", f"{right['divergence_nats']:.5f} nats"))
    for name in ("p50", "p95", "p99"):
        key = f"{name}_ms"
        rows.append(
            (f"Latency {name}", f"{left['latency'][key]} ms", f"{right['latency'][key]} ms")
        )
    rows += [
        ("Faster by (p50)", "", f"{report['speedup']:.2f} ×"),
        ("Parameters", f"{left['parameters']:,}", f"{right['parameters']:,}"),
        ("MACs per sample", _count(left["macs"]), _count(right["macs"])),
        ("Samples judged on", "", f"{report['samples']:,}"),
    ]
    return rows


def _share(value: dict[str, Any] | None) -> str:
    if value is None:
        return "no labels"
    return f"{value['value']:.2%} ({value['low']:.2%} to {value['high']:.2%})"


def _count(value: int | None) -> str:
    return "unknown" if value is None else f"{value:,}"

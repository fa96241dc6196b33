"""A job in words and table rows, for its page. Pure but for the row it is given."""

import json
from typing import Any

from compression.admin.base import (
    name_machine,
    write_lost,
    write_percent,
    write_seconds,
    write_share,
)
from compression.admin.forms import JobForm
from compression.measure.gates import TITLES
from compression.models import Job
from compression.recipe.passes import PASSES
from compression.recipe.provenance import digest_json
from compression.report.comparison import layer_rows, mean_sparsity
from compression.report.picture import draw_points
from compression.states import JobState
from compression.worker.progress import Progress
from registry.models import DataSet
from registry.units import write_count

_VERDICTS = {
    JobState.PASSED: "Passed every gate and is a variant of the version.",
    JobState.FAILED_GATE: "Failed a gate: kept for study, not a variant.",
    JobState.COLLAPSED: "The model no longer computes anything useful: kept for study.",
    JobState.CANCELLED: "Cancelled. Nothing was attached.",
    JobState.QUEUED: "Waiting for a worker.",
    JobState.RUNNING: "",
}


def describe_job(job: Job, progress: Progress) -> dict[str, Any]:
    """Verdict, progress, pass list, figures, search, origin and recipe of a job's page."""
    state = JobState(job.state)
    report, target = job.report or {}, job.recipe["target"]
    return {
        "verdict": _VERDICTS.get(state, state.label),
        "progress": progress,
        "percent": round(100 * progress["fraction"]),
        "progress_words": describe_wait(progress),
        "passes": _list_passes(job),
        "log": [_write_event(event) for event in job.log],
        "report": job.report,
        "rerun": report.get("rerun"),
        "figures": list_figures(report) if report else [],
        "gates": [{**gate, "title": _name_gate(gate["gate"])} for gate in report.get("gates", [])],
        "advantage": (report.get("advantage") or {}).get("sentence", ""),
        "warnings": report.get("warnings", []),
        "collapse_flags": report["variant"]["collapse_flags"] if report else [],
        "excluded": report.get("excluded", {}),
        "layers": layer_rows(report) if report else [],
        "measured_on": f"{name_machine(report)}, {write_count(target['threads'], 'thread')}",
        "origin": _list_origin(job, report) if report else [],
        **_describe_search(report.get("search")),
        "recipe_words": describe_recipe(job.recipe),
        "recipe_text": json.dumps(job.recipe, indent=2),
    }


def describe_wait(progress: Progress) -> str:
    """Where an active job is and how long it will take."""
    if progress["queue_position"] is not None:
        ahead = progress["queue_position"]
        return f"{ahead} queued before it." if ahead else "Next in the queue."
    if progress["index"] is None:
        return "Its files are being fetched."
    words = [
        f"{100 * progress['fraction']:.0f} %",
        f"step {progress['index'] + 1} of {progress['steps']}: {progress['name']}",
    ]
    if progress["total"]:
        words.append(f"{progress['done']}/{progress['total']}")
    if progress["eta_seconds"] is not None:
        words.append(f"about {write_seconds(progress['eta_seconds'])} left")
    return ", ".join(words)


def describe_recipe(recipe: dict[str, Any]) -> str:
    """A recipe in a sentence."""
    titles = [PASSES[step["pass"]].title for step in recipe["passes"]]
    # A capital stays where a second one follows: INT8, FP32.
    steps = "; then ".join(
        title if title[1:2].isupper() else title[:1].lower() + title[1:] for title in titles
    )
    gates = [
        f"{name.replace('_', ' ')} {value:g}"
        for name, value in recipe["gates"].items()
        if value is not None
    ]
    judged = f"Gates: {', '.join(gates)}." if gates else "No gate."
    seed, isa = recipe["data"]["seed"], recipe["target"]["isa"]
    return f"{steps[:1].upper()}{steps[1:]}. {judged} Seed {seed}, for {isa}."


def _describe_search(search: dict[str, Any] | None) -> dict[str, Any]:
    if not search:
        return {"search": None, "search_points": []}
    limits = [
        f"{k.replace('_', ' ')} {v:g}" for k, v in search["constraints"].items() if v is not None
    ]
    words = {"size": "smallest", "latency": "fastest", "accuracy": "most accurate"}
    described = {
        **search,
        "objective_words": words.get(search["objective"], search["objective"]),
        "constraints_text": ", ".join(limits),
        "candidates": [
            {
                **row,
                "accuracy_share": write_percent(row["accuracy"]),
                "lost": write_lost(row["accuracy_drop_points"]),
            }
            for row in search["candidates"]
        ],
    }
    # Accuracy on the held-out part does not compare with accuracy on the evaluation set.
    judged = [row for row in search["candidates"] if row["judged_on"] == "full"]
    return {"search": described, "search_points": draw_points(judged or search["candidates"])}


def _list_origin(job: Job, report: dict[str, Any]) -> list[tuple[str, str]]:
    """With what the variant was made, as the page lists it."""
    environment = report["environment"]
    data = job.recipe["data"]
    rows = [
        ("Source file (SHA-256)", job.recipe["source"]["sha256"]),
        ("Result (SHA-256)", report["passes"][-1]["sha256"]),
        ("Recipe (SHA-256)", digest_json(job.recipe)),
        ("Calibration set", _name_set(job.calibration_dataset, data["calibration"])),
        ("Evaluation set", _name_set(job.evaluation_dataset, data["evaluation"])),
        ("Identity of the job", job.identity or "–"),
        ("Seed", str(data["seed"])),
        ("Libraries", ", ".join(f"{k} {v}" for k, v in environment["libraries"].items())),
        ("Code of the passes", str(environment.get("passes_sha256", "unknown"))),
        ("Machine", f"{name_machine(report)} ({environment['machine']})"),
        ("CPU flags", " ".join(environment["cpu_flags"]) or "unknown"),
        ("Seconds", ", ".join(f"{n['pass']} {n['seconds']}" for n in report["passes"])),
    ]
    return rows


def _write_event(event: dict[str, Any]) -> str:
    """One line of the log: time (UTC), step, state and what it came to."""
    notes = event.get("notes") or {}
    tail = f" in {notes['seconds']} s, {notes['bytes']:,} bytes" if notes else ""
    return f"{event['at'][11:19]} UTC  {event['name']} {event['state']}{tail}"


def _list_passes(job: Job) -> list[dict[str, Any]]:
    """Each pass of the recipe, and measuring, with how far it is."""
    latest = {event["index"]: event for event in job.log if event.get("event") == "step"}
    rows = []
    for index, step in enumerate([*job.recipe["passes"], {"pass": "evaluate"}]):
        name = step["pass"]
        event = latest.get(index, {})
        state = event.get("state", "waiting")
        # A pass from the cache reports nothing; what it once took stands in the report.
        measured = (job.report or {}).get("passes") or []
        notes = event.get("notes") or (measured[index] if index < len(measured) else {})
        set_ones = {k: v for k, v in step.items() if k != "pass" and v is not None}
        parameters = [f"{key} {_write_value(value)}" for key, value in set_ones.items()]
        row = {
            "name": name,
            "title": PASSES[name].title if name in PASSES else "Measure against FP32",
            "parameters": ", ".join(parameters).replace("_", " "),
            "state": state if job.is_active or state != "started" else "done",
            "seconds": notes.get("seconds")
            if name in PASSES
            else (job.report or {}).get("evaluation_seconds"),
            "bytes": notes.get("bytes"),
            "done": None,
        }
        progress = job.progress or {}
        if state == "started" and progress.get("index") == index and progress.get("total"):
            row |= {
                "done": progress["done"],
                "total": progress["total"],
                "left": write_seconds(progress["step_eta_seconds"])
                if progress["step_eta_seconds"] is not None
                else "",
            }
        rows.append(row)
    return rows


#: What the figures of `compression.measure.agreement` are called.
FIGURES = {
    "labels_f1": "F1 of the labels",
    "mean_absolute_error": "Mean absolute error",
    "root_mean_square_error": "Root mean square error",
    "variance_explained": "Variance explained",
    "boxes_of_source": "Boxes a frame of the source",
    "boxes": "Boxes a frame",
    "boxes_f1": "F1 of all boxes",
    "mean_iou": "Mean IoU of the classes",
    "pixels": "Pixels of the same class",
    "mean_cosine": "Mean cosine",
    "least_cosine": "Least cosine",
    "same_sequences": "Whole sequences the same",
    "label_error_rate": "Label error rate",
}


def list_figures(report: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """Label, FP32, variant, and what changed between them, as the table shows them."""
    left, right = report["source"], report["variant"]
    lost = report["accuracy_drop_points"]
    rows = [
        ("Bytes", *_pair("bytes", left, right, "smaller")),
        ("Compressed bytes", *_pair("compressed_bytes", left, right, "smaller")),
        (
            "Accuracy",
            write_share(left["accuracy"]),
            write_share(right["accuracy"]),
            "" if lost is None else f"{write_lost(lost)} points lost",
        ),
        ("Agreement with FP32", "", write_share(right["agreement"]), report["agreement_rule"]),
    ]
    if left.get("macro_f1") is not None:
        scores = [f"{side['macro_f1']:.4f}" for side in (left, right)]
        rows.append(("F1, mean of classes", scores[0], scores[1], ""))
    for name, value in (right.get("task_figures") or {}).items():
        rows.append((FIGURES.get(name, name), "", f"{value:.4g}", "beside the source's answers"))
    if right["divergence_nats"] is not None:
        rows.append(("Divergence (KL)", "", f"{right['divergence_nats']:.5f} nats", ""))
    for name in ("p50", "p95", "p99"):
        before, after = (side["latency"][f"{name}_ms"] for side in (left, right))
        speed = f"{before / after:.2f} × faster" if after else ""
        rows.append((f"Latency {name}", f"{before} ms", f"{after} ms", speed))
    return [
        *rows,
        ("Parameters", *_pair("parameters", left, right, "fewer")),
        ("MACs per sample", *_pair("macs", left, right, "fewer")),
        ("Zero weights, mean of layers", _zeros(left["sparsity"]), _zeros(right["sparsity"]), ""),
    ]


def _pair(
    name: str, left: dict[str, Any], right: dict[str, Any], word: str
) -> tuple[str, str, str]:
    """A count of both sides, and how many times less the second is."""
    before, after = left[name], right[name]
    change = f"{before / after:.2f} × {word}" if before and after else ""
    return _count(before), _count(after), change


def _zeros(sparsity: dict[str, float]) -> str:
    share = mean_sparsity(sparsity)
    return "no layers" if share is None else f"{write_percent(share)} of {len(sparsity)} layers"


def _count(value: int | None) -> str:
    return "unknown" if value is None else f"{value:,}"


def _write_value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _name_gate(gate: str) -> str:
    field = JobForm.base_fields.get(gate)
    if field is not None:
        return str(field.label)
    return PASSES[gate].title if gate in PASSES else TITLES.get(gate, gate)


def _name_set(dataset: DataSet | None, sha256: str | None) -> str:
    return f"{dataset.name}, {sha256}" if dataset else "none"

"""A job run again from its stored recipe: the same bytes, or what is different."""

from typing import Any

from compression.models import Job
from compression.recipe.passes import PASSES


def compare_rerun(original: Job, report: dict[str, Any]) -> dict[str, Any]:
    """What `report["rerun"]` holds: the digests, and every difference that could explain one.

    Equal passes and libraries give equal bytes; a processor with other instruction sets may still
    differ in what calibration and training compute.
    """
    before = original.report or {}
    expected, found = result_digest(before), result_digest(report)
    differences = _differences(before["environment"], report["environment"])
    return {
        "of": str(original.pk),
        "expected_sha256": expected,
        "sha256": found,
        "is_identical": expected == found,
        "differences": differences,
        "sentence": _sentence(expected == found, differences, list_timed_passes(report)),
    }


def result_digest(report: dict[str, Any]) -> str:
    """SHA-256 of the model file that a report is about."""
    digest: str = report["passes"][-1]["sha256"]
    return digest


def _differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    old, new = before["libraries"], now["libraries"]
    found = [
        f"{name} {old.get(name, 'absent')} became {new.get(name, 'absent')}"
        for name in sorted(set(old) | set(new))
        if old.get(name) != new.get(name)
    ]
    for key, word in (
        ("passes_sha256", "the passes' code"),
        ("machine", "architecture"),
        ("cpu_flags", "CPU flags"),
    ):
        if before.get(key) != now.get(key):
            found.append(f"{word} {before.get(key, 'unknown')} became {now.get(key)}")
    return found


def list_timed_passes(report: dict[str, Any]) -> list[str]:
    """The passes that stop by the clock or judge by latency: what they write can vary."""
    return [note["pass"] for note in report["passes"] if PASSES[note["pass"]].is_timed]


def _sentence(is_identical: bool, differences: list[str], timed: list[str]) -> str:
    if is_identical:
        return "The stored recipe gave the same bytes again."
    reasons = [*differences, *(f"{name} depends on how fast the machine was" for name in timed)]
    if reasons:
        return "The bytes differ; what explains it: " + "; ".join(reasons) + "."
    return "The bytes differ although passes, libraries and processor are the same."

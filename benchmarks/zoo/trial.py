"""The agent's own session on a source and on what was made of it, in a limited child.

`python -m benchmarks.zoo.trial FOLDER` reads job.json and appends a line to results.jsonl for each
variant, so that one that brings the runtime down costs only itself.
"""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from registry.limited_process.limits import limit_process

ROUNDS = 60
ROUND_SECONDS = 1.2
WARM_UP = 2


def main(folder: Path) -> int:
    """Judges every variant of job.json that is not in results.jsonl yet."""
    job = json.loads((folder / "job.json").read_text())
    limit_process(
        memory_bytes=job["memory_bytes"],
        cpu_seconds=job["cpu_seconds"],
        file_bytes=2**31,
        threads=1,
    )
    from benchmarks.zoo.feeding import list_feeds, read_rows

    rows = read_rows(Path(job["source"]), Path(job["check"]), job["axes"])
    feeds = list_feeds(rows)
    source = _open(Path(job["source"]), job)
    expected = [source.infer(feed) for feed in feeds]
    for name, path in job["variants"].items():
        with (folder / "begun.txt").open("a") as begun:
            begun.write(f"{name}\n")
        try:
            variant = _open(Path(path), job)
            found = [variant.infer(feed) for feed in feeds]
            row = compare(expected, found, job)
            row["latency_ratio"] = race(source, variant, feeds[0])
        except Exception as error:  # noqa: BLE001 the other variants are still worth having
            row = {"error": f"{type(error).__name__}: {error}"[:300]}
        with (folder / "results.jsonl").open("a") as results:
            results.write(json.dumps({"name": name, **row}) + "\n")
    return 0


def _open(path: Path, job: dict[str, Any]) -> Any:
    from edge_agent.config import InferenceConfig
    from edge_agent.inference.session import ModelSession
    from edge_agent.releases.trust import Manifest

    document = {"contract": job["contract"], "labels": job["labels"]}
    manifest = Manifest("0" * 64, "zoo", "1", path.stem, 1, (), document)
    return ModelSession(path, manifest, InferenceConfig())


def compare(expected: Sequence[Any], found: Sequence[Any], job: dict[str, Any]) -> dict[str, Any]:
    """Agreement of what the agent reads, and the distance of the outputs.

    `agreement` is the share of rows of the same class, for classifiers; `error` is, of the outputs
    of the contract (all numbers, where it names none), the largest root mean square of the
    difference over that of the source.
    """
    row: dict[str, Any] = {"unreadable": sum(bool(result.error) for result in found)}
    if job["contract"]["task"] == "classification":
        same = [a.class_id == b.class_id for a, b in zip(expected, found, strict=True)]
        row["agreement"] = float(np.mean(same))
        moved = [
            abs(a.confidence - b.confidence)
            for a, b in zip(expected, found, strict=True)
            if a.confidence is not None and b.confidence is not None
        ]
        row["confidence_moved"] = float(np.mean(moved)) if moved else 0.0
    row["error"] = max(
        (
            distance(
                [result.outputs[index] for result in expected],
                [result.outputs[index] for result in found],
                boxes_axis=job["boxes_axis"],
            )
            for index in job["judged"]
        ),
        default=0.0,
    )
    return row


def distance(expected: Sequence[Any], found: Sequence[Any], *, boxes_axis: int | None) -> float:
    """The relative distance; boxes apart from scores, as one is hundreds and one below 1."""
    before = [np.asarray(value, np.float64) for value in expected]
    after = [np.asarray(value, np.float64) for value in found]
    if boxes_axis is None:
        return _relative(before, after)
    parts = []
    for places in (slice(0, 4), slice(4, None)):
        pair = [
            [np.moveaxis(value, boxes_axis, 0)[places] for value in side]
            for side in (before, after)
        ]
        parts.append(_relative(*pair))
    return max(parts)


def _relative(before: list[NDArray[Any]], after: list[NDArray[Any]]) -> float:
    if any(a.shape != b.shape for a, b in zip(before, after, strict=True)):
        return float("inf")
    left = np.concatenate([value.ravel() for value in before])
    right = np.concatenate([value.ravel() for value in after])
    if not np.isfinite(right).all():
        return float("inf")
    scale = float(np.sqrt(np.mean(left**2))) + 1e-12
    return float(np.sqrt(np.mean((left - right) ** 2))) / scale


def race(source: Any, variant: Any, feed: dict[str, Any]) -> float:
    """Median latency of the source over the variant's, run in turns."""
    times: dict[str, list[int]] = {"source": [], "variant": []}
    for _ in range(WARM_UP):
        source.run(feed)
        variant.run(feed)
    started = time.perf_counter()
    for number in range(ROUNDS):
        order = [("source", source), ("variant", variant)]
        for name, session in order if number % 2 else order[::-1]:
            times[name].append(session.run(feed)[1])
        if time.perf_counter() - started > ROUND_SECONDS and number >= 2:
            break
    return float(np.median(times["source"]) / np.median(times["variant"]))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

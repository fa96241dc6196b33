"""Counts records by window on the device, in the bins of the server, in place of sending each.

Counts are kept where the records are, and changed in the transaction that keeps those: a record is
counted, or not, whatever happens to the process. What a window counts so far goes up as a summary
with a revision; the server keeps the newest, so it may be sent as often as it takes.
"""

import bisect
import json
import logging
import math
import random
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edge_agent.observation.spool import IMPORTANT, ORDINARY, UNSURE, Row, Spool
from edge_agent.observation.summaries import Counts, WindowKey

if TYPE_CHECKING:
    from edge_agent.files import FileLayer
    from edge_agent.releases.state import Layout
    from edge_agent.releases.trust import Manifest

logger = logging.getLogger(__name__)
CONFIDENCE_BINS = 64
LOG_GAMMA = math.log(1.05)
LATENCY_MIN_MS = 0.001
LATENCY_MAX_MS = 86_400_000.0
LATENCY_MIN_BIN = math.floor(math.log(LATENCY_MIN_MS) / LOG_GAMMA)
LATENCY_MAX_BIN = math.floor(math.log(LATENCY_MAX_MS) / LOG_GAMMA)
NON_FINITE = "non_finite"
MOST_OF_A_KIND = 200
"""Failures, and unsure answers, of one interval that go up as records too."""
MOST_ORDINARY = 20
"""Of the other answers of one interval: a uniform sample."""


def latency_bin(latency_ms: float) -> int:
    """Index i with 1.05^i <= latency < 1.05^(i + 1); clamped below 1 us and above a day."""
    if latency_ms <= LATENCY_MIN_MS:
        return LATENCY_MIN_BIN
    return min(math.floor(math.log(latency_ms) / LOG_GAMMA), LATENCY_MAX_BIN)


def confidence_bin(confidence: float) -> int:
    """Which of 64 equal bins holds a value of 0 ... 1; 1.0 is in the last."""
    return min(int(confidence * CONFIDENCE_BINS), CONFIDENCE_BINS - 1)


def feature_bin(value: float, edges: list[float]) -> int:
    """Index i with edges[i - 1] <= value < edges[i]."""
    return bisect.bisect_right(edges, value)


@dataclass(frozen=True)
class Scale:
    """By what a release's records are counted."""

    labels: int = 0
    baseline: str = ""
    """Digest of the reference whose edges the features are counted by; empty for none."""
    features: tuple[tuple[str, list[float]], ...] = ()


def read_scale(manifest: "Manifest", layout: "Layout", files: "FileLayer") -> Scale:
    """The scale of a release; without features where its reference is of no use."""
    labels = len(manifest.labels)
    file, digest = manifest.file_of_role("baseline"), manifest.document.get("baseline_sha256")
    if file is None or not isinstance(digest, str):
        return Scale(labels)
    try:
        profile = json.loads(files.read(layout.blob(file.sha256)) or b"")
        features = tuple(
            (str(row["name"]), [float(edge) for edge in row["edges"]])
            for row in profile.get("features") or []
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        logger.warning("features of %s are not counted: %s", manifest.model, error)
        return Scale(labels)
    return Scale(labels, digest, features)


def count_record(counts: Counts, record: Mapping[str, Any], scale: Scale) -> None:
    """Adds one record; what is left out of a sum is what the server leaves out."""
    counts["n"] = counts.get("n", 0) + 1
    error = record.get("error")
    if error:
        _add(counts, "errors", 1)
        _add(counts, "nonfinite", int(error == NON_FINITE))
        return
    latency = float(record["latency_ms"])
    _add_value(counts, "latency", latency, latency_bin(latency))
    confidence, class_id = record.get("confidence"), record.get("class_id")
    if confidence is not None:
        _add_value(counts, "confidence", float(confidence), confidence_bin(float(confidence)))
    if class_id is not None:
        _add_bin(counts.setdefault("classes", {}), min(int(class_id), scale.labels))
    values = record.get("features") or []
    if values and len(values) == len(scale.features):
        rows = counts.setdefault("features", {})
        for value, (name, edges) in zip(values, scale.features, strict=True):
            _add_bin(rows.setdefault(name, {}), feature_bin(float(value), edges))


def _add(counts: Counts, name: str, number: float) -> None:
    counts[name] = counts.get(name, 0) + number


def _add_value(counts: Counts, name: str, value: float, place: int) -> None:
    _add(counts, f"{name}_n", 1)
    _add(counts, f"{name}_sum", value)
    _add(counts, f"{name}_sum_squares", value * value)
    _add_bin(counts.setdefault(name, {}), place)


def _add_bin(bins: dict[str, int], place: int) -> None:
    key = str(place)
    bins[key] = bins.get(key, 0) + 1


def to_wire(counts: Counts, scale: Mapping[str, int]) -> dict[str, Any]:
    """`counts` as a summary carries them: rows of counts where the spool has the filled bins.

    Args:
        scale: how many bins each feature has.
    """
    plain = dict(counts)
    if "confidence" in plain:
        plain["confidence"] = _row(plain["confidence"], CONFIDENCE_BINS)
    if "classes" in plain:
        plain["classes"] = _row(plain["classes"], 0)
    plain["features"] = {
        name: _row(bins, scale.get(name, 0)) for name, bins in plain.get("features", {}).items()
    }
    return plain


def _row(bins: Mapping[str, int], width: int) -> list[int]:
    row = [0] * max(width, 1 + max(map(int, bins), default=-1))
    for key, number in bins.items():
        row[int(key)] = number
    return row


@dataclass
class _Interval:
    """What of the records since the last summaries goes up as a sample."""

    sent: dict[int, int] = field(default_factory=dict)
    seen: int = 0
    kept: list[Row] = field(default_factory=list)


class Tally:
    """Sorts records into those that are sent and those that are counted; for several threads."""

    def __init__(self, spool: Spool, *, generator: random.Random | None = None) -> None:
        self.spool = spool
        self._random = generator or random.Random()
        self._lock = threading.Lock()
        self._scales: dict[str, Scale] = {}
        self._interval = _Interval()
        self.after_s, self.window_s = spool.summaries.read_counting()

    @property
    def is_on(self) -> bool:
        """Whether the server has this device count."""
        return self.after_s > 0 and self.window_s > 0

    def follow(self, answer: Any) -> None:
        """Does what the answer to telemetry says; a server that says nothing wants the records."""
        row = answer if isinstance(answer, dict) else {}
        after_s, window_s = (_read_seconds(row, name) for name in ("summary_after_s", "window_s"))
        if row.get("takes_counted") is not True or not (after_s and window_s):
            after_s = window_s = 0
        if (after_s, window_s) != (self.after_s, self.window_s):
            self.spool.summaries.keep_counting(after_s, window_s)
            self.after_s, self.window_s = after_s, window_s
            logger.info(
                "the server wants %s", f"counts every {after_s} s" if after_s else "records"
            )

    def knows(self, digest: str) -> bool:
        return digest in self._scales

    def describe(self, digest: str, scale: Scale) -> None:
        """Makes known by what the records of a release are counted."""
        self._scales[digest] = scale

    def sort(
        self,
        taken: Iterable[tuple[int, float, dict[str, Any]]],
        encode: Callable[[dict[str, Any]], str],
    ) -> tuple[list[Row], dict[WindowKey, Counts], int]:
        """Rows to be sent, counts to be added, and how many records are no JSON.

        A record is counted where the server has asked for it and its release is known; then it goes
        up as well, marked as counted, if it is a failure, an unsure answer or drawn.
        """
        rows: list[Row] = []
        counted: dict[WindowKey, Counts] = {}
        lost = 0
        window_s = self.window_s if self.is_on else 0
        for priority, since_boot_s, record in taken:
            scale = self._scales.get(str(record.get("model_version")))
            is_counted = window_s > 0 and scale is not None
            try:
                body = encode({**record, "is_counted": True} if is_counted else record)
            except (TypeError, ValueError) as error:
                lost += 1
                logger.error("a record is no JSON and is dropped: %s", error)
                continue
            row = Row(priority, body, round(since_boot_s, 3))
            if not is_counted or scale is None:
                rows.append(row)
                continue
            at = self.spool.clock.correct(float(record["timestamp"]), since_boot_s)
            start = int(at // window_s) * window_s
            key = WindowKey(
                str(record.get("model", "")), str(record["model_version"]), start, window_s,
                scale.baseline,
                json.dumps({name: len(edges) + 1 for name, edges in scale.features}),
            )  # fmt: skip
            count_record(counted.setdefault(key, {}), record, scale)
            if self._is_sample(row):
                rows.append(row)
        return rows, counted, lost

    def _is_sample(self, row: Row) -> bool:
        """Whether a counted record goes up at once; of the ordinary ones some wait in memory."""
        with self._lock:
            interval = self._interval
            if row.priority in (UNSURE, IMPORTANT):
                sent = interval.sent.get(row.priority, 0)
                interval.sent[row.priority] = sent + 1
                return sent < MOST_OF_A_KIND
            interval.seen += 1
            # Algorithm R (Vitter, ACM TOMS 11, 1985).
            if len(interval.kept) < MOST_ORDINARY:
                interval.kept.append(row)
            elif (place := self._random.randrange(interval.seen)) < MOST_ORDINARY:
                interval.kept[place] = row
            return False

    def end_interval(self) -> None:
        """Hands what was drawn to the spool, and begins to draw anew."""
        with self._lock:
            kept, self._interval = self._interval.kept, _Interval()
        if kept:
            self.spool.add_records([Row(ORDINARY, row.body, row.since_boot_s) for row in kept])


def _read_seconds(row: Mapping[str, Any], name: str) -> int:
    """What the server said, up to a month; 0 for nothing of use."""
    value = row.get(name)
    return value if type(value) is int and 0 < value <= 31 * 86_400 else 0

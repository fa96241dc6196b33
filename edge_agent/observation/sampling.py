"""Keeps a few of the inputs a device meets, for calibration; off unless the owner switches it on.

Two switches must be on: this device's own (`[sampling] enabled`), and the server's for this device.
Inputs may show people or places, so nothing is kept on disk once either is off.
"""

import io
import logging
import math
import random
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_agent.config import SamplingConfig
from edge_agent.control.client import DeviceClient
from edge_agent.exceptions import AnswerError
from edge_agent.files import FileLayer, write_atomic

if TYPE_CHECKING:
    import numpy as np

    from edge_agent.releases.trust import Manifest

    Array = np.ndarray[Any, Any]

logger = logging.getLogger(__name__)
EVERY_FIRST: dict[str, int | None] = {}
SEPARATOR = "@"  # in no slug and no digest


@dataclass(frozen=True, slots=True)
class Sample:
    inputs: "dict[str, Array]"
    """Array name to the first row, without the batch axis."""
    class_id: int
    """-1 where the release gives none."""
    confidence: float
    """NaN where the release gives none."""
    is_unsure: bool


class Reservoir:
    """A uniform sample of what was offered, in which unsure answers displace sure ones.

    Each kind is kept by reservoir sampling (Vitter 1985, algorithm R), so an early input is no
    likelier to be kept than a late one.
    """

    def __init__(self, size: int, generator: random.Random) -> None:
        self._size = size
        self._random = generator
        self._kept: dict[bool, list[Sample]] = {False: [], True: []}
        self._seen = {False: 0, True: 0}

    def __len__(self) -> int:
        return len(self._kept[False]) + len(self._kept[True])

    def add(self, sample: Sample) -> None:
        kind = sample.is_unsure
        kept = self._kept[kind]
        self._seen[kind] += 1
        if len(self) < self._size:
            kept.append(sample)
        elif kind and self._kept[False]:
            sure = self._kept[False]
            sure[self._random.randrange(len(sure))] = sure[-1]
            sure.pop()
            kept.append(sample)
        else:
            place = self._random.randrange(self._seen[kind])
            if place < len(kept):
                kept[place] = sample

    def take(self) -> list[Sample]:
        """What is kept; the reservoir is empty and starts anew."""
        taken = self._kept[True] + self._kept[False]
        self._kept, self._seen = {False: [], True: []}, {False: 0, True: 0}
        return taken


class Sampler:
    """Chooses samples on the hot path, and brings them to the server off it."""

    def __init__(
        self,
        config: SamplingConfig,
        folder: Path,
        files: FileLayer,
        *,
        monotonic: Callable[[], float],
        generator: random.Random | None = None,
    ) -> None:
        self.config = config
        self.folder = folder
        self._files = files
        self._monotonic = monotonic
        self._random = generator or random.Random()
        self._lock = threading.Lock()
        self._reservoirs: dict[tuple[str, str], Reservoir] = {}
        self._refused_until_s = 0.0
        self.dropped = 0
        """Files dropped for want of room, since the start."""
        if not config.enabled:
            self._erase()

    def offer(
        self,
        manifest: "Manifest",
        inputs: "Array | dict[str, Array]",
        *,
        class_id: int | None,
        confidence: float | None,
        batch_axes: "Mapping[str, int | None]" = EVERY_FIRST,
    ) -> None:
        """Keeps the first row of `inputs` with the configured rate, and always when unsure.

        Args:
            batch_axes: by input where its rows are not on axis 0; None for one without rows.
        """
        config = self.config
        if not config.enabled:
            return
        is_unsure = confidence is not None and confidence < config.unsure_below
        if not is_unsure and self._random.random() >= config.rate:
            return
        if self._monotonic() < self._refused_until_s:
            return
        named = inputs if isinstance(inputs, dict) else {"x": inputs}
        rows = {name: take_first(array, batch_axes.get(name, 0)) for name, array in named.items()}
        if len(rows) == 1:
            rows = {"x": next(iter(rows.values()))}
        if sum(row.nbytes for row in rows.values()) > config.max_batch_bytes // config.batch_rows:
            logger.debug("an input is too large to be sampled")
            return
        with self._lock:
            key = (manifest.model, manifest.digest)
            if key not in self._reservoirs:
                self._reservoirs[key] = Reservoir(config.batch_rows, self._random)
            number = -1 if class_id is None else class_id
            chance = math.nan if confidence is None else confidence
            self._reservoirs[key].add(Sample(rows, number, chance, is_unsure))

    def store(self) -> int:
        """Writes what is kept as one file per release; returns how many files."""
        with self._lock:
            taken = {key: reservoir.take() for key, reservoir in self._reservoirs.items()}
            self._reservoirs.clear()
        stored = 0
        for (model, digest), samples in taken.items():
            if samples:
                name = SEPARATOR.join((model, digest, uuid.uuid4().hex)) + ".npz"
                write_atomic(self._files, self.folder / name, pack(samples))
                stored += 1
        self._enforce_cap()
        return stored

    def upload(self, client: DeviceClient, *, max_files: int = 20) -> int:
        """Sends stored files, the oldest first; returns how many the server took.

        A file is removed once it was taken, or when it never will be.

        Raises:
            TransferError: the server cannot be reached or cannot take them now; nothing is lost.
        """
        sent = 0
        failed: AnswerError | None = None
        for path in self._stored()[:max_files]:
            model, digest, _ = path.stem.split(SEPARATOR)
            body = self._files.read(path)
            if body is None:
                continue
            try:
                client.post_samples(model, digest, body)
                sent += 1
            except AnswerError as error:
                if error.server_code == "sampling_not_allowed":
                    self._refuse()
                    break
                if error.status in (401, 403, 429, 503):
                    raise
                if error.status not in (400, 413, 422):
                    # What one file meets need not hold up the others; the cap ends it at last.
                    failed = failed or error
                    continue
                logger.warning("samples of %s refused: %s", model, error)
            self._files.unlink(path)
        if failed is not None:
            raise failed
        return sent

    def stat(self) -> dict[str, int | bool]:
        """Whether this device's switch is on, the inputs held now, files and bytes that wait to be
        sent, and files dropped."""
        paths = self._stored()
        size = sum(self._files.size(path) or 0 for path in paths)
        with self._lock:
            held = sum(len(reservoir) for reservoir in self._reservoirs.values())
        return {
            "is_enabled": self.config.enabled,
            "held": held,
            "files": len(paths),
            "bytes": size,
            "dropped": self.dropped,
        }

    def obey(self, *, is_allowed: bool) -> None:
        """Takes note of the server's switch, as an answer to telemetry states it."""
        if not self.config.enabled:
            return
        if is_allowed:
            self._refused_until_s = 0.0
        elif self._monotonic() >= self._refused_until_s:
            self._refuse()

    def _refuse(self) -> None:
        """The server's switch is off: nothing is kept, and nothing is asked for a while."""
        logger.info("the server has not allowed this device to send samples")
        self._refused_until_s = self._monotonic() + self.config.refused_wait_s
        self._erase()

    def _erase(self) -> None:
        with self._lock:
            self._reservoirs.clear()
        for path in self._stored():
            try:
                self._files.unlink(path)
            except OSError as error:
                logger.error("%s cannot be erased: %s", path.name, error)

    def _enforce_cap(self) -> None:
        paths = self._stored()
        sizes = [self._files.size(path) or 0 for path in paths]
        while paths and sum(sizes) > self.config.max_bytes:
            self._files.unlink(paths.pop(0))
            sizes.pop(0)
            self.dropped += 1

    def _stored(self) -> list[Path]:
        """The stored files, the oldest first."""
        names = self._files.list(self.folder)
        paths = [
            self.folder / name
            for name in names
            if name.endswith(".npz") and name.count(SEPARATOR) == 2
        ]
        return sorted(paths, key=lambda path: path.stat().st_mtime_ns if path.exists() else 0)


def take_first(array: "Array", axis: int | None) -> "Array":
    """A copy of the first row, or of all where there are no rows; texts need no pickle."""
    row = array if axis is None else array.take(0, axis=axis)
    return row.astype(str) if array.dtype.kind == "O" else row.copy()


def pack(samples: list[Sample]) -> bytes:
    """An npz of the inputs, rows first, with `class_id` and `confidence`."""
    import numpy as np

    arrays = {
        name: np.stack([sample.inputs[name] for sample in samples]) for name in samples[0].inputs
    }
    arrays["class_id"] = np.array([sample.class_id for sample in samples], dtype=np.int64)
    arrays["confidence"] = np.array([sample.confidence for sample in samples], dtype=np.float32)
    data = io.BytesIO()
    np.savez_compressed(data, **arrays)  # type: ignore[arg-type]
    return data.getvalue()

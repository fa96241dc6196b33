"""The recipe's passes one after the other over files, without those a cache already had."""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compression.engine.passes.context import PassContext
from compression.engine.passes.guard import run_guarded
from compression.engine.stages.check import Checked
from compression.measure.smoke import Signature, signature_of
from compression.recipe.passes import PASSES
from compression.recipe.recipe import Step

Emit = Callable[..., None]
PROGRESS_SECONDS = 0.5


@dataclass(frozen=True)
class Compressed:
    """The file that the last pass wrote, and what each pass has to say."""

    checked: Checked
    path: Path
    notes: tuple[dict[str, Any], ...]


def run_passes(checked: Checked, emit: Emit) -> Compressed:
    """The recipe's result.

    Raises:
        CompressionError: a pass has nothing to do on this graph, or does not work on it.
    """
    loaded = checked.loaded
    signature = signature_of(checked.original.session())
    path, notes = checked.start, []
    for index, step in enumerate(loaded.recipe.passes):
        if index < len(loaded.done):
            cached = loaded.done[index]
            path = loaded.scratch / cached["file"] if cached["file"] else path
            notes.append({**cached["notes"], "is_cached": True})
            emit("step", index=index, name=step.name, state="cached")
            continue
        emit("step", index=index, name=step.name, state="started")
        path, note = _run_step(checked, index, step, path, signature, emit)
        notes.append({**note, "is_cached": False})
        file = str(path.relative_to(loaded.scratch))
        emit("step", index=index, name=step.name, state="done", file=file, notes=note)
    return Compressed(checked, path, tuple(notes))


def _run_step(
    checked: Checked, index: int, step: Step, source: Path, signature: Signature, emit: Emit
) -> tuple[Path, dict[str, Any]]:
    recipe = checked.loaded.recipe
    folder = checked.loaded.scratch / f"step{index}"
    folder.mkdir(exist_ok=True)
    context = PassContext(
        source=source,
        destination=folder / "model.onnx",
        original=checked.loaded.source,
        scratch=folder,
        parameters=step.parameters,
        target=recipe.target,
        search=recipe.search,
        calibration=checked.calibration,
        evaluation=checked.evaluation,
        gates=recipe.gates,
        scoring=checked.scoring,
        seed=recipe.data.seed,
        threads=recipe.limits.threads,
        memory_bytes=recipe.limits.memory_bytes,
        report_progress=_Throttle(emit, index, step.name),
    )
    started = time.monotonic()
    result = run_guarded(PASSES[step.name], context, signature, checked.evaluation)
    content = context.destination.read_bytes()
    return context.destination, {
        "pass": step.name,
        "seconds": round(time.monotonic() - started, 3),
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "excluded": result.excluded,
        "facts": result.facts,
    }


class _Throttle:
    """Passes progress on at most twice a second."""

    def __init__(self, emit: Emit, index: int, name: str) -> None:
        self._emit, self._index, self._name = emit, index, name
        self._started = time.monotonic()
        self._last = 0.0

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if done < total and now - self._last < PROGRESS_SECONDS:
            return
        self._last = now
        spent = now - self._started
        remaining = spent / done * (total - done) if done else None
        self._emit(
            "progress",
            index=self._index,
            name=self._name,
            done=done,
            total=total,
            eta_seconds=None if remaining is None else round(remaining, 1),
        )

"""What every pass is given, and what it gives back."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compression.measure.samples import Samples
from compression.measure.scoring import Scoring
from compression.recipe.recipe import Gates, Search, Target

Progress = Callable[[int, int], None]


def ignore_progress(done: int, total: int) -> None:
    """Progress nobody looks at."""


@dataclass(frozen=True)
class PassContext:
    """The inputs of a pass.

    `original` is the FP32 model the job started from; `calibration` is None where none was given.
    `evaluation` and `gates` are for `search.best` alone, which judges finalists as the job does.
    `memory_bytes` is what the process may hold, None where nobody watches.
    """

    source: Path
    destination: Path
    original: Path
    scratch: Path
    parameters: dict[str, Any] = field(default_factory=dict)
    target: Target = field(default_factory=Target)
    search: Search = field(default_factory=Search)
    calibration: Samples | None = None
    evaluation: Samples | None = None
    gates: Gates = field(default_factory=Gates)
    scoring: Scoring = field(default_factory=Scoring)
    seed: int = 0
    threads: int = 1
    memory_bytes: int | None = None
    report_progress: Progress = ignore_progress


@dataclass(frozen=True)
class PassResult:
    """What a pass has to say: nodes left as they were with the reason, and figures of its own."""

    excluded: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

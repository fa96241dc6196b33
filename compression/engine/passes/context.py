"""What every pass is given, and what it gives back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from compression.measure.samples import Samples
from compression.measure.scoring import Scoring
from compression.measure.smoke import Call
from compression.recipe.recipe import Gates, Search, Target

Progress = Callable[[int, int], None]


def ignore_progress(done: int, total: int) -> None:
    """Progress nobody looks at."""


@dataclass(frozen=True)
class PassContext:
    """The inputs of a pass.

    `original` is the FP32 model the job started from; `calibration` is None where none was given.
    `evaluation` and `gates` are for `search.best` alone, which judges finalists as the job does.
    `memory_bytes` is what the process may hold, None where nobody watches. `probe` are calls
    to try a file with. `threads`, `probe` and `report_progress` are every pass's; of the rest a
    pass gets what it declares to read.
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
    probe: Sequence[Call] = ()
    report_progress: Progress = ignore_progress


@dataclass(frozen=True)
class PassResult:
    """What a pass has to say: nodes left as they were with the reason, and figures of its own."""

    excluded: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


def restrict_context(context: PassContext, reads: frozenset[str]) -> PassContext:
    """The context without whatever a pass does not declare to read.

    What a pass cannot see cannot make its cached results wrong.
    """
    target = Target(isa=context.target.isa) if "isa" in reads else Target()
    has_rows = "calibration" in reads
    return replace(
        context,
        calibration=context.calibration if has_rows else None,
        seed=context.seed if has_rows else 0,
        evaluation=context.evaluation if "evaluation" in reads else None,
        target=context.target if "target" in reads else target,
        search=context.search if "search" in reads else Search(),
        gates=context.gates if "gates" in reads else Gates(),
        scoring=context.scoring if "scoring" in reads else Scoring(),
        memory_bytes=context.memory_bytes if "limits" in reads else None,
    )

"""The `compress/1` recipe: what to do to a model, on which data, and what it may cost. Pure.

A recipe is a JSON object. `parse_recipe` checks every name, type and range and fills the defaults,
so what is stored with a job is complete and can be run again years later.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from compression.exceptions import RecipeInvalidError
from compression.recipe.declaration import Parameter
from compression.recipe.passes import PASSES

SCHEMA = "compress/1"
# The first is the default: right on every processor, see docs/adr/0014.
ISA_NAMES = ("portable", "x86-vnni", "x86-avx2", "arm64", "npu")
MIN_MEMORY_BYTES = 512 * 1024**2


@dataclass(frozen=True)
class Step:
    """One pass with all its parameters."""

    name: str
    parameters: dict[str, Any]


@dataclass(frozen=True)
class Target:
    """Where the variant is to run."""

    runtime: str = "onnxruntime"
    isa: str = "portable"
    threads: int = 1
    batch: int = 1


@dataclass(frozen=True)
class Data:
    """Which data sets are used, by SHA-256; None is filled in when the job is made."""

    calibration: str | None = None
    evaluation: str | None = None
    seed: int = 0
    allow_random: bool = False
    min_calibration: int = 1000


@dataclass(frozen=True)
class Gates:
    """What the variant may cost. None means not judged."""

    max_accuracy_drop_points: float | None = 1.0
    max_bytes: int | None = None
    max_p95_ms: float | None = None
    min_agreement: float | None = None


@dataclass(frozen=True)
class Search:
    """How long a searching pass may look."""

    objective: str = "size"
    trials: int = 64
    seconds: int = 300


@dataclass(frozen=True)
class Limits:
    """What the child process may use."""

    wall_seconds: int = 1800
    memory_bytes: int = 8 * 1024**3
    threads: int = 2


@dataclass(frozen=True)
class Recipe:
    """A validated recipe."""

    passes: tuple[Step, ...]
    source: dict[str, Any] = field(default_factory=dict)
    target: Target = field(default_factory=Target)
    data: Data = field(default_factory=Data)
    gates: Gates = field(default_factory=Gates)
    search: Search = field(default_factory=Search)
    limits: Limits = field(default_factory=Limits)

    @property
    def needs_calibration(self) -> bool:
        """Whether any pass looks at calibration samples."""
        return any(PASSES[step.name].needs_calibration for step in self.passes)

    def to_json(self) -> dict[str, Any]:
        """The complete JSON object; `parse_recipe` of it gives this recipe again."""
        return {
            "schema": SCHEMA,
            "source": dict(self.source),
            "target": asdict(self.target),
            "data": asdict(self.data),
            "passes": [{"pass": step.name, **step.parameters} for step in self.passes],
            "gates": asdict(self.gates),
            "search": asdict(self.search),
            "limits": asdict(self.limits),
        }


_RANGES: dict[str, dict[str, Parameter]] = {
    "target": {
        "runtime": Parameter("str", choices=("onnxruntime",)),
        "isa": Parameter("str", choices=ISA_NAMES),
        "threads": Parameter("int", minimum=1, maximum=256),
        "batch": Parameter("int", minimum=1, maximum=1024),
    },
    "data": {
        "calibration": Parameter("str", is_nullable=True),
        "evaluation": Parameter("str", is_nullable=True),
        "seed": Parameter("int", minimum=0, maximum=2**31 - 1),
        "allow_random": Parameter("bool"),
        "min_calibration": Parameter("int", minimum=1, maximum=1_000_000),
    },
    "gates": {
        "max_accuracy_drop_points": Parameter("float", 0.0, 100.0, is_nullable=True),
        "max_bytes": Parameter("int", 1, 2**40, is_nullable=True),
        "max_p95_ms": Parameter("float", 0.0, 1e6, is_nullable=True),
        "min_agreement": Parameter("float", 0.0, 1.0, is_nullable=True),
    },
    "search": {
        "objective": Parameter("str", choices=("size", "latency", "accuracy")),
        "trials": Parameter("int", minimum=1, maximum=10_000),
        "seconds": Parameter("int", minimum=1, maximum=86_400),
    },
    "limits": {
        "wall_seconds": Parameter("int", minimum=5, maximum=86_400),
        "memory_bytes": Parameter("int", minimum=MIN_MEMORY_BYTES, maximum=2**40),
        "threads": Parameter("int", minimum=1, maximum=256),
    },
}
_SECTIONS = {"target": Target, "data": Data, "gates": Gates, "search": Search, "limits": Limits}


def parse_recipe(document: Any) -> Recipe:
    """The recipe of a JSON document.

    Raises:
        RecipeInvalidError: naming the place, what was expected and what was found.
    """
    if not isinstance(document, dict):
        raise RecipeInvalidError(f"A recipe is a JSON object, not {type(document).__name__}.")
    if document.get("schema") != SCHEMA:
        raise RecipeInvalidError(
            f"schema: expected {SCHEMA!r}, found {document.get('schema')!r}.", {"at": "schema"}
        )
    unknown = set(document) - set(_SECTIONS) - {"schema", "source", "passes"}
    if unknown:
        raise RecipeInvalidError(f"Unknown keys in the recipe: {sorted(unknown)}.")
    source = document.get("source") or {}
    if not isinstance(source, dict):
        raise RecipeInvalidError("source: expected an object.", {"at": "source"})
    sections = {
        name: kind(**_check_values(name, document.get(name) or {}, _RANGES[name]))
        for name, kind in _SECTIONS.items()
    }
    return Recipe(passes=_parse_passes(document.get("passes")), source=source, **sections)  # type: ignore[arg-type]


def _parse_passes(items: Any) -> tuple[Step, ...]:
    if not isinstance(items, list) or not 1 <= len(items) <= 16:
        raise RecipeInvalidError("passes: expected a list of 1 to 16 passes.", {"at": "passes"})
    steps = []
    for index, item in enumerate(items):
        place = f"passes[{index}]"
        name = item.get("pass") if isinstance(item, dict) else None
        if name not in PASSES:
            raise RecipeInvalidError(
                f"{place}: unknown pass {name!r}; known are {', '.join(sorted(PASSES))}.",
                {"at": place},
            )
        given = {key: value for key, value in item.items() if key != "pass"}
        declared = PASSES[name]
        values = _check_values(place, given, declared.parameters)
        steps.append(Step(name, {**declared.defaults, **values}))
    return tuple(_complete(step, steps[index + 1 :]) for index, step in enumerate(steps))


def _complete(step: Step, following: Sequence[Step]) -> Step:
    complete = PASSES[step.name].complete
    if complete is None:
        return step
    return Step(step.name, complete(step.parameters, [PASSES[item.name] for item in following]))


def _check_values(place: str, given: Any, rules: Mapping[str, Parameter]) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise RecipeInvalidError(f"{place}: expected an object.", {"at": place})
    for key, value in given.items():
        rule = rules.get(key)
        if rule is None:
            raise RecipeInvalidError(
                f"{place}: unknown key {key!r}; known are {sorted(rules)}.", {"at": place}
            )
        problem = rule.find_problem(value)
        if problem:
            at = f"{place}.{key}"
            raise RecipeInvalidError(f"{at}: {problem}, found {value!r}.", {"at": at})
    return dict(given)


def merge_recipe(base: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """`base` with the sections of `overrides` laid over it; `passes` is replaced as a whole."""
    merged = copy.deepcopy(base)
    for key, value in overrides.items():
        if isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = {**merged[key], **value}
        else:
            merged[key] = value
    return merged

"""How a pass declares itself: what all else that knows of passes is derived from. Pure.

Recipes, preflight, the cache, estimates, the search, the API and the form read declarations. They
run in the web server too, so a declaration imports no tooling: it may name functions as
`module:function`, which are imported when they are first called.
"""

import importlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from compression.recipe.facts import GraphFacts

#: What a pass's output may depend on besides its source, its parameters and its code.
READABLE = (
    *("calibration", "evaluation", "isa", "target", "search", "gates", "scoring"),
    *("limits", "engine", "passes"),
)
#: Operators whose FP32 weights a graph's facts count.
WEIGHTED = frozenset(
    {"Conv", "ConvTranspose", "Gemm", "MatMul", "Gather", "LSTM", "GRU", "RNN"}
)  # fmt: skip
PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_KINDS: dict[str, Any] = {
    "int": (int,),
    "float": (int, float),
    "str": (str,),
    "bool": (bool,),
    "names": (list,),
}


@dataclass(frozen=True)
class Parameter:
    """What one value of a recipe may be."""

    kind: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[Any, ...] = ()
    default: Any = None
    is_nullable: bool = False

    def find_problem(self, value: Any) -> str | None:
        """What was expected instead of `value`, or None when it is fine."""
        if value is None:
            return None if self.is_nullable else f"expected {self.kind}"
        if isinstance(value, bool) != (self.kind == "bool"):
            return f"expected {self.kind}"
        if not isinstance(value, _KINDS[self.kind]):
            return f"expected {self.kind}"
        if self.kind == "names" and not all(isinstance(name, str) for name in value):
            return "expected a list of names"
        if self.kind == "names" and self.choices:
            unknown = [name for name in value if name not in self.choices]
            return f"expected names of {list(self.choices)}" if unknown else None
        if self.choices and value not in self.choices:
            return f"expected one of {list(self.choices)}"
        if self.kind in ("int", "float"):
            if not math.isfinite(value):
                return "expected a finite number"
            if self.minimum is not None and value < self.minimum:
                return f"expected at least {self.minimum}"
            if self.maximum is not None and value > self.maximum:
                return f"expected at most {self.maximum}"
        return None

    def describe(self, name: str) -> dict[str, Any]:
        """The parameter as the API and the form show it."""
        return {
            "name": name,
            "kind": self.kind,
            "default": self.default,
            "minimum": self.minimum,
            "maximum": self.maximum,
            "choices": list(self.choices),
            "is_nullable": self.is_nullable,
        }


def choice(default: str | None, *choices: str) -> Parameter:
    """One word of several; without a default the pass decides."""
    return Parameter("str", choices=choices, default=default, is_nullable=default is None)


@dataclass(frozen=True)
class SearchFormat:
    """A form in which `search.best` stores each model that it tries.

    Attributes:
        place: formats are tried in this order, cheap ones first.
        bytes_per_parameter: the fewest that a parameter takes.
    """

    name: str
    place: int
    bytes_per_parameter: int
    parameters: Mapping[str, Any] = field(default_factory=dict)


Conflicts = Callable[[Mapping[str, Any]], Iterator[str]]
Obstacles = Callable[[Mapping[str, Any], GraphFacts], Iterator[str]]
Complete = Callable[[Mapping[str, Any], Sequence["Pass"]], dict[str, Any]]


@dataclass(frozen=True)
class Pass:
    """One pass.

    Attributes:
        name: as recipes write it.
        title: what it does, for people.
        run: what runs it, given a `PassContext` and giving a `PassResult`; or where that is.
        targets: operators whose FP32 weights it works on; None where it needs none.
        reads: what of `READABLE` its output depends on. It is given nothing else, and its cached
            results are kept apart by these alone.
        usual_seconds: of a small model, until earlier jobs tell better.
        is_calibration_optional: it reads calibration rows where there are any.
        is_last: what it writes is no FP32 model, so no pass may follow.
        computes_int8: its products are INT8, which want wider steps of channels.
        trains: it needs a library that trains.
        follows_branches: it may run where a branch or loop reads outer tensors.
        reaches_branches: it works on the weights inside branches and loops too.
        formats: how `search.best` uses it.
        conflicts: what is wrong with its parameters, known from them alone.
        obstacles: what keeps it from working on a graph, besides missing targets; or where that is.
        complete: parameters that are None, decided by the passes that follow.
    """

    name: str
    title: str
    run: Callable[[Any], Any] | str
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    targets: frozenset[str] | None = None
    reads: frozenset[str] = frozenset()
    usual_seconds: float = 10.0
    is_calibration_optional: bool = False
    is_last: bool = False
    computes_int8: bool = False
    trains: bool = False
    follows_branches: bool = True
    reaches_branches: bool = False
    formats: tuple[SearchFormat, ...] = ()
    conflicts: Conflicts | None = None
    obstacles: Obstacles | str | None = None
    complete: Complete | None = None

    def __post_init__(self) -> None:
        unknown = self.reads - set(READABLE)
        if unknown:
            raise ValueError(f"{self.name} reads {sorted(unknown)}; known are {list(READABLE)}.")
        for key, rule in self.parameters.items():
            problem = rule.find_problem(rule.default)
            if problem:
                raise ValueError(f"{self.name}.{key}: its default: {problem}.")

    @property
    def needs_calibration(self) -> bool:
        """Whether it cannot run without calibration rows."""
        return "calibration" in self.reads and not self.is_calibration_optional

    @property
    def is_budgeted(self) -> bool:
        """Whether it ends by itself after `search.seconds`."""
        return "search" in self.reads

    @property
    def is_timed(self) -> bool:
        """Whether it stops by the clock: what it writes can vary."""
        return self.is_budgeted or self.trains

    @property
    def defaults(self) -> dict[str, Any]:
        """Every parameter with its default."""
        return {key: rule.default for key, rule in self.parameters.items()}

    def load(self) -> Callable[[Any], Any]:
        """The function that runs it, with the tooling it needs imported."""
        return load_function(self.run)

    def list_obstacles(self, parameters: Mapping[str, Any], facts: GraphFacts) -> Iterator[str]:
        """What keeps it from working on a graph of these facts."""
        is_inner = self.reaches_branches and facts.inner_weights > 0
        if self.targets is not None and not is_inner:
            yield from find_no_target(self.name, self.targets, facts)
        if self.obstacles is not None:
            yield from load_function(self.obstacles)(parameters, facts)
        if facts.control_flow and not self.follows_branches:
            yield f"{self.name} does not follow tensors into {', '.join(facts.control_flow)}."

    def describe(self) -> dict[str, Any]:
        """The pass as the API and the form show it."""
        return {
            "name": self.name,
            "title": self.title,
            "needs_calibration": self.needs_calibration,
            "trains": self.trains,
            "is_last": self.is_last,
            "targets": sorted(self.targets or ()),
            "parameters": [rule.describe(key) for key, rule in self.parameters.items()],
        }


def find_no_target(name: str, targets: frozenset[str], facts: GraphFacts) -> Iterator[str]:
    """The refusal of a graph that has none of these operators with weights of its own."""
    if not targets & facts.weighted.keys():
        where = "; those inside branches and loops are out of reach" if facts.inner_weights else ""
        yield (
            f"{name} finds nothing to work on: no {', '.join(sorted(targets))} with FP32 weights "
            f"of its own{where}."
        )


def load_function(function: "Callable[..., Any] | str") -> Callable[..., Any]:
    """The function itself, or the one that `module:function` names."""
    if callable(function):
        return function
    module, _, name = function.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return found

"""Every pass by name, with its parameters, their ranges and defaults. Pure."""

import math
from dataclasses import dataclass, field
from typing import Any

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


@dataclass(frozen=True)
class PassInfo:
    """What a pass takes and needs."""

    title: str
    parameters: dict[str, Parameter] = field(default_factory=dict)
    needs_calibration: bool = False
    trains: bool = False
    computes_int8: bool = False


def _choice(default: str | None, *choices: str) -> Parameter:
    return Parameter("str", choices=choices, default=default, is_nullable=default is None)


_EXCLUDED = Parameter("names", default=None, is_nullable=True)
_STATIC: dict[str, Parameter] = {
    "method": _choice("minmax", "minmax", "percentile", "entropy"),
    "percentile": Parameter("float", 90.0, 100.0, default=99.99),
    "activation": _choice(None, "quint8", "qint8", "quint16", "qint16"),
    "weight": _choice(None, "quint8", "qint8"),
    "format": _choice(None, "qdq", "qoperator"),
    "per_channel": Parameter("bool", default=True),
    "symmetric": Parameter("bool", default=None, is_nullable=True),
    "first_layer": _choice(None, "fp32", "int8"),
    "samples": Parameter("int", 1, 100_000, default=1024),
    "chunk": Parameter("int", 1, 1024, default=64),
    "exclude": _EXCLUDED,
}
_TRAINING: dict[str, Parameter] = {
    "steps": Parameter("int", 1, 1_000_000, default=400),
    "seconds": Parameter("int", 1, 86_400, default=900),
    "temperature": Parameter("float", 0.1, 100.0, default=4.0),
    "alpha": Parameter("float", 0.0, 1.0, default=0.7),
    "learning_rate": Parameter("float", 1e-7, 1.0, default=2e-3),
    "batch": Parameter("int", 2, 4096, default=64),
    "noise": Parameter("float", 0.0, 2.0, default=0.0),
    "shift": Parameter("int", 0, 64, default=0),
    "mixup": Parameter("float", 0.0, 10.0, default=0.0),
}

PASSES: dict[str, PassInfo] = {
    "prepare": PassInfo("Shape inference, batch-norm folding and clean-up"),
    "prune.structured": PassInfo(
        "Remove whole channels, then repair their consumers",
        {
            "ratio": Parameter("float", 0.01, 0.95, default=0.4),
            # None: decided by the passes that follow, see `compression.recipe.alignment`.
            "align": Parameter("int", 1, 64, default=None, is_nullable=True),
            "min_keep": Parameter("int", 1, 4096, default=8),
            "allocation": _choice("sensitivity", "sensitivity", "uniform"),
            # From 0, parameters alone, to 1, time alone; see `compression.engine.pruning.kernels`.
            "latency_share": Parameter("float", 0.0, 1.0, default=0.25),
            "repair": Parameter("bool", default=True),
            "samples": Parameter("int", 16, 100_000, default=512),
        },
        needs_calibration=True,
    ),
    "prune.unstructured": PassInfo(
        "Zero the smallest weights (sparsity alone: neither file nor latency shrinks)",
        {"ratio": Parameter("float", 0.01, 0.99, default=0.4)},
    ),
    "finetune.kd": PassInfo(
        "Fine-tune with the source as teacher",
        _TRAINING,
        needs_calibration=True,
        trains=True,
    ),
    "distill.student": PassInfo(
        "Train a small student on the teacher's logits",
        {
            **_TRAINING,
            "steps": Parameter("int", 1, 1_000_000, default=1600),
            # None: what suits the blocks, see `compression.engine.training.distillation`.
            "learning_rate": Parameter("float", 1e-7, 1.0, default=None, is_nullable=True),
            "width": Parameter("int", 2, 256, default=None, is_nullable=True),
            "blocks": _choice("full", "full", "separable", "pruned"),
            # FP32 source to INT8 student; a given width decides alone.
            "ratio": Parameter("float", 2.0, 1000.0, default=14.0),
        },
        needs_calibration=True,
        trains=True,
    ),
    "quantize.dynamic": PassInfo(
        "INT8 weights, activations quantized while running",
        {
            "weight": _choice("quint8", "quint8", "qint8"),
            "per_channel": Parameter("bool", default=False),
            "exclude": _EXCLUDED,
        },
        computes_int8=True,
    ),
    "quantize.static": PassInfo(
        "INT8 weights and activations from calibration",
        _STATIC,
        needs_calibration=True,
        computes_int8=True,
    ),
    "quantize.weights": PassInfo(
        "Weights alone stored in 8 or 16 bits",
        {"bits": Parameter("int", choices=(8, 16), default=8), "exclude": _EXCLUDED},
    ),
    "convert.fp16": PassInfo(
        "Half precision, sensitive regions kept whole in FP32", {"exclude": _EXCLUDED}
    ),
    "mixed.search": PassInfo(
        "INT8 where it is harmless, wider where it is not",
        {
            **{key: _STATIC[key] for key in ("method", "samples", "chunk", "percentile")},
            "max_drop_points": Parameter("float", 0.0, 100.0, default=0.5),
            # None: what the target's ISA has a use for, see `compression.engine.passes.ladder`.
            "ladder": Parameter(
                "names", choices=("a16w8", "w8", "w16"), default=None, is_nullable=True
            ),
            "probe": Parameter("int", 16, 100_000, default=256),
        },
        needs_calibration=True,
        computes_int8=True,
    ),
    "search.best": PassInfo(
        "Try the other passes and keep the best variant that passes the gates",
        {
            "max_ratio": Parameter("float", 0.0, 0.8, default=0.8),
            "finalists": Parameter("int", 1, 64, default=8),
            "train": Parameter("bool", default=True),
            # None: as many as the training pass takes of itself.
            "training_steps": Parameter("int", 1, 1_000_000, default=None, is_nullable=True),
        },
        needs_calibration=True,
    ),
}

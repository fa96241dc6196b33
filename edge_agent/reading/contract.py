"""The output contract of a manifest: a plain document, checked into values with types.

    {"task": "classification", "form": "scores", "outputs": {"scores": "probabilities"},
     "activation": "none", "classes": ["cat", "dog"]}

`task` says what the model is for, `form` how its outputs say it; `outputs` maps what the form needs
to names of the graph. Everything else is optional and absent where it has its default.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

FORMS: dict[str, dict[str, tuple[str, ...]]] = {
    "classification": {
        "scores": ("scores",),  # one score a class; the highest is the answer
        "binary": ("scores",),  # one score a row, of class 1
        "multi_label": ("scores",),  # one score a class; all above the threshold are answers
        "map": ("scores",),  # a map from class to probability a row
        "label": ("label",),  # the class itself, without scores
    },
    "regression": {"values": ("values",)},
    "detection": {
        "yolo": ("boxes",),  # x, y, width, height, then one score a class
        "yolo_objectness": ("boxes",),  # the same with the objectness before the classes
        "rows": ("boxes",),  # x1, y1, x2, y2, score, class
        "batch_rows": ("boxes",),  # image, x1, y1, x2, y2, class, score
        "boxes": ("boxes", "scores"),  # an output each; `classes` and `count` where there are
        "selected": ("selected", "boxes", "scores"),  # as NonMaxSuppression answers
    },
    "segmentation": {
        "scores": ("scores",),  # one score a class and pixel
        "binary": ("scores",),  # one score a pixel, of class 1
        "mask": ("mask",),  # the class of each pixel
    },
    "embedding": {
        "vector": ("vector",),
        "tokens": ("vector",),  # one vector a token; their mean is the answer
    },
    "sequence": {
        "ctc": ("scores",),  # one score a class and step; repeats and blanks fall out
        "tags": ("scores",),  # one score a class and token
    },
    "anomaly": {"score": ("score",)},
    "other": {"none": ()},
}
"""By task and form, the outputs that must be named."""
OPTIONAL_OUTPUTS = {("detection", "boxes"): ("classes", "count")}
ACTIVATIONS = ("none", "softmax", "sigmoid", "exp")
"""What makes probabilities of scores; `none`: they are some, `exp`: they are logarithms."""
TASKS = tuple(FORMS)
MAX_CLASSES = 100_000
MAX_NAME = 200
MAX_AXIS = 7
PROJECTIONS = 4


class ContractError(ValueError):
    """The document is no contract; the message has what was expected and what came."""


@dataclass(frozen=True)
class Contract:
    """How the outputs are read."""

    task: str
    form: str
    outputs: Mapping[str, str]
    """Role to output name."""
    activation: str = "none"
    classes: tuple[str | int, ...] = ()
    """What the model itself calls its classes, by column; empty where it only counts them."""
    class_ids: tuple[int, ...] = ()
    """The place of each column in the label map; empty where they are the same."""
    class_axis: int | None = None
    """Of the output with the batch axis; None: the last, or the first of what is left."""
    batch_axis: int | None = 0
    """Of the outputs; None where an answer is of one sample and has no such axis."""
    input_batch_axes: Mapping[str, int | None] = field(default_factory=dict)
    """Of the inputs whose batch is not on axis 0; None for a scalar or a state."""
    threshold: float = 0.5
    """Least score of an answer: `binary`, `multi_label`, detection."""
    overlap: float = 0.45
    """Intersection over union above which the lower of two boxes of a class falls out."""
    blank: int | None = None
    """The class that is none: of `ctc`, of `tags`, the background of `boxes`."""
    values: int = 1
    """Numbers a row, of a regression."""
    centroid: tuple[float, ...] = ()
    """Of the reference, on the fixed projections, of an embedding."""

    @property
    def has_classes(self) -> bool:
        """True where each answer is one class; else records have none."""
        return self.task == "classification"

    @property
    def has_confidence(self) -> bool:
        return self.task == "classification" and self.form != "label"

    def to_document(self) -> dict[str, Any]:
        """The JSON object that `parse_contract` reads, without what has its default."""
        row: dict[str, Any] = {
            "task": self.task,
            "form": self.form,
            "outputs": dict(self.outputs),
        }
        for name, default in _DEFAULTS.items():
            value = getattr(self, name)
            if value != default:
                row[name] = list(value) if isinstance(value, tuple) else value
        if self.input_batch_axes:
            row["input_batch_axes"] = dict(self.input_batch_axes)
        return row


_DEFAULTS: dict[str, Any] = {
    "activation": "none",
    "classes": (),
    "class_ids": (),
    "class_axis": None,
    "batch_axis": 0,
    "threshold": 0.5,
    "overlap": 0.45,
    "blank": None,
    "values": 1,
    "centroid": (),
}
FIELDS = ("task", "form", "outputs", *_DEFAULTS, "input_batch_axes")


def parse_contract(document: Any) -> Contract:
    """The contract in a JSON object.

    Raises:
        ContractError: an unknown field, or a value that its field does not take.
    """
    if not isinstance(document, Mapping):
        raise ContractError(f"A contract is an object; got {type(document).__name__}")
    unknown = sorted(map(str, set(document) - set(FIELDS)))
    if unknown:
        raise ContractError(f"Unknown fields: {', '.join(unknown)}; known are {', '.join(FIELDS)}")
    task = _choice(document, "task", TASKS)
    form = _choice(document, "form", tuple(FORMS[task]))
    contract = Contract(
        task=task,
        form=form,
        outputs=_outputs(document.get("outputs", {}), task, form),
        activation=_choice(document, "activation", ACTIVATIONS, "none"),
        classes=_classes(document.get("classes", ())),
        class_ids=tuple(_integers(document, "class_ids", 0, MAX_CLASSES)),
        class_axis=_optional(document.get("class_axis"), "class_axis", MAX_AXIS),
        batch_axis=_optional(document.get("batch_axis", 0), "batch_axis", MAX_AXIS),
        input_batch_axes=_input_axes(document.get("input_batch_axes", {})),
        threshold=_number(document, "threshold", 0.5, 0.0, 1.0),
        overlap=_number(document, "overlap", 0.45, 0.0, 1.0),
        blank=_optional(document.get("blank"), "blank", MAX_CLASSES),
        values=_integer(document.get("values", 1), "values", 1, MAX_CLASSES),
        centroid=_centroid(document.get("centroid", ())),
    )
    if contract.class_ids and contract.classes and len(contract.class_ids) != len(contract.classes):
        raise ContractError(
            f"class_ids has {len(contract.class_ids)} entries; classes has {len(contract.classes)}"
        )
    return contract


def _choice(
    document: Mapping[str, Any], name: str, known: tuple[str, ...], default: str | None = None
) -> str:
    value = document.get(name, default)
    if not isinstance(value, str) or value not in known:
        raise ContractError(f"{name} is one of {', '.join(known)}; got {value!r}")
    return value


def _outputs(value: Any, task: str, form: str) -> dict[str, str]:
    needed = FORMS[task][form]
    allowed = {*needed, *OPTIONAL_OUTPUTS.get((task, form), ())}
    if not isinstance(value, Mapping) or not all(
        isinstance(item, str) and 0 < len(item) <= MAX_NAME for item in value.values()
    ):
        raise ContractError(f"outputs names outputs of the graph by role; got {value!r}")
    if not set(needed) <= set(value) <= allowed:
        more = sorted(allowed - set(needed))
        raise ContractError(
            f"outputs of {task} in the form {form}: expected {sorted(needed)}"
            f"{f' and perhaps {more}' if more else ''}; got {sorted(map(str, value))}"
        )
    return {str(role): name for role, name in value.items()}


def _classes(value: Any) -> tuple[str | int, ...]:
    if not isinstance(value, list | tuple) or len(value) > MAX_CLASSES:
        raise ContractError(f"classes is a list of at most {MAX_CLASSES}; got {value!r:.100}")
    for item in value:
        if isinstance(item, bool) or not isinstance(item, str | int):
            raise ContractError(f"classes holds texts or whole numbers; got {item!r}")
    if len(set(value)) != len(value):
        raise ContractError("classes names a class twice")
    return tuple(value)


def _integer(value: Any, name: str, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ContractError(f"{name} is a whole number from {low} to {high}; got {value!r}")
    return value


def _integers(document: Mapping[str, Any], name: str, low: int, high: int) -> list[int]:
    value = document.get(name, ())
    if not isinstance(value, list | tuple) or len(value) > MAX_CLASSES:
        raise ContractError(f"{name} is a list of at most {MAX_CLASSES}; got {value!r:.100}")
    return [_integer(item, name, low, high) for item in value]


def _number(
    document: Mapping[str, Any], name: str, default: float, low: float, high: float
) -> float:
    value = document.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ContractError(f"{name} is a number from {low} to {high}; got {value!r}")
    return float(value)


def _optional(value: Any, name: str, high: int) -> int | None:
    return None if value is None else _integer(value, name, 0, high)


def _input_axes(value: Any) -> dict[str, int | None]:
    if not isinstance(value, Mapping) or len(value) > 64:
        raise ContractError(f"input_batch_axes maps inputs to axes; got {value!r:.100}")
    return {
        str(name): _optional(axis, f"input_batch_axes.{name}", MAX_AXIS)
        for name, axis in value.items()
    }


def _centroid(value: Any) -> tuple[float, ...]:
    is_list = isinstance(value, list | tuple) and len(value) in (0, PROJECTIONS)
    if not is_list or not all(
        isinstance(item, int | float) and not isinstance(item, bool) and math.isfinite(item)
        for item in value
    ):
        raise ContractError(f"centroid is {PROJECTIONS} finite numbers or none; got {value!r:.100}")
    return tuple(float(item) for item in value)

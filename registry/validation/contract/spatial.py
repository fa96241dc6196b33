"""Contracts of detectors and of segmentation."""

from registry.validation.contract.facts import GraphFacts, OutputFacts
from registry.validation.contract.findings import (
    Document,
    Hints,
    UnclearError,
    candidates,
    named,
    with_batch,
)
from registry.validation.contract.trial import lie_within_one

COCO = 80
"""Classes of the data set that published detectors are trained on."""
DETECTION_THRESHOLD = 0.25
_FEW, _MANY = 512, 64
"""At most so many fields a box, and at least so many boxes, of a head without suppression."""


def shows_detection(facts: GraphFacts, hints: Hints) -> bool:
    if "NonMaxSuppression" in facts.operators or "EfficientNMS_TRT" in facts.operators:
        return True
    found = [o for o in candidates(facts) if o.is_float]
    if len(found) == 1 and _yolo_fields(found[0], hints) in (COCO + 4, COCO + 5):
        return True
    names = " ".join(o.name.lower() for o in facts.outputs)
    return "box" in names and "score" in names


def shows_segmentation(facts: GraphFacts, hints: Hints) -> bool:
    """As wide and high as the input or an even part of it, and classes by their operators."""
    found = candidates(facts)
    if len(found) != 1:
        return False
    output, image = found[0], facts.inputs[0]["shape"]
    if len(image) != 4 or len(output.sizes) not in (3, 4):
        return False
    is_classes = output.producer == "ArgMax" or output.activation in ("softmax", "sigmoid")
    if len(output.sizes) == 3 and output.activation == "softmax":
        return False  # scores of steps, as of letters in a line: a mask has none to share 1 among
    places = [size for size in output.sizes[-3:] if isinstance(size, int) and size >= 8]
    return is_classes and len(places) >= 2


def propose_detection(facts: GraphFacts, hints: Hints) -> Document:
    document = _heads(facts, hints)
    return {"threshold": DETECTION_THRESHOLD, **document}


def _heads(facts: GraphFacts, hints: Hints) -> Document:
    found = candidates(facts)
    boxes = named(facts, hints, "boxes")
    if boxes is None and len(found) == 1:
        boxes = found[0]
    if len(found) > 1 and (boxes is None or "scores" in hints.outputs):
        return _boxes_apart(facts, hints, found)
    assert boxes is not None
    sizes = boxes.sizes
    last = sizes[-1]
    # After suppression the number of boxes is free: no trial shows a batch axis of 2 or 3 rows.
    if last == 7 and len(sizes) == 2:
        return {"form": "batch_rows", "outputs": {"boxes": boxes.name}, "batch_axis": None}
    if last == 6 and len(sizes) in (2, 3):
        axis = 0 if len(sizes) == 3 else None
        return with_batch({"form": "rows", "outputs": {"boxes": boxes.name}}, axis)
    if len(sizes) == 3:
        return _yolo(facts, hints, boxes)
    raise UnclearError(
        facts,
        f"{boxes.name} has no shape of a known head",
        [{"form": "rows"}, {"form": "yolo"}, {"task": "other"}],
    )


def _yolo_fields(output: OutputFacts, hints: Hints) -> int | None:
    """Numbers a box of a head without suppression; None where it is no such head."""
    sizes = output.sizes
    if len(sizes) != 3 or not all(isinstance(size, int) for size in sizes[1:]):
        return None
    few, many = sorted((int(sizes[1]), int(sizes[2])))
    return few if 5 <= few <= _FEW and many >= max(_MANY, 2 * few) else None


def _yolo(facts: GraphFacts, hints: Hints, boxes: OutputFacts) -> Document:
    fields = _yolo_fields(boxes, hints)
    labels = len(hints.labels) or (COCO if fields in (COCO + 4, COCO + 5) else 0)
    forms = {labels + 4: "yolo", labels + 5: "yolo_objectness"} if labels else {}
    form = hints.form or forms.get(fields or 0, "")
    if not form:
        raise UnclearError(
            facts,
            f"{boxes.name} has {fields or '?'} numbers a box: 4 of the place and "
            f"{(fields or 4) - 4} scores, or 5 with the objectness and {(fields or 5) - 5}; the "
            f"label map has {len(hints.labels)}",
            [{"form": "yolo"}, {"form": "yolo_objectness"}],
        )
    document: Document = {"form": form, "outputs": {"boxes": boxes.name}}
    if boxes.sizes[1] == fields:
        document["class_axis"] = 1
    answer = boxes.answer
    if not hints.activation and answer is not None:
        table = answer if boxes.sizes[1] != fields else answer.swapaxes(1, 2)
        if not lie_within_one(table[..., 4:]):
            document["activation"] = "sigmoid"
    return document


def _boxes_apart(facts: GraphFacts, hints: Hints, found: list[OutputFacts]) -> Document:
    chosen: dict[str, OutputFacts] = {}
    for role in ("boxes", "scores", "classes", "count"):
        output = named(facts, hints, role)
        if output is not None:
            chosen[role] = output
    rest = [o for o in found if o not in chosen.values()]
    for role, words in (
        ("boxes", ("box", "loc")),
        ("scores", ("score", "conf", "prob")),
        ("classes", ("class", "label", "categor")),
        ("count", ("num", "count")),
    ):
        fitting = [o for o in rest if any(word in o.name.lower() for word in words)]
        if role == "boxes":
            fitting = [o for o in fitting if o.sizes[-1:] == (4,)] or [
                o for o in rest if o.sizes[-1:] == (4,)
            ]
        if role not in chosen and len(fitting) == 1:
            chosen[role] = fitting[0]
            rest.remove(fitting[0])
    if "boxes" not in chosen or "scores" not in chosen:
        raise UnclearError(
            facts,
            "a detector has an output of boxes [.., 4] and one of scores",
            [{"outputs": {"boxes": "boxes", "scores": "scores", "classes": "labels"}}],
        )
    boxes, scores = chosen["boxes"], chosen["scores"]
    document: Document = {
        "form": "boxes",
        "outputs": {role: output.name for role, output in chosen.items()},
    }
    if len(boxes.sizes) == 2:
        document["batch_axis"] = None  # as torchvision exports: one frame a call
    if "classes" in chosen:
        return document
    return {**document, **_score_columns(facts, hints, boxes, scores)}


def _score_columns(
    facts: GraphFacts, hints: Hints, boxes: OutputFacts, scores: OutputFacts
) -> Document:
    """Scores of each class: which axis they are on, and whether the first is the background."""
    sizes, many = scores.sizes, boxes.sizes[-2]
    if len(sizes) < 2:
        raise UnclearError(facts, "nothing gives a class to each box", [{"task": "other"}])
    document: Document = {}
    columns = sizes[-1]
    if sizes[-1] == many and sizes[-2] != many:
        document["class_axis"] = len(sizes) - 2
        columns = sizes[-2]
    answer = scores.answer
    if answer is not None and not lie_within_one(answer):
        document["activation"] = "softmax"
    count = len(hints.labels)
    if isinstance(columns, int) and count and columns == count + 1:
        document |= {"blank": 0, "class_ids": [0, *range(count)]}
    elif not (isinstance(columns, int) and columns == count):
        raise UnclearError(
            facts,
            f"{scores.name} has {columns} scores a box and the label map {count}: is the first "
            "the background?",
            [{"blank": 0}, {"blank": None}],
        )
    return document


def propose_segmentation(facts: GraphFacts, hints: Hints) -> Document:
    found = candidates(facts)
    output = named(facts, hints, "scores") or named(facts, hints, "mask")
    if output is None:
        places = [o for o in found if len(o.sizes) in (3, 4)]
        if len(places) != 1:
            raise UnclearError(
                facts,
                f"each of {[o.name for o in places or found]} could be the mask",
                [{"outputs": {"scores": (places or found)[0].name}}],
            )
        output = places[0]
    axis = 0 if len(output.sizes) > 2 else None
    if output.is_whole:
        return with_batch({"form": "mask", "outputs": {"mask": output.name}}, axis)
    document = with_batch({"form": "scores", "outputs": {"scores": output.name}}, axis)
    sizes = output.sizes
    answer = output.answer
    activation = "none" if output.activation else "softmax"
    if output.activation == "log_softmax":
        activation = "exp"
    if len(sizes) == 3 or (len(sizes) == 4 and 1 in (sizes[1], sizes[3])):
        is_inside = bool(output.activation) or (answer is not None and lie_within_one(answer))
        document["form"] = "binary"
        document["activation"] = hints.activation or ("none" if is_inside else "sigmoid")
        return document
    return {
        **document,
        "class_axis": _class_axis(facts, hints, output),
        "activation": hints.activation or activation,
    }


def _class_axis(facts: GraphFacts, hints: Hints, output: OutputFacts) -> int:
    sizes = output.sizes
    fitting = [axis for axis in (1, 3) if sizes[axis] == len(hints.labels) and hints.labels]
    if len(fitting) == 1:
        return fitting[0]
    first, last = sizes[1], sizes[3]
    if isinstance(first, int) and isinstance(last, int) and first != last:
        return 1 if first < last else 3
    if isinstance(first, int) and not isinstance(last, int):
        return 1
    raise UnclearError(
        facts, f"which axis of {output.name} holds the classes?", [{"class_axis": 1}]
    )

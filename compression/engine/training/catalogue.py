"""What can be trained. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

from compression.engine.training.operators import OPERATORS
from compression.recipe.declaration import PRODUCTS, find_no_target
from compression.recipe.facts import GraphFacts


def list_finetuning_obstacles(parameters: Mapping[str, Any], facts: GraphFacts) -> Iterator[str]:
    """What keeps `finetune.kd` from training a graph."""
    yield from _list_untrainable("finetune.kd", facts)


def list_student_obstacles(parameters: Mapping[str, Any], facts: GraphFacts) -> Iterator[str]:
    """What keeps `distill.student` from making a student, cut from the source or of its own."""
    if parameters["blocks"] != "pruned":
        if not takes_images(facts):
            yield (
                "distill.student takes the place of image classifiers, one FP32 input "
                "[N, C, H, W] with known C and one FP32 output, unless its blocks are pruned; "
                "this model has others."
            )
        return
    yield from find_no_target("distill.student", PRODUCTS, facts)
    yield from _list_untrainable("distill.student", facts)
    if facts.control_flow:
        yield f"distill.student does not follow tensors into {', '.join(facts.control_flow)}."


def _list_untrainable(name: str, facts: GraphFacts) -> Iterator[str]:
    for item in facts.inputs:
        if item.batch_axis != 0:
            where = "none" if item.batch_axis is None else f"them on axis {item.batch_axis}"
            yield f"{name} wants rows on the first axis of every input; {item.name!r} has {where}."
    untrainable = [] if facts.control_flow else find_untrainable(facts)
    if untrainable:
        yield f"{name} has no rule to train through {', '.join(untrainable)}."


def find_untrainable(facts: GraphFacts) -> list[str]:
    """Operators on the way from input to output that fine-tuning has no rule for."""
    return sorted(set(facts.operators) - set(OPERATORS))


def takes_images(facts: GraphFacts) -> bool:
    """Whether a student can have the inputs and outputs: FP32 images in, one FP32 tensor out."""
    if len(facts.inputs) != 1 or len(facts.outputs) != 1:
        return False
    image, answer = facts.inputs[0], facts.outputs[0]
    is_float = image.dtype == answer.dtype == "float32"
    shape = image.shape or ()
    return is_float and len(shape) == 4 and shape[1] is not None

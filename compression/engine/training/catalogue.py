"""What can be trained. Pure."""

from compression.engine.training.operators import OPERATORS
from compression.recipe.graph_facts import GraphFacts


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

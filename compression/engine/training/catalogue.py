"""What can be trained, known without PyTorch. Pure."""

from compression.recipe.graph_facts import GraphFacts

# The keys of `operators.OPERATORS`, which cannot be read where PyTorch is missing.
TRAINABLE_OPERATORS = frozenset(
    {
        "Abs",
        "Add",
        "AveragePool",
        "BatchNormalization",
        "Cast",
        "Clip",
        "Concat",
        "ConstantOfShape",
        "Conv",
        "ConvTranspose",
        "Cos",
        "DepthToSpace",
        "Div",
        "Dropout",
        "Elu",
        "Equal",
        "Erf",
        "Exp",
        "Expand",
        "Flatten",
        "Gather",
        "Gelu",
        "Gemm",
        "GlobalAveragePool",
        "GlobalMaxPool",
        "Greater",
        "HardSigmoid",
        "HardSwish",
        "Identity",
        "InstanceNormalization",
        "LayerNormalization",
        "LeakyRelu",
        "Less",
        "Log",
        "LogSoftmax",
        "MatMul",
        "Max",
        "MaxPool",
        "Mean",
        "Min",
        "Mish",
        "Mul",
        "Neg",
        "PRelu",
        "Pad",
        "Pow",
        "Reciprocal",
        "ReduceMax",
        "ReduceMean",
        "ReduceMin",
        "ReduceSum",
        "Relu",
        "Reshape",
        "Shape",
        "Sigmoid",
        "Sin",
        "Slice",
        "Softmax",
        "Softplus",
        "Split",
        "Sqrt",
        "Squeeze",
        "Sub",
        "Sum",
        "Tanh",
        "Transpose",
        "Unsqueeze",
        "Where",
    }
)


def find_untrainable(facts: GraphFacts) -> list[str]:
    """Operators on the way from input to output that fine-tuning has no rule for."""
    return sorted(set(facts.operators) - TRAINABLE_OPERATORS)


def takes_images(facts: GraphFacts) -> bool:
    """Whether a student can have the inputs and outputs: FP32 images in, one FP32 tensor out."""
    if len(facts.inputs) != 1 or len(facts.outputs) != 1:
        return False
    image, answer = facts.inputs[0], facts.outputs[0]
    is_float = image.dtype == answer.dtype == "float32"
    shape = image.shape or ()
    return is_float and len(shape) == 4 and shape[1] is not None

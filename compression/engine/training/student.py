"""A small classifier as an ONNX graph with seeded weights, to be trained and swapped in."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from compression.exceptions import ModelUnsupportedError

OPSET = 17
IR_VERSION = 8
BLOCKS = 3
GRAPH_BYTES = 7000
MIN_WIDTH, MAX_WIDTH = 8, 64
# A depthwise convolution of so few channels sees too little; MobileNets start the same way.
_FULL_CHANNELS = 4


@dataclass(frozen=True)
class Signature:
    """What a device sees of a model: its input and output as they are declared."""

    source: onnx.ValueInfoProto
    target: onnx.ValueInfoProto
    channels: int
    classes: int


def read_signature(model: onnx.ModelProto, classes: int) -> Signature:
    """The signature of an image classifier, [N, C, H, W] to [N, classes] in FP32.

    Args:
        model: the model whose place the student takes.
        classes: as the teacher's scores have them.

    Raises:
        ModelUnsupportedError: saying what the model has instead.
    """
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [item for item in model.graph.input if item.name not in weights]
    outputs = list(model.graph.output)
    if len(inputs) != 1 or len(outputs) != 1:
        raise _refuse(f"{len(inputs)} inputs and {len(outputs)} outputs")
    source, target = inputs[0], outputs[0]
    kinds = {item.type.tensor_type.elem_type for item in (source, target)}
    dims = source.type.tensor_type.shape.dim
    if kinds != {TensorProto.FLOAT}:
        raise _refuse("a type other than FP32")
    if len(dims) != 4 or dims[1].dim_value < 1:
        shape = [dim.dim_value or dim.dim_param or "?" for dim in dims]
        raise _refuse(f"an input of shape {shape}")
    return Signature(source, target, dims[1].dim_value, classes)


def _refuse(what: str) -> ModelUnsupportedError:
    return ModelUnsupportedError(
        "distill.student takes the place of image classifiers, one FP32 input [N, C, H, W] with "
        f"known C and one output [N, classes]; this model has {what}."
    )


def choose_width(
    source: onnx.ModelProto, signature: Signature, *, ratio: float, is_separable: bool
) -> int:
    """The widest first block, in twos, with which the student as INT8 takes a `ratio`th of the
    source: one byte per parameter and what a graph of its kind takes besides.
    """
    weights = sum(int(np.prod(tensor.dims)) for tensor in source.graph.initializer)
    allowed = 4 * weights / ratio - GRAPH_BYTES
    for width in range(MAX_WIDTH, MIN_WIDTH, -2):
        student = build_student(
            signature, width=width, is_separable=is_separable, is_probability=False, seed=0
        )
        if sum(int(np.prod(tensor.dims)) for tensor in student.graph.initializer) <= allowed:
            return width
    return MIN_WIDTH


def build_student(
    signature: Signature, *, width: int, is_separable: bool, is_probability: bool, seed: int
) -> onnx.ModelProto:
    """Three strided blocks of convolution, batch norm and ReLU, a global mean, a linear layer.

    Args:
        signature: the student has the same.
        width: channels of the first block; each further block has twice as many.
        is_separable: depthwise and pointwise convolutions instead of full ones.
        is_probability: whether the output is the softmax of the scores, as the source's is.
        seed: of the weights (He et al. 2015).
    """
    maker = _StudentMaker(np.random.default_rng(seed))
    x, channels = signature.source.name, signature.channels
    for index in range(BLOCKS):
        wide = width * 2**index
        if is_separable and channels > _FULL_CHANNELS:
            x = maker.convolve(x, channels, channels, group=channels)
            x = maker.convolve(x, channels, wide, kernel=1, stride=1)
        else:
            x = maker.convolve(x, channels, wide)
        channels = wide
    x = maker.add("Flatten", maker.add("GlobalAveragePool", x))
    weight = maker.draw((signature.classes, channels), channels, gain=1.0)
    bias = maker.store(np.zeros(signature.classes, np.float32))
    x = maker.add("Gemm", x, weight, bias, transB=1)
    if is_probability:
        x = maker.add("Softmax", x, axis=-1)
    maker.nodes[-1].output[0] = signature.target.name
    graph = helper.make_graph(
        maker.nodes,
        "student",
        [signature.source],
        [signature.target],
        [numpy_helper.from_array(value, name) for name, value in maker.weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = IR_VERSION
    onnx.checker.check_model(model)
    return model


class _StudentMaker:
    """Short names: in a file of a few kilobytes they weigh."""

    def __init__(self, generator: np.random.Generator) -> None:
        self.generator = generator
        self.weights: dict[str, NDArray] = {}
        self.nodes: list[Any] = []

    def store(self, value: NDArray) -> str:
        name = f"w{len(self.weights)}"
        self.weights[name] = value
        return name

    def draw(self, shape: tuple[int, ...], fan_in: int, gain: float = 2.0) -> str:
        deviation = np.sqrt(gain / fan_in)
        return self.store(self.generator.normal(0.0, deviation, shape).astype(np.float32))

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        name = f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def convolve(
        self, x: str, into: int, out: int, *, kernel: int = 3, stride: int = 2, group: int = 1
    ) -> str:
        """Convolution without bias, batch norm, ReLU."""
        fan_in = into // group * kernel**2
        weight = self.draw((out, into // group, kernel, kernel), fan_in)
        pads = [kernel // 2] * 4
        x = self.add("Conv", x, weight, pads=pads, strides=[stride] * 2, group=group)
        ones, zeros = np.ones(out, np.float32), np.zeros(out, np.float32)
        norms = [self.store(value.copy()) for value in (ones, zeros, zeros, ones)]
        return self.add("Relu", self.add("BatchNormalization", x, *norms, momentum=0.9))

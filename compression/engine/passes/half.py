"""FP16 conversion that never rounds a tensor flowing between two FP32 nodes.

ONNX Runtime's own converter casts around every kept node by itself, so a value too large for FP16
is lost between two neighbours that are both kept. Here casts are placed only where the type
really changes, so a sensitive region stays whole.
"""

import math

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from compression.engine.graph.names import (
    all_names,
    free_name,
    rename_in_graph,
    rename_in_node,
    reserve_names,
)
from compression.engine.graph.order import inner_graphs
from compression.engine.passes.context import PassContext, PassResult
from compression.engine.passes.excluded import list_excluded
from compression.engine.passes.finish import finish_model
from compression.engine.passes.half_rules import (
    FP16_MAX,
    find_extreme_constants,
    fits_half,
    node_types,
)
from compression.engine.passes.known_types import add_types
from compression.measure.samples import Samples
from compression.measure.sessions import open_session
from registry.validation.rules import default_opset

_SAFE_PEAK = FP16_MAX * 0.5
OVERFLOW_ROWS = 8
MIN_INNER_ELEMENTS = 64


def convert_fp16(context: PassContext) -> PassResult:
    """Half precision with inputs and outputs left FP32.

    FP32 stay: nodes near overflow, those of constants that FP16 cannot hold, and whatever an
    operator's schema knows in FP32 only.
    """
    model = reserve_names(onnx.load(str(context.source)))
    add_types(model)
    excluded = find_extreme_constants(model.graph)
    excluded |= list_excluded(context)
    if context.calibration is not None:
        excluded |= find_overflow(model, context.calibration.head(64), context.threads)
    finish_model(to_fp16(model, set(excluded)), context.destination)
    return PassResult(excluded)


def find_overflow(model: onnx.ModelProto, samples: Samples, threads: int) -> dict[str, str]:
    """Nodes that read or write a value beyond half of what FP16 holds, with the reason."""
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    have = {item.name for item in probe.graph.output}
    names = [name for node in probe.graph.node for name in node.output if name]
    probe.graph.output.extend(
        helper.make_empty_tensor_value_info(name) for name in names if name not in have
    )
    session = open_session(probe.SerializeToString(), threads=threads, is_optimized=False)
    large: dict[str, float] = {}
    # A few rows at a time: all activations of all rows at once fill the memory.
    for feed, _ in samples.batches(OVERFLOW_ROWS):
        for name, value in zip(names, session.run(names, feed), strict=True):
            if isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.size:
                peak = float(np.abs(value).max())
                if peak > _SAFE_PEAK:
                    large[name] = max(peak, large.get(name, 0.0))
    found = {}
    for node in model.graph.node:
        peaks = [large[name] for name in [*node.input, *node.output] if name in large]
        if peaks:
            found[node.name] = f"values up to {max(peaks):.3g} do not fit FP16"
    return found


def to_fp16(model: onnx.ModelProto, keep: set[str]) -> onnx.ModelProto:
    """A copy in FP16 except for the nodes named in `keep`."""
    copy = onnx.shape_inference.infer_shapes(model)
    return _Converter(copy, keep).convert()


class _Converter:
    def __init__(self, model: onnx.ModelProto, keep: set[str]) -> None:
        self.model = model
        self.graph = model.graph
        self.keep = keep
        self.opset = default_opset(model)
        self.weights = {tensor.name: tensor for tensor in self.graph.initializer}
        items = [*self.graph.input, *self.graph.value_info, *self.graph.output]
        self.types = {item.name: item.type.tensor_type.elem_type for item in items}
        self.types |= {name: tensor.data_type for name, tensor in self.weights.items()}
        self.current = {item.name: TensorProto.FLOAT for item in self.graph.input}
        self.taken = all_names(self.graph)
        self.halves: dict[str, str] = {}
        self.casts: dict[tuple[str, int], str] = {}
        self.uses: dict[str, set[int]] = {}
        self.nodes: list[onnx.NodeProto] = []

    def convert(self) -> onnx.ModelProto:
        for node in self.graph.node:
            self._convert_node(node)
        for output in self.graph.output:
            self._restore_output(output.name)
        del self.graph.node[:]
        self.graph.node.extend(self.nodes)
        del self.graph.value_info[:]
        self._store_weights()
        onnx.checker.check_model(self.model)
        return self.model

    def _convert_node(self, node: onnx.NodeProto) -> None:
        types = node_types(node, self.opset, is_kept=node.name in self.keep)
        inputs = [
            self._as_type(name, TensorProto.FLOAT16 if is_half else TensorProto.FLOAT)
            for name, is_half in zip(node.input, types.inputs, strict=True)
        ]
        del node.input[:]
        node.input.extend(inputs)
        self._convert_bodies(node)
        self.nodes.append(node)
        self._guess_types(node)
        for name, is_half in zip(node.output, types.outputs, strict=True):
            if self.types.get(name) == TensorProto.FLOAT:
                self.current[name] = TensorProto.FLOAT16 if is_half else TensorProto.FLOAT

    def _convert_bodies(self, node: onnx.NodeProto) -> None:
        """Branches and bodies compute in FP32: no sample shows their values. They read FP32 from
        outside, and keep their weights in FP16 with a Cast, which is computed when loading."""
        changed: dict[str, str] = {}
        bodies = list(inner_graphs(node))
        for body in bodies:
            inner = all_names(body)
            outer = [name for name in self.types if name in inner]
            as_float = {name: self._as_float_for_body(name) for name in outer}
            changed.update({old: new for old, new in as_float.items() if old != new})
            self._halve_weights(body)
        for body in bodies:
            rename_in_graph(body, changed)

    def _as_float_for_body(self, name: str) -> str:
        weight = self.weights.get(name)
        if weight is None or not _is_worth_halving(weight):
            return self._as_type(name, TensorProto.FLOAT)
        if (name, TensorProto.FLOAT) not in self.casts:
            half, cast = self._as_type(name, TensorProto.FLOAT16), self._add_name(f"{name}_whole")
            node = helper.make_node("Cast", [half], [cast], f"cast_{cast}", to=TensorProto.FLOAT)
            self.nodes.append(node)
            self.casts[name, TensorProto.FLOAT] = cast
        return self.casts[name, TensorProto.FLOAT]

    def _halve_weights(self, body: onnx.GraphProto) -> None:
        public = {item.name for item in body.output}
        casts = []
        for tensor in body.initializer:
            if tensor.name in public or not _is_worth_halving(tensor):
                continue
            half = numpy_helper.to_array(tensor).astype(np.float16)
            name, stored = tensor.name, self._add_name(f"{tensor.name}_half")
            tensor.CopyFrom(numpy_helper.from_array(half, stored))
            cast = self._add_name(f"cast_{name}")
            casts.append(helper.make_node("Cast", [stored], [name], cast, to=TensorProto.FLOAT))
        nodes = [onnx.NodeProto.FromString(item.SerializeToString()) for item in body.node]
        del body.node[:]
        body.node.extend([*casts, *nodes])
        for item in body.node:
            for inner in inner_graphs(item):
                self._halve_weights(inner)

    def _guess_types(self, node: onnx.NodeProto) -> None:
        """Behind an operator that ONNX does not know, a tensor is of its first input's type."""
        source = self.types.get(node.input[0]) if node.input else None
        for name in node.output:
            if source is not None and not self.types.get(name):
                self.types[name] = source

    def _as_type(self, name: str, wanted: int) -> str:
        if self.types.get(name) != TensorProto.FLOAT:
            return name
        if name in self.weights:
            self.uses.setdefault(name, set()).add(wanted)
            if wanted == TensorProto.FLOAT:
                return name
            if name not in self.halves:
                self.halves[name] = self._add_name(f"{name}_half")
            return self.halves[name]
        if self.current.get(name, TensorProto.FLOAT) == wanted:
            return name
        if (name, wanted) not in self.casts:
            cast = self._add_name(f"{name}_as_{wanted}")
            self.nodes.append(helper.make_node("Cast", [name], [cast], f"cast_{cast}", to=wanted))
            self.casts[name, wanted] = cast
        return self.casts[name, wanted]

    def _add_name(self, wish: str) -> str:
        name = free_name(wish, self.taken)
        self.taken.add(name)
        return name

    def _restore_output(self, name: str) -> None:
        is_float = self.types.get(name) == TensorProto.FLOAT
        if not is_float or self.current.get(name) != TensorProto.FLOAT16:
            return
        inner = self._add_name(f"{name}_inner")
        for node in self.nodes:
            rename_in_node(node, {name: inner})
        self.nodes.append(
            helper.make_node("Cast", [inner], [name], f"cast_{name}", to=TensorProto.FLOAT)
        )

    def _store_weights(self) -> None:
        for name, wanted in self.uses.items():
            values = numpy_helper.to_array(self.weights[name])
            if TensorProto.FLOAT16 in wanted:
                half = np.clip(values, -FP16_MAX, FP16_MAX).astype(np.float16)
                self.graph.initializer.append(numpy_helper.from_array(half, self.halves[name]))
            if TensorProto.FLOAT not in wanted:
                self.graph.initializer.remove(self.weights[name])


def _is_worth_halving(weight: onnx.TensorProto) -> bool:
    is_large = math.prod(weight.dims) >= MIN_INNER_ELEMENTS
    is_float = weight.data_type == TensorProto.FLOAT
    return is_large and is_float and fits_half(numpy_helper.to_array(weight))

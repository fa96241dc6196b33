"""The walk over a graph: which tensor axis is made of which slots."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import onnx

from compression.engine.graph.structure import attributes_of
from compression.engine.pruning.normalize import Shape, normalize_model, read_shapes, read_weights
from compression.engine.pruning.slots import Slots, SlotTable

Axes = dict[int, Slots]
WeightAxis = tuple[str, int]


class NotUnderstoodError(Exception):
    """An operator is used in a way the rules do not cover; its inputs are pinned."""


@dataclass
class ShapeFix:
    """Something besides weights that must change with the slots: an attribute or a shape."""

    kind: str
    node_output: str
    slots: list[Slots]
    axis: int = 0


@dataclass
class Member:
    """One position of a weight axis that belongs to a class."""

    weight: str
    axis: int
    index: int


@dataclass
class ChannelGroup:
    """Classes of slots with the same signature, which is to say one prunable width."""

    axes: tuple[WeightAxis, ...]
    classes: dict[int, list[Member]] = field(default_factory=dict)


def subgraphs_of(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """The branches or bodies of a node."""
    return [
        graph
        for item in node.attribute
        for graph in ([item.g] if item.HasField("g") else item.graphs)
    ]


def count_uses(graph: onnx.GraphProto) -> dict[str, int]:
    """How often each tensor is read, also inside branches and bodies, or given as an output."""
    uses: dict[str, int] = {}
    names = [item.name for item in graph.output]
    for node in graph.node:
        names.extend(node.input)
        for inner in subgraphs_of(node):
            names.extend(name for name, count in count_uses(inner).items() for _ in range(count))
    for name in names:
        uses[name] = uses.get(name, 0) + 1
    return uses


class PruningGraph:
    """A normalized model with slots on every axis the rules could follow.

    `tensors` gives the slots of activations by axis, `weights_slots` those of weight axes, and
    `roles` what an operator uses a weight axis for: `out`, `in`, `vector` or `elementwise`.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = normalize_model(model)
        self.weights = read_weights(self.model)
        self.shapes = read_shapes(self.model)
        self.opset = max(
            (item.version for item in model.opset_import if item.domain in ("", "ai.onnx")),
            default=1,
        )
        uses = count_uses(self.model.graph)
        self.read = set(uses)
        self.table = SlotTable()
        self.tensors: dict[str, Axes] = {}
        self.weight_slots: dict[WeightAxis, Slots] = {}
        self.roles: dict[WeightAxis, set[str]] = {}
        self.fixes: list[ShapeFix] = []
        self._walk()
        self._pin_foreign_uses(uses)

    # --- what the rules use ---------------------------------------------------------------------
    def axes_of(self, name: str) -> Axes:
        """The slots of an activation by axis; axes that are not followed are absent."""
        return self.tensors.get(name, {})

    def shape_of(self, name: str) -> Shape:
        """The shape of a tensor."""
        if name not in self.shapes:
            raise NotUnderstoodError(f"the shape of {name} is unknown")
        return self.shapes[name]

    def weight(self, name: str) -> Any:
        """The array of an initializer."""
        if name not in self.weights:
            raise NotUnderstoodError(f"{name} is not constant")
        return self.weights[name]

    def weight_axis(self, name: str, axis: int, role: str, slots: Slots | None = None) -> Slots:
        """The slots of a weight axis, united with `slots` where given."""
        size = self.weight(name).shape[axis]
        if (name, axis) not in self.weight_slots:
            self.weight_slots[name, axis] = self.table.make(size)
        own = self.weight_slots[name, axis]
        self.roles.setdefault((name, axis), set()).add(role)
        if slots is not None:
            if len(slots) != size:
                raise NotUnderstoodError(f"{name} axis {axis}: {size} against {len(slots)}")
            self.table.unite(own, slots)
        return own

    # --- the walk -------------------------------------------------------------------------------
    def _walk(self) -> None:
        from compression.engine.pruning.rules import RULES

        for node in self.model.graph.node:
            self._pin_subgraphs(node)
            rule = RULES.get(node.op_type) if node.domain in ("", "ai.onnx") else None
            if rule is None or not self._try(rule, node):
                self._pin_inputs(node)
        for output in self.model.graph.output:
            for slots in self.axes_of(output.name).values():
                self.table.pin(slots, "graph output")

    def _try(self, rule: Callable[..., None], node: onnx.NodeProto) -> bool:
        try:
            rule(self, node, attributes_of(node))
        except (NotUnderstoodError, KeyError, IndexError):
            return False
        return True

    def _pin_inputs(self, node: onnx.NodeProto) -> None:
        for name in node.input:
            for slots in self.axes_of(name).values():
                self.table.pin(slots, node.op_type)
            for (weight, _), slots in self.weight_slots.items():
                if weight == name:
                    self.table.pin(slots, node.op_type)
        for name in node.output:
            self.tensors.pop(name, None)

    def _pin_subgraphs(self, node: onnx.NodeProto) -> None:
        """Tensors read inside a branch or loop body stay as they are."""
        for inner in subgraphs_of(node):
            for name in count_uses(inner):
                for slots in self.axes_of(name).values():
                    self.table.pin(slots, "subgraph")

    def _pin_foreign_uses(self, uses: dict[str, int]) -> None:
        """A weight that is also read by an operator that never followed it must not change."""
        for (name, _), slots in self.weight_slots.items():
            if uses.get(name, 0) > 1:
                self.table.pin(slots, "shared weight")

    # --- what can be dropped --------------------------------------------------------------------
    def find_groups(self) -> list[ChannelGroup]:
        """The prunable widths. A class without a producing weight, or pinned, is in none."""
        members: dict[int, list[Member]] = {}
        for (name, axis), slots in self.weight_slots.items():
            for index, slot in enumerate(slots):
                root = self.table.find(int(slot))
                members.setdefault(root, []).append(Member(name, axis, index))
        pinned = self.table.pinned_classes()
        groups: dict[tuple[WeightAxis, ...], ChannelGroup] = {}
        for root, items in members.items():
            is_made = any("out" in self.roles[item.weight, item.axis] for item in items)
            if root in pinned or not is_made:
                continue
            axes = tuple(sorted({(item.weight, item.axis) for item in items}))
            groups.setdefault(axes, ChannelGroup(axes)).classes[root] = items
        return list(groups.values())

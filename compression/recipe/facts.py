"""What preflight knows of a graph. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TensorFacts:
    """One input or output: `kind` is `tensor`, `sequence`, `optional`, `map` or `sparse`.

    A dimension is its size, or None where it is free. `batch_axis` is that of an input's rows; None
    where it has none.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None
    kind: str = "tensor"
    batch_axis: int | None = 0


@dataclass(frozen=True)
class GraphFacts:
    """A graph in figures.

    `weighted` counts nodes of the outer graph with FP32 weights by operator; `inner_weights` those
    inside branches and loops. `other_weight_types` are element types of weights that are neither
    FP32 nor integers. `operators` are those of the outer graph that see anything of an input; what
    hangs on constants alone is folded before it matters.
    """

    opset: int
    inputs: tuple[TensorFacts, ...]
    outputs: tuple[TensorFacts, ...]
    weighted: dict[str, int]
    inner_weights: int = 0
    control_flow: tuple[str, ...] = ()
    quantized: tuple[str, ...] = ()
    sequences: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    other_weight_types: tuple[str, ...] = ()
    weight_bytes: int = 0
    largest_activation_bytes: int = 0
    file_bytes: int = 0
    operators: tuple[str, ...] = ()

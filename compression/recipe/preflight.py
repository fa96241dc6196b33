"""Whether a recipe can work on a graph, decided before minutes are spent. Pure.

Each rule says in one sentence what is in the way. A refusal ends the job; a warning stands in the
report. What gets past here and still does not work ends in the limited child process.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from compression.recipe.facts import GraphFacts, TensorFacts
from compression.recipe.passes import PASSES
from compression.recipe.recipe import Recipe
from registry.validation.feeds import choose_specs

MIN_OPSET = 7
MAX_DIMENSION = 2**31 - 1
MAX_FILE_BYTES = 2 * 1024**3 - 1024**2
INPUT_TYPES = frozenset(
    {"float32", "float16", "float64", "bool", "string"}
    | {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
)
# For Python, NumPy, ONNX and ONNX Runtime before a model is there, with room to work.
BASE_MEMORY_BYTES = 400 * 1024**2
# A pass holds its input, its output, the two sessions that compare them and protobuf's copies.
COPIES_OF_WEIGHTS = 6
COPIES_OF_ACTIVATION = 4


@dataclass(frozen=True)
class Finding:
    """One thing in the way, or worth knowing."""

    is_refusal: bool
    message: str


def list_findings(facts: GraphFacts, recipe: Recipe) -> list[Finding]:
    """Everything that speaks against the recipe on this graph, refusals first."""
    refusals = [
        *check_order(recipe),
        *check_inputs(facts.inputs, allow_random=recipe.data.allow_random),
        *_check_graph(facts),
        *_check_memory(facts, recipe),
    ]
    if not refusals:
        refusals = [
            message
            for step in recipe.passes
            for message in PASSES[step.name].list_obstacles(step.parameters, facts)
        ]
    findings = [Finding(True, message) for message in dict.fromkeys(refusals)]
    return findings + [Finding(False, message) for message in _list_warnings(facts, recipe)]


def check_order(recipe: Recipe) -> Iterator[str]:
    """Passes that cannot work in this order or with these options: known from the recipe alone."""
    names = [step.name for step in recipe.passes]
    for index, name in enumerate(names[:-1]):
        if PASSES[name].is_last:
            yield (
                f"{name} must be the last pass: {names[index + 1]} would start from its result, "
                "and passes start from FP32."
            )
            break
    for step in recipe.passes:
        conflicts = PASSES[step.name].conflicts
        if conflicts is not None:
            yield from conflicts(step.parameters)


def inputs_of_signature(
    signature: Mapping[str, Any], axes: Mapping[str, int | None]
) -> tuple[TensorFacts, ...]:
    """The inputs as the registry describes them: names stand for free dimensions.

    Args:
        axes: of the rows of inputs, as the version's contract names them.

    Raises:
        RuleError: an axis that an input does not have.
    """
    return tuple(
        TensorFacts(
            spec.name,
            spec.dtype,
            tuple(dim if isinstance(dim, int) and dim != -1 else None for dim in spec.shape),
            batch_axis=spec.batch_axis,
        )
        for spec in choose_specs(signature.get("inputs", ()), axes)
    )


def check_inputs(inputs: tuple[TensorFacts, ...], *, allow_random: bool) -> Iterator[str]:
    """Inputs that no data set can feed."""
    if not inputs:
        yield "The graph has no input."
    for item in inputs:
        if item.kind != "tensor":
            yield f"Input {item.name!r} is a {item.kind}; only tensors can be fed."
            continue
        if item.dtype not in INPUT_TYPES:
            yield (
                f"Input {item.name!r} is of type {item.dtype}; data sets hold numbers and texts "
                "only."
            )
        for dim in item.shape or ():
            if dim is not None and not 0 < dim <= MAX_DIMENSION:
                yield f"Input {item.name!r} has a dimension of {dim:,}."
        if allow_random:
            yield from _check_random(item)
    yield from _check_rows([item for item in inputs if item.kind == "tensor"])


def _check_rows(inputs: list[TensorFacts]) -> Iterator[str]:
    if not inputs:
        return
    fed = [item for item in inputs if item.batch_axis is not None and item.shape]
    if not fed:
        names = ", ".join(repr(item.name) for item in inputs)
        yield (
            f"No input has an axis for the rows of a data set ({names}); name it in the contract "
            "(`outputs.input_batch_axes`), or export the model with a free batch dimension."
        )
    batches = {item.shape[item.batch_axis or 0] for item in fed if item.shape} - {None}
    if len(batches) > 1:
        found = ", ".join(map(str, sorted(size for size in batches if size)))
        yield f"Inputs take different numbers of rows at a time: {found}."


def _check_random(item: TensorFacts) -> Iterator[str]:
    axis = item.batch_axis
    if any(dim is None for place, dim in enumerate(item.shape or ()) if place != axis):
        yield f"Input {item.name!r} has free dimensions, which random data cannot fill."
    if item.dtype == "string":
        yield f"Input {item.name!r} takes texts, which random data cannot be."


def _check_graph(facts: GraphFacts) -> Iterator[str]:
    if not facts.opset:
        yield "The graph has no operator of ONNX's own set, and passes know no others."
    elif facts.opset < MIN_OPSET:
        yield f"Opset {facts.opset} is too old; expected at least {MIN_OPSET}."
    if facts.foreign:
        yield f"Operators of unknown domains: {', '.join(facts.foreign)}."
    if facts.quantized:
        yield (
            f"The model is quantized already ({', '.join(facts.quantized[:4])}); start from its "
            "FP32 original."
        )
    if facts.other_weight_types:
        kinds = ", ".join(facts.other_weight_types)
        yield f"Weights are {kinds}; passes start from FP32 weights."
    for item in facts.outputs:
        if item.kind != "tensor":
            remedy = (
                " Export the classifier with an array instead of maps (skl2onnx: zipmap=False)."
                if "ai.onnx.ml.ZipMap" in facts.operators
                else ""
            )
            yield f"Output {item.name!r} is a {item.kind}; only tensors can be compared.{remedy}"
    if facts.file_bytes + facts.weight_bytes > 2 * MAX_FILE_BYTES:
        yield f"{facts.weight_bytes:,} bytes of weights do not fit one ONNX file."


def _check_memory(facts: GraphFacts, recipe: Recipe) -> Iterator[str]:
    needed = (
        BASE_MEMORY_BYTES
        + COPIES_OF_WEIGHTS * facts.weight_bytes
        + COPIES_OF_ACTIVATION * facts.largest_activation_bytes
    )
    if needed > recipe.limits.memory_bytes:
        yield (
            f"About {needed:,} bytes are needed ({facts.weight_bytes:,} of weights, "
            f"{facts.largest_activation_bytes:,} in the largest tensor), but "
            f"limits.memory_bytes is {recipe.limits.memory_bytes:,}."
        )


def _list_warnings(facts: GraphFacts, recipe: Recipe) -> Iterator[str]:
    is_reached = any(PASSES[step.name].reaches_branches for step in recipe.passes)
    if facts.inner_weights and not is_reached:
        yield (
            f"{facts.inner_weights} weights inside {', '.join(facts.control_flow)} stay as they "
            "are."
        )
    for step in recipe.passes:
        declared = PASSES[step.name]
        rest = sorted(set(facts.weighted) - (declared.targets or frozenset()))
        if declared.is_last and rest:
            yield f"{step.name} leaves the weights of {', '.join(rest)} as they are."

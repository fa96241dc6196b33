"""Running a model that nobody has vouched for: a session, a call, and what its errors mean."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import onnxruntime

from registry.validation.rules import RuleError

Session: TypeAlias = onnxruntime.InferenceSession

# What ONNX Runtime says, and what a person can do about it; the first that is found counts.
_ADVICE: tuple[tuple[str, str], ...] = (
    (
        r"Invalid rank for input: (\S+) Got: (\d+) Expected: (\d+)",
        r"the input {1} has {3} dimensions in the graph and was given {2}: export it with the "
        "batch as a dimension of its own, or name the batch's axis in `outputs.input_batch_axes`",
    ),
    (
        r"Got invalid dimensions for input: (\S+) .*?index: (\d+) Got: (\d+) Expected: (\d+)",
        "the input {1} wants {4} on axis {2} and was given {3}: bring data of that shape, or "
        "export the model with that dimension free",
    ),
    (
        r"Required inputs \((.*?)\) are missing",
        "it needs the inputs {1} too: put an array of each name into the data set",
    ),
    (
        r"Unexpected input data type.*?Actual: \((.*?)\).*?expected: \((.*?)\)",
        "an input is {2} in the graph and was given {1}: save the data set in that type",
    ),
    (
        r"Could not find an implementation for (\w+)\((\d+)\)",
        "this runtime has no {1} of opset {2} for these types: export with another opset, or in "
        "float32",
    ),
    (
        r"[Ff]ailed to allocate|bad_alloc|not enough memory|Bad allocation",
        "it ran out of memory: bring rows of the size that devices see, or a smaller model",
    ),
    (
        r"indices element out of data bounds|idx=(-?\d+) must be within",
        "an index lies outside of a table: token ids must be below the size of the vocabulary",
    ),
    (
        r"(?:is not a registered function/op|No Op registered for) ?(\w+)?",
        "it has an operator that this runtime does not know: export with operators of ONNX alone",
    ),
    (
        r"[Ff]ailed to construct locale",
        "it changes the case of texts by a locale that this machine lacks: have the texts in lower "
        "case before the model, and export without it",
    ),
    (
        r"Unknown Category and zeros = 0",
        "an encoder meets a text that it was not trained on: bring such rows as it knows, or "
        "export it so that it ignores others (handle_unknown='ignore')",
    ),
    (
        r"Invalid input name: (\S+)",
        "the graph has no input {1}: arrays are named as the inputs are",
    ),
    (
        r"input_shape_size == size|cannot be reshaped to the requested shape",
        "a shape inside the graph is fixed to another number of rows: export it with a free batch "
        "dimension, or bring data of the shape that it was exported with",
    ),
    (
        r"Non-zero status code returned while running (\w+) node. Name:'([^']*)'",
        "the operator {1} ({2}) refuses what reaches it: run the model on one row of this data "
        "where it was exported",
    ),
)
SAID_CHARACTERS = 400


def open_session(path: Path) -> Session:
    """An ONNX Runtime session on the CPU with one thread and no custom operators."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return Session(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # every class of its binding derives from Exception alone
        raise RuleError(f"ONNX Runtime does not load the model: {explain(str(error))}") from error


def run_feed(session: Session, names: Sequence[str], feed: dict[str, Any]) -> list[Any]:
    """The outputs `names` for one call. Raises RuleError with what could be done about it."""
    try:
        return list(session.run(list(names), feed))
    except Exception as error:  # as above
        raise RuleError(f"The model does not run on these inputs: {explain(str(error))}") from error


def explain(said: str) -> str:
    """ONNX Runtime's words, after what they mean where that is known."""
    said = said.strip()
    for pattern, advice in _ADVICE:
        found = re.search(pattern, said, re.DOTALL)
        if found:
            parts = [found.group(0), *(part or "" for part in found.groups())]
            return f"{advice.format(*parts)}. ONNX Runtime said: {said[:SAID_CHARACTERS]}"
    return said[: 2 * SAID_CHARACTERS]

"""The last thing done to a model whose weights were stored smaller."""

from pathlib import Path

import onnx

from compression.engine.graph.compaction import compact_model
from compression.engine.graph.names import name_nodes
from compression.engine.graph.order import sort_nodes
from compression.engine.graph.structure import strip_metadata


def finish_model(model: onnx.ModelProto, path: Path) -> None:
    """Writes a valid model without metadata, compact, each node with a name of its own."""
    name_nodes(model)
    sort_nodes(model.graph)
    compact_model(strip_metadata(model))
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def finish_file(path: Path) -> None:
    """The same to a file, in place."""
    finish_model(onnx.load(str(path)), path)

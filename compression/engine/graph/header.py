"""What stands around a graph: metadata and the imported sets of operators. Pure but for files."""

from pathlib import Path

import onnx

from compression.engine.graph.order import inner_graphs


def keep_header(source: Path, destination: Path) -> None:
    """Gives the file the metadata of the source, and imports of what it or the source uses.

    Runtimes and applications read class names and strides from the metadata; quantizers add keys
    of their own and import sets of operators that no node uses. The version of a set is the
    file's own, since a pass may raise it.
    """
    like = onnx.load(str(source), load_external_data=False)
    model = onnx.load(str(destination))
    before = model.SerializeToString(deterministic=True)
    del model.metadata_props[:]
    model.metadata_props.extend(like.metadata_props)
    wanted = {_domain(item) for item in like.opset_import} | _used_domains(model)
    imports = [item for item in model.opset_import if _domain(item) in wanted]
    have = {_domain(item) for item in imports}
    imports += [item for item in like.opset_import if _domain(item) not in have]
    del model.opset_import[:]
    model.opset_import.extend(imports)
    if model.SerializeToString(deterministic=True) != before:
        onnx.save(model, str(destination))


def _used_domains(model: onnx.ModelProto) -> set[str]:
    found = {""}
    waiting = [*model.graph.node, *(node for item in model.functions for node in item.node)]
    while waiting:
        node = waiting.pop()
        found.add(_domain(node))
        for inner in inner_graphs(node):
            waiting += inner.node
    return found


def _domain(item: onnx.OperatorSetIdProto | onnx.NodeProto) -> str:
    # Both are names of ONNX's own operators.
    return "" if item.domain == "ai.onnx" else str(item.domain)

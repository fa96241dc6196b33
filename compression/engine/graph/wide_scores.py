"""Products whose INT8 result is only turned back into FP32 give it in FP32 at once. Pure.

QGemm without a scale for its result gives FP32, as its sums are. The last layer of a classifier is
such a product: one node less, and scores that were never rounded to 8 bits.
"""

import onnx

_RESULT_SCALE = 7
_RESULT_ZERO_POINT = 8


def leave_scores_wide(graph: onnx.GraphProto) -> None:
    """Joins each QGemm with the DequantizeLinear that alone reads it, in place."""
    uses: dict[str, int] = {item.name: 1 for item in graph.output}
    for node in graph.node:
        for name in node.input:
            uses[name] = uses.get(name, 0) + 1
    products = {
        node.output[0]: node
        for node in graph.node
        if node.op_type == "QGemm" and len(node.input) > _RESULT_ZERO_POINT
    }
    joined = []
    for node in graph.node:
        product = products.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
        if product is None or uses[product.output[0]] != 1:
            continue
        if list(node.input[1:]) == list(product.input[_RESULT_SCALE:]):
            del product.input[_RESULT_SCALE:]
            product.output[0] = node.output[0]
            joined.append(node)
    for node in joined:
        graph.node.remove(node)
    _drop_unread(graph)


def _drop_unread(graph: onnx.GraphProto) -> None:
    read = {item.name for item in [*graph.input, *graph.output]}
    read.update(name for node in graph.node for name in node.input)
    for tensor in [item for item in graph.initializer if item.name not in read]:
        graph.initializer.remove(tensor)

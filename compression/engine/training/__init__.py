"""Training inside an ONNX graph: the graph runs in JAX or PyTorch and gets its weights back.

Only `requirement` and `catalogue` may be imported where neither is installed.
"""

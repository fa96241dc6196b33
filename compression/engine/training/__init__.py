"""Training inside an ONNX graph: the graph runs in PyTorch and gets its trained weights back.

Only `requirement` and `catalogue` may be imported where PyTorch is not installed.
"""

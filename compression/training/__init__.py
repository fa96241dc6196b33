"""Training inside an ONNX graph: the graph runs in PyTorch and gets its trained weights back.

Only `requirement` may be imported where PyTorch is not installed.
"""

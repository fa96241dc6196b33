"""Views of an ONNX graph and edits of it that more than one pass needs."""

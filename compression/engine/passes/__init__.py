"""The passes: plain functions that read one ONNX file and write another."""

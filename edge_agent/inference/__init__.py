"""One loaded release: sessions of ONNX Runtime, their providers, and what comes out."""

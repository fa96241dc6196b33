"""What INT8 kernels of other processors compute."""

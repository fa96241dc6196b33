"""What INT8 kernels of other processors than this one compute."""

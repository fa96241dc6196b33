"""How to install what some passes need."""

TORCH_INSTALL = (
    'Install the distillation extra on the compression workers: pip install "torch>=2.4" '
    "(the CPU build is enough)."
)

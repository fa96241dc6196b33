"""Passes that train. They need PyTorch, which Aviary does not install by itself."""

import importlib.util

from compression.exceptions import ModelUnsupportedError, TorchMissingError
from compression.passes.context import PassContext, PassResult
from compression.passes.install import TORCH_INSTALL


def require_torch(name: str) -> None:
    """Refuses with how to install PyTorch where it is missing."""
    if importlib.util.find_spec("torch") is None:
        raise TorchMissingError(f"{name} needs PyTorch, which is not installed. {TORCH_INSTALL}")


def finetune_kd(context: PassContext) -> PassResult:
    """Knowledge-distillation fine-tuning on the same graph."""
    require_torch("finetune.kd")
    raise ModelUnsupportedError("finetune.kd is not part of this release.")


def distill_student(context: PassContext) -> PassResult:
    """A small student trained on the teacher's logits."""
    require_torch("distill.student")
    raise ModelUnsupportedError("distill.student is not part of this release.")

"""The passes that train. PyTorch is imported when one of them runs, and only then."""

from compression.engine.passes.context import PassContext, PassResult
from compression.engine.training.requirement import check_torch


def finetune(context: PassContext) -> PassResult:
    """The same graph, trained further with the job's original as teacher.

    Raises:
        TrainingUnavailableError: PyTorch is not installed.
    """
    check_torch(["finetune.kd"])
    from compression.engine.training.finetune import finetune_graph

    return finetune_graph(context)


def distill(context: PassContext) -> PassResult:
    """A small student of the job's original.

    Raises:
        TrainingUnavailableError: PyTorch is not installed.
    """
    check_torch(["distill.student"])
    from compression.engine.training.distillation import distill_student

    return distill_student(context)

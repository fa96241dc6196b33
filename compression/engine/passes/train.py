"""The passes that train. What they train with is imported when one runs, and only then."""

from compression.engine.passes.context import PassContext, PassResult
from compression.engine.training.requirement import check_engine


def finetune(context: PassContext) -> PassResult:
    """The same graph, trained further with the job's original as teacher.

    Raises:
        TrainingUnavailableError: neither JAX nor PyTorch is installed.
    """
    check_engine(["finetune.kd"])
    from compression.engine.training.finetune import finetune_graph

    return finetune_graph(context)


def distill(context: PassContext) -> PassResult:
    """A small student of the job's original.

    Raises:
        TrainingUnavailableError: neither JAX nor PyTorch is installed.
    """
    check_engine(["distill.student"])
    from compression.engine.training.distillation import distill_student

    return distill_student(context)

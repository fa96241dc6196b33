"""`finetune.kd`: the graph learns again what compressing it has cost."""

import onnx

from compression.engine.passes.context import PassContext, PassResult
from compression.engine.training.course import check_parity, hold_contest, make_lesson
from compression.engine.training.executor import GraphExecutor
from compression.engine.training.loop import score_executor


def finetune_graph(context: PassContext) -> PassResult:
    """The source with the best weights found: as they were, distilled, or the control's."""
    model = onnx.load(str(context.source))
    executor = GraphExecutor(model)
    lesson = make_lesson(context)
    check_parity(executor, model, lesson)
    before = score_executor(executor, lesson)
    contest = hold_contest(executor, lesson, context)
    best = contest.runs[contest.winner]
    kept = contest.winner if best.score.rank > before.rank else "before"
    if kept != "before":
        executor.restore(best.values)
        model = executor.write_back()
        onnx.checker.check_model(model)
    onnx.save(model, str(context.destination))
    return PassResult(
        facts={
            "kept": kept,
            "steps": contest.steps,
            "held_out": {"before": before.to_json(), **contest.to_json()},
            "rows": {"train": len(lesson.train), "held_out": len(lesson.held_out)},
            "trained_tensors": len(executor.parameters),
        }
    )

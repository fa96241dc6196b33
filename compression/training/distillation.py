"""`distill.student`: a small model learns the answers of the large one."""

import onnx

from compression.exceptions import ModelUnsupportedError
from compression.passes.context import PassContext, PassResult
from compression.passes.prepare import prepare_file
from compression.training.course import hold_contest, make_lesson
from compression.training.executor import GraphExecutor
from compression.training.score import score_answers
from compression.training.student import build_student, choose_width, read_signature


def distill_student(context: PassContext) -> PassResult:
    """A student with the signature of the model the job started from, batch norms folded."""
    original = onnx.load(str(context.original))
    # The shape is looked at before the teacher spends time on the rows.
    read_signature(original, classes=0)
    if not context.scoring.is_classifier:
        raise ModelUnsupportedError("distill.student takes the place of classifiers alone.")
    lesson = make_lesson(context)
    signature = read_signature(original, lesson.classes)
    is_separable = context.parameters["blocks"] == "separable"
    width = context.parameters["width"] or choose_width(
        original, signature, is_separable=is_separable
    )
    student = build_student(
        signature,
        width=width,
        is_separable=is_separable,
        is_probability=lesson.is_probability,
        seed=context.seed,
    )

    def make_executor() -> GraphExecutor:
        return GraphExecutor(student, follows_batch=True)

    contest = hold_contest(make_executor, lesson, context)
    executor = make_executor()
    executor.restore(contest.runs[contest.winner].values)
    trained = context.scratch / "student.onnx"
    onnx.save(executor.write_back(), str(trained))
    prepare_file(trained, context.destination)
    teacher = score_answers(
        lesson.teacher_held_out, lesson.teacher_held_out, lesson.held_out.labels
    )
    return PassResult(
        facts={
            "kept": contest.winner,
            "width": width,
            "held_out": {"teacher": teacher.to_json(), **contest.to_json()},
            "rows": {"train": len(lesson.train), "held_out": len(lesson.held_out)},
        }
    )

"""`distill.student`: a small model learns the answers of the large one."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import onnx

from compression.engine.passes.context import PassContext, PassResult
from compression.engine.passes.prepare import prepare_file
from compression.engine.training.course import check_parity, hold_contest, make_lesson
from compression.engine.training.executor import GraphExecutor, check_operators
from compression.engine.training.lesson import Lesson
from compression.engine.training.loop import score_executor
from compression.engine.training.pruned import cut_student
from compression.engine.training.score import score_answers
from compression.engine.training.student import build_student, choose_width, read_signature
from compression.exceptions import ModelUnsupportedError

# Weights that answer already are moved in smaller steps than random ones.
LEARNING_RATES = {"full": 8e-3, "separable": 8e-3, "pruned": 2e-3}


@dataclass(frozen=True)
class Beginning:
    """A student before training.

    `is_random` is False where its weights are worth keeping should training make nothing better.
    """

    model: onnx.ModelProto
    is_random: bool
    facts: dict[str, Any] = field(default_factory=dict)

    def make_executor(self) -> GraphExecutor:
        """The student as it begins; new batch norms learn their statistics."""
        return GraphExecutor(self.model, follows_batch=self.is_random)


def distill_student(context: PassContext) -> PassResult:
    """A student with the signature of the model the job started from, batch norms folded."""
    parameters = context.parameters
    begin = BEGINNINGS[parameters["blocks"]]
    if parameters["learning_rate"] is None:
        rate = LEARNING_RATES[parameters["blocks"]]
        context = replace(context, parameters={**parameters, "learning_rate": rate})
    beginning, lesson = begin(context)
    executor = beginning.make_executor()
    contest = hold_contest(executor, lesson, context)
    best = contest.runs[contest.winner]
    kept, held_out = contest.winner, contest.to_json()
    if not beginning.is_random:
        before = score_executor(executor, lesson)
        held_out = {"before": before.to_json(), **held_out}
        kept = kept if best.score.rank > before.rank else "before"
    if kept != "before":
        executor.restore(best.values)
    trained = context.scratch / "student.onnx"
    onnx.save(executor.write_back(), str(trained))
    prepare_file(trained, context.destination)
    teacher = score_answers(
        lesson.teacher_held_out,
        lesson.teacher_held_out,
        lesson.held_out.labels,
        is_classifier=lesson.is_classifier,
    )
    return PassResult(
        facts={
            "kept": kept,
            "steps": contest.steps,
            **beginning.facts,
            "held_out": {"teacher": teacher.to_json(), **held_out},
            "rows": {"train": len(lesson.train), "held_out": len(lesson.held_out)},
        }
    )


def _build_plain(context: PassContext) -> tuple[Beginning, Lesson]:
    """Blocks of their own with random weights, for image classifiers."""
    parameters = context.parameters
    original = onnx.load(str(context.original))
    # The shape is looked at before the teacher spends time on the rows.
    read_signature(original, classes=0)
    if not context.scoring.is_classifier:
        raise ModelUnsupportedError(
            "distill.student takes the place of classifiers alone, unless its blocks are pruned."
        )
    lesson = make_lesson(context)
    signature = read_signature(original, lesson.classes)
    is_separable = parameters["blocks"] == "separable"
    width = parameters["width"] or choose_width(
        original, signature, ratio=parameters["ratio"], is_separable=is_separable
    )
    student = build_student(
        signature,
        width=width,
        is_separable=is_separable,
        is_probability=lesson.is_probability,
        seed=context.seed,
    )
    return Beginning(student, True, {"width": width}), lesson


def _cut_from_source(context: PassContext) -> tuple[Beginning, Lesson]:
    """The pass's own source with fewer channels, for whatever can be pruned and trained."""
    source = onnx.load(str(context.source))
    check_operators(source)
    lesson = make_lesson(context)
    student, facts = cut_student(context, lesson.train, context.parameters["ratio"])
    beginning = Beginning(student, False, {"pruned": facts})
    check_parity(beginning.make_executor(), student, lesson)
    return beginning, lesson


BEGINNINGS: dict[str, Callable[[PassContext], tuple[Beginning, Lesson]]] = {
    "full": _build_plain,
    "separable": _build_plain,
    "pruned": _cut_from_source,
}

"""A pass that trains: the distilled model, its control, and which of them is kept."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx

from compression.engine.passes.context import PassContext
from compression.engine.training.engines import load_engine
from compression.engine.training.executor import GraphExecutor
from compression.engine.training.lesson import Lesson, Variation
from compression.engine.training.loop import Settings, Trained, Trainer, answer
from compression.exceptions import DataSetUnusableError, ModelUnsupportedError
from compression.measure.sessions import open_session, run_samples

PARITY_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Contest:
    """The runs by name, `distilled` and, with labels, the `control` without a teacher.

    `steps` is how many were planned for each.
    """

    runs: dict[str, Trained]
    steps: int

    @property
    def winner(self) -> str:
        """The name of the run with the best score; the distilled one on a tie."""
        return max(self.runs, key=lambda name: self.runs[name].score.rank)

    def to_json(self) -> dict[str, Any]:
        """Score, steps and ending of every run."""
        return {
            name: {**run.score.to_json(), "steps": run.steps, "ending": run.ending}
            for name, run in self.runs.items()
        }


def make_lesson(context: PassContext) -> Lesson:
    """The calibration rows with the scores of the model the job started from."""
    load_engine().configure(context.threads)
    if context.calibration is None:
        raise DataSetUnusableError("Training needs calibration samples.")
    parameters = context.parameters
    return Lesson(
        context.calibration,
        open_session(context.original, threads=context.threads),
        scoring=context.scoring,
        variation=Variation(parameters["noise"], parameters["shift"], parameters["mixup"]),
        seed=context.seed,
    )


def hold_contest(executor: GraphExecutor, lesson: Lesson, context: PassContext) -> Contest:
    """Trains with the teacher and, where there are labels, once more without it.

    Both start from the same weights, see the same batches and have the same number of steps: what
    differs is the teacher's worth. The executor has the weights it came with afterwards.
    """
    parameters = context.parameters
    trainer = Trainer(executor, lesson, temperature=parameters["temperature"])
    settings = Settings(
        steps=parameters["steps"],
        batch=parameters["batch"],
        learning_rate=parameters["learning_rate"],
        alpha=parameters["alpha"],
        seconds=parameters["seconds"] / (2 if lesson.has_labels else 1),
        seed=context.seed,
    )
    settings = replace(settings, steps=trainer.plan_steps(settings))
    plans = {"distilled": settings}
    if lesson.has_labels:
        plans["control"] = replace(settings, alpha=0.0)
    total = settings.steps * len(plans)
    runs: dict[str, Trained] = {}
    for name, plan in plans.items():
        before = settings.steps * len(runs)

        def report(step: int, before: int = before) -> None:
            context.report_progress(before + step, total)

        runs[name] = trainer.train(plan, report)
    trainer.restart()
    return Contest(runs, settings.steps)


def check_parity(executor: GraphExecutor, model: onnx.ModelProto, lesson: Lesson) -> None:
    """Refuses to train a graph that the engine computes otherwise than ONNX Runtime does.

    The held-out rows are compared, which have to be computed anyway.

    Raises:
        ModelUnsupportedError: with the largest difference, or why the graph did not run at all.
    """
    rows = lesson.held_out
    session = open_session(model.SerializeToString(), is_optimized=False)
    parts = run_samples(session, rows, lesson.outputs)
    expected = np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)
    try:
        found = answer(executor, rows, lesson.outputs)
    except (RuntimeError, IndexError, ValueError, TypeError) as error:
        raise ModelUnsupportedError(
            f"The graph does not run with a batch of {len(rows)}: {error}"
        ) from error
    scale = max(1.0, float(np.abs(expected).max()))
    difference = float(np.abs(found - expected).max()) if found.shape == expected.shape else np.inf
    if not difference <= PARITY_TOLERANCE * scale:
        raise ModelUnsupportedError(
            f"{executor.engine.title} and ONNX Runtime differ on this graph by {difference:.3g}, "
            f"expected at most {PARITY_TOLERANCE * scale:.3g}."
        )

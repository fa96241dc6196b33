"""The training loop: as many steps as there is time for, the best state on held-out rows kept."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compression.engine.training.engines import Array
from compression.engine.training.executor import GraphExecutor
from compression.engine.training.lesson import Batch, Lesson
from compression.engine.training.loss import Loss
from compression.engine.training.optimizer import (
    SECOND_MOMENT,
    clip_gradient,
    move,
    set_pace,
)
from compression.engine.training.score import Score, score_answers
from compression.measure.samples import Samples

CHECKS = 10
# Of the time there is; the rest is for judging, and for a machine that gets busier.
PLANNED_SHARE = 0.9
_ROWS = 256


@dataclass(frozen=True)
class Settings:
    """How one model is trained.

    Attributes:
        steps: updates of the weights.
        seconds: training stops after this time, whatever was planned.
        alpha: the teacher's part in the loss; 0 is the labels alone.
    """

    steps: int
    batch: int
    learning_rate: float
    alpha: float
    seconds: float
    seed: int


@dataclass(frozen=True)
class Trained:
    """The best state met, its score on held-out rows, and how training ended.

    `ending` is `steps`, `seconds` or `non_finite`.
    """

    values: dict[str, NDArray]
    score: Score
    steps: int
    ending: str


class Trainer:
    """A graph and its loss, compiled once for all runs that train it."""

    def __init__(self, executor: GraphExecutor, lesson: Lesson, *, temperature: float) -> None:
        """Compiles nothing yet: the first step does.

        Args:
            executor: with its weights as they are to start from; every run changes them.
            lesson: rows and teacher.
            temperature: of the teacher's part in the loss.
        """
        self.executor = executor
        self.lesson = lesson
        self._start = executor.snapshot()
        self._loss = Loss(lesson.is_classifier, lesson.is_probability, temperature, lesson.scale)
        # What no learned output depends on stays as it is, weight decay included.
        leading = executor.list_leading_to(lesson.outputs)
        self._learned = [name for name in executor.parameters if name in leading]
        self._slopes = executor.engine.differentiate(self._measure)
        self._step = executor.engine.compile(self._step_plainly)

    def plan_steps(self, settings: Settings) -> int:
        """The wanted steps, or as many as the seconds allow at the pace of one step.

        A rate that is still high when time is up leaves a worse model than fewer steps would have.
        """
        batches = self.lesson.batches(settings.batch, settings.seed)
        state, seconds = self._begin(), []
        # The first step is slower than all others: it compiles, or chooses kernels.
        for number in (1, 2):
            started = monotonic()
            state, loss, _ = self._advance(state, next(batches), settings, number)
            float(loss)
            seconds.append(monotonic() - started)
        first, second = seconds
        left = PLANNED_SHARE * settings.seconds - max(first - second, 0.0)
        return max(1, min(settings.steps, int(left / max(second, 1e-6))))

    def train(self, settings: Settings, report: Callable[[int], None]) -> Trained:
        """Trains from the start and returns the best state met.

        The state is judged ten times on the held-out rows. A loss that is not finite ends training.

        Args:
            settings: budget and loss.
            report: called with the number of steps done.
        """
        state = self._begin()
        batches = self.lesson.batches(settings.batch, settings.seed)
        best: Trained | None = None
        every = max(1, settings.steps // CHECKS)
        deadline = monotonic() + settings.seconds
        step, ending = 0, "steps"
        while step < settings.steps and ending == "steps":
            moved, loss, norm = self._advance(state, next(batches), settings, step + 1)
            if not math.isfinite(float(loss)) or not math.isfinite(float(norm)):
                ending = "non_finite"
                break
            state = moved
            step += 1
            report(step)
            if monotonic() >= deadline and step < settings.steps:
                ending = "seconds"
            if step % every == 0 or step == settings.steps or ending != "steps":
                self._store(state)
                score = score_executor(self.executor, self.lesson)
                if best is None or score.rank >= best.score.rank:
                    best = Trained(self.executor.snapshot(), score, step, "steps")
        if best is None:
            self._store(state)
            score = score_executor(self.executor, self.lesson)
            best = Trained(self.executor.snapshot(), score, step, ending)
        return Trained(best.values, best.score, step, ending)

    def restart(self) -> None:
        """Gives the executor the weights it came with."""
        self.executor.restore(self._start)

    def _begin(self) -> dict[str, Any]:
        self.restart()
        executor = self.executor
        learned = {name: executor.parameters[name] for name in self._learned}
        nothing = executor.engine.xp.zeros_like(self._join(learned))
        return {
            "learned": learned,
            "statistics": dict(executor.statistics),
            "moments": (nothing, nothing),
        }

    def _store(self, state: dict[str, Any]) -> None:
        self.executor.parameters.update(state["learned"])
        self.executor.statistics.update(state["statistics"])

    def _advance(
        self, state: dict[str, Any], batch: Batch, settings: Settings, number: int
    ) -> tuple[dict[str, Any], Array, Array]:
        pace = set_pace(number, settings.steps, settings.learning_rate)
        shares = (1.0 - pace.momentum**number, 1.0 - SECOND_MOMENT**number)
        convert = self.executor.engine.to_array
        arrays: dict[str, Any] = {
            "feeds": {name: convert(value) for name, value in batch.feeds.items()},
            "teacher": convert(batch.teacher),
        }
        if batch.labels is not None:
            arrays["labels"] = convert(batch.labels)
        numbers = (pace.rate, pace.momentum, *shares)
        fixed = {
            name: value
            for name, value in self.executor.weights.items()
            if name not in state["learned"] and name not in state["statistics"]
        }
        return self._step(state, fixed, arrays, settings.alpha, numbers)

    def _step_plainly(
        self,
        state: dict[str, Any],
        fixed: dict[str, Array],
        batch: dict[str, Any],
        alpha: Array,
        pace: tuple[Array, Array, Array, Array],
    ) -> tuple[dict[str, Any], Array, Array]:
        """The state after one step, the loss before it, and the length of its gradient."""
        engine = self.executor.engine
        rest = {**fixed, **state["statistics"]}
        (loss, statistics), gradients = self._slopes(state["learned"], rest, batch, alpha)
        # One row for all: a hundred small programs take long to compile.
        gradient, norm = clip_gradient(engine, self._join(gradients))
        row, moments = move(engine, self._join(state["learned"]), gradient, state["moments"], pace)
        learned = self._split(row)
        return {"learned": learned, "statistics": statistics, "moments": moments}, loss, norm

    def _join(self, values: dict[str, Array]) -> Array:
        """Arrays by name in one row."""
        rows = [values[name].reshape((-1,)) for name in self._learned]
        return self.executor.engine.xp.concat(rows, axis=0)

    def _split(self, row: Array) -> dict[str, Array]:
        """What `_join` has joined."""
        values, start = {}, 0
        for name in self._learned:
            shape = self._start[name].shape
            end = start + math.prod(shape)
            values[name] = row[start:end].reshape(shape)
            start = end
        return values

    def _measure(
        self,
        learned: dict[str, Array],
        rest: dict[str, Array],
        batch: dict[str, Any],
        alpha: Array,
    ) -> tuple[Array, dict[str, Array]]:
        executor = self.executor
        outputs, statistics = executor.compute(
            {**rest, **learned}, batch["feeds"], is_training=True
        )
        answers = [outputs[name] for name in self.lesson.outputs]
        flat = [answer.reshape((len(answer), -1)) for answer in answers]
        joined = executor.engine.xp.concat(flat, axis=1)
        labels = batch.get("labels")
        loss = self._loss.measure(executor.engine, joined, batch["teacher"], labels, alpha)
        return loss, statistics


def score_executor(executor: GraphExecutor, lesson: Lesson) -> Score:
    """The present weights on the held-out rows."""
    return score_answers(
        lesson.teacher_held_out,
        answer(executor, lesson.held_out, lesson.outputs),
        lesson.held_out.labels,
        is_classifier=lesson.is_classifier,
    )


def answer(executor: GraphExecutor, samples: Samples, outputs: list[str]) -> NDArray[np.float32]:
    """The named outputs side by side, [N, K], without training anything."""
    size = min(_ROWS, len(samples))
    parts = []
    for start in range(0, len(samples), size):
        rows = min(size, len(samples) - start)
        # One shape for all, for each is compiled for itself; what is repeated is dropped again.
        whole = samples.rows.feed(start, size)
        values = dict(zip(executor.outputs, executor.run(whole), strict=True))
        parts.append(
            np.concatenate([values[name].reshape(size, -1)[:rows] for name in outputs], axis=1)
        )
    return np.concatenate(parts)

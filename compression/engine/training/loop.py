"""The training loop: AdamW with a one-cycle rate, the best state on held-out rows kept."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from compression.engine.training.executor import GraphExecutor
from compression.engine.training.lesson import Batch, Lesson
from compression.engine.training.score import Score, score_answers
from compression.measure.samples import Samples

CLIP_NORM = 1.0
WEIGHT_DECAY = 1e-4
WARM_UP_SHARE = 0.1
CHECKS = 10
# Of the time there is; the rest is for judging, and for a machine that gets busier.
PLANNED_SHARE = 0.9
_ROWS = 256
_SMALLEST_PROBABILITY = 1e-7


@dataclass(frozen=True)
class Settings:
    """How one model is trained.

    Attributes:
        steps: updates of the weights.
        seconds: training stops after this time, whatever was planned.
        temperature, alpha: of the teacher's part in the loss; alpha 0 is the labels alone.
    """

    steps: int
    batch: int
    learning_rate: float
    temperature: float
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


def configure_torch(threads: int) -> None:
    """Fixed threads and deterministic kernels, for the same bytes in every run."""
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)


def plan_steps(executor: GraphExecutor, lesson: Lesson, settings: Settings) -> int:
    """The wanted steps, or as many as the seconds allow at the pace of one step.

    A rate that is still high when time is up leaves a worse model than fewer steps would have.

    Args:
        executor: to be thrown away; nothing is learned, but batch norms take in two batches.
    """
    batches = lesson.batches(settings.batch, settings.seed)
    seconds = 0.0
    # The first step is slower than all others: PyTorch chooses its kernels.
    for _ in range(2):
        started = time.monotonic()
        measure_loss(executor, next(batches), settings, lesson).backward()
        seconds = time.monotonic() - started
    allowed = PLANNED_SHARE * settings.seconds / max(seconds, 1e-6)
    return max(1, min(settings.steps, int(allowed)))


def train(
    executor: GraphExecutor,
    lesson: Lesson,
    settings: Settings,
    report: Callable[[int], None],
) -> Trained:
    """Trains the executor's graph in place and returns the best state met.

    The state is judged ten times on the held-out rows. A loss that is not finite ends training.

    Args:
        executor: with its weights as they are to start from.
        lesson: rows and teacher.
        settings: budget and loss.
        report: called with the number of steps done.
    """
    parameters = list(executor.parameters.values())
    optimizer = torch.optim.AdamW(
        parameters, settings.learning_rate, weight_decay=WEIGHT_DECAY, fused=True
    )
    # One cycle (Smith 2018): a short rise, then a long fall to nearly nothing. The rise takes a
    # step at least: PyTorch divides by its length.
    total = settings.steps + 1
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        settings.learning_rate,
        total_steps=total,
        pct_start=min(max(WARM_UP_SHARE, 2 / total), 1.0),
    )
    batches = lesson.batches(settings.batch, settings.seed)
    best: Trained | None = None
    every = max(1, settings.steps // CHECKS)
    deadline = time.monotonic() + settings.seconds
    step, ending = 0, "steps"
    while step < settings.steps and ending == "steps":
        loss = measure_loss(executor, next(batches), settings, lesson)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, CLIP_NORM)
        if not math.isfinite(loss.item()) or not math.isfinite(norm.item()):
            ending = "non_finite"
            break
        optimizer.step()
        schedule.step()
        step += 1
        report(step)
        if time.monotonic() >= deadline and step < settings.steps:
            ending = "seconds"
        if step % every == 0 or step == settings.steps or ending != "steps":
            score = score_executor(executor, lesson)
            if best is None or score.rank >= best.score.rank:
                best = Trained(executor.snapshot(), score, step, "steps")
    if best is None:
        best = Trained(executor.snapshot(), score_executor(executor, lesson), step, ending)
    executor.restore(best.values)
    return Trained(best.values, best.score, step, ending)


def measure_loss(
    executor: GraphExecutor, batch: Batch, settings: Settings, lesson: Lesson
) -> Tensor:
    """Alpha parts of the teacher's divergence at the temperature, the rest the labels' (Hinton,
    Vinyals and Dean 2015): a T^2 KL(teacher/T, student/T) + (1 - a) cross-entropy.

    Without labels the teacher's part is all. Where the answers are no scores of classes, it is the
    mean squared distance, each column in its own scale.
    """
    answers = join_outputs(executor, batch.feeds, lesson.outputs, is_training=True)
    if not lesson.is_classifier:
        distance = answers - torch.from_numpy(batch.teacher)
        return (distance / torch.from_numpy(lesson.scale)).square().mean()
    scores = to_logits(answers, lesson.is_probability)
    alpha = 1.0 if batch.labels is None else settings.alpha
    loss = scores.new_zeros(())
    if alpha > 0.0:
        teacher = to_logits(torch.from_numpy(batch.teacher), lesson.is_probability)
        heat = settings.temperature
        divergence = F.kl_div(
            F.log_softmax(scores / heat, 1),
            F.log_softmax(teacher / heat, 1),
            reduction="batchmean",
            log_target=True,
        )
        loss = loss + alpha * heat**2 * divergence
    if alpha < 1.0 and batch.labels is not None:
        loss = loss + (1.0 - alpha) * F.cross_entropy(scores, torch.from_numpy(batch.labels))
    return loss


def to_logits(scores: Tensor, is_probability: bool) -> Tensor:
    """Scores before the softmax: the logarithm where they are behind it."""
    return scores.clamp_min(_SMALLEST_PROBABILITY).log() if is_probability else scores


def score_executor(executor: GraphExecutor, lesson: Lesson) -> Score:
    """The present weights on the held-out rows."""
    answers = answer(executor, lesson.held_out, lesson.outputs)
    return score_answers(
        lesson.teacher_held_out,
        answers,
        lesson.held_out.labels,
        is_classifier=lesson.is_classifier,
    )


def answer(executor: GraphExecutor, samples: Samples, outputs: list[str]) -> NDArray[np.float32]:
    """The named outputs side by side, [N, K], without training anything."""
    with torch.no_grad():
        parts = [join_outputs(executor, feed, outputs).numpy() for feed in samples.batches(_ROWS)]
    return np.concatenate(parts)


def join_outputs(
    executor: GraphExecutor,
    feeds: dict[str, NDArray],
    outputs: list[str],
    *,
    is_training: bool = False,
) -> Tensor:
    """The named outputs for inputs by name, each row flat, side by side."""
    tensors = {name: torch.from_numpy(value) for name, value in feeds.items()}
    results = executor.run(tensors, is_training=is_training)
    values = dict(zip(executor.outputs, results, strict=True))
    return torch.cat([values[name].reshape(len(values[name]), -1) for name in outputs], 1)

"""Answers inference requests with whatever release runs; each answer is recorded and counted."""

import logging
import math
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edge_agent.config import Config
from edge_agent.exceptions import InferenceError, InputError, NoModelError
from edge_agent.observation.observe import Observer
from edge_agent.observation.sampling import Sampler
from edge_agent.observation.spool import IMPORTANT, ORDINARY, UNSURE
from edge_agent.observation.spool_writer import SpoolWriter
from edge_agent.serving.adaptive import AdaptiveChooser, Route
from edge_agent.serving.recent import RecentInputs, Traffic
from edge_agent.serving.slots import ModelSlot

if TYPE_CHECKING:
    from edge_agent.inference.result import Array, Result
    from edge_agent.inference.session import Inputs, ModelSession
    from edge_agent.releases.trust import Manifest

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """A result, and the one release that gave it."""

    manifest: "Manifest"
    result: "Result"

    @property
    def label(self) -> str | None:
        """The best class's label, or None where the outputs are no scores."""
        top = self.result.top_k
        return top[0][1] if top else None


class Serving:
    """Serves the models of an agent's slots; safe to use from several threads."""

    def __init__(
        self,
        config: Config,
        slots: dict[str, ModelSlot],
        writer: SpoolWriter,
        observer: Observer,
        sampler: Sampler | None = None,
    ) -> None:
        self.slots = slots
        self.writer = writer
        self.observer = observer
        self.sampler = sampler
        self.unsure_below = config.spool.unsure_below
        self._lock = threading.Lock()
        self._traffic: dict[str, tuple[str, Traffic]] = {}
        self._recent: dict[str, RecentInputs] = {}
        self.expected = frozenset(config.models)
        """Slugs that are configured, whether or not a release of theirs has come yet."""
        self.pair = config.adaptive
        self.chooser = AdaptiveChooser(config.adaptive) if config.adaptive.large else None
        self._measured: dict[Route, str] = {}

    def infer(self, inputs: "Inputs", *, model: str = "", checks_inputs: bool = False) -> Answer:
        """The answer of `model`'s current release to one sample.

        Args:
            inputs: the preprocessed tensor of the first input, or one per input name, with the
                batch axis.
            model: a slug or the adaptive pair's name; empty takes the pair, else the only model.
            checks_inputs: refuse what the model does not take before it can count against the
                release, as for whoever asks from outside; a source's mismatch is the release's.

        Raises:
            InputError: `inputs` is no tensor, or none that the model takes, or several models run
                and none was named.
            NoModelError: no release of the model runs.
            InferenceError: the runtime failed; counted against the release.
        """
        if self.chooser is not None and model in ("", self.pair.name):
            return self._infer_adaptively(self.chooser, inputs, checks_inputs)
        return self._infer_on(self.find_session(model), inputs, checks_inputs)

    def infer_row(self, row: "dict[str, Array]", *, model: str = "") -> Answer:
        """As `infer` for a row of a data set: arrays by input, or `x`, the row on axis 0."""
        return self.infer(self.find_session(model or self.pair_name).arrange(row), model=model)

    @property
    def pair_name(self) -> str:
        """What requests that name no model mean: the adaptive pair; empty without one."""
        return self.pair.name if self.chooser is not None else ""

    def find_session(self, model: str = "") -> "ModelSession":
        """The running session of `model`; empty takes the only one, a pair's name its large one."""
        if self.chooser is not None and model == self.pair.name:
            slot = self.slots.get(self.pair.large)
            has_large = slot is not None and slot.session is not None
            model = self.pair.large if has_large else self.pair.small
        if model:
            slot = self.slots.get(model)
            if slot is None or slot.session is None:
                refusal = slot.refusal if slot else ""
                raise NoModelError(
                    f"model {model} has no running release{refusal and ': '}{refusal}"
                )
            return slot.session
        running = [slot.session for slot in list(self.slots.values()) if slot.session is not None]
        if not running:
            raise NoModelError("no model has a running release")
        if len(running) > 1:
            names = sorted(session.manifest.model for session in running)
            raise InputError(f"name one of the models {names}")
        return running[0]

    def traffic_of(self, slug: str, digest: str) -> Traffic:
        """What the release `digest` of `slug` has done; zeros before its first inference."""
        with self._lock:
            counted, traffic = self._traffic.get(slug, ("", None))
            if traffic is None or counted != digest:
                return Traffic()
            return Traffic(traffic.inferences, traffic.errors, traffic.non_finite)

    def keep_inputs(self, slug: str) -> None:
        """From now on the inputs of `slug` are kept for `take_inputs`, within limits."""
        self._recent.setdefault(slug, RecentInputs())

    def take_inputs(self, slug: str) -> "Iterator[Inputs]":
        """Inputs that came since, one at a time, the oldest first; each is given once."""
        kept = self._recent.get(slug)
        return kept.take() if kept is not None else iter(())

    def drop_inputs(self, slug: str) -> None:
        self._recent.pop(slug, None)

    def _infer_adaptively(
        self, chooser: AdaptiveChooser, inputs: "Inputs", checks_inputs: bool
    ) -> Answer:
        with self._lock:
            choice = chooser.choose(is_scarce=self.observer.is_scarce)
        other = Route.SMALL if choice is Route.LARGE else Route.LARGE
        try:
            session = self.find_session(self._slug_of(choice))
        except NoModelError:
            choice = other
            session = self.find_session(self._slug_of(choice))
        answer = self._infer_measured(chooser, choice, session, inputs, checks_inputs)
        with self._lock:
            is_unsure = chooser.wants_second_opinion(choice, answer.result.confidence)
        if not is_unsure or self.observer.is_scarce:
            return answer
        try:
            session = self.find_session(self._slug_of(Route.LARGE))
            return self._infer_measured(chooser, Route.LARGE, session, inputs, checks_inputs)
        except InferenceError as error:
            # An unsure answer is better than none.
            logger.debug("no second opinion: %s", error)
            return answer

    def _infer_measured(
        self,
        chooser: AdaptiveChooser,
        choice: Route,
        session: "ModelSession",
        inputs: "Inputs",
        checks_inputs: bool,
    ) -> Answer:
        answer = self._infer_on(session, inputs, checks_inputs)
        with self._lock:
            digest = session.manifest.digest
            if self._measured.setdefault(choice, digest) != digest:
                self._measured[choice] = digest
                chooser.forget(choice)
            if not answer.result.is_cached:
                chooser.record(choice, answer.result.latency_ms)
        return answer

    def _slug_of(self, choice: Route) -> str:
        return self.pair.large if choice is Route.LARGE else self.pair.small

    def _infer_on(self, session: "ModelSession", inputs: "Inputs", checks_inputs: bool) -> Answer:
        started = time.perf_counter_ns()
        described = described_input(session, inputs)
        if checks_inputs:
            session.check_inputs(inputs)
        # A raw image is described, and sampled, by what its processor makes of it for the model.
        is_image = session.takes_image(inputs)
        record = self._make_record(session)
        prepared: Array | None = None
        features = [] if is_image else describe_input(described)
        try:
            result = session.infer(inputs)
        except InferenceError as error:
            record["latency_ms"] = round((time.perf_counter_ns() - started) / 1e6, 4)
            record["error"] = str(error)[:120]
            note_features(record, session, features)
            self._count(session, is_error=True)
            if not is_image:
                self._note_input(session, inputs)
            self.writer.put(record, IMPORTANT)
            raise
        if is_image:
            # An answer out of the cache has none any more.
            prepared = getattr(result, "tensor", None)
            features = [] if prepared is None else describe_input(prepared)
        self._note_input(session, prepared if is_image else inputs)
        reading = result.scores
        is_finite = not reading.error
        record["latency_ms"] = round(result.latency_ms, 4)
        if is_finite and features:
            features += reading.measures
        note_features(record, session, features)
        is_answer = is_finite and (reading.class_id is not None or not session.has_classes)
        if is_answer:
            if reading.class_id is not None:
                record["class_id"] = reading.class_id
            if reading.confidence is not None:
                record["confidence"] = round(reading.confidence, 6)
            with self._lock:
                self.observer.observe(session, result, features)
            given = prepared if is_image else inputs
            if self.sampler is not None and not result.is_cached and given is not None:
                self.sampler.offer(
                    session.manifest,
                    given,
                    class_id=reading.class_id,
                    confidence=reading.confidence,
                    batch_axes=session.reader.contract.input_batch_axes,
                )
        elif not is_finite:
            record["error"] = reading.error
        self._count(session, is_non_finite=not is_finite)
        is_unsure = record.get("confidence", 1.0) < self.unsure_below
        priority = IMPORTANT if not is_finite else UNSURE if is_unsure else ORDINARY
        self.writer.put(record, priority)
        return Answer(session.manifest, result)

    def _make_record(self, session: "ModelSession") -> dict[str, Any]:
        self.observer.prepare_counting(session.manifest, self.writer.tally)
        active = session.providers.active
        return {
            "timestamp": round(time.time(), 3),
            "model": session.manifest.model,
            "model_version": session.manifest.digest,
            "provider": active[0] if active else "cpu",
        }

    def _note_input(self, session: "ModelSession", inputs: "Inputs | None") -> None:
        kept = self._recent.get(session.manifest.model)
        if kept is not None and inputs is not None:
            kept.add(inputs)

    def _count(
        self, session: "ModelSession", *, is_error: bool = False, is_non_finite: bool = False
    ) -> None:
        manifest = session.manifest
        with self._lock:
            digest, traffic = self._traffic.get(manifest.model, ("", None))
            if traffic is None or digest != manifest.digest:
                traffic = Traffic()
                self._traffic[manifest.model] = (manifest.digest, traffic)
            traffic.inferences += 1
            traffic.errors += is_error
            traffic.non_finite += is_non_finite


def described_input(session: "ModelSession", inputs: "Inputs") -> "Array":
    """The input whose features are recorded; raises InputError when it is no array."""
    import numpy as np

    tensor: Any = inputs
    if isinstance(inputs, dict):
        tensor = inputs.get(session.described, next(iter(inputs.values()), None))
    if not isinstance(tensor, np.ndarray) or tensor.dtype.kind not in "biufOUS":
        kind = f"{tensor.dtype} array" if isinstance(tensor, np.ndarray) else type(tensor).__name__
        raise InputError(f"inputs: expected an array of numbers or texts, got {kind}")
    return tensor


def describe_input(tensor: "Array") -> list[float]:
    """Mean and deviation of what the model was given; empty when they are not finite."""
    if tensor.dtype.kind in "OUS":
        from edge_agent.reading.inputs import describe_rows

        return [float(value) for value in describe_rows(tensor.reshape(1, -1))[0]]
    features = [float(tensor.mean()), float(tensor.std())] if tensor.size else []
    return features if all(map(math.isfinite, features)) else []


def note_features(record: dict[str, Any], session: "ModelSession", features: list[float]) -> None:
    """Adds the features to a record, where they are as many as the release's reference has."""
    if features and len(features) == 2 + len(session.reader.measure_names):
        record["features"] = features

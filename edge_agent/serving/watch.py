"""Watches young releases on this device's own inputs; takes back those that must go."""

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edge_agent.config import InstallConfig
from edge_agent.install.installer import Installer
from edge_agent.install.live_watch import WatchCounts
from edge_agent.serving.serving import Serving
from edge_agent.serving.slots import ModelSlot

if TYPE_CHECKING:
    from edge_agent.inference.session import Inputs, ModelSession

logger = logging.getLogger(__name__)
LOOK_SECONDS = 0.1
"""Pairs are asked for so long at each look."""
REST_RATIO = 9.0
"""And then none for so many times as long: a tenth of one core at most."""


@dataclass
class Watch:
    """One release under watch."""

    digest: str
    since_s: float
    evidence: WatchCounts = field(default_factory=WatchCounts)
    rests_until_s: float = 0.0


class Watcher:
    def __init__(
        self,
        config: InstallConfig,
        slots: dict[str, ModelSlot],
        serving: Serving,
        on_roll_back: Callable[[], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        toss: Callable[[], float] = random.random,
    ) -> None:
        """
        Args:
            on_roll_back: called after a release was taken back.
            clock: seconds, for how long pairs take.
            toss: from 0 to 1; below one half the young release is asked first.
        """
        self.config = config
        self.slots = slots
        self.serving = serving
        self._on_roll_back = on_roll_back
        self._clock = clock
        self._toss = toss
        self._watches: dict[str, Watch] = {}

    def look(self, installer: Installer, now: float) -> None:
        """Asks some pairs and judges each young release once; `now` is monotonic, in seconds."""
        for slug, model in list(installer.state.models.items()):
            slot = self.slots.get(slug)
            session = slot.session if slot else None
            if slot is None or session is None or model.current is None:
                continue
            digest = session.manifest.digest
            if not model.is_watched or digest != model.current.manifest_sha256:
                self._end(slug, slot)
                continue
            watch = self._watches.get(slug)
            if watch is None or watch.digest != digest:
                watch = self._watches[slug] = Watch(digest, since_s=now)
                self.serving.keep_inputs(slug)
            self._gather(slug, watch, session, slot.previous, now)
            verdict = installer.rollback.judge_live(
                slug,
                watch.evidence,
                watched_s=now - watch.since_s,
                has_previous=slot.previous is not None,
                config=self.config,
            )
            if verdict.is_taken_back:
                self._end(slug, slot)
                self._on_roll_back()
            elif verdict.is_over:
                self._end(slug, slot)
                installer.end_watch(slug)

    def _end(self, slug: str, slot: ModelSlot) -> None:
        self._watches.pop(slug, None)
        self.serving.drop_inputs(slug)
        slot.previous = None

    def _gather(
        self,
        slug: str,
        watch: Watch,
        young: "ModelSession",
        previous: "ModelSession | None",
        now: float,
    ) -> None:
        """Brings the evidence up to date: live traffic, and pairs of inputs that just came."""
        evidence, traffic = watch.evidence, self.serving.traffic_of(slug, watch.digest)
        evidence.inferences = traffic.inferences
        evidence.failures = traffic.errors + traffic.non_finite
        if previous is None or now < watch.rests_until_s:
            return
        started = self._clock()
        # Each input serves once: one bad picture is one pair, however long it is the last one.
        for inputs in self.serving.take_inputs(slug):
            sessions = [young, previous] if self._toss() < 0.5 else [previous, young]
            times = {session: ask(session, inputs) for session in sessions}
            evidence.add_pair(
                times[young], times[previous], ratio=self.config.watch_max_latency_ratio
            )
            if self._clock() - started >= LOOK_SECONDS:
                break
        watch.rests_until_s = now + REST_RATIO * (self._clock() - started)


def ask(session: "ModelSession", inputs: "Inputs") -> float | None:
    """Milliseconds that the release took for `inputs`; None when it failed on them."""
    try:
        outputs, elapsed_ns = session.run(session.name_inputs(inputs))
    except Exception as error:  # noqa: BLE001 the runtime raises its own kinds
        logger.debug("release %s in a pair: %s", session.manifest.version, error)
        return None
    return None if session.reader.try_read(outputs).error else elapsed_ns / 1e6

"""Watches young releases on live traffic, each model by itself; takes back those that must go."""

from collections.abc import Callable
from dataclasses import dataclass

from edge_agent.config import InstallConfig
from edge_agent.install.installer import Installer
from edge_agent.serving.health import judge
from edge_agent.serving.serving import Serving
from edge_agent.serving.slots import ModelSlot


@dataclass
class Watch:
    """Since when a release runs, and how fast it and the one before it were."""

    digest: str
    since_s: float
    previous_p95_ms: float
    p95_ms: float = 0.0


class Watcher:
    def __init__(
        self,
        config: InstallConfig,
        slots: dict[str, ModelSlot],
        serving: Serving,
        on_roll_back: Callable[[], None],
    ) -> None:
        """`on_roll_back` is called after a release was taken back."""
        self.config = config
        self.slots = slots
        self.serving = serving
        self._on_roll_back = on_roll_back
        self._watches: dict[str, Watch] = {}

    def look(self, installer: Installer, now: float) -> None:
        """Judges each running release once; `now` is monotonic, in seconds."""
        for slug, model in list(installer.state.models.items()):
            slot = self.slots.get(slug)
            session = slot.session if slot else None
            if session is None or model.current is None:
                continue
            digest = session.manifest.digest
            watch = self._watches.get(slug)
            if watch is None or watch.digest != digest:
                watch = Watch(digest, since_s=now, previous_p95_ms=watch.p95_ms if watch else 0.0)
                self._watches[slug] = watch
            watch.p95_ms = session.latency.stats().get("p95_ms", 0.0)
            if not model.is_watched or digest != model.current.manifest_sha256:
                continue
            traffic = self.serving.traffic_of(slug, digest)
            traffic.p95_ms = watch.p95_ms
            verdict = judge(
                traffic,
                watched_s=now - watch.since_s,
                previous_p95_ms=watch.previous_p95_ms,
                config=self.config,
            )
            if verdict.code and installer.roll_back(slug, code=verdict.code, detail=verdict.detail):
                self._on_roll_back()
            elif verdict.is_over:
                installer.end_watch(slug)

"""`aviary-agent run`: classifies what the source brings while a second thread keeps in sync."""

import json
import logging
import os
import signal
import threading
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_agent import __version__
from edge_agent.agent import Agent, StopRequested, require_enrolled
from edge_agent.backoff import backoff_delay_s
from edge_agent.exceptions import AgentError, AnswerError, InferenceError, TransferError
from edge_agent.health import Traffic, judge
from edge_agent.observe import Observer
from edge_agent.session import ModelSession, ModelSlot
from edge_agent.source import NpzSource
from edge_agent.spool import IMPORTANT, ORDINARY, SpoolWriter

logger = logging.getLogger(__name__)


@dataclass
class Watch:
    """Since when a release runs, and how fast it and the one before it were."""

    digest: str
    since_s: float
    previous_p95_ms: float
    p95_ms: float = 0.0


class Runner:
    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.config = agent.config
        self.writer = SpoolWriter(agent.spool, agent.config.spool)
        self.observer = Observer(agent.config)
        self.traffic = Traffic()
        self._traffic_digest = ""
        self._watches: dict[str, Watch] = {}
        self._failures = 0

    def run(self) -> None:
        """Runs until the agent's `stopping` is set."""
        agent = self.agent
        agent.installer.boot()
        agent.load_sessions()
        self.writer.start()
        worker = threading.Thread(target=self._classify, name="inference", daemon=True)
        if self.config.source.path:
            worker.start()
        due = {"poll": 0.0, "upload": 0.0, "telemetry": 0.0, "tick": 0.0, "sample": 0.0}
        while not agent.stopping.is_set():
            try:
                self._step(due)
            except StopRequested:
                break
            except Exception:
                # The model keeps running whatever the rest does.
                logger.exception("control loop failed; going on")
                due["poll"] = time.monotonic() + self._delay(None)
            agent.stopping.wait(max(0.02, min(min(due.values()) - time.monotonic(), 1.0)))
        agent.stopping.set()
        if worker.is_alive():
            worker.join(timeout=10)
        self.writer.stop()
        self._flush_last()
        logger.info("stopped")

    def _step(self, due: dict[str, float]) -> None:
        now = time.monotonic()
        if now >= due["tick"]:
            due["tick"] = now + 1.0
            self._obey_requests()
            self._watch(now)
            self._write_runtime()
        if now >= due["sample"]:
            due["sample"] = now + self.config.monitor.sample_interval_s
            self.observer.sample_resources(self.config.home)
        if now >= due["poll"]:
            before = self._running()
            due["poll"] = now + self._guarded(self._sync, lambda: self.agent.poll_after_s)
            if self._running() != before:
                due["telemetry"] = now
        if now >= due["upload"]:
            interval = self.config.spool.upload_interval_s
            due["upload"] = now + self._guarded(self._upload, lambda: interval)
        if now >= due["telemetry"]:
            interval = self.config.monitor.telemetry_interval_s
            due["telemetry"] = now + self._guarded(self._telemetry, lambda: interval)

    def _guarded(self, call: Any, interval: Any) -> float:
        """Seconds until the next call: its interval, or a back-off after a failure."""
        try:
            call()
        except AnswerError as error:
            if error.server_code == "device_pending":
                logger.info("waiting for a person to accept this device")
                return self.agent.poll_after_s
            logger.warning("%s", error)
            return self._delay(error.retry_after_s)
        except TransferError as error:
            logger.warning("%s", error)
            return self._delay(error.retry_after_s)
        except AgentError as error:
            logger.error("%s: %s", error.code, error)
            return self._delay(None)
        self._failures = 0
        return float(interval())

    def _delay(self, retry_after_s: float | None) -> float:
        self._failures += 1
        network = self.config.network
        return backoff_delay_s(
            self._failures,
            base_s=network.backoff_base_s,
            max_s=network.backoff_max_s,
            retry_after_s=retry_after_s,
        )

    def _sync(self) -> None:
        require_enrolled(self.agent)
        try:
            changed = self.agent.sync()
        finally:
            self.agent.load_sessions()
        if changed:
            self._write_runtime()
            self.agent.send_events()

    def _upload(self) -> None:
        if self.agent.client.credentials is not None:
            self.agent.uploader.upload_records()

    def _telemetry(self) -> None:
        if self.agent.client.credentials is None:
            return
        events = self.observer.take_events()
        try:
            self._post_telemetry(events)
        except AgentError:
            self.observer.put_back(events)
            raise

    def _post_telemetry(self, events: list[dict[str, Any]]) -> None:
        self.agent.client.post_telemetry(
            {
                "resources": self.observer.resources,
                "providers": self._provider_rows(),
                "agent_version": __version__,
                "running": self._running(),
                "events": events,
            }
        )

    def _running(self) -> dict[str, str]:
        """The manifest's digest of each model's current release."""
        models = self.agent.installer.state.models
        return {
            slug: model.current.manifest_sha256 for slug, model in models.items() if model.current
        }

    def _classify(self) -> None:
        for row in NpzSource(self.config.source, wait=self.agent.stopping.wait):
            slot = self._slot()
            session = slot.session if slot else None
            if session is not None:
                try:
                    self._infer(session, row)
                except Exception:
                    logger.exception("inference loop failed; going on")

    def _slot(self) -> ModelSlot | None:
        slots = self.agent.slots
        if self.config.source.model:
            return slots.get(self.config.source.model)
        return next((slot for slot in list(slots.values()) if slot.session), None)

    def _infer(self, session: ModelSession, row: np.ndarray[Any, Any]) -> None:
        started = time.perf_counter_ns()
        features = [float(row.mean()), float(row.std())]
        record: dict[str, Any] = {
            "timestamp": round(time.time(), 3),
            "model": session.manifest.model,
            "model_version": session.manifest.digest,
            "provider": session.providers.active[0] if session.providers.active else "cpu",
        }
        if np.isfinite(features).all():
            record["features"] = features
        if session.manifest.digest != self._traffic_digest:
            self.traffic, self._traffic_digest = Traffic(), session.manifest.digest
        traffic = self.traffic
        try:
            result = session.infer(row)
        except InferenceError as error:
            traffic.errors += 1
            record["latency_ms"] = (time.perf_counter_ns() - started) / 1e6
            record["error"] = str(error)[:120]
        else:
            record["latency_ms"] = round(result.latency_ms, 4)
            if result.error:
                traffic.non_finite += 1
                record["error"] = result.error
            else:
                record["class_id"] = result.class_id
                record["confidence"] = round(result.confidence or 0.0, 6)
                self.observer.observe(session, result, features)
        traffic.inferences += 1
        self.writer.put(record, IMPORTANT if "error" in record else ORDINARY)

    def _watch(self, now: float) -> None:
        """Judges each young release by its live traffic, and takes it back when it must go."""
        for slug, model in list(self.agent.installer.state.models.items()):
            slot = self.agent.slots.get(slug)
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
            traffic = self.traffic if self._traffic_digest == digest else Traffic()
            traffic.p95_ms = watch.p95_ms
            verdict = judge(
                traffic,
                watched_s=now - watch.since_s,
                previous_p95_ms=watch.previous_p95_ms,
                config=self.config.install,
            )
            if verdict.code and self.agent.installer.roll_back(
                slug, code=verdict.code, detail=verdict.detail
            ):
                self.agent.load_sessions()
                self._guarded(self.agent.send_events, lambda: 0.0)
            elif verdict.is_over:
                self.agent.installer.end_watch(slug)

    def _obey_requests(self) -> None:
        """Carries out what commands beside this process have asked for."""
        folder = self.agent.layout.requests
        for name in self.agent.files.list(folder):
            if not name.endswith(".json"):
                continue
            try:
                apply_request(self.agent, json.loads((folder / name).read_bytes()))
            except (ValueError, KeyError, OSError) as error:
                logger.error("request %s: %s", name, error)
            self.agent.files.unlink(folder / name)
            self.agent.load_sessions()

    def _provider_rows(self) -> dict[str, Any]:
        rows = {}
        for slug, slot in self.agent.slots.items():
            if slot.session is not None:
                report = slot.session.providers
                rows[slug] = {
                    "requested": list(report.requested),
                    "active": list(report.active),
                    "nodes": report.nodes,
                    "fallbacks": [vars(fallback) for fallback in report.fallbacks],
                }
        return rows

    def _write_runtime(self) -> None:
        """For `status` only: no sync, for it is worth nothing after a restart."""
        latency = {
            slug: slot.session.latency.stats()
            for slug, slot in self.agent.slots.items()
            if slot.session
        }
        row = {"pid": os.getpid(), "providers": self._provider_rows(), "latency": latency}
        row["drift"] = self.observer.drift_state()
        temporary = self.agent.layout.runtime.with_suffix(".tmp")
        temporary.write_text(json.dumps(row))
        os.replace(temporary, self.agent.layout.runtime)

    def _flush_last(self) -> None:
        """One try to send what is left; the spool keeps the rest."""
        try:
            self.agent.send_events()
            self._upload()
        except AgentError as error:
            logger.info("left in the spool: %s", error)


def apply_request(agent: Agent, request: dict[str, Any]) -> bool:
    """Carries out a person's request: `rollback`, `pin`, `unpin` or `unblock`."""
    slug, action = request["model"], request["action"]
    model = agent.installer.state.model(slug)
    if action == "rollback":
        return agent.installer.roll_back(slug, code="requested", detail="by a person on the device")
    if action == "unblock":
        model.blocked.clear()
    elif action in ("pin", "unpin"):
        model.is_pinned = action == "pin"
    else:
        raise ValueError(f"unknown action {action}")
    agent.installer.save()
    return True


def run_forever(agent: Agent) -> None:
    """`Runner.run` with SIGTERM and SIGINT ending it in order."""

    def stop(*_: object) -> None:
        agent.stopping.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    Runner(agent).run()

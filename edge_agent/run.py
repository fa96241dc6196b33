"""`aviary-agent run`: classifies what the source brings while a second thread keeps in sync."""

import contextlib
import json
import logging
import os
import signal
import sqlite3
import threading
import time
from typing import TYPE_CHECKING, Any

from edge_agent.agent import Agent, StopRequested, require_enrolled
from edge_agent.config import SourceConfig
from edge_agent.control.backoff import backoff_delay_s
from edge_agent.control.processor import read_instruction_sets
from edge_agent.exceptions import (
    AgentError,
    AnswerError,
    DiskFullError,
    InferenceError,
    TransferError,
)
from edge_agent.memory import release_code
from edge_agent.observation.observe import Observer
from edge_agent.observation.spool_writer import SpoolWriter
from edge_agent.serving.serving import Serving
from edge_agent.serving.source import NpzSource
from edge_agent.serving.watch import Watcher
from edge_agent.version import __version__

if TYPE_CHECKING:
    from edge_agent.inference.session import ModelSession
    from edge_agent.serving.endpoint import Endpoint

logger = logging.getLogger(__name__)


class Runner:
    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.config = agent.config
        self.writer = SpoolWriter(agent.spool, agent.config.spool)
        self.observer = Observer(agent.config)
        self.serving = Serving(agent.config, agent.slots, self.writer, self.observer, agent.sampler)
        self.watcher = Watcher(
            agent.config.install, agent.slots, self.serving, on_roll_back=self._undo_sessions
        )
        self.instruction_sets = read_instruction_sets()
        self.endpoint: Endpoint | None = None
        self._workers: list[threading.Thread] = []
        self._trimmed: set[str] = set()
        self._failures = 0

    def run(self) -> None:
        """Runs until the agent's `stopping` is set."""
        self.prepare()
        self.loop()

    def prepare(self) -> None:
        """Loads what is committed and starts whatever asks it; nothing waits for the network.

        Raises:
            ConfigurationError: the local endpoint cannot listen where it should.
        """
        agent = self.agent
        agent.installer.boot()
        agent.load_sessions()
        if self.config.serve.enabled:
            from edge_agent.serving.endpoint import Endpoint

            self.endpoint = Endpoint(self.config.serve, self.serving)
            self.endpoint.start()
        self.writer.start()
        self._workers = [
            threading.Thread(target=self._classify, args=(source,), name="inference", daemon=True)
            for source in self.config.all_sources()
        ]
        for worker in self._workers:
            worker.start()

    def loop(self) -> None:
        """Keeps in sync until the agent's `stopping` is set, then ends everything in order."""
        agent = self.agent
        due = {"poll": 0.0, "upload": 0.0, "telemetry": 0.0, "tick": 0.0, "sample": 0.0}
        if self.config.sampling.enabled:
            due["inputs"] = time.monotonic() + self.config.sampling.interval_s
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
        if self.endpoint is not None:
            self.endpoint.stop()
        for worker in self._workers:
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
            self.write_runtime()
            self._release_memory()
            if self.observer.take_news():
                due["telemetry"] = now
        if now >= due["sample"]:
            due["sample"] = now + self.config.monitor.sample_interval_s
            self.observer.sample_resources(self.config.home)
        if now >= due["poll"]:
            before = self._running()
            due["poll"] = now + self._guarded(self._sync, lambda: self.agent.poller.poll_after_s)
            if self._running() != before:
                due["telemetry"] = now
        if now >= due["upload"]:
            interval = self.config.spool.upload_interval_s
            due["upload"] = now + self._guarded(self._upload, lambda: interval)
        if now >= due["telemetry"]:
            interval = self.config.monitor.telemetry_interval_s
            due["telemetry"] = now + self._guarded(self._telemetry, lambda: interval)

        if now >= due.get("inputs", now + 1.0):
            interval = self.config.sampling.interval_s
            due["inputs"] = now + self._guarded(self._send_inputs, lambda: interval)

    def _watch(self, now: float) -> None:
        """Judges the young releases; what a full disk keeps from being noted is judged again."""
        try:
            self.watcher.look(self.agent.installer, now)
        except (DiskFullError, OSError) as error:
            self.agent.trouble["watch"] = f"{getattr(error, 'code', 'disk')}: {error}"
            logger.error("watch: %s", error)
        else:
            self.agent.trouble.pop("watch", None)

    def _guarded(self, call: Any, interval: Any) -> float:
        """Seconds until the next call: its interval, or a back-off after a failure."""
        try:
            call()
        except AnswerError as error:
            self._note_trouble(call, error)
            if error.server_code == "device_pending":
                logger.info("waiting for a person to accept this device")
                return self.agent.poller.poll_after_s
            logger.warning("%s", error)
            return self._delay(error.retry_after_s)
        except TransferError as error:
            self._note_trouble(call, error)
            logger.warning("%s", error)
            return self._delay(error.retry_after_s)
        except AgentError as error:
            self._note_trouble(call, error)
            logger.error("%s: %s", error.code, error)
            return self._delay(None)
        except (OSError, sqlite3.Error) as error:
            # A full disk or a failing card: what waits there goes on waiting.
            self.agent.trouble[call.__name__.strip("_")] = f"disk: {error}"
            logger.error("disk: %s", error)
            return self._delay(None)
        self.agent.trouble.pop(call.__name__.strip("_"), None)
        self._failures = 0
        return float(interval())

    def _note_trouble(self, call: Any, error: AgentError) -> None:
        self.agent.trouble[call.__name__.strip("_")] = f"{error.code}: {error}"

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
            self.write_runtime()
            self.agent.send_events()

    def _upload(self) -> None:
        if self.agent.client.credentials is not None:
            self.agent.uploader.upload_records()

    def _send_inputs(self) -> None:
        sampler = self.agent.sampler
        sampler.store()
        if self.agent.client.credentials is not None:
            sampler.upload(self.agent.client)

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
        answer = self.agent.client.post_telemetry(
            {
                "resources": self.observer.resources,
                "providers": self._provider_rows(),
                "agent_version": __version__,
                # An agent that was updated may tell more of its device than it did on enrolling.
                "capabilities": {"isa": self.instruction_sets},
                "running": self._running(),
                "events": events,
                "spool": self.agent.spool.stat(),
                "drift": self.observer.drift_state(self._sessions()),
                "incidents": self.observer.incidents.rows(),
                "latency": self._latency_rows(),
                "sampling": self.agent.sampler.stat(),
            }
        )
        is_allowed = (answer.body or {}).get("is_sampling_allowed")
        if isinstance(is_allowed, bool):
            self.agent.sampler.obey(is_allowed=is_allowed)

    def _running(self) -> dict[str, str]:
        """The manifest's digest of each model's current release."""
        models = self.agent.installer.state.models
        return {
            slug: model.current.manifest_sha256 for slug, model in models.items() if model.current
        }

    def _classify(self, source: SourceConfig) -> None:
        """Feeds one source to its model until the agent stops."""
        serving, stopping = self.serving, self.agent.stopping
        while not any(slot.session for slot in list(self.agent.slots.values())):
            if stopping.wait(0.05):
                return
        last = ""
        for row in NpzSource(source, wait=stopping.wait):
            try:
                serving.infer(row, model=source.model)
                last = ""
            except InferenceError as error:
                # The record says it too; the log says it once, not at every row.
                if str(error) != last:
                    logger.warning("source %s: %s", source.path, error)
                last = str(error)
            except Exception:
                logger.exception("inference loop failed; going on")

    def _undo_sessions(self) -> None:
        self.agent.load_sessions()
        self._guarded(self.agent.send_events, lambda: 0.0)

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
        rows: dict[str, Any] = {}
        for slug, slot in self.agent.slots.items():
            if slot.session is not None:
                rows[slug] = slot.session.providers.as_row()
            elif slot.refusal:
                rows[slug] = {
                    "requested": list(self.config.inference.providers),
                    "active": [],
                    "nodes": {},
                    "fallbacks": [],
                    "refusal": slot.refusal,
                }
        return rows

    def _release_memory(self) -> None:
        """Once per set of running releases, when each has answered: what loading needed goes."""
        sessions = self._sessions()
        digests = {session.manifest.digest for session in sessions}
        if digests == self._trimmed or not all(session.latency.count for session in sessions):
            return
        self._trimmed = digests
        if sessions:
            logger.debug("gave back %d KB of the runtime's code", release_code("onnxruntime") >> 10)

    def _sessions(self) -> "list[ModelSession]":
        return [slot.session for slot in list(self.agent.slots.values()) if slot.session]

    def _latency_rows(self) -> dict[str, dict[str, float]]:
        return {
            slug: slot.session.latency.stats()
            for slug, slot in self.agent.slots.items()
            if slot.session
        }

    def write_runtime(self) -> None:
        """For `status` only: no sync, for it is worth nothing after a restart."""
        row: dict[str, Any] = {"pid": os.getpid(), "providers": self._provider_rows()}
        row["latency"] = self._latency_rows()
        row["trouble"] = dict(self.agent.trouble)
        row["drift"] = self.observer.drift_state(self._sessions())
        row["incidents"] = self.observer.incidents.rows()
        row["endpoint"] = self.endpoint.address if self.endpoint else ""
        path = self.agent.layout.runtime
        temporary = path.with_suffix(".tmp")
        try:
            temporary.write_text(json.dumps(row))
            os.replace(temporary, path)
        except OSError as error:
            # On a full disk there is no room for a second file, and this is when a person looks:
            # the blocks of the first one are taken again, whoever reads it meanwhile.
            logger.debug("runtime.json is written in place: %s", error)
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            with contextlib.suppress(OSError), path.open("r+") as stream:
                stream.write(json.dumps(row))
                stream.truncate()

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
    if action == "rollback":
        return agent.installer.roll_back(slug, code="requested", detail="by a person on the device")
    if action == "unblock":
        agent.installer.unblock(slug)
    elif action in ("pin", "unpin"):
        agent.installer.pin(slug, is_pinned=action == "pin")
    else:
        raise ValueError(f"unknown action {action}")
    return True


def run_forever(agent: Agent) -> None:
    """`Runner.run` with SIGTERM and SIGINT ending it in order."""

    def stop(*_: object) -> None:
        agent.stopping.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    Runner(agent).run()

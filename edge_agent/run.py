"""`aviary-agent run`: classifies what the sources bring while the jobs of `Runner.jobs` go on."""

import contextlib
import logging
import signal
import sqlite3
import threading
import time
from typing import TYPE_CHECKING

from edge_agent.agent import Agent, require_enrolled
from edge_agent.config import SourceConfig
from edge_agent.exceptions import AgentError, DiskFullError, InferenceError, StopRequested
from edge_agent.jobs import Job, Schedule
from edge_agent.memory import release_code
from edge_agent.observation.observe import Observer
from edge_agent.observation.spool_writer import SpoolWriter
from edge_agent.observation.tally import Tally
from edge_agent.reports import Reporter
from edge_agent.requests import RequestBox
from edge_agent.serving.serving import Serving
from edge_agent.serving.source import NpzSource
from edge_agent.serving.watch import Watcher

if TYPE_CHECKING:
    from edge_agent.serving.endpoint import Endpoint

logger = logging.getLogger(__name__)
TICK_S = 1.0
PAST_INTERVAL_S = 600.0
SUMMARY_LOOK_S = 30.0


class Runner:
    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.config = agent.config
        self.tally = Tally(agent.spool)
        self.writer = SpoolWriter(agent.spool, agent.config.spool, self.tally)
        self.observer = Observer(agent.config)
        self.reporter = Reporter(agent, self.observer, self.tally)
        self.requests = RequestBox(agent)
        self.serving = Serving(agent.config, agent.slots, self.writer, self.observer, agent.sampler)
        self.watcher = Watcher(
            agent.config.install, agent.slots, self.serving, on_roll_back=self._after_roll_back
        )
        self.schedule = Schedule(self.jobs(), agent.config.network, agent.trouble)
        self.endpoint: Endpoint | None = None
        self._workers: list[threading.Thread] = []
        self._trimmed: set[str] = set()

    def jobs(self) -> list[Job]:
        """Everything that is done again and again: its name, what it does, and how often."""
        config, poller = self.config, self.agent.poller
        jobs = [
            Job("requests", self.requests.obey, lambda: TICK_S),
            Job("watch", self._watch, lambda: TICK_S),
            Job("status", self._write_status, lambda: TICK_S),
            Job("resources", self._sample_resources, lambda: config.monitor.sample_interval_s),
            Job("sync", self._sync, lambda: poller.poll_after_s),
            Job("events", self._send_events, lambda: config.network.backoff_max_s),
            Job("upload", self._upload, lambda: config.spool.upload_interval_s),
            Job("summaries", self._send_summaries, lambda: self.tally.after_s or SUMMARY_LOOK_S),
            Job(
                "telemetry",
                self.reporter.send_telemetry,
                lambda: config.monitor.telemetry_interval_s,
            ),
        ]
        if config.drift.enabled:
            jobs.append(Job("past", self.observer.keep_pasts, lambda: PAST_INTERVAL_S))
        if config.sampling.enabled:
            interval_s = config.sampling.interval_s
            jobs.append(Job("inputs", self._send_inputs, lambda: interval_s))
        return jobs

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

            self.endpoint = Endpoint(self.config.serve, self.serving, self.agent.trouble)
            self.endpoint.start()
            self.reporter.endpoint_address = self.endpoint.address
        self.writer.start()
        self._workers = [
            threading.Thread(target=self._classify, args=(source,), name="inference", daemon=True)
            for source in self.config.all_sources()
        ]
        for worker in self._workers:
            worker.start()

    def loop(self) -> None:
        """Does what is due until the agent's `stopping` is set, then ends everything in order."""
        agent = self.agent
        if "inputs" in self.schedule.jobs:
            self.schedule.delay("inputs", self.config.sampling.interval_s)
        self.schedule.delay("events", self.config.network.backoff_max_s)
        while not agent.stopping.is_set():
            try:
                self.schedule.run_due()
            except StopRequested:
                break
            agent.stopping.wait(self.schedule.wait_s())
        agent.stopping.set()
        if self.endpoint is not None:
            self.endpoint.stop()
        for worker in self._workers:
            worker.join(timeout=10)
        self.writer.stop()
        self._flush_last()
        logger.info("stopped")

    def write_runtime(self) -> None:
        self.reporter.write_runtime()

    def _watch(self) -> None:
        """Judges the young releases; what a full disk keeps from being noted is judged again."""
        self.watcher.look(self.agent.installer, self.schedule.now())

    def _write_status(self) -> None:
        self.agent.note_spool()
        self.reporter.write_runtime()
        self._release_memory()
        if self.observer.take_news():
            self.schedule.hurry("telemetry")

    def _sample_resources(self) -> None:
        self.observer.sample_resources(self.config.home)

    def _sync(self) -> None:
        before = self.reporter.running()
        require_enrolled(self.agent)
        try:
            changed = self.agent.sync()
        finally:
            self.agent.load_sessions()
        if changed:
            self.reporter.write_runtime()
            self.agent.send_events()
        if self.reporter.running() != before:
            self.schedule.hurry("telemetry")

    def _send_events(self) -> None:
        if self.agent.client.credentials is not None:
            self.agent.send_events()

    def _after_roll_back(self) -> None:
        self.agent.load_sessions()
        self.schedule.hurry("events")

    def _upload(self) -> None:
        if self.agent.client.credentials is not None:
            self.agent.uploader.upload_records()

    def _send_summaries(self) -> None:
        """Sends what was counted, also after the server has come to want records again."""
        self.tally.end_interval()
        if self.agent.client.credentials is not None:
            self.agent.uploader.upload_summaries(now_s=time.time())

    def _send_inputs(self) -> None:
        sampler = self.agent.sampler
        sampler.store()
        if self.agent.client.credentials is not None:
            sampler.upload(self.agent.client)

    def _classify(self, source: SourceConfig) -> None:
        """Feeds one source to its model until the agent stops."""
        serving, stopping = self.serving, self.agent.stopping
        while not any(slot.session for slot in list(self.agent.slots.values())):
            if stopping.wait(0.05):
                return
        last = ""
        for row in NpzSource(source, wait=stopping.wait):
            try:
                serving.infer_row(row, model=source.model)
                last = ""
            except InferenceError as error:
                # The record says it too; the log says it once, not at every row.
                if str(error) != last:
                    logger.warning("source %s: %s", source.path, error)
                last = str(error)
            except Exception:
                logger.exception("inference loop failed; going on")

    def _release_memory(self) -> None:
        """Once per set of running releases, when each has answered: what loading needed goes."""
        sessions = self.reporter.sessions()
        digests = {session.manifest.digest for session in sessions}
        if digests == self._trimmed or not all(session.latency.count for session in sessions):
            return
        self._trimmed = digests
        if sessions:
            logger.debug("gave back %d KB of the runtime's code", release_code("onnxruntime") >> 10)

    def _flush_last(self) -> None:
        """One try to send what is left; the spool keeps the rest."""
        with contextlib.suppress(OSError, DiskFullError):
            self.observer.keep_pasts()
        try:
            self.agent.send_events()
            self._send_summaries()
            self._upload()
        except (AgentError, OSError, sqlite3.Error) as error:
            logger.info("left in the spool: %s", error)


def run_forever(agent: Agent) -> None:
    """`Runner.run` with SIGTERM and SIGINT ending it in order."""

    def stop(*_: object) -> None:
        agent.stopping.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    Runner(agent).run()

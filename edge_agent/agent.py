"""Puts the parts together for one home: what `run`, `sync` and `rollback` work on."""

import logging
import threading
import time
from collections.abc import Collection
from datetime import datetime
from typing import TYPE_CHECKING, Any

from edge_agent.config import Config, InferenceConfig
from edge_agent.control.backoff import backoff_delay_s
from edge_agent.control.client import DeviceClient, describe_capabilities, load_credentials
from edge_agent.control.polling import Poller
from edge_agent.control.transport import Transport
from edge_agent.control.trust import TrustKeeper
from edge_agent.exceptions import AgentError, NotEnrolledError, StopRequested
from edge_agent.files import DiskFiles, make_dirs
from edge_agent.install.decisions import SelfTestResult
from edge_agent.install.download import Downloader
from edge_agent.install.file_source import FileSource
from edge_agent.install.installer import Installer
from edge_agent.install.trusted_time import estimate_time
from edge_agent.observation.sampling import Sampler
from edge_agent.observation.spool import open_memory_spool, open_spool
from edge_agent.observation.upload import Uploader
from edge_agent.releases.state import Layout
from edge_agent.releases.trust import Manifest
from edge_agent.serving.sessions import Sessions
from edge_agent.version import __version__

if TYPE_CHECKING:
    from edge_agent.inference.session import ModelSession

logger = logging.getLogger(__name__)


class Agent:
    def __init__(
        self,
        config: Config,
        *,
        stopping: threading.Event | None = None,
        is_owner: bool = True,
    ) -> None:
        """`is_owner`: False for a command that only reads, beside the process that holds the home;
        its spool is one of its own, in memory."""
        self.config = config
        self.stopping = stopping or threading.Event()
        self.files = DiskFiles()
        self.layout = Layout(config.home)
        for folder in self.layout.folders():
            make_dirs(self.files, folder)
        self.transport = Transport(config.network, user_agent=f"aviary-agent/{__version__}")
        credentials = load_credentials(self.files, self.layout, config.device_id)
        self.client = DeviceClient(config, self.transport, credentials)
        self.trouble: dict[str, str] = {}
        """What does not work now, and why; an entry goes when it works again."""
        if is_owner:
            self.spool, self.no_spool = open_spool(self.layout.spool, config.spool)
        else:
            self.spool, self.no_spool = open_memory_spool(config.spool), ""
        self.uploader = Uploader(self.client, self.spool, config.spool)
        self.sampler = Sampler(
            config.sampling, self.layout.samples, self.files, monotonic=time.monotonic
        )
        self.downloader = Downloader(
            self.files, self.layout, self.transport, config.install, sleep=self._sleep_after
        )
        self.trust = TrustKeeper(config, self.files, self.layout, self.transport)
        self.installer = self._make_installer()
        self.poller = Poller(config, self.client)
        self.sessions = Sessions(config, self.layout, self.files)
        self.slots = self.sessions.slots
        self.note_spool()

    def note_spool(self) -> None:
        """Says in `trouble` where the records are, when that is not on the disk."""
        reason = self.spool.file.trouble or self.no_spool
        if reason:
            self.trouble["spool"] = reason
        else:
            self.trouble.pop("spool", None)

    def close(self) -> None:
        self.spool.close()

    def enroll(self) -> str:
        """Enrols unless this was done before; returns the status the server gave."""
        if self.client.credentials is not None:
            return "accepted"
        # Here and below: what only enrolling and a new release need comes with them, for a device
        # that waits for its model should stay small.
        from edge_agent.inference.providers import list_available
        from edge_agent.install import delta, requirements

        features = ["delta-zstd"] if delta.is_supported() else []
        features += ["processor-wasm"] if requirements.has_sandbox() else []
        capabilities = describe_capabilities(list_available(), features)
        status = self.client.enroll(
            capabilities,
            self.files,
            self.layout,
            begin_trust=lambda root: self.trust.begin(root, now=self._believed_time()),
        )
        self.installer = self._make_installer()
        logger.info("device %s enrolled: %s", self.config.device_id, status)
        return status

    def sync(self) -> set[str]:
        """Polls, installs what is new and sends the events; returns the models that changed.

        Raises:
            TransferError: the server could not be asked; whatever runs goes on.
        """
        changed = set()
        answers = self.poller.poll(self.installer.state)
        self._forget_trouble(self.config.models or {slug for slug, _ in answers})
        if self.poller.server_time is not None:
            self.installer.journal.server_time = self.poller.server_time
        self._renew_trust([answer.get("trust") for _, answer in answers])
        for slug, answer in answers:
            try:
                if self.installer.apply(slug, answer):
                    changed.add(slug)
                self.trouble.pop(f"model {slug}", None)
            except StopRequested:
                raise
            except AgentError as error:
                # Asking again must bring the whole answer, or the retry would be a 304.
                self.poller.ask_anew(slug)
                self.trouble[f"model {slug}"] = f"{error.code}: {error}"
                logger.error("model %s: %s: %s", slug, error.code, error)
            except OSError as error:
                # A failing card, a file system that has become read-only: not this model's fault,
                # and no reason to leave the others without their turn.
                self.poller.ask_anew(slug)
                self.trouble[f"model {slug}"] = f"disk: {error}"
                logger.error("model %s: %s", slug, error)
        self.send_events()
        return changed

    def _renew_trust(self, hints: list[Any]) -> None:
        """Asks for the keys to believe when that is due; without news the known ones stay."""
        now, credentials = self._believed_time(), self.client.credentials
        enrolled = credentials.trust_keys if credentials else ()
        if not any(self.trust.is_due(hint, now=now) for hint in hints or [None]):
            return
        try:
            self.trust.refresh(enrolled, now=now)
            self.trouble.pop("trust", None)
        except (AgentError, OSError) as error:
            code = error.code if isinstance(error, AgentError) else "disk"
            self.trouble["trust"] = f"{code}: {error}"
            logger.error("trust: %s: %s", code, error)
        self.installer.trust(*self.trust.read_keys(enrolled, now=now))

    def _believed_time(self) -> datetime:
        return estimate_time(self.installer.journal.witnesses())

    def send_events(self) -> None:
        for assignment_id in self.uploader.upload_events():
            self.installer.cancel(assignment_id)

    def _forget_trouble(self, slugs: Collection[str]) -> None:
        """Forgets the trouble of models that are neither assigned nor installed."""
        kept = {f"model {slug}" for slug in slugs}
        for name in [name for name in self.trouble if name.startswith("model ")]:
            if name not in kept:
                del self.trouble[name]

    def load_sessions(self) -> None:
        """Makes the slots run what the state says; each swaps once its successor is loaded."""
        self.sessions.load(self.installer)

    def open_session(self, slug: str, inference: InferenceConfig | None = None) -> "ModelSession":
        """A session of the model's current release, under `inference` or else the settings.

        Raises:
            InferenceError: there is none, or the runtime refuses it.
            ProviderError: strict, and the requested providers would not run all of it.
            BlobCorruptError: its files are not what was signed; nothing of them was loaded.
        """
        return self.sessions.open(self.installer, slug, inference)

    def _make_installer(self) -> Installer:
        credentials = self.client.credentials
        installer = Installer(
            files=self.files,
            layout=self.layout,
            config=self.config.install,
            device_id=self.config.device_id,
            trust_keys=credentials.trust_keys if credentials else (),
            fetch_file=FileSource(self.client, self.downloader, server_url=self.config.server_url),
            self_test=self._self_test,
            check_requirements=self._check_requirements,
            events=self.spool.events,
        )
        enrolled = credentials.trust_keys if credentials else ()
        now = estimate_time(installer.journal.witnesses())
        installer.trust(*self.trust.read_keys(enrolled, now=now))
        return installer

    def _self_test(self, manifest: Manifest) -> SelfTestResult:
        from edge_agent.install import selftest

        return selftest.examine_release(
            manifest, config=self.config, layout=self.layout, files=self.files
        )

    def _check_requirements(self, manifest: Manifest) -> None:
        from edge_agent.install import requirements

        requirements.check_requirements(manifest, requirements.read_abilities())

    def _sleep_after(self, failures: int) -> None:
        network = self.config.network
        delay = backoff_delay_s(
            failures, base_s=network.backoff_base_s, max_s=network.backoff_max_s
        )
        if self.stopping.wait(delay):
            raise StopRequested


def require_enrolled(agent: Agent) -> None:
    if agent.client.credentials is None:
        if not agent.config.read_join_token():
            raise NotEnrolledError("not enrolled, and no join token is configured")
        agent.enroll()

"""Puts the parts together for one home: what `run`, `sync` and `rollback` work on."""

import importlib.util
import json
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_agent import __version__
from edge_agent.config import Config, InferenceConfig
from edge_agent.control.answers import (
    describe,
    find_address,
    read_assignments,
    read_date,
    read_etag,
    read_poll_after_s,
)
from edge_agent.control.backoff import backoff_delay_s
from edge_agent.control.client import (
    DeviceClient,
    describe_capabilities,
    load_credentials,
    read_memory_mb,
)
from edge_agent.control.transport import Transport
from edge_agent.exceptions import (
    AgentError,
    BlobCorruptError,
    InferenceError,
    NotEnrolledError,
    NotTheServerError,
    ProviderError,
    RequirementError,
    StateError,
    TransferError,
)
from edge_agent.files import DiskFiles, make_dirs
from edge_agent.inference.providers import list_available
from edge_agent.install import delta, selftest
from edge_agent.install.budget import Ledger
from edge_agent.install.download import Downloader
from edge_agent.install.installer import Installer, SelfTestResult
from edge_agent.observation.sampling import Sampler
from edge_agent.observation.spool import Spool, open_spool
from edge_agent.observation.upload import Uploader
from edge_agent.releases.bundles import place_files
from edge_agent.releases.state import Layout
from edge_agent.releases.trust import Manifest, ManifestFile, parse_version
from edge_agent.serving.slots import ModelSlot

if TYPE_CHECKING:
    from edge_agent.inference.session import ModelSession

logger = logging.getLogger(__name__)


class StopRequested(Exception):
    """The process was asked to end."""


class Agent:
    def __init__(self, config: Config, *, stopping: threading.Event | None = None) -> None:
        self.config = config
        self.stopping = stopping or threading.Event()
        self.files = DiskFiles()
        self.layout = Layout(config.home)
        for folder in self.layout.folders():
            make_dirs(self.files, folder)
        self.transport = Transport(config.network, user_agent=f"aviary-agent/{__version__}")
        credentials = load_credentials(self.files, self.layout, config.device_id)
        self.client = DeviceClient(config, self.transport, credentials)
        self.spool, no_spool = open_spool(self.layout.spool, config.spool)
        self.uploader = Uploader(self.client, self.spool, config.spool)
        self.sampler = Sampler(
            config.sampling, self.layout.samples, self.files, monotonic=time.monotonic
        )
        self.downloader = Downloader(
            self.files, self.layout, self.transport, config.install, sleep=self._sleep_after
        )
        self.installer = self._make_installer()
        self.slots: dict[str, ModelSlot] = {}
        self.trouble: dict[str, str] = {}
        """What does not work now, and why; an entry goes when it works again."""
        if no_spool:
            self.trouble["spool"] = f"disk_full: {no_spool}"
        self.poll_after_s = 5.0
        self._etags: dict[str, str] = {}

    def close(self) -> None:
        self.spool.close()

    def enroll(self) -> str:
        """Enrols unless this was done before; returns the status the server gave."""
        if self.client.credentials is not None:
            return "accepted"
        features = ["delta-zstd"] if delta.is_supported() else []
        features += ["processor-wasm"] if has_sandbox() else []
        capabilities = describe_capabilities(list_available(), features)
        status = self.client.enroll(capabilities, self.files, self.layout)
        self.installer = self._make_installer()
        logger.info("device %s enrolled: %s", self.config.device_id, status)
        return status

    def sync(self) -> set[str]:
        """Polls, installs what is new and sends the events; returns the models that changed.

        Raises:
            TransferError: the server could not be asked; whatever runs goes on.
        """
        changed = set()
        answers = self._poll()
        self._forget_trouble(self.config.models or {slug for slug, _ in answers})
        for slug, answer in answers:
            try:
                if self.installer.apply(slug, answer):
                    changed.add(slug)
                self.trouble.pop(f"model {slug}", None)
            except StopRequested:
                raise
            except AgentError as error:
                # Asking again must bring the whole answer, or the retry would be a 304.
                self._etags.pop(slug, None)
                self.trouble[f"model {slug}"] = f"{error.code}: {error}"
                logger.error("model %s: %s: %s", slug, error.code, error)
            except OSError as error:
                # A failing card, a file system that has become read-only: not this model's fault,
                # and no reason to leave the others without their turn.
                self._etags.pop(slug, None)
                self.trouble[f"model {slug}"] = f"disk: {error}"
                logger.error("model %s: %s", slug, error)
        self.send_events()
        return changed

    def _forget_trouble(self, slugs: Collection[str]) -> None:
        """Of models that nobody speaks of any more."""
        kept = {f"model {slug}" for slug in slugs}
        for name in [name for name in self.trouble if name.startswith("model ")]:
            if name not in kept:
                del self.trouble[name]

    def send_events(self) -> None:
        for assignment_id in self.uploader.upload_events():
            self.installer.cancel(assignment_id)

    def load_sessions(self) -> None:
        """Makes the slots run what the state says; each swaps once its successor is loaded."""
        before = self._running()
        for slug, model in self.installer.state.models.items():
            slot = self.slots.setdefault(slug, ModelSlot())
            running = slot.session.manifest.digest if slot.session else ""
            if model.current is None:
                slot.swap(None)
            elif model.current.manifest_sha256 != running:
                self._load(slug, slot)
        if self._running() != before:
            self._prune_cache()

    def open_session(self, slug: str, inference: InferenceConfig | None = None) -> "ModelSession":
        """A session of the model's current release, under `inference` or else the settings.

        Raises:
            InferenceError: there is none, or the runtime refuses it.
            ProviderError: strict, and the requested providers would not run all of it.
            BlobCorruptError: its files are not what was signed; nothing of them was loaded.
        """
        model = self.installer.state.model(slug)
        if model.current is None:
            raise InferenceError(f"model {slug} has no committed release")
        if not self.installer.holdings.is_whole(model.current):
            raise BlobCorruptError(f"release {model.current.version} of {slug} is damaged on disk")
        manifest = self.installer.holdings.load_manifest(model.current.manifest_sha256)
        path = place_files(manifest, self.layout, self.files)
        # numpy and the runtime come with it: an agent without a model does not pay for them.
        from edge_agent.inference.session import ModelSession

        session = ModelSession(
            path, manifest, inference or self.config.inference, cache=self.layout.optimised
        )
        guest = manifest.file_of_role("processor")
        if guest is not None:
            from edge_agent.sandbox.compiled import CompiledCache
            from edge_agent.sandbox.processor import open_processor

            module = self.files.read(self.layout.blob(guest.sha256)) or b""
            cache = CompiledCache(self.layout.optimised)
            session.processor = open_processor(session, module, self.config.sandbox, cache)
        return session

    def _running(self) -> set[str]:
        return {slot.session.manifest.digest for slot in self.slots.values() if slot.session}

    def _prune_cache(self) -> None:
        """Removes what was made for releases that are neither kept, as blobs are, nor running."""
        from edge_agent.inference.loading import prune_cache
        from edge_agent.sandbox.compiled import CompiledCache

        kept = self.installer.state.kept_manifests() | self._running()
        prune_cache(self.layout.optimised, kept)
        try:
            manifests = [self.installer.holdings.load_manifest(digest) for digest in kept]
        except BlobCorruptError:
            return  # which modules it uses is not known
        guests = [manifest.file_of_role("processor") for manifest in manifests]
        CompiledCache(self.layout.optimised).prune({guest.sha256 for guest in guests if guest})

    def _load(self, slug: str, slot: ModelSlot) -> None:
        try:
            slot.swap(self.open_session(slug))
            return
        except ProviderError as error:
            slot.refusal = f"{error.code}: {error}"
            logger.error("model %s does not load: %s", slug, error)
            return  # strict mode: no other release would fare better
        except OSError as error:
            # This device's trouble, not the release's; the next sync tries again.
            logger.error("model %s cannot be read: %s", slug, error)
            return
        except BlobCorruptError as error:
            logger.error("%s", error)
            self.installer.mend(slug)
        except AgentError as error:
            logger.error("model %s does not load: %s", slug, error)
            if not self.installer.roll_back(slug, code=error.code, detail="does not load"):
                return
        try:
            slot.swap(self.open_session(slug))
        except (AgentError, OSError) as error:
            logger.error("model %s: its fallback does not load: %s", slug, error)

    def _poll(self) -> list[tuple[str, dict[str, Any]]]:
        if not self.config.models:
            answer = self.client.get_desired()
            rows = read_assignments(answer.body)
            self._note_poll(answer.body.get("poll_after_s"))
            self._note_time(answer.headers.get("Date", ""))
            return rows
        found = []
        for slug in self.config.models:
            model = self.installer.state.models.get(slug)
            running = model.current.manifest_sha256 if model and model.current else ""
            # "Nothing new" is only an answer for a device that has done what the last one said.
            is_settled = model is not None and (
                running == model.manifest_sha256 or model.manifest_sha256 in model.blocked
            )
            etag = self._etags.get(slug, "") if is_settled else ""
            answer = self.client.get_latest(slug, etag=etag, running_digest=running)
            if answer.status in (204, 304):
                self._note_poll(answer.headers.get("X-Poll-After"))
            elif isinstance(answer.body, dict):
                self._etags[slug] = read_etag(answer.headers.get("ETag"))
                self._note_poll(answer.body.get("poll_after_s"))
                found.append((slug, answer.body))
            else:
                raise NotTheServerError(f"expected an assignment, got {describe(answer.body)}")
            self._note_time(answer.headers.get("Date", ""))
        return found

    def _note_poll(self, value: Any) -> None:
        self.poll_after_s = read_poll_after_s(
            value, default=self.poll_after_s, most=self.config.install.max_poll_s
        )

    def _note_time(self, date: str) -> None:
        """The server's clock counts as trusted only over TLS, where nobody else can state it."""
        now = read_date(date) if self.config.server_url.startswith("https://") else None
        if now is not None:
            # Only the last one, and only in memory: a server whose clock was years ahead for a
            # while must not make every later assignment look expired.
            self.installer.server_time = now

    def _make_installer(self) -> Installer:
        credentials = self.client.credentials
        return Installer(
            files=self.files,
            layout=self.layout,
            config=self.config.install,
            device_id=self.config.device_id,
            trust_keys=credentials.trust_keys if credentials else (),
            fetch=self._fetch,
            self_test=self._self_test,
            check_requirements=self._check_requirements,
            events=self.spool,
        )

    def _fetch(self, file: ManifestFile, answer: dict[str, Any], ledger: Ledger) -> None:
        if self.downloader.has_blob(file):
            return
        offer = answer.get("delta")
        if (
            isinstance(offer, dict)
            and file.role == "model"
            and delta.is_supported()
            and delta.fetch(
                file, offer, self.downloader, server_url=self.config.server_url, ledger=ledger
            )
        ):
            return
        self.downloader.fetch(file, self._url_finder(file, answer), ledger=ledger)

    def _url_finder(self, file: ManifestFile, answer: dict[str, Any]) -> Callable[[bool], str]:
        slug = str(answer.get("model_id"))

        def find(is_expired: bool) -> str:
            current = answer
            if is_expired:
                fresh = self.client.get_latest(slug, etag="", running_digest="").body
                current = fresh if isinstance(fresh, dict) else answer
            return find_address(current, file.sha256, self.config.server_url)

        return find

    def _self_test(self, manifest: Manifest) -> SelfTestResult:
        golden, images = manifest.golden_file, manifest.processor_golden_file
        guest = manifest.file_of_role("processor")
        return selftest.run_self_test(
            self.files.read(self.layout.manifest(manifest.digest)) or b"",
            model_path=place_files(manifest, self.layout, self.files),
            golden_path=self.layout.blob(golden.sha256) if golden else None,
            inference=self.config.inference,
            install=self.config.install,
            cache=self.layout.optimised,
            processor_path=self.layout.blob(guest.sha256) if guest else None,
            processor_golden_path=self.layout.blob(images.sha256) if images else None,
            sandbox=self.config.sandbox,
        )

    def _check_requirements(self, manifest: Manifest) -> None:
        import platform

        import onnxruntime

        needs = manifest.document.get("requirements") or {}
        providers, arch = needs.get("providers") or [], needs.get("arch") or []
        if providers and not set(providers) & set(list_available()):
            raise RequirementError(f"needs one of {providers}, has {list_available()}")
        if arch and platform.machine() not in arch:
            raise RequirementError(f"needs {arch}, this is {platform.machine()}")
        if manifest.file_of_role("processor") is not None and not has_sandbox():
            raise RequirementError("its processor needs wasmtime: install aviary-edge-agent[wasm]")
        memory_mb = read_memory_mb()
        if memory_mb and memory_mb < int(needs.get("min_memory_mb") or 0):
            raise RequirementError(f"needs {needs['min_memory_mb']} MB, has {memory_mb}")
        runtime = str(needs.get("min_runtime") or "0")
        if parse_version(onnxruntime.__version__) < parse_version(runtime):
            raise RequirementError(f"needs runtime {runtime}, has {onnxruntime.__version__}")

    def _sleep_after(self, failures: int) -> None:
        network = self.config.network
        delay = backoff_delay_s(
            failures, base_s=network.backoff_base_s, max_s=network.backoff_max_s
        )
        if self.stopping.wait(delay):
            raise StopRequested


def has_sandbox() -> bool:
    """True when this installation has the runtime of guest modules; without loading it."""
    return importlib.util.find_spec("wasmtime") is not None


def require_enrolled(agent: Agent) -> None:
    if agent.client.credentials is None:
        if not agent.config.read_join_token():
            raise NotEnrolledError("not enrolled, and no join token is configured")
        agent.enroll()


def describe_state(config: Config) -> dict[str, Any]:
    """What `status` prints: read from disk alone, so that it works beside a running agent.

    Raises:
        StateError: state.json is damaged; a restarted agent rebuilds it.
    """
    layout, files = Layout(config.home), DiskFiles()
    data = files.read(layout.state)
    try:
        models = json.loads(data)["models"] if data else {}
    except (ValueError, TypeError, KeyError) as error:
        raise StateError(
            f"the state in {layout.home} is damaged ({error}); restart the agent: it rebuilds it"
        ) from error
    try:
        runtime = json.loads(files.read(layout.runtime) or b"{}")
    except ValueError:
        runtime = {}  # it is being written in place: see `Runner.write_runtime`
    rows = {}
    for slug, row in models.items():
        current = row["current"] or {}
        rows[slug] = {
            "version": current.get("version"),
            "variant": current.get("variant"),
            "manifest_sha256": current.get("manifest_sha256"),
            "state": "trial" if row["trial"] else "committed" if row["current"] else "none",
            "previous": row["previous"],
            "trial": row["trial"],
            "tries": row["tries"],
            "blocked": row["blocked"],
            "is_watched": row["is_watched"],
            "is_pinned": row["is_pinned"],
            "counter": row["counter"],
            "latency": runtime.get("latency", {}).get(slug),
        }
    return {
        "device_id": config.device_id,
        "agent_version": __version__,
        "is_enrolled": Path(layout.credentials).exists(),
        "models": rows,
        "spool": read_spool_stat(config, layout),
        "providers": {"available": list_available(), "active": runtime.get("providers", {})},
        "trouble": runtime.get("trouble", {}),
        "drift": runtime.get("drift", {}),
        "incidents": runtime.get("incidents", []),
    }


def read_spool_stat(config: Config, layout: Layout) -> dict[str, int]:
    if not layout.spool.exists():
        return {}
    try:
        spool = Spool(layout.spool, config.spool)
    except sqlite3.OperationalError:
        return {}  # a full disk: the agent's own trouble says so
    try:
        return spool.stat()
    finally:
        spool.close()


__all__ = ["Agent", "StopRequested", "TransferError", "describe_state", "require_enrolled"]

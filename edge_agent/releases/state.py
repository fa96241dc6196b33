"""What the agent knows across restarts: `state.json`, one writer, replaced atomically."""

import contextlib
import dataclasses
import errno
import fcntl
import hashlib
import json
import os
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from edge_agent.exceptions import DiskFullError, LockedError, StateError
from edge_agent.files import FileLayer, write_atomic


@dataclass
class Release:
    """One release of a model, by its manifest's digest, and the assignment that brought it."""

    manifest_sha256: str
    assignment_id: str = ""
    version: str = ""
    variant: str = ""


@dataclass
class Spending:
    """What fetching one release has taken of the network so far (`install/budget.py`)."""

    manifest_sha256: str
    bytes_taken: int = 0
    attempts: float = 0.0
    boot_id: str = ""
    since_boot_s: float = 0.0
    """When this was written: which boot, and the seconds since."""


@dataclass
class ModelState:
    current: Release | None = None
    previous: Release | None = None
    trial: Release | None = None
    tries: int = 0
    blocked: dict[str, str] = field(default_factory=dict)
    """Manifest digest to the reason why this device never runs it again."""
    is_watched: bool = False
    """The current release is young: it can still be rolled back on live evidence."""
    is_pinned: bool = False
    counter: int = 0
    manifest_sha256: str = ""
    action: str = ""
    spending: Spending | None = None
    """Of the release that is being fetched, or was last."""
    candidates: list[str] = field(default_factory=list)
    """After a lost state: manifest digests still to be tried, the likeliest first."""

    def forget_trial(self) -> None:
        self.trial, self.tries = None, 0


@dataclass
class AgentState:
    models: dict[str, ModelState] = field(default_factory=dict)
    trusted_time: str = ""
    """RFC 3339; the latest time that a signed assignment has stated (`trusted_time.py`)."""

    def model(self, slug: str) -> ModelState:
        return self.models.setdefault(slug, ModelState())

    def kept_manifests(self) -> set[str]:
        """Digests of the releases that may still run; whatever else is on the disk may go."""
        kept: set[str] = set()
        for model in self.models.values():
            releases = (model.current, model.previous, model.trial)
            kept |= {release.manifest_sha256 for release in releases if release}
            kept |= set(model.candidates)
        return kept


@dataclass(frozen=True)
class Decisions:
    """What this device and its people have decided about a model's releases, and nobody signed."""

    blocked: dict[str, str]
    pinned: str
    """The manifest's digest of the release that is held; empty when none is."""


def describe_decisions(state: AgentState) -> dict[str, Decisions]:
    """By model; those about which nothing was decided are left out."""
    found = {
        slug: Decisions(
            dict(model.blocked),
            model.current.manifest_sha256 if model.is_pinned and model.current else "",
        )
        for slug, model in state.models.items()
    }
    return {slug: row for slug, row in found.items() if row.blocked or row.pinned}


class Layout:
    """Where everything lies under the agent's home."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.lock = home / "lock"
        self.state = home / "state.json"
        self.decisions = home / "decisions.json"
        self.credentials = home / "credentials.json"
        self.nonce = home / "enrolment-nonce"
        self.runtime = home / "runtime.json"
        self.spool = home / "spool.db"
        self.incidents = home / "incidents.json"
        self.drift_past = home / "drift-past.json"
        self.blobs = home / "blobs"
        self.parts = home / "part"
        self.manifests = home / "manifests"
        self.assignments = home / "assignments"
        self.optimised = home / "opt"
        self.bundles = home / "bundles"
        self.requests = home / "requests"
        self.factory = home / "factory"
        self.samples = home / "samples"
        self.trust = home / "trust"

    def folders(self) -> list[Path]:
        return [
            self.home,
            self.blobs,
            self.parts,
            self.manifests,
            self.assignments,
            self.optimised,
            self.bundles,
            self.requests,
            self.factory,
            self.samples,
        ]

    def blob(self, sha256: str) -> Path:
        return self.blobs / sha256

    def part(self, sha256: str) -> Path:
        return self.parts / f"{sha256}.part"

    def patch(self, sha256: str) -> Path:
        """Of a patch that makes the file `sha256`. Named after what is signed: the patch's own
        digest is a hint, and could be that of any file here."""
        return self.parts / f"{sha256}.patch"

    def manifest(self, digest: str) -> Path:
        return self.manifests / f"{digest}.json"

    def assignment(self, slug: str) -> Path:
        """Of the last assignment acted on; the slug comes from the network, so it is hashed."""
        return self.assignments / f"{hashlib.sha256(slug.encode()).hexdigest()}.json"


class StateStore:
    """Reads and replaces `state.json`."""

    def __init__(self, files: FileLayer, layout: Layout) -> None:
        self.files = files
        self.layout = layout
        self._copied: dict[str, Decisions] | None = None

    def load(self) -> AgentState | None:
        """The state on disk, or None when there is none.

        Raises:
            StateError: the file is damaged. The atomic replacement cannot do that, a failing card
                can.
        """
        data = self.files.read(self.layout.state)
        if data is None:
            return None
        try:
            return parse_state(json.loads(data))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise StateError(f"state.json: {error}") from error

    def set_aside(self) -> None:
        """Keeps the damaged file as `state.corrupt`, for a person to look at."""
        if self.files.size(self.layout.state) is not None:
            self.files.rename(self.layout.state, self.layout.state.with_suffix(".corrupt"))

    def save(self, state: AgentState) -> None:
        """Makes `state` durable before it returns."""
        data = json.dumps(dataclasses.asdict(state), sort_keys=True, indent=1).encode()
        write_atomic(self.files, self.layout.state, data)
        self._copy_decisions(describe_decisions(state))

    def load_decisions(self) -> dict[str, Decisions]:
        """What the copy beside the state says, by model; nothing where it is missing or damaged."""
        data = self.files.read(self.layout.decisions) or b""
        digest, _, body = data.partition(b"\n")
        if hashlib.sha256(body).hexdigest().encode() != digest:
            return {}
        try:
            return {slug: Decisions(**row) for slug, row in json.loads(body).items()}
        except (ValueError, TypeError, AttributeError):
            return {}  # another version's

    def _copy_decisions(self, decisions: dict[str, Decisions]) -> None:
        """Keeps what no signature could tell again, when it has changed.

        Without a sync, for it is of use only once the state itself is lost: what is cut off with
        the power is a copy. Its digest tells a torn one.
        """
        if decisions == (self._copied if self._copied is not None else self.load_decisions()):
            self._copied = decisions
            return
        rows = {slug: dataclasses.asdict(row) for slug, row in decisions.items()}
        body = json.dumps(rows, sort_keys=True).encode()
        temporary = self.layout.decisions.with_suffix(".tmp")
        with contextlib.suppress(DiskFullError, OSError):
            digest = hashlib.sha256(body).hexdigest().encode()
            self.files.write(temporary, digest + b"\n" + body)
            self.files.rename(temporary, self.layout.decisions)
            self._copied = decisions


def parse_state(document: dict[str, Any]) -> AgentState:
    models = {}
    for slug, row in document["models"].items():
        row = {key: value for key, value in row.items() if key in ModelState.__dataclass_fields__}
        for slot in ("current", "previous", "trial"):
            if row.get(slot):
                row[slot] = Release(**row[slot])
        if row.get("spending"):
            row["spending"] = Spending(**row["spending"])
        models[slug] = ModelState(**row)
    trusted_time = str(document.get("trusted_time", ""))
    if trusted_time and datetime.fromisoformat(trusted_time).tzinfo is None:
        raise ValueError(f"trusted_time: expected a zone, got {trusted_time}")
    return AgentState(models=models, trusted_time=trusted_time)


class HomeLock:
    """Holds the agent's home for one process; the kernel frees it when the process dies."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def __enter__(self) -> "HomeLock":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if error.errno != errno.EROFS:
                raise
            # A disk that takes no more writes: the lock holds on a file that is only read, too.
            existing = self.path if self.path.exists() else self.path.parent
            descriptor = os.open(existing, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            raise LockedError(
                f"another agent holds {self.path}: the service does this itself; or stop it first"
            ) from error
        self._descriptor = descriptor
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)

"""The calls of the device protocol, as functions."""

import gzip
import json
import os
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from edge_agent.config import Config
from edge_agent.control.processor import read_instruction_sets
from edge_agent.control.transport import Answer, Transport
from edge_agent.exceptions import AnswerError, NotEnrolledError, NotTheServerError, PublishedError
from edge_agent.files import FileLayer, write_atomic
from edge_agent.releases.state import Layout
from edge_agent.releases.trust import TrustKey, parse_trust_keys
from edge_agent.version import __version__

TOKEN = re.compile(r"[\x21-\x7e]{1,1024}")
NONCE = re.compile(r"[0-9a-f]{64}")
MAX_RUNNING = 64
"""Models whose running release a poll names; the server takes no more."""


@dataclass(frozen=True)
class Credentials:
    device_id: str
    token: str
    trust_keys: tuple[TrustKey, ...]


def load_credentials(files: FileLayer, layout: Layout, device_id: str) -> Credentials | None:
    """What enrolment left on disk, or None when this device has not enrolled.

    Raises:
        NotEnrolledError: the file is damaged, or is another device's.
    """
    data = files.read(layout.credentials)
    if data is None:
        return None
    try:
        row = json.loads(data)
        found = Credentials(
            str(row["device_id"]), str(row["token"]), tuple(parse_trust_keys(row["trust_keys"]))
        )
    except (ValueError, KeyError, TypeError, AttributeError, PublishedError) as error:
        raise NotEnrolledError(
            f"{layout.credentials} is damaged ({error}); remove it and enrol with a new join token"
        ) from error
    if found.device_id != device_id:
        raise NotEnrolledError(f"credentials are of {found.device_id}, settings of {device_id}")
    return found


class DeviceClient:
    def __init__(
        self, config: Config, transport: Transport, credentials: Credentials | None
    ) -> None:
        self.config = config
        self.transport = transport
        self.credentials = credentials

    def enroll(
        self,
        capabilities: dict[str, Any],
        files: FileLayer,
        layout: Layout,
        *,
        begin_trust: Callable[[Any], None] = lambda root: None,
    ) -> str:
        """Trades the join token for credentials, which are stored; returns the status.

        A power cut between the server's answer and the store costs nothing: the nonce was durable
        before the call, and whoever brings it again is answered again.

        Args:
            begin_trust: is given the root of trust in the answer, before anything is stored.
        """
        nonce = keep_nonce(files, layout)
        body = {
            "device_id": self.config.device_id,
            "join_token": self.config.read_join_token(),
            "attributes": self.config.attributes,
            "capabilities": capabilities,
            "enrolment_nonce": nonce,
        }
        try:
            row = self._call("POST", "/api/devices/enroll", body=body, is_anonymous=True).body
        except AnswerError as error:
            if error.server_code != "device_exists":
                raise
            raise NotEnrolledError(
                f"another device has the name {self.config.device_id}: choose one with --device-id"
            ) from error
        token = row.get("token") if isinstance(row, dict) else None
        if not isinstance(token, str) or not TOKEN.fullmatch(token):
            raise NotTheServerError("enrolment answered without a token")
        keys = row.get("trust_keys")
        if not isinstance(keys, list) or not all(isinstance(key, dict) for key in keys):
            raise NotTheServerError("enrolment answered without a list of keys")
        if self.config.trust_keyids:
            keys = [key for key in keys if key.get("keyid") in self.config.trust_keyids]
        if not keys:
            raise NotEnrolledError("enrolment brought no key this device may trust")
        found = Credentials(self.config.device_id, token, tuple(parse_trust_keys(keys)))
        begin_trust(row.get("trust_root"))
        stored = {"device_id": self.config.device_id, "token": token, "trust_keys": keys}
        write_atomic(files, layout.credentials, json.dumps(stored).encode())
        # After the write: a token that was used and is lost with the memory would not come again.
        self.credentials = found
        # Not synced: a nonce that comes back has no use once the token was used.
        files.unlink(layout.nonce)
        return str(row.get("status", ""))

    def get_latest(self, model: str, *, etag: str, running_digest: str) -> Answer:
        """The assignment for `model`: 200 with one, 204 nothing assigned, 304 nothing new."""
        headers = {"X-Running-Digest": running_digest, "X-Agent-Version": __version__}
        if etag:
            headers["If-None-Match"] = etag
        query = urlencode({"device_id": self.config.device_id, "model": model})
        return self._call("GET", f"/api/models/latest?{query}", headers=headers)

    def get_desired(self, running: Mapping[str, str] | None = None) -> Answer:
        """One assignment per model; `running`: the manifest digest of each model that runs."""
        headers = {"X-Agent-Version": __version__}
        if running:
            pairs = list(running.items())[:MAX_RUNNING]
            headers["X-Running-Digests"] = ", ".join(f"{slug}={digest}" for slug, digest in pairs)
        return self._call("GET", "/api/models/desired", headers=headers)

    def post_events(self, assignment_id: str, events: list[dict[str, Any]]) -> Answer:
        path = f"/api/deployments/{quote(assignment_id, safe='')}/events"
        return self._call("POST", path, body=events)

    def post_telemetry(self, body: dict[str, Any]) -> Answer:
        return self._call("POST", "/api/devices/telemetry", body=body)

    def post_records(
        self, batch_id: str, records: list[dict[str, Any]], replaces: Sequence[str] = ()
    ) -> Answer:
        body = {"device_id": self.config.device_id, "batch_id": batch_id, "records": records}
        if replaces:
            body["replaces"] = list(replaces)
        return self._call("POST", "/api/ingest", body=body, is_compressed=True)

    def post_summaries(self, source: str, summaries: list[dict[str, Any]]) -> Answer:
        body = {"device_id": self.config.device_id, "source": source, "summaries": summaries}
        return self._call("POST", "/api/summaries", body=body, is_compressed=True)

    def post_samples(self, model: str, manifest_sha256: str, body: bytes) -> Answer:
        """Sends an npz of sampled inputs; 202 also when it was sent before."""
        query = urlencode({"model": model, "manifest": manifest_sha256})
        return self._send(
            "POST",
            f"/api/devices/samples?{query}",
            headers={"Content-Type": "application/octet-stream"},
            body=body,
        )

    def _call(
        self,
        method: str,
        path: str,
        *,
        headers: dict[str, str] | None = None,
        body: Any = None,
        is_anonymous: bool = False,
        is_compressed: bool = False,
    ) -> Answer:
        sent = dict(headers or {})
        data = None
        if body is not None:
            data = json.dumps(body, separators=(",", ":"), allow_nan=False).encode()
            sent["Content-Type"] = "application/json"
            if is_compressed and len(data) > 512:
                data = gzip.compress(data, compresslevel=5, mtime=0)
                sent["Content-Encoding"] = "gzip"
        return self._send(method, path, headers=sent, body=data, is_anonymous=is_anonymous)

    def _send(
        self,
        method: str,
        path: str,
        *,
        headers: dict[str, str],
        body: bytes | None,
        is_anonymous: bool = False,
    ) -> Answer:
        sent = {**headers, "Accept": "application/json"}
        if not is_anonymous:
            if self.credentials is None:
                raise NotEnrolledError("this device has not enrolled")
            sent["Authorization"] = f"Bearer {self.credentials.token}"
        return self.transport.call(
            method, self.config.server_url.rstrip("/") + path, headers=sent, body=body
        )


def keep_nonce(files: FileLayer, layout: Layout) -> str:
    """The nonce of an enrolment under way, or a new one; durable before it is used."""
    known = (files.read(layout.nonce) or b"").decode("ascii", "replace")
    if NONCE.fullmatch(known):
        return known
    nonce = os.urandom(32).hex()
    write_atomic(files, layout.nonce, nonce.encode())
    return nonce


def describe_capabilities(providers: list[str], features: list[str]) -> dict[str, Any]:
    """What this device can run, for enrolment."""
    import onnxruntime

    return {
        "arch": platform.machine(),
        "isa": read_instruction_sets(),
        "providers": providers,
        "memory_mb": read_memory_mb(),
        "agent_version": __version__,
        "runtime_version": onnxruntime.__version__,
        "features": features,
    }


def read_memory_mb() -> int:
    """Memory fitted to this machine; 0 where /proc does not say."""
    try:
        with open("/proc/meminfo") as stream:
            return int(stream.readline().split()[1]) // 1024
    except (OSError, ValueError, IndexError):
        return 0

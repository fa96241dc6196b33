"""The signing service: a process of its own that signs what its policy allows, and nothing else."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from nacl.signing import VerifyKey

from registry.signer.client import SignerRefusedError, SignerUnavailableError, SocketSigner
from registry.signer.policy import (
    ASSIGNMENT_TYPE,
    AUDIT_ANCHOR_TYPE,
    MANIFEST_TYPE,
    MAX_MESSAGE_BYTES,
    RefusedError,
    check_message,
)
from registry.signing import pae

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def text(document: Any) -> bytes:
    return json.dumps(document).encode()


def assignment(days: float = 7) -> bytes:
    end = (NOW + timedelta(days=days)).isoformat()
    return pae(ASSIGNMENT_TYPE, text({"device_id": "edge-001", "expires_at": end}))


def metadata(kind: str, days: float = 1, **fields: Any) -> bytes:
    end = (NOW + timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return text({"_type": kind, "version": 3, "expires": end, **fields})


ALLOWED = {
    "manifest: a manifest": ("manifest", pae(MANIFEST_TYPE, b'{"model":"digits"}')),
    "manifest: the list of manifests": ("manifest", metadata("targets")),
    "assignment: an assignment": ("assignment", assignment()),
    "snapshot: a snapshot": ("snapshot", metadata("snapshot")),
    "timestamp: a timestamp": ("timestamp", metadata("timestamp")),
    "audit: an end of the chain": ("audit", pae(AUDIT_ANCHOR_TYPE, b'{"count":3}')),
}

REFUSED = {
    "a role that is offline": ("root", metadata("root"), "expected a role"),
    "a root by a timestamp key": ("timestamp", metadata("root"), "kind 'root'"),
    "a root by a manifest key": ("manifest", metadata("root"), "kind 'root'"),
    "a targets file by a snapshot key": ("snapshot", metadata("targets"), "kind 'targets'"),
    "an assignment by a manifest key": ("manifest", assignment(), "does not sign"),
    "a manifest by an assignment key": ("assignment", pae(MANIFEST_TYPE, b"{}"), "does not sign"),
    "an assignment for ever": ("assignment", assignment(days=400), "within 15 days"),
    "an assignment without an end": ("assignment", pae(ASSIGNMENT_TYPE, b"{}"), "time of expiry"),
    "a timestamp for ever": ("timestamp", metadata("timestamp", days=400), "within 15 days"),
    "delegations to other keys": (
        "manifest",
        metadata("targets", delegations={"keys": {}, "roles": [{"name": "assignments"}]}),
        "delegates to no role",
    ),
    "a manifest by an audit key": ("audit", pae(MANIFEST_TYPE, b"{}"), "does not sign"),
    "an end of the audit chain by a manifest key": (
        "manifest",
        pae(AUDIT_ANCHOR_TYPE, b"{}"),
        "does not sign",
    ),
    "metadata of no kind by an audit key": ("audit", b"{}", "kind None"),
    "text": ("manifest", b"hello", "not JSON"),
    "a list": ("manifest", b"[]", "expected an object"),
    "lengths that lie": (
        "assignment",
        assignment() + b" ",
        "lengths of the envelope",
    ),
    "a message without a bound": ("manifest", b" " * (MAX_MESSAGE_BYTES + 1), "at most"),
}


@pytest.mark.parametrize("case", ALLOWED)
def test_a_role_signs_its_own_documents(case: str) -> None:
    role, message = ALLOWED[case]
    assert check_message(role, message, now=NOW)


@pytest.mark.parametrize("case", REFUSED)
def test_a_role_signs_nothing_else(case: str) -> None:
    role, message, why = REFUSED[case]
    with pytest.raises(RefusedError, match=why):
        check_message(role, message, now=NOW)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[tuple[SocketSigner, subprocess.Popen[bytes]]]:
    yield from run_service(tmp_path)


def run_service(
    folder: Path, *options: str, environment: Mapping[str, str] | None = None
) -> Iterator[tuple[SocketSigner, subprocess.Popen[bytes]]]:
    path = folder / "signer.sock"
    command = [sys.executable, "-m", "registry.signer", "--keys", str(folder / "keys"), "serve"]
    process = subprocess.Popen(
        [*command, "--socket", str(path), *options],
        stderr=subprocess.PIPE,
        env={**os.environ, **(environment or {})},
    )
    try:
        signer = SocketSigner(path)
        while True:
            try:
                with socket.socket(socket.AF_UNIX) as probe:
                    probe.connect(str(path))
                break
            except OSError:
                assert process.poll() is None, process.stderr
        yield signer, process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def test_the_service_signs_over_its_socket(service: Any) -> None:
    signer, _ = service
    message = pae(MANIFEST_TYPE, b'{"model":"digits"}')
    public_key, signature = signer.sign("manifest", message)
    VerifyKey(public_key).verify(message, signature)
    assert signer.known_keys("manifest") == [public_key]


def test_the_service_refuses_and_goes_on(service: Any) -> None:
    signer, _ = service
    with pytest.raises(SignerRefusedError, match="expected a role"):
        signer.sign("root", b"{}")
    with pytest.raises(SignerRefusedError, match="kind 'root'"):
        signer.sign("timestamp", metadata("root"))
    assert signer.known_keys("timestamp")


def test_a_malformed_request_ends_nothing(service: Any, tmp_path: Path) -> None:
    signer, _ = service
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(tmp_path / "signer.sock"))
        stream = connection.makefile("rwb")
        for line in (b"\n", b"{}\n", b"[]\n", b'{"op":"sign","role":"manifest","message":7}\n'):
            stream.write(line)
            stream.flush()
            assert "error" in json.loads(stream.readline())
    assert signer.known_keys("manifest")


def test_a_client_goes_on_after_the_service_was_restarted(tmp_path: Path) -> None:
    first = run_service(tmp_path)
    signer, _ = next(first)
    before = signer.known_keys("manifest")
    first.close()
    with pytest.raises(SignerUnavailableError, match="does not answer"):
        signer.known_keys("manifest")
    second = run_service(tmp_path)
    next(second)
    assert signer.known_keys("manifest") == before
    second.close()


def test_another_user_is_not_served(tmp_path: Path) -> None:
    running = run_service(tmp_path, "--allow-uid", str(os.getuid() + 1))
    signer, _ = next(running)
    with pytest.raises(SignerUnavailableError):
        signer.known_keys("manifest")
    running.close()


def test_every_signature_is_in_the_log(tmp_path: Path) -> None:
    running = run_service(tmp_path)
    signer, process = next(running)
    signer.sign("manifest", pae(MANIFEST_TYPE, b'{"model":"digits","version":"1.2.0"}'))
    process.send_signal(signal.SIGTERM)
    assert process.stderr is not None
    log = process.stderr.read()
    running.close()
    assert b"signed as manifest: manifest of digits 1.2.0" in log


def test_the_service_needs_no_django() -> None:
    code = "import registry.signer.__main__, sys; print('django' in sys.modules)"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "False"

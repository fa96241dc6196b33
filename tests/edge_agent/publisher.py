"""A control plane of a few lines: signs documents and serves them over real HTTP."""

import base64
import gzip
import hashlib
import io
import json
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from typing import Any

import numpy as np
import onnx
import onnxruntime
from nacl.signing import SigningKey
from onnx import TensorProto, helper, numpy_helper

from edge_agent.releases.trust import ASSIGNMENT_TYPE, MANIFEST_TYPE, encode_pae, parse_trust_keys
from servers.threaded import ThreadedServer

MANIFEST_KEY = SigningKey(b"m" * 32)
ASSIGNMENT_KEY = SigningKey(b"a" * 32)
STRANGER_KEY = SigningKey(b"s" * 32)
MODEL = "digits-cnn"
DEVICE = "edge-001"
TOKEN = "device-token"


def make_trust_rows() -> list[dict[str, Any]]:
    rows = []
    for key, role in ((MANIFEST_KEY, "manifest"), (ASSIGNMENT_KEY, "assignment")):
        raw = bytes(key.verify_key)
        rows.append(
            {
                "keyid": hashlib.sha256(raw).hexdigest(),
                "algorithm": "ed25519",
                "public_key": base64.b64encode(raw).decode(),
                "roles": [role],
            }
        )
    return rows


TRUST_KEYS = tuple(parse_trust_keys(make_trust_rows()))


def seal(document: Any, payload_type: str, key: SigningKey) -> dict[str, Any]:
    payload = (
        document
        if isinstance(document, bytes)
        else json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    )
    signature = key.sign(encode_pae(payload_type, payload)).signature
    return {
        "payloadType": payload_type,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [
            {
                "keyid": hashlib.sha256(bytes(key.verify_key)).hexdigest(),
                "sig": base64.b64encode(signature).decode(),
            }
        ],
    }


def make_model(*, seed: int = 0, bias: float = 0.0, takes_logarithm: bool = False) -> bytes:
    """A linear classifier of four numbers into three classes.

    With `takes_logarithm` it answers negative inputs with NaN.
    """
    first = helper.make_node("Log" if takes_logarithm else "Identity", ["input"], ["x"])
    weights = np.random.default_rng(seed).normal(size=(4, 3)).astype(np.float32)
    graph = helper.make_graph(
        [first, helper.make_node("Gemm", ["x", "w", "b"], ["logits"])],
        "linear",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
        [
            numpy_helper.from_array(weights, "w"),
            numpy_helper.from_array(np.full(3, bias, dtype=np.float32), "b"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def make_golden(model: bytes, *, offset: float = 0.0, truth: Sequence[int] | None = None) -> bytes:
    x = np.random.default_rng(9).uniform(0.1, 2.0, size=(5, 4)).astype(np.float32)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    stream = io.BytesIO()
    arrays = {"input_input": x, "output_logits": session.run(None, {"input": x})[0] + offset}
    if truth is not None:
        arrays["truth"] = np.asarray(truth)
    np.savez(stream, **arrays)
    return stream.getvalue()


def make_manifest(contents: dict[str, tuple[str, bytes]], **over: Any) -> dict[str, Any]:
    """`contents` maps a path to its role and bytes."""
    document = {
        "schema": "aviary.manifest/1",
        "model": MODEL,
        "version": "1.0.0",
        "sequence": 1,
        "variant": "fp32",
        "task": "classification",
        "files": [
            {
                "path": path,
                "role": role,
                "sha256": hashlib.sha256(data).hexdigest(),
                "size_bytes": len(data),
            }
            for path, (role, data) in contents.items()
        ],
        "inputs": [{"name": "input", "dtype": "float32", "shape": ["batch", 4]}],
        "outputs": [{"name": "logits", "dtype": "float32", "shape": ["batch", 3]}],
        "opset": 17,
        "labels": ["a", "b", "c"],
        "preprocessing": {},
        "postprocessing": {"scores_output": "logits", "activation": "softmax"},
        "requirements": {"providers": ["cpu"], "arch": [], "min_memory_mb": 0, "min_runtime": ""},
        "baseline_sha256": None,
        "golden": {"path": "golden.npz", "atol": 0.001, "rtol": 0.001, "min_fraction": 1.0},
        "min_agent_version": "0.1.0",
    }
    return {**document, **over}


def make_assignment(manifest_sha256: str, **over: Any) -> dict[str, Any]:
    now = datetime.now(UTC).replace(microsecond=0)
    document = {
        "schema": "aviary.assignment/1",
        "assignment_id": f"{MODEL}.{over.get('counter', 1)}.{manifest_sha256[:12]}",
        "device_id": DEVICE,
        "model": MODEL,
        "manifest_sha256": manifest_sha256,
        "counter": 1,
        "floor_sequence": 1,
        "action": "install",
        "issued_at": now.isoformat(),
        "expires_at": (now + timedelta(days=7)).isoformat(),
    }
    return {**document, **over}


def make_answer(
    contents: dict[str, tuple[str, bytes]],
    *,
    base_url: str = "http://server",
    manifest: dict[str, Any] | None = None,
    assignment: dict[str, Any] | None = None,
) -> dict[str, Any]:
    document = make_manifest(contents, **(manifest or {}))
    envelope = seal(document, MANIFEST_TYPE, MANIFEST_KEY)
    digest = hashlib.sha256(base64.b64decode(envelope["payload"])).hexdigest()
    signed = make_assignment(digest, **(assignment or {}))
    files = [{**row, "url": f"{base_url}/blobs/{row['sha256']}"} for row in document["files"]]
    return {
        "model_id": MODEL,
        "version": document["version"],
        "variant": document["variant"],
        "sha256": files[0]["sha256"],
        "size_bytes": files[0]["size_bytes"],
        "download_url": files[0]["url"],
        "files": files,
        "manifest": envelope,
        "assignment": seal(signed, ASSIGNMENT_TYPE, ASSIGNMENT_KEY),
        "assignment_id": signed["assignment_id"],
        "delta": None,
        "poll_after_s": 0.3,
    }


class Server:
    """Serves answers, blobs and ingest; a hook takes a path pattern over, to misbehave."""

    def __init__(self) -> None:
        self.answer: dict[str, Any] | None = None
        self.etag = 0
        self.blobs: dict[str, bytes] = {}
        self.hooks: list[tuple[str, Callable[[Any], bool]]] = []
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.events: list[dict[str, Any]] = []
        self.batches: dict[str, list[dict[str, Any]]] = {}
        self.telemetry: list[dict[str, Any]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.handle(self)

            def do_POST(self) -> None:
                outer.handle(self)

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadedServer(Handler)
        self.url = self._http.url

    def close(self) -> None:
        self._http.close()

    def publish(
        self,
        model: bytes,
        *,
        golden: bytes | None = None,
        extra: dict[str, tuple[str, bytes]] | None = None,
        counter: int = 1,
        sequence: int = 1,
        version: str = "1.0.0",
        assignment: dict[str, Any] | None = None,
        **manifest: Any,
    ) -> str:
        """Assigns a release to the device; returns the manifest's digest."""
        contents = {"model.onnx": ("model", model), **(extra or {})}
        contents["golden.npz"] = ("golden", golden or make_golden(model))
        for _, data in contents.values():
            self.blobs[hashlib.sha256(data).hexdigest()] = data
        self.answer = make_answer(
            contents,
            base_url=self.url,
            manifest={"sequence": sequence, "version": version, **manifest},
            assignment={"counter": counter, **(assignment or {})},
        )
        self.etag += 1
        payload = base64.b64decode(self.answer["manifest"]["payload"])
        return hashlib.sha256(payload).hexdigest()

    def handle(self, request: Any) -> None:
        length = int(request.headers.get("Content-Length") or 0)
        body = request.rfile.read(length)
        self.requests.append((request.command, request.path, dict(request.headers)))
        for pattern, hook in self.hooks:
            if re.search(pattern, request.path) and hook(request):
                return
        path = request.path.split("?")[0]
        if request.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        if path.startswith("/blobs/"):
            self.send_blob(request, self.blobs[path.removeprefix("/blobs/")])
        elif path == "/healthz":
            self.send_json(request, 200, {"status": "ok"})
        elif path == "/api/devices/enroll":
            answer = {"device_id": DEVICE, "token": TOKEN, "status": "accepted"}
            answer |= {"trust_keys": make_trust_rows(), "poll_after_s": 1}
            self.send_json(request, 201, answer)
        elif path.startswith("/api/trust/"):
            self.send_json(request, 404, {"code": "not_found", "message": path, "details": {}})
        elif request.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.send_json(request, 401, {"code": "unauthorized", "message": "", "details": {}})
        elif path == "/api/models/latest":
            etag = f'"{self.etag}"'
            if self.answer is None:
                self.send(request, 204, b"")
            elif request.headers.get("If-None-Match") == etag:
                self.send(request, 304, b"")
            else:
                self.send_json(request, 200, self.answer, {"ETag": etag})
        elif path == "/api/models/desired":
            rows = [self.answer] if self.answer else []
            self.send_json(request, 200, {"assignments": rows, "poll_after_s": 1})
        elif path.endswith("/events"):
            self.events += json.loads(body)
            self.send_json(request, 200, {"accepted": 1, "duplicates": 0})
        elif path == "/api/ingest":
            row = json.loads(body)
            replaced = [self.batches.get(name) for name in row.get("replaces", ())]
            is_new = row["batch_id"] not in self.batches and not any(replaced)
            for name in row.get("replaces", ()):
                self.batches.setdefault(name, [])
            if is_new:
                self.batches[row["batch_id"]] = row["records"]
            count = len(row["records"])
            counts = {"accepted": count if is_new else 0, "duplicates": 0 if is_new else count}
            self.send_json(request, 200, {**counts, "rejected": []})
        elif path == "/api/devices/telemetry":
            self.telemetry.append(json.loads(body))
            self.send_json(request, 200, {})
        else:
            self.send_json(request, 404, {"code": "not_found", "message": path, "details": {}})

    def send_blob(self, request: Any, data: bytes) -> None:
        match = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
        if not match:
            self.send(request, 200, data)
        elif int(match[1]) >= len(data):
            self.send(request, 416, b"")
        else:
            start = int(match[1])
            content_range = f"bytes {start}-{len(data) - 1}/{len(data)}"
            self.send(request, 206, data[start:], {"Content-Range": content_range})

    def send_json(
        self, request: Any, status: int, body: Any, headers: dict[str, str] | None = None
    ) -> None:
        data = json.dumps(body).encode()
        self.send(request, status, data, {"Content-Type": "application/json", **(headers or {})})

    def send(
        self, request: Any, status: int, data: bytes, headers: dict[str, str] | None = None
    ) -> None:
        request.send_response(status)
        for name, value in (headers or {}).items():
            request.send_header(name, value)
        if status not in (204, 304):
            request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)

    def states(self) -> list[tuple[str, str]]:
        return [(event["state"], event["code"]) for event in self.events]

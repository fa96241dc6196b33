"""The optional local HTTP endpoint: other programs on the device ask the running release.

    GET  /v1/healthz               200 when a release runs, else 503
    GET  /v1/models                what runs, with inputs, labels and latency
    GET  /metrics                  numbers for Prometheus
    POST /v1/models/<slug>/infer   npy or JSON in; JSON, or npy of the scores, out
    /v2/…                          the same by the Open Inference Protocol (`open_inference.py`)

It answers this machine alone unless a token is set. Threads, waiting connections, bytes and time
are bounded: a client that hangs or floods costs the others a 503, never the agent its memory.
"""

import hmac
import json
import logging
import socket
import sqlite3
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from edge_agent.config import ServeConfig
from edge_agent.exceptions import AgentError, InferenceError, InputError, NoModelError
from edge_agent.serving import prometheus
from edge_agent.serving.listener import Listener, encode_error
from edge_agent.serving.serving import Serving

if TYPE_CHECKING:
    from edge_agent.inference.session import ModelSession

logger = logging.getLogger(__name__)
POLL_S = 0.1


class RefusedError(AgentError):
    """A request that ends before the model is asked."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class Endpoint:
    """Listens from `start` to `stop`."""

    def __init__(
        self, config: ServeConfig, serving: Serving, trouble: Mapping[str, str] | None = None
    ) -> None:
        """`trouble`: the parts that do not work, as they are while this listens."""
        self.config = config
        self._server = Listener(config, serving, Handler)
        self._server.trouble = trouble or {}
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(POLL_S,), name="endpoint", daemon=True
        )

    @property
    def address(self) -> str:
        """Where it listens: a URL, or the socket's path."""
        if self.config.unix_socket:
            return self.config.unix_socket
        host, port = self._server.socket.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def start(self) -> None:
        self._server.start_workers()
        self._thread.start()
        logger.info("endpoint listens on %s", self.address)

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "aviary-agent"
    sys_version = ""
    server: Listener

    def setup(self) -> None:
        self.request.settimeout(self.server.config.timeout_s)
        if self.server.address_family != socket.AF_UNIX:
            self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._has_answered = False
        super().setup()

    def handle_one_request(self) -> None:
        self.server.set_deadline(self.request, is_idle=self._has_answered)
        super().handle_one_request()

    def parse_request(self) -> bool:
        self.server.set_deadline(self.request)
        return super().parse_request()

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the base class finds wrong with a request, in the one error shape."""
        self.close_connection = True
        body = encode_error("bad_request", message or self.responses[code][0])
        self._send(code, "application/json", body, {})

    def log_message(self, format: str, *args: Any) -> None:
        logger.debug(format, *args)

    def _answer(self, call: Any) -> None:
        try:
            self._check_caller()
            status, kind, body, headers = call(urlsplit(self.path).path)
        except RefusedError as error:
            # What was not read would be taken for the next request.
            self.close_connection = True
            status, kind, headers = error.status, "application/json", {}
            body = encode_error(error.code, str(error))
            if self.path.startswith("/v2/"):
                body = json.dumps({"error": str(error)}).encode()
        self._send(status, kind, body, headers)

    def _get(self, path: str) -> tuple[int, str, bytes, dict[str, str]]:
        sessions = [slot.session for slot in list(self.server.serving.slots.values())]
        running = [session for session in sessions if session is not None]
        if path == "/v1/healthz":
            row: Any = {"status": "ok" if running else "no_model", "models": len(running)}
            return 200 if running else 503, "application/json", json.dumps(row).encode(), {}
        if path == "/v1/models":
            rows = []
            if running:
                from edge_agent.serving.wire import describe_session

                rows = [describe_session(session) for session in running]
            return 200, "application/json", json.dumps({"models": rows}).encode(), {}
        if path == "/metrics":
            return 200, prometheus.KIND, self._describe_numbers(running), {}
        if path == "/v2" or path.startswith("/v2/"):
            return self._get_open(path, bool(running))
        raise RefusedError(404, "not_found", f"no such path: {path[:200]}")

    def _get_open(self, path: str, is_ready: bool) -> tuple[int, str, bytes, dict[str, str]]:
        from edge_agent.serving import open_inference

        row: Any = None
        match path.strip("/").split("/")[1:]:
            case []:
                row = open_inference.describe_server()
            case ["health", "live"]:
                row = {"live": True}
            case ["health", "ready"]:
                if not is_ready:
                    raise RefusedError(503, "no_model", "no model has a running release")
                row = {"ready": True}
            case ["models", name, *rest]:
                words, is_asked = (rest[:-1], True) if rest[-1:] == ["ready"] else (rest, False)
                session = self._find_open(name, words)
                row = {"name": session.manifest.model, "ready": True}
                if not is_asked:
                    row = open_inference.describe_model(session)
            case _:
                raise RefusedError(404, "not_found", f"no such path: {path[:200]}")
        return 200, "application/json", json.dumps(row).encode(), {}

    def _find_open(self, name: str, words: list[str]) -> "ModelSession":
        """The running session of a model; `words` are empty or `versions` and its version."""
        slug = unquote(name)
        self._check_known(slug)
        try:
            session = self.server.serving.find_session(slug)
        except NoModelError as error:
            raise RefusedError(503, error.code, str(error)) from error
        version = session.manifest.version
        if words and words != ["versions", version]:
            raise RefusedError(404, "unknown_model", f"{slug[:100]} runs version {version}")
        return session

    def _post_open(self, parts: list[str]) -> tuple[int, str, bytes, dict[str, str]]:
        from edge_agent.serving import open_inference

        data = self._read_body()
        session = self._find_open(parts[0], parts[1:-1])
        try:
            asked = open_inference.parse_request(
                data, self.headers.get(open_inference.HEADER_LENGTH)
            )
            slug = unquote(parts[0])
            answer = self.server.serving.infer(asked.inputs, model=slug, checks_inputs=True)
            body, headers = open_inference.format_answer(answer, session.output_names, asked)
        except InputError as error:
            raise RefusedError(400, error.code, str(error)) from error
        except NoModelError as error:
            raise RefusedError(503, error.code, str(error)) from error
        except InferenceError as error:
            raise RefusedError(500, error.code, str(error)) from error
        is_binary = open_inference.HEADER_LENGTH in headers
        kind = open_inference.BINARY if is_binary else "application/json"
        return 200, kind, body, headers

    def _check_known(self, slug: str) -> None:
        serving = self.server.serving
        is_pair = serving.chooser is not None and slug == serving.pair.name
        if slug not in serving.slots and slug not in serving.expected and not is_pair:
            raise RefusedError(404, "unknown_model", f"no model {slug[:100]} on this device")

    def _describe_numbers(self, running: "list[ModelSession]") -> bytes:
        serving = self.server.serving
        try:
            spool: dict[str, Any] = dict(serving.writer.spool.stat())
        except sqlite3.Error:
            spool = {}  # `trouble` says why
        return prometheus.render(
            [(s.manifest.model, s.manifest.version, s.latency.stats()) for s in running],
            spool,
            dict(serving.observer.resources),
            dict(self.server.trouble),
        )

    def _post(self, path: str) -> tuple[int, str, bytes, dict[str, str]]:
        parts = path.split("/")
        if parts[:3] == ["", "v2", "models"] and len(parts) in (5, 7) and parts[-1] == "infer":
            return self._post_open(parts[3:])
        if parts[:3] != ["", "v1", "models"] or len(parts) != 5 or parts[4] != "infer":
            raise RefusedError(404, "not_found", f"no such path: {path[:200]}")
        slug = unquote(parts[3])
        data = self._read_body()
        serving = self.server.serving
        self._check_known(slug)
        from edge_agent.reading.golden import to_array
        from edge_agent.serving import wire

        try:
            session = serving.find_session(slug)
            kind = self.headers.get_content_type()
            if kind == wire.NPY:
                inputs: Any = wire.parse_npy(data)
            elif kind == wire.JSON:
                inputs = wire.parse_json_inputs(data, session)
            else:
                expected = f"{wire.JSON} or {wire.NPY}"
                raise RefusedError(415, "unsupported_type", f"expected {expected}, got {kind}")
            if isinstance(inputs, dict) and len(inputs) == 1:
                # Only a single tensor goes through the cache.
                inputs = next(iter(inputs.values()))
            answer = serving.infer(inputs, model=slug, checks_inputs=True)
        except InputError as error:
            raise RefusedError(400, error.code, str(error)) from error
        except NoModelError as error:
            raise RefusedError(503, error.code, str(error)) from error
        except InferenceError as error:
            raise RefusedError(500, error.code, str(error)) from error
        digest = {"X-Manifest-Digest": answer.manifest.digest}
        if self.headers.get("Accept", "") == wire.NPY:
            row = wire.describe_answer(answer, None)
            scores = to_array(answer.result.outputs[session.reader.index])
            if scores is None:
                raise RefusedError(406, "not_acceptable", "this output is no array")
            return 200, wire.NPY, wire.format_npy(scores), {**digest, "X-Answer": json.dumps(row)}
        is_bare = "outputs=none" in urlsplit(self.path).query.split("&")
        row = wire.describe_answer(answer, None if is_bare else session.output_names)
        return 200, wire.JSON, json.dumps(row, allow_nan=False).encode(), digest

    def _check_caller(self) -> None:
        token = self.server.token
        if token:
            given = self.headers.get("Authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(given.encode(), token.encode()):
                raise RefusedError(401, "unauthorized", "expected the endpoint's bearer token")
        elif not self.server.config.unix_socket:
            # A web page that has its own name point here must not reach the device's model.
            host = self.headers.get("Host", "").rsplit(":", 1)[0].strip("[]")
            if host not in ("localhost", "127.0.0.1", "::1", self.server.config.host):
                raise RefusedError(403, "wrong_host", f"this is not {host[:100] or 'unnamed'}")

    def _read_body(self) -> bytes:
        limit = self.server.config.max_body_bytes
        if "Transfer-Encoding" in self.headers:
            raise RefusedError(411, "length_required", "expected Content-Length")
        text = self.headers.get("Content-Length", "")
        if not (text.isascii() and text.isdigit() and len(text) < 16):
            raise RefusedError(411, "length_required", "expected Content-Length")
        length = int(text)
        if length > limit:
            raise RefusedError(413, "too_large", f"expected at most {limit} bytes, got {length}")
        data = self.rfile.read(length)
        if len(data) != length:
            raise RefusedError(400, "body_truncated", f"expected {length} bytes, got {len(data)}")
        self.server.clear_deadline(self.request)
        return data

    def _send(self, status: int, kind: str, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
        self._has_answered = True

"""The application that the web server calls: reads bodies, then has Django answer in a lane.

It speaks RSGI, Granian's own interface, because only an event loop can wait for many slow bodies
and give each up in time. Django and the fast lane are behind it as a WSGI application.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import io
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import msgspec
from django.conf import settings
from granian.rsgi import ProtocolClosed, ProtocolError

from config.api import error_body
from config.front.bodies import (
    ArrivingBody,
    BodyTooLargeError,
    BodyTooSlowError,
    read_whole,
)
from config.front.credentials import is_known
from config.front.intake import Call, Intake, is_plain
from config.front.lanes import Lane, LaneFullError
from config.front.polls import PATH, Polls
from config.front.routes import Limits, Route, find_route
from config.logs import take_request_id
from config.metrics import CALL_SECONDS, CALLS, POLLS
from fleet.polling.heard import note_heard

logger = logging.getLogger(__name__)

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

#: An answer up to this size is sent in one piece, and its thread is free while it travels.
WHOLE_ANSWER_BYTES = 1024 * 1024
#: A caller that takes no piece of a longer answer for this long gets no more of it.
SEND_SECONDS = 20.0
RETRY_AFTER_SECONDS = 5
_PR_SET_PDEATHSIG = 1
_REMEMBERED = POLLS.labels(304)


class Refusal(Exception):
    """An answer that Django is not asked for."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


class Answer(NamedTuple):
    """What a WSGI application answered."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


class Front:
    """The RSGI application."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._lanes: dict[str, Lane] = {}

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lanes = make_lanes()
        self._intake = Intake(loop)
        self._polls = Polls()
        self._polls.start()
        die_with_parent()
        # What is loaded by now stays: the collector need not go through it again and again.
        gc.collect()
        gc.freeze()

    def __rsgi_del__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._polls.stop()

    async def __rsgi__(self, scope: Any, protocol: Any) -> None:
        try:
            if scope.path == PATH:
                etag = self._polls.recall(scope) if scope.method == "GET" else None
                if etag is not None:
                    _REMEMBERED.inc()
                    headers = [("ETag", etag), ("Cache-Control", "private, no-cache")]
                    protocol.response_empty(304, headers)
                    return
            await self._answer(scope, protocol)
        except Refusal as refusal:
            _refuse(protocol, refusal)
        except asyncio.CancelledError:
            raise
        except (ProtocolClosed, ProtocolError) as error:
            logger.info("%s %s: the caller is gone: %s", scope.method, scope.path, error)
        except Exception:
            logger.exception("%s %s was not answered", scope.method, scope.path)
            _refuse(protocol, Refusal(500, "internal_error", "The server failed."))

    async def _answer(self, scope: Any, protocol: Any) -> None:
        if scope.proto != "http":
            raise Refusal(400, "bad_request", "Only HTTP is spoken here.")
        note_heard()
        if scope.path == PATH and scope.method == "GET" and await self._poll(scope, protocol):
            return
        environ = make_environ(scope)
        environ["HTTP_X_REQUEST_ID"] = take_request_id(environ.get("HTTP_X_REQUEST_ID", ""))
        limits = Limits(settings.AVIARY_MAX_UPLOAD_BYTES, settings.AVIARY_INGEST_MAX_BYTES)
        route = find_route(
            scope.method,
            scope.path,
            scope.query_string,
            environ.get("CONTENT_TYPE", ""),
            limits,
        )
        receiving: asyncio.Task[None] | None = None
        arriving: ArrivingBody | None = None
        try:
            if has_body(environ):
                await self._check_body(route, environ)
                if route.is_streamed:
                    arriving = ArrivingBody(settings.AVIARY_BODY_SECONDS)
                    environ["wsgi.input"] = arriving
                    receiving = asyncio.create_task(arriving.receive(protocol, route.max_bytes))
                else:
                    body = await self._read(route, environ, protocol)
                    environ.pop("HTTP_TRANSFER_ENCODING", None)
                    environ["CONTENT_LENGTH"] = str(len(body))
                    environ["wsgi.input"] = io.BytesIO(body)
            began = self._loop.time()
            if route.is_intake and is_plain(environ):
                answer: Answer | None = await self._take_in(environ)
            else:
                work = partial(call_wsgi, self._application, environ, self._sender(protocol))
                answer = await self._run(route.lane, work)
                CALL_SECONDS.labels(route.lane).observe(self._loop.time() - began)
                CALLS.labels(route.lane, answer.status if answer else 200).inc()
        finally:
            if arriving is not None:
                arriving.stop()
            if receiving is not None:
                receiving.cancel()
        if answer is not None:
            _send(protocol, answer)

    async def _poll(self, scope: Any, protocol: Any) -> bool:
        """True when the poll was answered, and Django need not be asked."""
        if "content-length" in scope.headers or "transfer-encoding" in scope.headers:
            return False  # a body where none is meant is refused like any other
        try:
            answer = await self._polls.decide(scope)
        except LaneFullError as error:
            raise Refusal(503, "busy", f"Come back later: {error}") from None
        if answer is None:
            return False
        POLLS.labels(answer.status).inc()
        _send(protocol, Answer(*answer))
        return True

    async def _check_body(self, route: Route, environ: dict[str, Any]) -> None:
        """Refuses what is too long, or long and from nobody known, before a byte is read.

        Raises:
            Refusal
        """
        declared = environ.get("CONTENT_LENGTH", "")
        content_type = environ.get("CONTENT_TYPE", "").strip().lower()
        if content_type.startswith("multipart/") and not route.takes_files:
            raise Refusal(
                415, "unsupported_media_type", f"No form with files is taken here: {content_type}"
            )
        if declared and int(declared) > route.max_bytes:
            raise Refusal(
                413, "too_large", f"At most {route.max_bytes} bytes are taken; {declared} come."
            )
        if not declared and route.is_streamed:
            raise Refusal(411, "length_required", "A body of this kind needs a Content-Length.")
        if declared and int(declared) > route.free_bytes:
            await self._check_caller(route, environ)

    async def _check_caller(self, route: Route, environ: dict[str, Any]) -> None:
        look = partial(
            is_known,
            route.who,
            environ.get("HTTP_AUTHORIZATION", ""),
            environ.get("HTTP_COOKIE", ""),
        )
        if not await self._run("calls", look):
            raise Refusal(
                401, "not_authenticated", f"A {route.who.value} must be known before this is read."
            )

    async def _read(self, route: Route, environ: dict[str, Any], protocol: Any) -> bytes:
        declared = environ.get("CONTENT_LENGTH", "")
        # Who does not say how much there will be is read as little of as anybody.
        max_bytes = route.max_bytes if declared else min(route.free_bytes, route.max_bytes)
        try:
            body = await read_whole(
                protocol, max_bytes=max_bytes, seconds=settings.AVIARY_BODY_SECONDS
            )
        except BodyTooLargeError:
            hint = "" if declared else " without a Content-Length"
            raise Refusal(413, "too_large", f"At most {max_bytes} bytes are taken{hint}.") from None
        except BodyTooSlowError as error:
            raise Refusal(408, "too_slow", str(error)) from None
        if declared and len(body) != int(declared):
            raise Refusal(
                400, "incomplete", f"{declared} bytes were announced and {len(body)} came."
            )
        return body

    async def _take_in(self, environ: dict[str, Any]) -> Answer:
        """The answer to a batch of records or to summaries."""
        call = Call(
            path=environ["PATH_INFO"],
            authorization=environ.get("HTTP_AUTHORIZATION", ""),
            content_type=environ.get("CONTENT_TYPE", ""),
            encoding=environ.get("HTTP_CONTENT_ENCODING", ""),
            body=environ["wsgi.input"].getvalue() if "wsgi.input" in environ else b"",
        )
        try:
            return Answer(*await self._intake.answer(call))
        except LaneFullError as error:
            raise Refusal(503, "busy", f"Come back later: {error}") from None

    async def _run(self, lane: str, work: Callable[[], Any]) -> Any:
        try:
            return await self._lanes[lane].run(work)
        except LaneFullError as error:
            raise Refusal(503, "busy", f"Come back later: {error}") from None

    def _sender(self, protocol: Any) -> Callable[[Answer, Iterable[bytes]], None]:
        """What sends a long answer from its thread, piece by piece."""

        def send(start: Answer, pieces: Iterable[bytes]) -> None:
            async def begin() -> Any:
                return protocol.response_stream(start.status, start.headers)

            def wait_for(step: Any) -> Any:
                return asyncio.run_coroutine_threadsafe(step, self._loop).result(SEND_SECONDS)

            async def push(transport: Any, piece: bytes) -> None:
                # Both in the loop: what `send_bytes` gives is awaitable there, and no coroutine.
                await transport.send_bytes(piece)

            transport = wait_for(begin())
            for piece in pieces:
                if piece:
                    wait_for(push(transport, piece))

        return send


def die_with_parent() -> None:
    """Ends this worker when the server that started it is killed: it would go on listening."""
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)


def make_lanes() -> dict[str, Lane]:
    """The lanes of one process; `docs/operations.md` says what each is for."""
    return {
        "polls": Lane("polls", threads=4, waiting=512, wait_seconds=5, answer_seconds=10,
                      database_seconds=3),
        "calls": Lane("calls", threads=4, waiting=64, wait_seconds=10, answer_seconds=30,
                      database_seconds=10),
        "slow": Lane("slow", threads=4, waiting=16, wait_seconds=10, answer_seconds=None),
        "sign-in": Lane("sign-in", threads=1, waiting=8, wait_seconds=10, answer_seconds=30),
    }  # fmt: skip


def has_body(environ: dict[str, Any]) -> bool:
    """True when the headers announce one."""
    length = environ.get("CONTENT_LENGTH", "")
    if length and not (length.isascii() and length.isdigit() and len(length) <= 18):
        raise Refusal(400, "bad_request", f"Content-Length is {length[:40]!a}.")
    return int(length or 0) > 0 or "HTTP_TRANSFER_ENCODING" in environ


def make_environ(scope: Any) -> dict[str, Any]:
    """The WSGI environment of a call (PEP 3333), with an empty body."""
    server_name, _, server_port = scope.server.rpartition(":")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": scope.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": scope.path.encode("utf-8", "surrogateescape").decode("latin-1"),
        "QUERY_STRING": scope.query_string,
        "SERVER_NAME": server_name or "localhost",
        "SERVER_PORT": server_port or "80",
        "SERVER_PROTOCOL": f"HTTP/{scope.http_version}",
        "REMOTE_ADDR": scope.client.rpartition(":")[0].strip("[]"),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope.scheme,
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    for name, value in scope.headers.items():
        if "_" in name:
            # It would take the place of a header with a dash, which others have checked.
            continue
        key = name.upper().replace("-", "_")
        if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            key = f"HTTP_{key}"
        if key in environ:
            value = environ[key] + (";" if key == "HTTP_COOKIE" else ",") + value
        environ[key] = value
    return environ


def call_wsgi(
    application: Application,
    environ: dict[str, Any],
    send: Callable[[Answer, Iterable[bytes]], None],
) -> Answer | None:
    """The application's answer; None when it was long, and has been sent by `send`."""
    started: list[Answer] = []

    def start_response(status: str, headers: list[tuple[str, str]], _: Any = None) -> None:
        started[:] = [Answer(int(status.split(" ", 1)[0]), headers, b"")]

    result = application(environ, start_response)
    try:
        pieces, size = [], 0
        iterator = iter(result)
        for piece in iterator:
            pieces.append(piece)
            size += len(piece)
            if size > WHOLE_ANSWER_BYTES:
                send(started[-1], _chain(pieces, iterator))
                return None
        return started[-1]._replace(body=b"".join(pieces))
    finally:
        close = getattr(result, "close", None)
        if close is not None:
            close()


def _chain(first: list[bytes], rest: Iterable[bytes]) -> Iterable[bytes]:
    yield b"".join(first)
    yield from rest


def _send(protocol: Any, answer: Answer) -> None:
    if answer.body:
        protocol.response_bytes(answer.status, answer.headers, answer.body)
    else:
        protocol.response_empty(answer.status, answer.headers)


def _refuse(protocol: Any, refusal: Refusal) -> None:
    headers = [("Content-Type", "application/json"), ("Connection", "close")]
    if refusal.status == 503:
        headers.append(("Retry-After", str(RETRY_AFTER_SECONDS)))
    if refusal.status == 401:
        headers.append(("WWW-Authenticate", "Bearer"))
    body = msgspec.json.encode(error_body(refusal.code, refusal.message))
    protocol.response_bytes(refusal.status, headers, body)

"""One simulated device, and many of them on one event loop."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from fleet.simulation.profiles import (
    ABSENT_POLLS,
    PROFILES,
    chance_of,
    installation_states,
    profile_of,
)

AGENT_VERSION = "simulated-1"
MOST_BACK_OFF_SECONDS = 60.0
CALL_SECONDS = 60.0
#: Files are fetched in pieces of this size, and no device holds more.
PIECE_BYTES = 64 * 1024


@dataclass(frozen=True)
class Simulation:
    """What all devices of a run have in common.

    Attributes:
        rounds: polls of each device; None to go on until `seconds` have passed.
        speed: how much faster than told devices poll and install; 0 waits for nothing.
        is_downloading: files are fetched and their digests checked.
    """

    url: str
    model: str
    join_token: str
    mix: Mapping[str, int]
    attributes: Mapping[str, str] = field(default_factory=dict)
    seed: str = "0"
    rounds: int | None = None
    seconds: float | None = None
    speed: float = 1.0
    connections: int = 64
    is_downloading: bool = True


class DeviceError(Exception):
    """The server's answer is none that a device can go on with."""


class SimulatedDevice:
    """Enrols, polls, installs and reports, as `docs/protocol.md` says."""

    def __init__(
        self,
        device_id: str,
        simulation: Simulation,
        session: aiohttp.ClientSession,
        counts: Counter[str],
    ) -> None:
        self.device_id = device_id
        self.profile = PROFILES[profile_of(device_id, simulation.mix, simulation.seed)]
        self._chance = chance_of(device_id, simulation.seed)
        self._simulation = simulation
        self._session = session
        self._counts = counts
        self._token = ""
        self._etag = ""
        self._running = ""
        #: Assignment to the number of its next event.
        self._next_seq: dict[str, int] = {}
        self._poll_after = 1.0

    async def live(self) -> None:
        """The device's life, until the run's end or its own."""
        await self._enrol()
        # Who was told to come in five minutes comes at some moment of them.
        await self._wait(self._chance.random() * self._poll_after)
        until = (
            None
            if self._simulation.seconds is None
            else time.monotonic() + self._simulation.seconds
        )
        polls = absent = 0
        while self._simulation.rounds is None or polls < self._simulation.rounds:
            if until is not None and time.monotonic() >= until:
                return
            polls += 1
            if absent:
                absent -= 1
                self._counts["missed_polls"] += 1
            else:
                await self._poll()
                if self._chance.random() < self.profile.death_rate:
                    self._counts["died"] += 1
                    return
                if self._chance.random() < self.profile.absence_rate:
                    absent = ABSENT_POLLS
            await self._wait(self._poll_after)

    async def _enrol(self) -> None:
        answer = await self._call(
            "POST",
            "/api/devices/enroll",
            {
                "device_id": self.device_id,
                "join_token": self._simulation.join_token,
                "attributes": {**self._simulation.attributes},
                "capabilities": {
                    "arch": "x86_64", "isa": ["avx2"], "providers": ["cpu"], "memory_mb": 4096,
                    "agent_version": AGENT_VERSION, "features": [],
                },
                "enrolment_nonce": hashlib.sha256(
                    f"{self._simulation.seed}:{self.device_id}".encode()
                ).hexdigest(),
            },
        )  # fmt: skip
        if answer.status not in (201, 202):
            raise DeviceError(f"{self.device_id}: enrolment: {answer.status} {answer.words}")
        self._token = str(answer.body["token"])
        self._poll_after = float(answer.body["poll_after_s"])
        self._counts["enrolled"] += 1

    async def _poll(self) -> None:
        headers = {"X-Agent-Version": AGENT_VERSION}
        if self._etag:
            headers["If-None-Match"] = self._etag
        if self._running:
            headers["X-Running-Digest"] = self._running
        path = f"/api/models/latest?device_id={self.device_id}&model={self._simulation.model}"
        answer = await self._call("GET", path, headers=headers)
        self._counts[f"poll_{answer.status}"] += 1
        if answer.status == 200:
            self._poll_after = float(answer.body["poll_after_s"])
            if await self._take(answer.body):
                self._etag = answer.etag
        elif answer.status not in (204, 304, 403):
            raise DeviceError(f"{self.device_id}: poll: {answer.status} {answer.words}")

    async def _take(self, offer: dict[str, Any]) -> bool:
        """True when the device has what it was offered."""
        payload = json.loads(base64.b64decode(offer["assignment"]["payload"]))
        if payload["device_id"] != self.device_id:
            raise DeviceError(f"{self.device_id}: an assignment of {payload['device_id']}")
        digest = payload["manifest_sha256"]
        if digest == self._running:
            return True
        assignment = offer["assignment_id"]
        for state, code in installation_states(self.profile, self._chance):
            await self._wait(self.profile.step_seconds * self._chance.uniform(0.5, 1.5))
            if state == "verified" and self._simulation.is_downloading:
                for entry in offer["files"]:
                    await self._fetch(entry)
            if not await self._report(assignment, state, code):
                return False
            if state == "committed":
                self._running = digest
                self._counts["committed"] += 1
                return True
        self._counts["failed"] += 1
        return False

    async def _fetch(self, entry: dict[str, Any]) -> None:
        digest, size = hashlib.sha256(), 0
        async with self._session.get(entry["url"]) as response:
            if response.status != 200:
                raise DeviceError(f"{self.device_id}: {entry['path']}: {response.status}")
            async for piece in response.content.iter_chunked(PIECE_BYTES):
                digest.update(piece)
                size += len(piece)
        if digest.hexdigest() != entry["sha256"] or size != entry["size_bytes"]:
            raise DeviceError(f"{self.device_id}: {entry['path']} is not what was promised")
        self._counts["fetched"] += 1

    async def _report(self, assignment: str, state: str, code: str) -> bool:
        """False when the server no longer wants the installation."""
        seq = self._next_seq.get(assignment, 0)
        self._next_seq[assignment] = seq + 1
        event = {"seq": seq, "state": state, "code": code, "at_monotonic_s": time.monotonic()}
        answer = await self._call("POST", f"/api/deployments/{assignment}/events", event)
        if answer.status in (409, 410):
            self._counts["withdrawn"] += 1
            return False
        if answer.status != 200:
            raise DeviceError(f"{self.device_id}: event: {answer.status} {answer.words}")
        return True

    async def _call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> _Answer:
        """The answer; a server that is busy or away is asked again, later each time."""
        sent = {**(headers or {})}
        if self._token:
            sent["Authorization"] = f"Bearer {self._token}"
        pause = 1.0
        while True:
            try:
                async with self._session.request(
                    method, self._simulation.url + path, json=body, headers=sent
                ) as response:
                    answer = await _read(response)
                if answer.status not in (429, 503):
                    return answer
                pause = max(pause, answer.retry_after)
                self._counts["asked_to_wait"] += 1
            except (aiohttp.ClientConnectionError, TimeoutError):
                self._counts["unreachable"] += 1
            await asyncio.sleep(pause * self._chance.uniform(0.5, 1.0))
            pause = min(pause * 2, MOST_BACK_OFF_SECONDS)

    async def _wait(self, seconds: float) -> None:
        if self._simulation.speed:
            await asyncio.sleep(seconds / self._simulation.speed)


@dataclass(frozen=True)
class _Answer:
    status: int
    body: Any
    etag: str
    retry_after: float

    @property
    def words(self) -> str:
        return json.dumps(self.body)[:300]


async def _read(response: aiohttp.ClientResponse) -> _Answer:
    data = await response.read()
    wait = response.headers.get("Retry-After", "")
    return _Answer(
        response.status,
        json.loads(data) if data else None,
        response.headers.get("ETag", ""),
        float(wait) if wait.isascii() and wait.isdigit() else 0.0,
    )


async def simulate(simulation: Simulation, device_ids: list[str]) -> tuple[Counter[str], list[str]]:
    """What happened to all devices, counted, and why some could not go on, which stops no other."""
    counts: Counter[str] = Counter()
    connector = aiohttp.TCPConnector(limit=simulation.connections)
    timeout = aiohttp.ClientTimeout(total=None, sock_read=CALL_SECONDS, sock_connect=CALL_SECONDS)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        devices = [SimulatedDevice(name, simulation, session, counts) for name in device_ids]
        ends = await asyncio.gather(*(one.live() for one in devices), return_exceptions=True)
    problems = []
    for end in ends:
        if isinstance(end, DeviceError | aiohttp.ClientError):
            problems.append(f"{type(end).__name__}: {end}")
        elif isinstance(end, BaseException):
            raise end
    return counts, problems

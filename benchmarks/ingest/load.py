"""Callers that keep their connections and never wait for each other: the load of a fleet."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.ingest.fleet import Sender


@dataclass(frozen=True)
class Load:
    """What came of it; `answers` counts by status."""

    seconds: float
    answers: dict[int, int]

    def rate(self) -> float:
        """Calls answered 200 in a second."""
        return self.answers.get(200, 0) / self.seconds


def send_all(
    address: tuple[str, int],
    path: str,
    senders: Sequence[Sender],
    make: Callable[[Sender, int], bytes],
    *,
    seconds: float,
    connections: int = 64,
) -> Load:
    """Sends for about `seconds`, each connection for devices of its own in turn.

    Args:
        make: the body of a device's n-th call.
    """
    return asyncio.run(_send_all(address, path, senders, make, seconds, connections))


async def _send_all(
    address: tuple[str, int],
    path: str,
    senders: Sequence[Sender],
    make: Callable[[Sender, int], bytes],
    seconds: float,
    connections: int,
) -> Load:
    answers: dict[int, int] = {}
    started = time.perf_counter()
    ends_at = started + seconds

    async def run(share: Sequence[Sender]) -> None:
        reader, writer = await asyncio.open_connection(*address)
        number = 0
        while time.perf_counter() < ends_at:
            sender = share[number % len(share)]
            body = make(sender, number)
            writer.write(make_head(path, sender, len(body)) + body)
            head = await reader.readuntil(b"\r\n\r\n")
            status = int(head[9:12])
            lower = head.lower()
            at = lower.find(b"content-length:")
            if at >= 0:
                await reader.readexactly(int(lower[at + 15 : lower.index(b"\r\n", at)]))
            answers[status] = answers.get(status, 0) + 1
            number += 1
            if status >= 500:
                await asyncio.sleep(0.05)
        writer.close()

    shares = [senders[number::connections] for number in range(connections)]
    await asyncio.gather(*(run(share) for share in shares if share))
    return Load(time.perf_counter() - started, answers)


def make_head(path: str, sender: Sender, length: int) -> bytes:
    """The head of a device's call with a body of `length` bytes."""
    lines = (
        f"POST {path} HTTP/1.1",
        "Host: localhost",
        f"Authorization: Bearer {sender.token}",
        "Content-Type: application/json",
        f"Content-Length: {length}",
    )
    return "\r\n".join([*lines, "", ""]).encode()

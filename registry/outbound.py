"""Calls from this server to addresses that people typed in: where they may go, and for how long.

A name is resolved once and the connection made to the address that was looked at, so that a name
cannot point elsewhere between the look and the call. No redirect is followed.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
#: IPv6 prefixes whose last or middle bits are an IPv4 address that a gateway would call.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class OutboundError(Exception):
    """The call was refused here, or no whole answer came in time; says which."""


class AddressRefusedError(OutboundError):
    """The address may not be called."""


@dataclass(frozen=True)
class Answer:
    """What came back: the status, the headers in lower case, and the start of the body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def split_address(url: str) -> SplitResult:
    """The parts of an http or https address with a host and no credentials in it.

    Raises:
        AddressRefusedError: it is none.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise AddressRefusedError(f"Not an address: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise AddressRefusedError("Expected an address that begins with https:// or http://")
    if parts.username is not None or any(character <= " " for character in url):
        raise AddressRefusedError("An address holds no user name and no blanks")
    return parts


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public internet, also when written inside another."""
    ip: IPAddress = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inner is None and ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)
        if inner is not None:
            return is_public(str(inner))
    return ip.is_global and not ip.is_multicast


def resolve_once(host: str, port: int, *, is_private_allowed: bool) -> str:
    """The address to connect to, when every address of the name may be called.

    Raises:
        AddressRefusedError: one of them is private, loopback, link-local or reserved.
        OutboundError: the name has no address.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise OutboundError(f"{host} has no address") from error
    addresses = [str(row[4][0]) for row in found]
    for address in addresses:
        if not is_private_allowed and not is_public(address):
            raise AddressRefusedError(f"{host} is {address}, a private address")
    return addresses[0]


def post(
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    timeout_seconds: float,
    is_private_allowed: bool,
    most_bytes: int = 64 * 1024,
) -> Answer:
    """The answer to one POST; `timeout_seconds` is for all of it, however slowly it trickles.

    Raises:
        OutboundError: refused here, unreachable, too slow, or no HTTP.
    """
    parts = split_address(url)
    host = str(parts.hostname)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    ends_at = time.monotonic() + timeout_seconds
    address = resolve_once(host, port, is_private_allowed=is_private_allowed)
    timer: threading.Timer | None = None
    sock: socket.socket | None = None
    try:
        sock = socket.create_connection((address, port), timeout=timeout_seconds)
        if parts.scheme == "https":
            sock = ssl.create_default_context().wrap_socket(
                sock, server_hostname=host, do_handshake_on_connect=False
            )
        # Each read has a limit of its own; a byte now and then would pass it for ever.
        timer = threading.Timer(max(0.0, ends_at - time.monotonic()), _shut, [sock])
        timer.daemon = True
        timer.start()
        if isinstance(sock, ssl.SSLSocket):
            sock.do_handshake()
        connection = http.client.HTTPConnection(host, port)
        connection.sock = sock
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", target, body, dict(headers))
        answer = connection.getresponse()
        found = answer.read(most_bytes)
        if time.monotonic() >= ends_at:
            # What was cut off reads like an answer that ended.
            raise TimeoutError
        named = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, named, found)
    except (OSError, http.client.HTTPException, ValueError) as error:
        if time.monotonic() >= ends_at:
            raise OutboundError(f"No whole answer within {timeout_seconds:g} s") from error
        words = str(error) or type(error).__name__
        raise OutboundError(f"{host} did not answer: {words[:200]}") from error
    finally:
        if timer is not None:
            timer.cancel()
        if sock is not None:
            sock.close()


def _shut(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # closed already

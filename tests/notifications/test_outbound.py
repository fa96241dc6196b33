"""Where the server may call, and for how long."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from registry.outbound import (
    AddressRefusedError,
    OutboundError,
    is_public,
    post,
    resolve_once,
    split_address,
)
from tests.notifications.receivers import Receiver

OPTIONS: dict[str, Any] = {"timeout_seconds": 10.0, "is_private_allowed": True}


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "0.0.0.0", "224.0.0.1", "255.255.255.255", "::1", "fe80::1%eth0", "fd00::1", "ff02::1",
        "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:7f00:1::",
    ],
)  # fmt: skip
def test_addresses_inside_are_not_public_however_they_are_written(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:2800:21f:cb07::1", "64:ff9b::808:808"])
def test_addresses_of_the_internet_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    ["ftp://a.example/", "https://", "https://u:p@a.example/", "https://a.example:x/", "a", "",
     "https://a.example/ HTTP/1.1\r\nX: y", "file:///etc/passwd"],
)  # fmt: skip
def test_what_is_no_address_of_a_receiver_is_refused(url: str) -> None:
    with pytest.raises(AddressRefusedError):
        split_address(url)


@pytest.mark.parametrize("host", ["localhost", "127.1", "0x7f.1", "[::1]"])
def test_this_machine_is_refused_unless_allowed_and_nothing_is_sent(
    host: str, receiver: Receiver
) -> None:
    port = receiver.url.split(":")[2].split("/")[0]
    with pytest.raises(AddressRefusedError, match="private address"):
        post(f"http://{host}:{port}/", b"", {}, timeout_seconds=5, is_private_allowed=False)
    assert receiver.seen == []


def test_a_name_is_looked_up_once(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    look_up = socket.getaddrinfo

    def counting(host: Any, *arguments: Any, **options: Any) -> Any:
        asked.append(host)
        return look_up(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", counting)
    port = receiver.url.split(":")[2].split("/")[0]
    assert post(f"http://localhost:{port}/x?y=1", b"{}", {}, **OPTIONS).status == 200
    assert asked.count("localhost") == 1
    assert receiver.seen[0].path == "/x?y=1"
    assert receiver.seen[0].headers["host"] == f"localhost:{port}"


def test_a_name_without_an_address_and_a_port_without_a_listener_are_said() -> None:
    with pytest.raises(OutboundError, match="has no address"):
        resolve_once("no-such-host.invalid", 80, is_private_allowed=True)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    with pytest.raises(OutboundError, match="did not answer"):
        post(f"http://127.0.0.1:{port}/", b"", {}, **OPTIONS)


def test_a_redirect_is_an_answer_and_not_followed(receiver: Receiver) -> None:
    receiver.answers = [(302, {"Location": receiver.url})]
    assert post(receiver.url, b"", {}, **OPTIONS).status == 302
    assert len(receiver.seen) == 1


@pytest.fixture
def trickler() -> Iterator[str]:
    """A server that sends a byte of a header again and again, and never an end."""
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
            while not over.wait(0.05):
                try:
                    connection.sendall(b"a")
                except OSError:
                    return

    thread = threading.Thread(target=serve)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    over.set()
    thread.join()
    listener.close()


def test_an_answer_that_trickles_has_an_end(trickler: str) -> None:
    with pytest.raises(OutboundError, match="No whole answer within"):
        post(trickler, b"", {}, timeout_seconds=0.4, is_private_allowed=True)

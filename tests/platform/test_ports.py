"""Two stacks that start together on one machine never serve at one address."""

import socket
from pathlib import Path

from demo.stack import Stack, claim_port
from servers.processes import free_port


def test_a_port_is_claimed_once_and_again_when_it_is_given_back() -> None:
    port = free_port()
    first = claim_port(port)
    assert first is not None
    assert claim_port(port) is None
    first.close()
    again = claim_port(port)
    assert again is not None
    again.close()


def test_a_port_that_is_served_is_not_claimed() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        assert claim_port(server.getsockname()[1]) is None


def test_stacks_that_have_not_started_yet_have_addresses_of_their_own(tmp_path: Path) -> None:
    stacks = [Stack(tmp_path / str(number)) for number in range(3)]
    assert len({stack.url for stack in stacks}) == 3
    for stack in stacks:
        stack.stop()

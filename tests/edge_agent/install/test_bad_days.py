"""One agent process through a day of faults: it goes on serving, says why, and recovers alone."""

import json
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_agent.config import load_config
from edge_agent.status import describe_state
from servers.kept import Kept
from servers.patience import wait_for
from tests.edge_agent.control.test_network import PORTAL, Hook, answer, send_forever
from tests.edge_agent.publisher import MODEL, Server, make_model
from tests.edge_agent.test_run import all_records, call, start, toml

__all__ = ["start", "toml"]

#: What happens, to which calls, and a word of what `status` says meanwhile.
FAULTS: dict[str, tuple[str, Hook, str]] = {
    "a captive portal": ("/api/", answer(200, PORTAL, Content_Type="text/html"), "not_the_server"),
    "500 everywhere": ("", answer(500, b""), "transfer_failed"),
    "a redirect loop": ("/blobs/", lambda r: answer(302, b"", Location=r.path)(r), "redirect"),
    "endless files": ("/blobs/", send_forever, "mismatch"),
    "corrupt files": ("/blobs/", answer(200, b"x" * 40), "model"),
}


def read_status(toml: Path) -> dict[str, Any]:
    """What `status` prints, without the process for it."""
    return describe_state(load_config(toml))


def test_through_every_fault_it_serves_says_why_and_recovers_alone(
    server: Server, toml: Path, start: Callable[[], Kept]
) -> None:
    server.publish(make_model())
    process = start()
    wait_for(lambda: len(all_records(server)) > 5)
    for number, (name, (pattern, hook, word)) in enumerate(FAULTS.items(), start=2):
        running = read_status(toml)["models"][MODEL]["manifest_sha256"]
        server.hooks.append((pattern, hook))
        digest = server.publish(
            make_model(seed=number), counter=number, sequence=number, version=f"{number}.0.0"
        )
        wait_for(lambda: word in json.dumps(read_status(toml)["trouble"]))  # noqa: B023
        assert read_status(toml)["models"][MODEL]["manifest_sha256"] == running, name
        before = read_status(toml)["models"][MODEL]["latency"]["count"]
        wait_for(
            lambda: read_status(toml)["models"][MODEL]["latency"]["count"] > before  # noqa: B023
        )
        server.hooks.clear()
        wait_for(
            lambda: read_status(toml)["models"][MODEL]["manifest_sha256"] == digest  # noqa: B023
        )
        wait_for(lambda: read_status(toml)["trouble"] == {})
        assert process.poll() is None, name


def test_a_full_disk_stops_the_new_release_and_nothing_else(
    server: Server, toml: Path, start: Callable[[], Kept]
) -> None:
    first = server.publish(make_model())
    process = start()
    wait_for(lambda: len(all_records(server)) > 5)
    # The kernel refuses to write past 4 MiB, as it does on a full disk.
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (4 << 20, resource.RLIM_INFINITY))
    padding = {"labels.txt": ("labels", bytes(8 << 20))}
    second = server.publish(make_model(seed=1), extra=padding, counter=2, sequence=2)
    wait_for(lambda: "disk_full" in json.dumps(read_status(toml)["trouble"]))
    assert read_status(toml)["models"][MODEL]["manifest_sha256"] == first
    before = len(all_records(server))
    wait_for(lambda: len(all_records(server)) > before)
    assert ("failed", "disk_full") in server.states()
    resource.prlimit(
        process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    )
    wait_for(lambda: read_status(toml)["models"][MODEL]["manifest_sha256"] == second)
    wait_for(lambda: read_status(toml)["trouble"] == {})
    assert process.poll() is None


@pytest.mark.parametrize("content", [b"{", b"\0" * 100])
def test_a_damaged_state_costs_nothing_but_a_self_test(
    server: Server, toml: Path, start: Callable[[], Kept], content: bytes
) -> None:
    digest = server.publish(make_model())
    assert call(toml, "sync").returncode == 0
    (toml.parent / "home" / "state.json").write_bytes(content)
    assert call(toml, "sync").returncode == 0
    assert read_status(toml)["models"][MODEL]["manifest_sha256"] == digest
    assert (toml.parent / "home" / "state.corrupt").read_bytes() == content

"""The power goes before every operation of an install, then before every one of the recovery."""

import base64
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_agent.config import InstallConfig
from edge_agent.download import Downloader
from edge_agent.install import Installer, SelfTestResult
from edge_agent.state import Layout
from edge_agent.trust import Manifest, ManifestFile
from tests.edge_agent.publisher import DEVICE, MODEL, TRUST_KEYS, make_answer
from tests.edge_agent.simulated_disk import PowerCut, SimulatedDisk

LAYOUT = Layout(Path("/home"))
SURVIVING = ("none", "all", "home", "blobs")
SYNCS = [
    ("fsync", "part"),
    ("fsync", "manifests"),
    ("fsync", "home"),
    ("fsync_dir", "blobs"),
    ("fsync_dir", "manifests"),
    ("fsync_dir", "home"),
]


def release(name: str, number: int) -> dict[str, Any]:
    contents = {
        "model.onnx": ("model", f"weights of {name}".encode()),
        "golden.npz": ("golden", b"golden"),
    }
    return make_answer(
        contents,
        manifest={"version": name, "sequence": number},
        assignment={"counter": number},
    )


ANSWERS = {name: release(name, n) for n, name in enumerate(("first", "good", "bad", "killer"), 1)}
BLOBS = {
    hashlib.sha256(data).hexdigest(): data
    for data in (b"golden", *(f"weights of {name}".encode() for name in ANSWERS))
}
DIGESTS = {
    name: hashlib.sha256(base64.b64decode(answer["manifest"]["payload"])).hexdigest()
    for name, answer in ANSWERS.items()
}


class FakeResponse:
    def __init__(self, data: bytes, start: int) -> None:
        self.status = 206 if start else 200
        self.headers = {"Content-Length": str(len(data) - start)}
        if start:
            self.headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self._data = data[start:]

    def stream(self, _size: int, decode_content: bool) -> Iterator[bytes]:
        middle = len(self._data) // 2
        yield from (part for part in (self._data[:middle], self._data[middle:]) if part)

    def close(self) -> None:
        pass


class FakeTransport:
    def open_stream(self, url: str, *, headers: dict[str, str]) -> FakeResponse:
        match = re.match(r"bytes=(\d+)-", headers.get("Range", ""))
        return FakeResponse(BLOBS[url.rsplit("/", 1)[1]], int(match[1]) if match else 0)


class Device:
    """A device with a simulated disk; a new one is made at each boot."""

    def __init__(self, disk: SimulatedDisk) -> None:
        self.disk = disk
        self.events: list[tuple[str, str]] = []
        self.tried: list[str] = []
        downloader = Downloader(
            disk,
            LAYOUT,
            FakeTransport(),  # type: ignore[arg-type]
            InstallConfig(),
            sleep=lambda _: None,
        )

        def fetch(file: ManifestFile, answer: dict[str, Any]) -> None:
            downloader.fetch(file, lambda _: f"http://server/blobs/{file.sha256}")

        self.installer = Installer(
            files=disk,
            layout=LAYOUT,
            config=InstallConfig(),
            device_id=DEVICE,
            trust_keys=TRUST_KEYS,
            fetch=fetch,
            self_test=self.self_test,
            check_requirements=lambda manifest: None,
            events=self,
        )

    def add_event(self, assignment_id: str, state: str, code: str, detail: str) -> None:
        self.events.append((state, code))

    def self_test(self, manifest: Manifest) -> SelfTestResult:
        self.tried.append(manifest.version)
        self.disk.tick()
        if manifest.version == "killer":
            raise PowerCut
        return SelfTestResult(manifest.version != "bad", "self_test_failed")

    def boot(self) -> None:
        self.installer.boot()
        assert LAYOUT.state.with_suffix(".corrupt") not in self.disk.names, "state was corrupt"
        assert ("failed", "blob_corrupt") not in self.events, "the current release was damaged"

    def poll(self, name: str) -> None:
        self.installer.apply(MODEL, ANSWERS[name])

    @property
    def current(self) -> str:
        current = self.installer.state.model(MODEL).current
        assert current is not None, "nothing runs"
        assert self.installer.is_whole(current)
        return current.version


def fresh_disk(ignored: frozenset[tuple[str, str]]) -> SimulatedDisk:
    disk = SimulatedDisk(ignored)
    device = Device(disk)
    device.boot()
    device.poll("first")
    return disk.copy()


def play(disk: SimulatedDisk, name: str, cut_at: int | None) -> bool:
    """Boots and polls with the power going before operation `cut_at`; True when it went."""
    disk.cut_at = None if cut_at is None else disk.operations + cut_at
    try:
        device = Device(disk)
        device.boot()
        device.poll(name)
    except PowerCut:
        return True
    finally:
        disk.cut_at = None
    return False


def check_recovery(disk: SimulatedDisk, name: str, expected: str) -> None:
    device = Device(disk)
    device.boot()
    assert device.current in ("first", expected)
    device.poll(name)
    assert device.current == expected
    assert device.installer.state.model(MODEL).trial is None
    # What has been reported must outlast a cut right after the report.
    again = Device(disk.after_power_cut("none"))
    again.boot()
    assert again.current == expected
    is_blocked = DIGESTS[name] in again.installer.state.model(MODEL).blocked
    assert is_blocked == (name != expected)


def play_every_double_cut(
    name: str, expected: str, ignored: frozenset[tuple[str, str]] = frozenset()
) -> int:
    """Plays an install with every pair of cuts; returns how many plays that were."""
    start, plays, first = fresh_disk(ignored), 0, 0
    has_cut = True
    while has_cut:
        first += 1
        for surviving in SURVIVING:
            disk = start.copy()
            has_cut = play(disk, name, first)
            disk = disk.after_power_cut(surviving)
            check_recovery(disk.copy(), name, expected)
            plays, second = plays + 1, 0
            has_second = True
            while has_second:
                second += 1
                again = disk.copy()
                has_second = play(again, name, second)
                check_recovery(again.after_power_cut(surviving), name, expected)
                plays += 1
    return plays


@pytest.mark.parametrize(("name", "expected"), [("good", "good"), ("bad", "first")])
def test_an_install_survives_two_cuts_at_any_two_operations(name: str, expected: str) -> None:
    assert play_every_double_cut(name, expected) > 1000


def count_killer_tries(ignored: frozenset[tuple[str, str]] = frozenset()) -> int:
    disk, tries = fresh_disk(ignored), 0
    for _ in range(10):
        device = Device(disk)
        try:
            device.boot()
            device.poll("killer")
        except PowerCut:
            tries += device.tried.count("killer")
            disk = disk.after_power_cut("none")
        else:
            assert device.current == "first"
            assert DIGESTS["killer"] in device.installer.state.model(MODEL).blocked
            return tries
    return 99


def test_a_release_that_kills_the_device_is_tried_three_times_and_no_more() -> None:
    assert count_killer_tries() == InstallConfig().max_tries


@pytest.mark.parametrize("sync", SYNCS, ids=lambda sync: f"{sync[0]} in {sync[1]}")
def test_without_any_one_sync_an_install_would_not_survive(sync: tuple[str, str]) -> None:
    ignored = frozenset({sync})
    with pytest.raises(AssertionError):
        play_every_double_cut("good", "good", ignored)
        assert count_killer_tries(ignored) == InstallConfig().max_tries


def test_every_sync_of_an_install_is_among_those_shown_to_be_needed() -> None:
    seen = set()

    class Recorder(SimulatedDisk):
        def fsync(self, path: Path) -> None:
            seen.add(("fsync", path.parent.name))
            super().fsync(path)

        def fsync_dir(self, path: Path) -> None:
            seen.add(("fsync_dir", path.name))
            super().fsync_dir(path)

    device = Device(Recorder())
    device.boot()
    device.poll("first")
    device.poll("good")
    assert seen == set(SYNCS)

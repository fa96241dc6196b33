"""A device on a simulated disk, and the stories in which its power is cut."""

import base64
import hashlib
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_agent.clock import Clock
from edge_agent.config import Config, InstallConfig, NetworkConfig
from edge_agent.control.client import Credentials, DeviceClient, load_credentials
from edge_agent.control.transport import Answer
from edge_agent.exceptions import AnswerError, CounterError, NotEnrolledError
from edge_agent.files import make_dirs
from edge_agent.install.budget import Ledger
from edge_agent.install.decisions import SelfTestResult
from edge_agent.install.download import Downloader
from edge_agent.install.installer import Installer
from edge_agent.releases.factory import add_folder
from edge_agent.releases.state import Layout
from edge_agent.releases.trust import Manifest, ManifestFile
from tests.edge_agent.publisher import DEVICE, MODEL, TRUST_KEYS, make_answer, make_trust_rows
from tests.edge_agent.simulated_disk import PowerCut, SimulatedDisk

LAYOUT = Layout(Path("/home"))
MEDIA = Path("/media/shipped")
Syncs = frozenset[tuple[str, str]]


def weights(name: str) -> bytes:
    return f"weights of {name}".encode()


def release(name: str, number: int) -> dict[str, Any]:
    contents = {"model.onnx": ("model", weights(name)), "golden.npz": ("golden", b"golden")}
    return make_answer(
        contents,
        manifest={"version": name, "sequence": number},
        assignment={"counter": number},
    )


NAMES = ("first", "good", "bad", "killer", "shipped")
ANSWERS = {name: release(name, number) for number, name in enumerate(NAMES, 1)}
BLOBS = {hashlib.sha256(data).hexdigest(): data for data in (b"golden", *map(weights, NAMES))}
DIGESTS = {
    name: hashlib.sha256(base64.b64decode(answer["manifest"]["payload"])).hexdigest()
    for name, answer in ANSWERS.items()
}


ENVELOPE = json.dumps(ANSWERS["shipped"]["manifest"]).encode()


class FakeResponse:
    def __init__(self, data: bytes, start: int) -> None:
        self.status = 206 if start else 200
        self.headers = {"Content-Length": str(len(data) - start)}
        if start:
            self.headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        middle = start + (len(data) - start) // 2
        self._pieces = [piece for piece in (data[start:middle], data[middle:]) if piece]

    def read1(self, _size: int, decode_content: bool) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""

    def close(self) -> None:
        pass


#: Of a clock that stands still, two plays that did the same leave the same disk.
STILL = Clock("boot", since_boot=lambda: 1000.0, wall=lambda: STARTED)
STARTED = time.time()


class FakeTransport:
    """Blobs for the downloader."""

    config = NetworkConfig()

    def open_stream(self, url: str, *, headers: dict[str, str], **_: Any) -> FakeResponse:
        match = re.match(r"bytes=(\d+)-", headers.get("Range", ""))
        return FakeResponse(BLOBS[url.rsplit("/", 1)[1]], int(match[1]) if match else 0)


class Registrar:
    """The server of an enrolment: one device, whose id is taken by the first nonce."""

    config = NetworkConfig()

    def __init__(self, memory: dict[str, str]) -> None:
        self.memory = memory

    def call(self, method: str, url: str, *, body: bytes, **_: Any) -> Answer:
        nonce = json.loads(body)["enrolment_nonce"]
        if self.memory.setdefault("nonce", nonce) != nonce:
            raise AnswerError(409, "device_exists", "the id is taken")
        keys = make_trust_rows()
        return Answer(201, {}, {"token": "secret", "status": "accepted", "trust_keys": keys})


class Device:
    """A device with a simulated disk; a new one is made at each boot."""

    def __init__(self, disk: SimulatedDisk) -> None:
        self.disk = disk
        self.events: list[tuple[str, str]] = []
        self.tried: list[str] = []
        for folder in LAYOUT.folders():
            make_dirs(disk, folder)
        transport: Any = FakeTransport()
        downloader = Downloader(disk, LAYOUT, transport, InstallConfig(), sleep=lambda _: None)

        def fetch(file: ManifestFile, answer: dict[str, Any], ledger: Ledger) -> None:
            url = f"http://server/blobs/{file.sha256}"
            downloader.fetch(file, lambda _: url, ledger=ledger)

        self.installer = Installer(
            files=disk,
            layout=LAYOUT,
            config=InstallConfig(),
            device_id=DEVICE,
            trust_keys=TRUST_KEYS,
            fetch_file=fetch,
            self_test=self.self_test,
            check_requirements=lambda manifest: None,
            events=self,
            read_clock=STILL.wall,
            clock=STILL,
        )

    def add_event(
        self, assignment_id: str, state: str, code: str, detail: str, self_test: object = None
    ) -> None:
        self.events.append((state, code))

    def self_test(self, manifest: Manifest) -> SelfTestResult:
        self.tried.append(manifest.version)
        self.load(manifest.version)
        self.disk.tick()
        if manifest.version == "killer":
            raise PowerCut
        return SelfTestResult(manifest.version != "bad", "self_test_failed")

    def load(self, version: str) -> None:
        """What the runtime would be given, looked at without the agent's own code."""
        for data in (weights(version), b"golden"):
            found = self.disk.read(LAYOUT.blob(hashlib.sha256(data).hexdigest()))
            assert found == data, f"unverified bytes were loaded: {found!r}"

    def boot(self) -> None:
        self.installer.boot()
        assert ("failed", "blob_corrupt") not in self.events, "the current release was damaged"
        blocked = set(self.installer.state.model(MODEL).blocked)
        assert not blocked & {DIGESTS[name] for name in ("first", "good", "shipped")}

    def poll(self, name: str) -> None:
        self.installer.apply(MODEL, ANSWERS[name])

    @property
    def current(self) -> str:
        current = self.installer.state.model(MODEL).current
        assert current is not None, "nothing runs"
        self.load(current.version)
        return current.version


@dataclass(frozen=True)
class Story:
    """One thing a device does, cut by power failures, and what must be true after them."""

    prepare: Callable[[SimulatedDisk], None]
    act: Callable[[SimulatedDisk], None]
    check: Callable[[SimulatedDisk], None]

    def start(self, ignored: Syncs) -> SimulatedDisk:
        disk = SimulatedDisk(ignored)
        self.prepare(disk)
        return disk.copy()


def prepare_first(disk: SimulatedDisk) -> None:
    device = Device(disk)
    device.boot()
    device.poll("first")


def install(name: str, expected: str) -> Story:
    """The device runs `first`, is offered `name` and ends with `expected`."""

    def act(disk: SimulatedDisk) -> None:
        device = Device(disk)
        device.boot()
        device.poll(name)

    def check(disk: SimulatedDisk) -> None:
        device = Device(disk)
        device.boot()
        assert LAYOUT.state.with_suffix(".corrupt") not in disk.names, "state was corrupt"
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

    return Story(prepare_first, act, check)


def lose_state() -> Story:
    """The device runs `good` and has `first` before it when its `state.json` goes bad."""

    def prepare(disk: SimulatedDisk) -> None:
        prepare_first(disk)
        Device(disk).poll("good")
        # Whatever is written must hold now: the card fails after the power did.
        left = disk.after_power_cut("none")
        disk.__dict__.update(left.__dict__)
        disk.damage(LAYOUT.state)

    def act(disk: SimulatedDisk) -> None:
        Device(disk).boot()

    def check(disk: SimulatedDisk) -> None:
        device = Device(disk)
        device.boot()
        assert device.current == "good"
        model = device.installer.state.model(MODEL)
        assert (model.counter, model.manifest_sha256) == (2, DIGESTS["good"])
        try:
            device.poll("first")
        except CounterError:
            pass
        else:
            raise AssertionError("an older assignment was acted on again")
        assert device.installer.roll_back(MODEL, code="requested", detail="")
        assert device.current == "first"

    return Story(prepare, act, check)


def ship(disk: SimulatedDisk) -> None:
    """A folder as a person brings it, and `factory add` of it."""
    for folder in (MEDIA.parent, MEDIA):
        disk.folders.add(folder)
        disk.durable_folders.add(folder)
    documents = {
        "manifest.json": ENVELOPE,
        "trust_keys.json": json.dumps(make_trust_rows()).encode(),
        "model.onnx": weights("shipped"),
        "golden.npz": b"golden",
    }
    for name, data in documents.items():
        if disk.read(MEDIA / name) != data:
            disk.write(MEDIA / name, data)
    add_folder(disk, LAYOUT, MEDIA)


def fall_back_to_factory() -> Story:
    """The device has nothing but a damaged `first` and what it was shipped with."""

    def prepare(disk: SimulatedDisk) -> None:
        prepare_first(disk)
        ship(disk)
        disk.damage(LAYOUT.blob(hashlib.sha256(weights("first")).hexdigest()))

    def act(disk: SimulatedDisk) -> None:
        device = Device(disk)
        device.installer.boot()
        assert device.current == "shipped"

    def check(disk: SimulatedDisk) -> None:
        device = Device(disk)
        device.installer.boot()
        assert device.current == "shipped"
        again = Device(disk.after_power_cut("none"))
        # Looked at before the boot, which would mend what is missing.
        again.load("shipped")
        envelope = again.disk.read(LAYOUT.manifest(DIGESTS["shipped"]))
        assert envelope == ENVELOPE, "half a manifest"
        again.installer.boot()
        assert again.current == "shipped"
        again.poll("first")
        assert again.current == "first"

    return Story(prepare, act, check)


def ship_release() -> Story:
    """A release is put into the factory of a device that has nothing."""

    def prepare(disk: SimulatedDisk) -> None:
        Device(disk)

    def act(disk: SimulatedDisk) -> None:
        ship(disk)

    def check(disk: SimulatedDisk) -> None:
        device = Device(disk)
        device.installer.boot()
        model = device.installer.state.model(MODEL)
        assert model.current is None or device.current == "shipped"
        act(disk)
        left = disk.after_power_cut("none")
        again = Device(left)
        again.installer.boot()
        assert again.current == "shipped"

    return Story(prepare, act, check)


def enrol() -> Story:
    """A device trades its join token for credentials; its id is taken from the first call on."""

    def act(disk: SimulatedDisk) -> None:
        Device(disk)
        if read(disk) is None:
            config = Config(device_id=DEVICE, server_url="http://server", home=LAYOUT.home)
            transport: Any = Registrar(disk.server)
            DeviceClient(config, transport, None).enroll({}, disk, LAYOUT)

    def check(disk: SimulatedDisk) -> None:
        read(disk)
        try:
            act(disk)
        except NotEnrolledError as error:
            raise AssertionError("the id is taken, and no token is here") from error
        left = read(disk.after_power_cut("none"))
        assert left is not None, "the credentials are lost"
        assert left.token == "secret"

    def read(disk: SimulatedDisk) -> Credentials | None:
        try:
            return load_credentials(disk, LAYOUT, DEVICE)
        except NotEnrolledError as error:
            raise AssertionError("half a credential") from error

    return Story(lambda disk: None, act, check)


STORIES: dict[str, Story] = {
    "a good release": install("good", "good"),
    "a bad release": install("bad", "first"),
    "a lost state": lose_state(),
    "a fall back to the factory's": fall_back_to_factory(),
    "a release put into the factory": ship_release(),
    "an enrolment": enrol(),
}

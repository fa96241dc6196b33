"""A release with a processor: installed, tried, and answering raw images."""

import dataclasses
import gc
import hashlib
import io
import json
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from edge_agent.agent import Agent
from edge_agent.cli import main
from edge_agent.config import InferenceConfig, SandboxConfig
from edge_agent.exceptions import GuestRefusedError, InputError
from edge_agent.inference.session import ModelSession
from edge_agent.install import requirements
from edge_agent.sandbox.compiled import CompiledCache
from edge_agent.sandbox.processor import describe_model, open_processor, read_packaged_guest
from servers.patience import QUIET_SECONDS
from tests.edge_agent.guests import make_guest
from tests.edge_agent.publisher import DEVICE, MODEL, Server, make_model
from tests.edge_agent.releases import Station, make_session

DATA = Path(__file__).resolve().parents[3] / "demo" / "data"
DIGITS = (DATA / "digits-cnn-1.1.0.onnx").read_bytes()
LABELS = [str(digit) for digit in range(10)]
SPIN = "(loop (br 0)) (i32.const 0)"


@pytest.fixture(scope="module")
def images() -> Any:
    """500 raw images, uint8 `[500, 8, 8, 1]`."""
    with np.load(DATA / "eval.npz") as archive:
        return (archive["x"].transpose(0, 2, 3, 1) * 255).round().astype(np.uint8)


def make_golden() -> bytes:
    session = onnxruntime.InferenceSession(DIGITS, providers=["CPUExecutionProvider"])
    x = np.random.default_rng(0).random((4, 1, 8, 8), dtype=np.float32)
    stream = io.BytesIO()
    np.savez(stream, input_input=x, output_logits=session.run(None, {"input": x})[0])
    return stream.getvalue()


def publish(server: Server, module: bytes, **over: Any) -> str:
    extra = {"classify.wasm": ("processor", module)}
    return server.publish(DIGITS, golden=make_golden(), extra=extra, labels=LABELS, **over)


def with_processor(session: ModelSession, module: bytes = b"") -> ModelSession:
    guest = module or read_packaged_guest()
    session.processor = open_processor(session, guest, SandboxConfig(), None)
    return session


def test_raw_images_get_the_answers_of_the_tensors_they_stand_for(
    tmp_path: Path, images: Any
) -> None:
    session = with_processor(make_session(tmp_path, DIGITS, labels=LABELS))
    for image in images:
        raw = session.infer(image[None])
        tensor = (image.transpose(2, 0, 1)[None] / 255).astype(np.float32)
        plain = session.infer(tensor)
        assert [hit[:2] for hit in raw.top_k] == [hit[:2] for hit in plain.top_k]
        assert raw.confidence == pytest.approx(plain.confidence, abs=1e-5)
        np.testing.assert_allclose(raw.outputs[0], plain.outputs[0], atol=1e-4)


def test_an_agent_installs_it_and_its_commands_take_raw_images(
    agent: Agent,
    server: Server,
    images: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    publish(server, read_packaged_guest(), preprocessing={"mean": 0.0, "std": [1.0]})
    assert agent.sync() == {MODEL}
    compiled = list(agent.layout.optimised.glob("*.cwasm"))
    assert len(compiled) == 1, "compiled by the self-test, for the process that runs it"
    config = tmp_path / "agent.toml"
    config.write_text(
        f'[agent]\ndevice_id = "{DEVICE}"\nserver_url = "{server.url}"\nhome = "home"\n'
    )
    np.save(tmp_path / "images.npy", images[:20])
    command = ["--config", str(config), "infer", str(tmp_path / "images.npy"), "--limit", "20"]
    assert main(command) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    session = agent.open_session(MODEL)
    for row, image in zip(rows, images, strict=False):
        tensor = (image.transpose(2, 0, 1)[None] / 255).astype(np.float32)
        assert row["top_k"][0]["class_id"] == session.infer(tensor).class_id
    assert list(agent.layout.optimised.glob("*.cwasm")) == compiled


def test_compiled_guests_go_with_the_last_release_that_is_kept(
    agent: Agent, server: Server
) -> None:
    module = read_packaged_guest()
    digest = hashlib.sha256(module).hexdigest()
    settings: dict[str, Any] = {"preprocessing": {"mean": 0.0, "std": [1.0]}}

    def compiled() -> list[str]:
        return [path.name[:64] for path in agent.layout.optimised.glob("*.cwasm")]

    def install(**over: Any) -> None:
        over["counter"] = over["sequence"] = number = next(numbers)
        server.publish(make_model(seed=number), version=f"{number}.0.0", **over)
        assert agent.sync() == {MODEL}
        agent.load_sessions()

    numbers = iter(range(2, 9))
    publish(server, module, **settings)
    assert agent.sync() == {MODEL}
    agent.load_sessions()
    stray = agent.layout.optimised / f"{'1' * 64}.cwasm"
    stray.write_bytes(b"of a release long gone")
    install()
    assert compiled() == [digest], "the release before can still come back"
    assert not stray.exists()
    install()
    assert compiled() == []
    assert (agent.layout.optimised / "compiled.key").exists()


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (make_guest(SPIN), "guest_timeout"),
        (make_guest("unreachable"), "guest_trapped"),
        (make_guest(init="(i32.const -9)"), "guest_failed"),
        (make_guest("(i32.const 0)"), "answered no class"),
        (make_guest(imports='(import "env" "exec" (func))'), "guest_refused"),
        (b"\0asm\1\0\0\0\xff", "guest_refused"),
    ],
)
def test_a_release_whose_processor_fails_is_blocked(
    agent: Agent, server: Server, module: bytes, reason: str
) -> None:
    # A busy machine may stall any call: the limit is short only where it is what is awaited.
    limit_s = 0.3 if reason == "guest_timeout" else QUIET_SECONDS
    agent.config = dataclasses.replace(agent.config, sandbox=SandboxConfig(timeout_s=limit_s))
    digest = publish(server, module)
    assert agent.sync() == set()
    state = agent.installer.state.model(MODEL)
    assert state.current is None
    assert "processor_failed" in state.blocked[digest] and reason in state.blocked[digest]
    assert ("failed", "processor_failed") in server.states()


def make_processor_golden(images: Any, shift: int = 0) -> bytes:
    session = onnxruntime.InferenceSession(DIGITS, providers=["CPUExecutionProvider"])
    tensors = images.transpose(0, 3, 1, 2) / np.float32(255)
    classes = session.run(None, {"input": tensors})[0].argmax(axis=1)
    stream = io.BytesIO()
    np.savez(stream, image=images, class_id=(classes + shift) % 10)
    return stream.getvalue()


@pytest.mark.parametrize("shift", [0, 1])
def test_golden_images_judge_the_processor(
    agent: Agent, server: Server, images: Any, shift: int
) -> None:
    files = {
        "classify.wasm": ("processor", read_packaged_guest()),
        "processor-golden.npz": ("golden", make_processor_golden(images[:8], shift)),
    }
    digest = server.publish(DIGITS, golden=make_golden(), extra=files, labels=LABELS)
    is_right = shift == 0
    assert agent.sync() == ({MODEL} if is_right else set())
    reason = agent.installer.state.model(MODEL).blocked.get(digest, "")
    assert is_right or "0 of 8 golden images agree" in reason


def test_a_device_without_the_sandbox_says_so_before_it_downloads(
    agent: Agent, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requirements, "has_sandbox", lambda: False)
    publish(server, read_packaged_guest())
    assert agent.sync() == set()
    assert ("failed", "requirement_unmet") in server.states()
    assert not any(path.startswith("/blobs/") for _, path, _ in server.requests)


def test_a_record_describes_what_the_model_was_given(tmp_path: Path, images: Any) -> None:
    station = Station(tmp_path)
    with_processor(station.put(DIGITS, labels=LABELS))
    tensor = (images[0].transpose(2, 0, 1)[None] / 255).astype(np.float32)
    station.serving.infer(images[:1])
    station.serving.infer(tensor)
    raw, plain = station.records()
    assert raw["class_id"] == plain["class_id"]
    assert raw["features"] == pytest.approx(plain["features"], abs=1e-5)
    station.close()


def test_an_image_of_other_channels_counts_against_nobody(tmp_path: Path) -> None:
    session = with_processor(make_session(tmp_path, DIGITS))
    with pytest.raises(InputError, match="8, 8, 3"):
        session.check_inputs(np.zeros((1, 8, 8, 3), np.uint8))
    with pytest.raises(InputError, match="expected dtype float32"):
        make_session(tmp_path, DIGITS).check_inputs(np.zeros((1, 1, 8, 8), np.uint8))


@pytest.mark.parametrize(
    ("manifest", "reason"),
    [
        ({"preprocessing": {"mean": "0.5"}}, "expected numbers"),
        ({"preprocessing": {"std": [1.0, 1.0]}}, "expected 1 or 1 numbers, got 2"),
        ({"preprocessing": {"std": [True]}}, "expected numbers"),
        ({"postprocessing": {"activation": "tanh"}}, "no activation"),
    ],
)
def test_a_manifest_that_no_guest_could_follow_is_refused(
    tmp_path: Path, manifest: dict[str, Any], reason: str
) -> None:
    with pytest.raises(GuestRefusedError, match=reason):
        describe_model(make_session(tmp_path, DIGITS, **manifest))


def test_a_model_that_takes_no_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GuestRefusedError, match="4 dimensions"):
        describe_model(make_session(tmp_path, make_model()))


def test_mean_and_deviation_reach_the_guest(tmp_path: Path, images: Any) -> None:
    given = {"mean": [0.25], "std": 0.5}
    session = with_processor(make_session(tmp_path, DIGITS, preprocessing=given))
    result = session.infer(images[:1])
    expected = (images[0].transpose(2, 0, 1)[None] / 255 - 0.25) / 0.5
    np.testing.assert_allclose(result.tensor, expected, atol=1e-6)  # type: ignore[attr-defined]


def test_a_release_that_is_replaced_leaves_nothing_behind(tmp_path: Path, images: Any) -> None:
    before = {thread.ident for thread in threading.enumerate()}
    sessions = []
    for _ in range(5):
        session = with_processor(make_session(tmp_path, DIGITS))
        session.infer(images[:1])
        sessions.append(weakref.ref(session))
        del session
    gc.collect()
    assert [session() for session in sessions] == [None] * 5
    for thread in threading.enumerate():
        if thread.ident not in before and thread.name == "guest-watchdog":
            thread.join(timeout=QUIET_SECONDS)
            assert not thread.is_alive()


def test_answers_to_raw_images_are_cached_by_their_bytes(tmp_path: Path, images: Any) -> None:
    session = with_processor(make_session(tmp_path, DIGITS, InferenceConfig(cache_entries=4)))
    first, second = session.infer(images[:1]), session.infer(images[:1].copy())
    assert (first.is_cached, second.is_cached) == (False, True)
    assert first.top_k == second.top_k


def test_the_cache_of_compiled_code_is_this_devices_own(tmp_path: Path) -> None:
    session, cache = make_session(tmp_path, DIGITS), tmp_path / "opt"
    cache.mkdir()
    open_processor(session, read_packaged_guest(), SandboxConfig(), CompiledCache(cache))
    (copied,) = cache.glob("*.cwasm")
    elsewhere = tmp_path / "other"
    elsewhere.mkdir()
    target = elsewhere / copied.name
    target.write_bytes(copied.read_bytes())
    target.chmod(0o600)
    open_processor(session, read_packaged_guest(), SandboxConfig(), CompiledCache(elsewhere))
    assert target.read_bytes() != copied.read_bytes(), "compiled anew, under the other key"

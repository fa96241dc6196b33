"""Hot swaps under load, several models at once, and which requests count against a release."""

import dataclasses
import gc
import hashlib
import itertools
import json
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import urllib3
from onnx import TensorProto, helper, numpy_helper

from edge_agent.agent import Agent
from edge_agent.config import AdaptiveConfig, InferenceConfig, ServeConfig, parse_config
from edge_agent.exceptions import ConfigurationError, InferenceError, InputError, NoModelError
from edge_agent.run import Runner
from edge_agent.serving import watch
from edge_agent.serving.adaptive import AdaptiveChooser, Route
from edge_agent.serving.endpoint import Endpoint
from servers.patience import wait_for
from tests.edge_agent.publisher import MODEL, Server, make_answer, make_golden, make_model
from tests.edge_agent.releases import Station

ROW = np.ones((1, 4), dtype=np.float32)
SWAPS, THREADS = 50, 4


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    station = Station(tmp_path)
    yield station
    station.close()


def test_no_request_fails_or_mixes_two_releases_while_fifty_take_over(
    tmp_path: Path,
) -> None:
    """Each release answers with its own number, which is also its version."""
    station = Station(tmp_path, inference=InferenceConfig(cache_entries=8))
    models = [make_constant(number) for number in range(SWAPS + 1)]
    station.put(models[0], version="0.0.0")
    wrong: list[str] = []
    seen: list[set[str]] = [set() for _ in range(THREADS)]
    stopping = threading.Event()

    def hammer(versions: set[str]) -> None:
        rows = [ROW * scale for scale in range(1, 5)]
        for row in itertools.cycle(rows):
            if stopping.is_set():
                return
            try:
                answer = station.serving.infer(row, model=MODEL)
            except Exception as error:  # noqa: BLE001 any failure at all is what is looked for
                wrong.append(repr(error))
                return
            number = answer.manifest.version.split(".")[0]
            got = answer.result.outputs[0][0].tolist()
            if got != [float(number)] * 3:
                wrong.append(f"release {number} answered {got}")
            versions.add(number)

    threads = [threading.Thread(target=hammer, args=(versions,)) for versions in seen]
    for thread in threads:
        thread.start()
    old: list[Any] = []
    for number in range(1, SWAPS + 1):
        served = station.slots[MODEL].session
        assert served is not None
        old.append(weakref.ref(served))
        old.append(weakref.ref(served.session))
        del served
        station.put(models[number], version=f"{number}.0.0")
        # Each release answers a few before the next one comes.
        wait_until(lambda: station.slots[MODEL].session.latency.count > 2)  # type: ignore[union-attr]
    stopping.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert set.union(*seen) == {str(number) for number in range(SWAPS + 1)}
    gc.collect()
    assert [ref() for ref in old if ref() is not None] == [], "an old session is still held"
    station.close()


def wait_until(condition: Any) -> None:
    wait_for(condition, interval_seconds=0.001)


def make_constant(number: int) -> bytes:
    """A model that answers `number` three times, whatever it is asked."""
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["input", "w", "b"], ["logits"])],
        "constant",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
        [
            numpy_helper.from_array(np.zeros((4, 3), np.float32), "w"),
            numpy_helper.from_array(np.full(3, number, np.float32), "b"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def test_the_endpoint_drops_nothing_while_releases_take_over(station: Station) -> None:
    station.put(make_constant(0), version="0.0.0")
    endpoint = Endpoint(ServeConfig(enabled=True, port=0), station.serving)
    endpoint.start()
    url = f"{endpoint.address}/v1/models/{MODEL}/infer"
    body = json.dumps({"inputs": ROW.tolist()}).encode()
    wrong: list[Any] = []
    answered = [0, 0]
    stopping = threading.Event()

    def hammer(index: int) -> None:
        pool = urllib3.PoolManager(maxsize=1, retries=False)
        headers = {"Content-Type": "application/json"}
        while not stopping.is_set():
            answer = pool.request("POST", url, body=body, headers=headers)
            row = answer.json()
            number = float(row.get("version", "-1").split(".")[0])
            if answer.status != 200 or row["outputs"]["logits"] != [[number] * 3]:
                wrong.append(row)
            answered[index] += 1

    threads = [threading.Thread(target=hammer, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for number in range(1, 11):
        before = sum(answered)
        station.put(make_constant(number), version=f"{number}.0.0")
        wait_until(lambda before=before: sum(answered) > before + 4)
    stopping.set()
    for thread in threads:
        thread.join()
    endpoint.stop()
    assert wrong == []


def test_each_model_answers_counts_and_is_recorded_by_itself(station: Station) -> None:
    first = station.put(make_constant(1), "first")
    second = station.put(make_model(takes_logarithm=True), "second")
    for _ in range(3):
        assert station.serving.infer(ROW, model="first").result.outputs[0][0, 0] == 1
    for row in (ROW, -ROW):
        station.serving.infer(row, model="second")
    traffic = station.serving.traffic_of("first", first.manifest.digest)
    assert (traffic.inferences, traffic.non_finite) == (3, 0)
    traffic = station.serving.traffic_of("second", second.manifest.digest)
    assert (traffic.inferences, traffic.non_finite) == (2, 1)
    assert [row["model"] for row in station.records()] == ["first"] * 3 + ["second"] * 2
    with pytest.raises(InputError, match=r"name one of the models \['first', 'second'\]"):
        station.serving.infer(ROW)


def test_a_new_release_starts_its_count_anew(station: Station) -> None:
    old = station.put(make_model(), version="1.0.0")
    station.serving.infer(ROW)
    new = station.put(make_model(), version="2.0.0")
    station.serving.infer(ROW)
    station.serving.infer(ROW)
    assert station.serving.traffic_of(MODEL, new.manifest.digest).inferences == 2
    assert station.serving.traffic_of(MODEL, old.manifest.digest).inferences == 0


def test_a_failure_of_the_runtime_counts_and_a_bad_request_does_not(station: Station) -> None:
    session = station.put(make_model())
    digest = session.manifest.digest
    with pytest.raises(InferenceError):
        station.serving.infer(ROW[:, :2])
    assert station.serving.traffic_of(MODEL, digest).errors == 1
    with pytest.raises(InputError, match="expected an array of numbers or texts, got list"):
        station.serving.infer([[1.0]])  # type: ignore[arg-type]
    with pytest.raises(NoModelError, match="model other has no running release"):
        station.serving.infer(ROW, model="other")
    assert station.serving.traffic_of(MODEL, digest).inferences == 1
    (record,) = station.records()
    assert "error" in record and record["features"] == [1.0, 0.0]


def install(agent: Agent, server: Server, slug: str, model: bytes, counter: int) -> str:
    """Installs a release of `slug` the whole way; returns its manifest's digest."""
    contents = {"model.onnx": ("model", model), "golden.npz": ("golden", make_golden(model))}
    for _, data in contents.values():
        server.blobs[hashlib.sha256(data).hexdigest()] = data
    over = {"model": slug, "counter": counter, "floor_sequence": 0}
    answer = make_answer(
        contents,
        base_url=server.url,
        manifest={"model": slug, "version": f"{counter}.0.0", "sequence": counter},
        assignment=over,
    )
    assert agent.installer.apply(slug, answer)
    agent.load_sessions()
    current = agent.installer.state.model(slug).current
    assert current is not None
    return current.manifest_sha256


def test_the_watch_takes_back_the_model_that_fails_and_leaves_the_other(
    agent: Agent, server: Server
) -> None:
    runner = Runner(agent)
    first = install(agent, server, "bad", make_model(), 1)
    install(agent, server, "good", make_model(), 1)
    install(agent, server, "bad", make_model(takes_logarithm=True), 2)
    good = install(agent, server, "good", make_model(seed=2), 2)
    runner.watcher.look(agent.installer, now=0.0)
    for number in range(1, 31):
        runner.serving.infer(-ROW, model="good")
        runner.serving.infer(-ROW, model="bad")
        if number == 5:
            runner.watcher.look(agent.installer, now=1.0)
            assert agent.slots["bad"].previous is not None, "five inputs decide nothing"
    runner.watcher.look(agent.installer, now=50.0)
    running = {
        slug: slot.session.manifest.digest for slug, slot in agent.slots.items() if slot.session
    }
    assert running == {"bad": first, "good": good}
    assert agent.installer.state.model("good").is_watched
    runner.watcher.look(agent.installer, now=agent.config.install.watch_seconds + 1)
    assert not agent.installer.state.model("good").is_watched
    assert all(slot.previous is None for slot in agent.slots.values()), "and their memory is free"


def test_inputs_that_the_release_before_fails_on_too_undo_nothing(
    agent: Agent, server: Server
) -> None:
    runner = Runner(agent)
    install(agent, server, "a", make_model(takes_logarithm=True), 1)
    second = install(agent, server, "a", make_model(seed=1, takes_logarithm=True), 2)
    runner.watcher.look(agent.installer, now=0.0)
    for _ in range(60):
        runner.serving.infer(-ROW, model="a")
    runner.watcher.look(agent.installer, now=30.0)
    runner.watcher.look(agent.installer, now=1e6)
    model = agent.installer.state.model("a")
    assert model.current is not None and model.current.manifest_sha256 == second
    assert not model.is_watched


def test_a_slower_release_is_taken_back_and_the_same_one_is_not(
    agent: Agent, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for factor in (1.0, 3.0):
        runner = Runner(agent)
        slug = f"by-{factor:g}"
        first = install(agent, server, slug, make_model(), 1)
        second = install(agent, server, slug, make_model(seed=1), 2)
        times = {first: 20.0, second: 20.0 * factor}
        monkeypatch.setattr(
            watch,
            "ask",
            lambda session, inputs, times=times: times[session.manifest.digest],
        )
        runner.watcher.look(agent.installer, now=0.0)
        for _ in range(40):
            runner.serving.infer(ROW, model=slug)
        runner.watcher.look(agent.installer, now=1.0)
        current = agent.installer.state.model(slug).current
        assert current is not None
        assert current.manifest_sha256 == (first if factor == 3.0 else second)
        assert bool(agent.installer.state.model(slug).blocked) is (factor == 3.0)


# Which of two models.


def test_a_slow_large_model_yields_and_returns_without_alternating() -> None:
    chooser = AdaptiveChooser(AdaptiveConfig(latency_budget_ms=50, hold_inferences=10))
    choices = []
    for step in range(400):
        load = 2.0 if 100 <= step < 200 else 1.0
        choice = chooser.choose()
        chooser.record(choice, load * (30.0 if choice is Route.LARGE else 5.0))
        choices.append(choice)
    switches = sum(a != b for a, b in itertools.pairwise(choices))
    assert switches == 2
    assert choices[150] is Route.SMALL and choices[-1] is Route.LARGE


def test_scarce_resources_override_and_low_confidence_asks_again() -> None:
    chooser = AdaptiveChooser(AdaptiveConfig())
    assert chooser.choose(is_scarce=True) is Route.SMALL
    assert chooser.wants_second_opinion(Route.SMALL, 0.3)
    assert not chooser.wants_second_opinion(Route.SMALL, 0.9)
    assert not chooser.wants_second_opinion(Route.LARGE, 0.3)


def test_after_scarcity_a_large_model_never_measured_is_tried() -> None:
    chooser = AdaptiveChooser(AdaptiveConfig(hold_inferences=5))
    for _ in range(50):
        chooser.record(chooser.choose(is_scarce=True), 5.0)
    after = []
    for _ in range(8):
        after.append(chooser.choose())
        chooser.record(after[-1], 5.0)
    assert after[0] is Route.SMALL, "not at once"
    assert after[-1] is Route.LARGE


def test_one_bad_measurement_does_not_last_for_ever() -> None:
    config = AdaptiveConfig(latency_budget_ms=50, hold_inferences=5, retry_inferences=100)
    chooser = AdaptiveChooser(config)
    chooser.record(chooser.choose(), 5000.0)
    choices = []
    for _ in range(200):
        choices.append(chooser.choose())
        chooser.record(choices[-1], 20.0 if choices[-1] is Route.LARGE else 5.0)
    assert Route.SMALL in choices
    assert choices[-1] is Route.LARGE


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Station]:
    """Two real models, of which the large one takes over a hundred times as long."""
    config = AdaptiveConfig(
        large="large", small="small", latency_budget_ms=1e9, hold_inferences=3, min_confidence=0.0
    )
    station = Station(tmp_path, adaptive=config)
    station.put(make_heavy(), "large")
    station.put(make_model(), "small")
    yield station
    station.close()


def make_heavy() -> bytes:
    """As `make_model`, behind products of 1024 × 1024 matrices."""
    wide = np.eye(1024, dtype=np.float32)
    nodes = [helper.make_node("MatMul", ["big", "big"], ["x0"])]
    nodes += [helper.make_node("MatMul", [f"x{i}", "spread"], [f"x{i + 1}"]) for i in range(2)]
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["input", "in"], ["row"]),
            helper.make_node("Mul", ["wide", "row"], ["big"]),
            *nodes,
            helper.make_node("ReduceMean", ["x2"], ["one"], axes=[0, 1], keepdims=0),
            helper.make_node("Gemm", ["input", "w"], ["scores"]),
            helper.make_node("Mul", ["one", "nothing"], ["nil"]),
            helper.make_node("Add", ["scores", "nil"], ["logits"]),
        ],
        "heavy",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
        [
            numpy_helper.from_array(np.full((4, 1024), 0.01, np.float32), "in"),
            numpy_helper.from_array(wide, "wide"),
            numpy_helper.from_array(wide, "spread"),
            numpy_helper.from_array(np.eye(4, 3, dtype=np.float32), "w"),
            numpy_helper.from_array(np.float32(0), "nothing"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def models_asked(station: Station, times: int, model: str = "auto") -> list[str]:
    return [station.serving.infer(ROW, model=model).manifest.model for _ in range(times)]


def test_the_large_model_answers_while_it_fits_the_budget(pair: Station) -> None:
    assert set(models_asked(pair, 8)) == {"large"}
    assert set(models_asked(pair, 2, model="")) == {"large"}, "the pair is what no name means"
    assert set(models_asked(pair, 2, model="small")) == {"small"}, "a name still has its way"


def with_budget(station: Station, **over: Any) -> None:
    """Another pair's settings over the models that run."""
    station.serving.pair = dataclasses.replace(station.serving.pair, **over)
    station.serving.chooser = AdaptiveChooser(station.serving.pair)


def test_past_the_budget_the_small_model_steps_in_after_the_hold(pair: Station) -> None:
    large = pair.serving.find_session("large")
    small = pair.serving.find_session("small")
    for _ in range(5):
        large.infer(ROW)
        small.infer(ROW)
    between = (large.latency.stats()["p50_ms"] * small.latency.stats()["p50_ms"]) ** 0.5
    with_budget(pair, latency_budget_ms=between)
    asked = models_asked(pair, 20)
    assert asked[:3] == ["large"] * 3
    assert set(asked[-5:]) == {"small"}
    assert sum(a != b for a, b in itertools.pairwise(asked)) == 1


def test_an_unsure_small_model_is_asked_again_of_the_large_one(pair: Station) -> None:
    with_budget(pair, min_confidence=1.1)
    chooser = pair.serving.chooser
    assert chooser is not None
    chooser.choice = Route.SMALL
    answer = pair.serving.infer(ROW, model="auto")
    assert answer.manifest.model == "large"
    assert [row["model"] for row in pair.records()] == ["small", "large"], "both are recorded"


def test_scarce_resources_bring_the_small_model_at_once_and_ask_no_one_again(
    pair: Station,
) -> None:
    with_budget(pair, min_confidence=1.1)
    pair.observer.thresholds.restore(["memory_percent"])
    assert models_asked(pair, 2) == ["small", "small"]
    pair.observer.thresholds._firing.clear()
    assert "large" in models_asked(pair, 6)


def test_one_of_the_pair_serves_alone_while_the_other_is_not_here(pair: Station) -> None:
    pair.slots["large"].swap(None)
    assert set(models_asked(pair, 3)) == {"small"}
    pair.slots["small"].swap(None)
    with pytest.raises(NoModelError):
        pair.serving.infer(ROW)


def test_the_endpoint_knows_the_pair_by_its_name(pair: Station) -> None:
    endpoint = Endpoint(ServeConfig(enabled=True, port=0), pair.serving)
    endpoint.start()
    try:
        url = f"{endpoint.address}/v1/models/auto/infer?outputs=none"
        for slug in ("large", "small"):
            row = urllib3.request("POST", url, json={"inputs": ROW.tolist()}).json()
            assert row["model"] == slug
            pair.slots[slug].swap(None)
        answer = urllib3.request("POST", url, json={"inputs": ROW.tolist()}, retries=False)
        assert answer.status == 503
    finally:
        endpoint.stop()


@pytest.mark.parametrize("adaptive", [{"large": "a"}, {"small": "b"}, {"large": "a", "small": "a"}])
def test_a_pair_needs_two_models(adaptive: dict[str, str], tmp_path: Path) -> None:
    agent = {"device_id": "d", "server_url": "http://s", "home": "h"}
    with pytest.raises(ConfigurationError, match="two different models"):
        parse_config({"agent": agent, "adaptive": adaptive}, base=tmp_path)

"""The Open Inference Protocol, as its clients speak it over HTTP."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import urllib3

from edge_agent.config import ServeConfig
from edge_agent.serving.endpoint import Endpoint
from servers.patience import QUIET_SECONDS
from tests.edge_agent.publisher import MODEL, make_model
from tests.edge_agent.releases import Station
from tests.factories import exports

ROW = np.array([[0.5, -1.0, 2.0, 0.1]], dtype=np.float32)


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    made = Station(tmp_path)
    yield made
    made.close()


@pytest.fixture
def url(station: Station) -> Iterator[str]:
    endpoint = Endpoint(ServeConfig(enabled=True, port=0, timeout_s=QUIET_SECONDS), station.serving)
    endpoint.start()
    yield endpoint.address
    endpoint.stop()


def get(url: str, path: str) -> tuple[int, Any]:
    answer = urllib3.request("GET", url + path, retries=False)
    return answer.status, answer.json()


def ask(url: str, document: Any, *tensors: bytes, model: str = MODEL) -> Any:
    """A request to infer; tensors as bytes follow the JSON as Triton's client sends them."""
    head = json.dumps(document).encode()
    headers = {"Content-Type": "application/json"}
    if tensors:
        headers = {
            "Content-Type": "application/octet-stream",
            "Inference-Header-Content-Length": str(len(head)),
        }
    return urllib3.request(
        "POST", f"{url}/v2/models/{model}/infer", body=head + b"".join(tensors), headers=headers,
        retries=False,
    )  # fmt: skip


def tensor(**over: Any) -> dict[str, Any]:
    made = {"name": "input", "shape": [1, 4], "datatype": "FP32", "data": ROW.tolist()}
    return {**made, **over}


def test_health_and_metadata_are_what_clients_ask_first(station: Station, url: str) -> None:
    assert get(url, "/v2/health/live") == (200, {"live": True})
    assert get(url, "/v2/health/ready")[0] == 503
    station.put(make_model())
    assert get(url, "/v2/health/ready") == (200, {"ready": True})
    status, server = get(url, "/v2")
    assert (status, server["name"], server["extensions"]) == (
        200, "aviary-agent", ["binary_tensor_data"],
    )  # fmt: skip
    assert get(url, f"/v2/models/{MODEL}/ready")[0] == 200
    status, found = get(url, f"/v2/models/{MODEL}/versions/1.0.0")
    assert (status, found["versions"]) == (200, ["1.0.0"])
    assert found["inputs"] == [{"name": "input", "datatype": "FP32", "shape": [-1, 4]}]
    assert found["outputs"] == [{"name": "logits", "datatype": "FP32", "shape": [-1, 3]}]
    assert get(url, f"/v2/models/{MODEL}/versions/9/ready")[0] == 404
    assert get(url, "/v2/models/nobody") == (404, {"error": "no model nobody on this device"})


@pytest.mark.parametrize("is_flat", [True, False])
def test_tensors_come_and_go_as_json(station: Station, url: str, is_flat: bool) -> None:
    session = station.put(make_model())
    data = ROW.reshape(-1).tolist() if is_flat else ROW.tolist()
    answer = ask(url, {"id": "7", "inputs": [tensor(data=data)]})
    body = answer.json()
    assert (answer.status, body["id"], body["model_version"]) == (200, "7", "1.0.0")
    (logits,) = body["outputs"]
    assert (logits["name"], logits["datatype"], logits["shape"]) == ("logits", "FP32", [1, 3])
    expected = session.infer(ROW)
    assert logits["data"] == pytest.approx(expected.outputs[0].reshape(-1).tolist(), abs=1e-6)
    assert body["parameters"]["label"] == "abc"[expected.class_id or 0]
    assert len(station.records()) == 1


def test_tensors_come_and_go_as_bytes(station: Station, url: str) -> None:
    session = station.put(make_model())
    row = tensor(parameters={"binary_data_size": ROW.nbytes})
    del row["data"]
    asked = {"inputs": [row], "outputs": [{"name": "logits", "parameters": {"binary_data": True}}]}
    answer = ask(url, asked, ROW.tobytes())
    assert answer.status == 200, answer.data
    length = int(answer.headers["Inference-Header-Content-Length"])
    head = json.loads(answer.data[:length])
    assert head["outputs"][0]["parameters"] == {"binary_data_size": 12}
    found = np.frombuffer(answer.data[length:], "<f4")
    assert found == pytest.approx(session.infer(ROW).outputs[0][0], abs=1e-6)


def test_texts_maps_and_labels_have_a_form(station: Station, url: str) -> None:
    contract = {
        "task": "classification", "form": "map",
        "outputs": {"scores": "output_probability"}, "classes": ["bonn", "oslo"],
    }  # fmt: skip
    station.put(exports.forest(zipmap=True, classes=["bonn", "oslo"]), contract=contract)
    body = ask(url, {"inputs": [tensor(name="x")]}).json()
    label, chances = body["outputs"]
    assert (label["datatype"], label["data"]) == ("BYTES", ["oslo"])
    assert chances["data"] == pytest.approx([0.2, 0.8])
    contract = {"task": "classification", "form": "scores", "outputs": {"scores": "probabilities"}}
    station.put(exports.categories(), slug="cities", contract=contract, labels=["a", "b"])
    city = {"name": "city", "shape": [1, 1], "datatype": "BYTES"}
    text = len(b"oslo").to_bytes(4, "little") + b"oslo"
    number = {"name": "a", "shape": [1, 1], "datatype": "FP32", "data": [1.0]}
    by_json = ask(url, {"inputs": [{**city, "data": ["oslo"]}, number]}, model="cities").json()
    by_bytes = ask(
        url,
        {"inputs": [{**city, "parameters": {"binary_data_size": len(text)}}, number]},
        text,
        model="cities",
    ).json()
    assert by_json["outputs"] == by_bytes["outputs"]


REFUSED: dict[str, tuple[Any, str]] = {
    "no tensors": ({"inputs": []}, "list `inputs`"),
    "another shape": ({"inputs": [tensor(shape=[1, 5])]}, "expected 5 values, got 4"),
    "a negative size": ({"inputs": [tensor(shape=[-1, 4])]}, "shape is a list of sizes"),
    "another datatype": ({"inputs": [tensor(datatype="BF16")]}, "datatype is one of"),
    "another type than the model's": ({"inputs": [tensor(datatype="FP64")]}, "float32"),
    "another name": ({"inputs": [tensor(name="picture")]}, "picture"),
    "a name twice": ({"inputs": [tensor(), tensor()]}, "each name once"),
    "bytes that are not there": (
        {"inputs": [tensor(parameters={"binary_data_size": 10**9})]}, "0 bytes are left",
    ),
    "an output that is none": (
        {"inputs": [tensor()], "outputs": [{"name": "scores"}]}, "logits",
    ),
    "no JSON object": ([], "list `inputs`"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_request_is_refused_in_the_protocols_words(
    station: Station, url: str, case: str
) -> None:
    station.put(make_model())
    document, words = REFUSED[case]
    answer = ask(url, document)
    assert answer.status == 400
    assert words in answer.json()["error"]

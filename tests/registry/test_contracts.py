"""What a version's outputs mean: inferred, asked, said, corrected, and signed."""

import base64
import io
import json
from typing import Any

import numpy as np
import pytest
from django.contrib.auth.models import User
from django.test import Client

from registry.exceptions import InvalidFieldError, ManifestInvalidError, StateError
from registry.manifest import check_manifest
from registry.models import AuditEvent, Version, VersionState
from registry.services.aliases import move_alias
from registry.services.versions import correct_contract, transition_version, validate_version
from registry.validation.running import explain
from tests.factories import exports
from tests.factories.registry import make_dataset, make_model, make_upload, make_version

pytestmark = pytest.mark.django_db


def upload(data: bytes, *, model: Any = None, **metadata: Any) -> Version:
    model = model or make_model(labels=[])
    return validate_version(version_id=make_upload(model, data, metadata=metadata).pk)


def manifest_of(version: Version) -> dict[str, Any]:
    envelope = version.variants.get().envelope
    return dict(json.loads(base64.b64decode(envelope["payload"])))


def test_the_signed_manifest_says_what_the_outputs_mean() -> None:
    version = upload(exports.forest(zipmap=True, classes=["bonn", "oslo", "riga"]))
    manifest = manifest_of(version)
    assert manifest["contract"] == version.contract
    assert (manifest["contract"]["form"], manifest["labels"]) == ("map", ["bonn", "oslo", "riga"])
    assert manifest["min_agent_version"] == "0.2.0"


def test_plain_scores_are_still_for_agents_without_contracts() -> None:
    manifest = manifest_of(make_version())
    assert manifest["postprocessing"] == {"scores_output": "logits", "activation": "softmax"}
    assert manifest["min_agent_version"] == "0.1.0"
    del manifest["contract"]
    check_manifest(manifest)


def test_a_contract_that_is_none_makes_no_manifest() -> None:
    manifest = manifest_of(make_version())
    for broken in ({"task": "guess"}, {**manifest["contract"], "outputs": {"scores": "nothing"}}):
        with pytest.raises(ManifestInvalidError):
            check_manifest({**manifest, "contract": broken})


def test_a_model_without_labels_takes_the_task_that_its_graph_shows() -> None:
    version = upload(exports.regressor())
    assert (version.state, version.model.task) == (VersionState.READY, "regression")
    assert manifest_of(version)["task"] == "regression"


def test_what_is_not_clear_is_asked_and_the_answer_is_checked(
    client: Client, django_user_model: type[User]
) -> None:
    version = upload(exports.linear(width=1, out="logits"))
    assert version.state == VersionState.UNCLEAR
    assert "logits float32" in version.question and "regression" in version.question
    assert not version.variants.get().manifest_sha256
    client.force_login(django_user_model.objects.create_superuser("anna"))
    address = f"/api/v1/models/{version.model.slug}/versions/{version.version}/contract/?wait=1"
    body = {"contract": {"task": "regression"}, "reason": "it tells a price"}
    answer = client.post(address, body, "application/json").json()
    assert (answer["state"], answer["question"]) == ("ready", "")
    assert answer["contract"]["task"] == "regression"
    event = AuditEvent.objects.get(action="version.contract_corrected")
    assert (event.actor, event.details["reason"]) == ("anna", "it tells a price")
    refused = client.post(address, {"contract": {"tusk": 1}}, "application/json")
    assert (refused.status_code, "tusk" in refused.json()["message"]) == (400, True)


def test_an_explicit_task_needs_no_question() -> None:
    version = upload(exports.linear(width=1, out="logits"), task="regression")
    assert (version.state, version.contract["task"]) == (VersionState.READY, "regression")
    with pytest.raises(InvalidFieldError, match="task is one of"):
        upload(exports.regressor(), task="oracle")


def test_another_task_than_the_models_is_asked() -> None:
    model = make_model()
    version = upload(exports.regressor(), model=model)
    assert version.state == VersionState.UNCLEAR and "regression" in version.question
    assert model.versions.get().variants.get().files.filter(role="model").exists()


def test_a_correction_signs_anew_until_somebody_relies_on_the_version() -> None:
    version = make_version(state="ready")
    before = version.variants.get().manifest_sha256
    given = {"form": "scores", "activation": "none"}
    correct_contract(version_id=version.pk, given=given, actor="anna")
    version = validate_version(version_id=version.pk)
    assert version.postprocessing == {"scores_output": "logits", "activation": "none"}
    assert version.variants.get().manifest_sha256 not in (None, before)
    move_alias(version=version, name="next", actor="anna")
    with pytest.raises(StateError, match="alias"):
        correct_contract(version_id=version.pk, given=given, actor="anna")
    approved = make_version()
    with pytest.raises(StateError, match="approved"):
        correct_contract(version_id=approved.pk, given={}, actor="anna")


def test_an_unclear_version_can_be_yanked() -> None:
    version = upload(exports.linear(width=1, out="logits"))
    moved = transition_version(
        version_id=version.pk, to="yanked", actor="anna", reason="nobody knows what it says"
    )
    assert moved.state == VersionState.YANKED


def test_the_page_shows_the_contract_and_takes_a_word(admin_client: Client) -> None:
    version = upload(exports.linear(width=1, out="logits"))
    address = f"/admin/registry/version/{version.pk}/"
    page = admin_client.get(f"{address}change/").content.decode()
    assert "Say what they mean" in page and "is one number a row" in page
    posted = admin_client.post(
        f"{address}contract/", {"contract": '{"task": "regression"}', "reason": "a price"}
    )
    assert posted.status_code == 302
    version = validate_version(version_id=version.pk)
    page = admin_client.get(f"{address}change/").content.decode()
    assert "regression, in the form values" in page and "Put it right" in page
    assert "Said by a person" in page


def npz(**arrays: Any) -> io.BytesIO:
    data = io.BytesIO()
    np.savez(data, **arrays)
    data.seek(0)
    return data


def test_a_regression_has_the_values_in_its_reference() -> None:
    model = make_model(labels=[], task="regression")
    x = np.random.default_rng(1).normal(size=(40, 4)).astype(np.float32)
    dataset = make_dataset(model, stream=npz(x=x))
    version = validate_version(
        version_id=make_upload(model, exports.regressor(), dataset=dataset).pk
    )
    profile = version.variants.get().baselines.get(is_active=True).profile
    names = [row["name"] for row in profile["features"]]
    assert names == ["input_mean", "input_std", "value"]
    assert sum(profile["features"][2]["counts"]) == 40
    assert sum(profile["class"]["counts"]) == sum(profile["confidence"]["counts"]) == 0


def test_an_embedding_knows_its_references_centroid() -> None:
    model = make_model(labels=[], task="embedding")
    generator = np.random.default_rng(1)
    dataset = make_dataset(
        model,
        stream=npz(
            input_ids=generator.integers(0, 32, size=(20, 7)),
            attention_mask=np.ones((20, 7), np.int64),
        ),
    )
    version = validate_version(
        version_id=make_upload(model, exports.embedding(), dataset=dataset).pk
    )
    assert version.state == VersionState.READY, version.rejection_reason
    assert len(manifest_of(version)["contract"]["centroid"]) == 4
    profile = version.variants.get().baselines.get(is_active=True).profile
    assert "distance" in [row["name"] for row in profile["features"]]


def test_more_rows_than_time_are_sampled_and_it_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("registry.validation.parent.PROFILE_SECONDS", 0.0)
    model = make_model()
    x = np.random.default_rng(1).normal(size=(64, 4)).astype(np.float32)
    dataset = make_dataset(model, stream=npz(x=x))
    version = make_version(model, dataset=dataset, state="ready")
    profile = version.variants.get().baselines.get(is_active=True).profile
    assert (profile["n"], profile["rows_of_the_data_set"]) == (32, 64)
    assert "32 of 64 rows" in version.validation_notes[0]


def test_data_that_takes_too_long_costs_the_reference_and_not_the_version(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("registry.validation.parent.CPU_SECONDS", 3)
    model = make_model(labels=[], task="other")
    x = np.zeros((500, 4), np.float32)
    x[5] = 1e9  # without end; neither a trial nor a golden vector has it
    dataset = make_dataset(model, stream=npz(x=x))
    slow = exports.model_of(
        [
            exports.helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
            exports.helper.make_node("Cast", ["most"], ["turns"], to=exports.INT64),
            exports.helper.make_node("Loop", ["turns", "", "x"], ["y"], body=_busy_body()),
        ],
        [exports.value("x", exports.FLOAT, ["batch", 4])],
        [exports.value("y", exports.FLOAT, ["batch", 4])],
    )
    version = validate_version(version_id=make_upload(model, slow, dataset=dataset).pk)
    assert version.state == VersionState.READY, version.rejection_reason
    assert "There is no reference" in version.validation_notes[0]
    assert not version.variants.get().baselines.exists()


def _busy_body() -> Any:
    helper = exports.helper
    return helper.make_graph(
        [
            helper.make_node("Sin", ["v"], ["w"]),
            helper.make_node("Identity", ["going"], ["goes"]),
        ],
        "body",
        [
            exports.value("turn", exports.INT64, []),
            helper.make_tensor_value_info("going", exports.TensorProto.BOOL, []),
            exports.value("v", exports.FLOAT, ["batch", 4]),
        ],
        [
            helper.make_tensor_value_info("goes", exports.TensorProto.BOOL, []),
            exports.value("w", exports.FLOAT, ["batch", 4]),
        ],
    )


SAID = {
    "Invalid rank for input: x Got: 2 Expected: 4 Please fix either the inputs": "4 dimensions",
    "Got invalid dimensions for input: x for the following indices index: 1 Got: 5 Expected: 4": (
        "wants 4 on axis 1"
    ),
    "Failed to allocate memory for requested buffer of size 34359738368": "out of memory",
    "indices element out of data bounds, idx=9 must be within the inclusive range": "vocabulary",
}


@pytest.mark.parametrize("said", SAID)
def test_an_error_of_the_runtime_says_what_to_do(said: str) -> None:
    assert SAID[said] in explain(said) and said in explain(said)
    assert explain("something new") == "something new"

"""How a deployment comes to another release: by a rollout, at once, by an alias, by a yank."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rest_framework.test import APIClient

from fleet.exceptions import (
    InvalidFleetInputError,
    ReasonRequiredError,
)
from fleet.models import Deployment, Plan, Rollout
from fleet.notices import deployment_notices, rollout_notices
from fleet.selectors import preview_stages
from fleet.services import releases, rollouts
from fleet.services.deployments import create_deployment, update_deployment
from fleet.services.evidence import submit_evidence
from fleet.services.reconcile import tick_rollouts
from fleet.services.taken_back import find_taken_back
from registry.exceptions import AliasProtectedError, InvalidFieldError, StateError
from registry.hooks import foresee_version, notices
from registry.manifest import complete_requirements
from registry.models import AuditEvent, FileRole, Variant, VariantFile, Version
from registry.services.aliases import move_alias, protect_alias
from registry.services.blobs import store_blob
from registry.services.inspection import Inspection
from registry.services.variants import finish_variant
from registry.services.versions import transition_version
from tests.factories.fleet import (
    make_client,
    make_deployment,
    make_device,
    make_release,
    make_rollout,
    set_at_once,
)

pytestmark = pytest.mark.django_db
STAGE = {"percent": 100, "bake_seconds": 0, "min_devices": 1}


def add_variant(version: Version, name: str = "int8", **requirements: Any) -> Variant:
    """A signed variant that is smaller than all others, so that devices prefer it."""
    variant = Variant.objects.create(
        version=version, name=name, requirements=complete_requirements(requirements)
    )
    blob = store_blob(stream=io.BytesIO(b"small"), max_bytes=10)
    VariantFile.objects.create(variant=variant, path="model.onnx", role=FileRole.MODEL, blob=blob)
    finish_variant(
        variant=variant,
        inspection=Inspection(version.signature, {}, "", [], None, None),
        golden_tolerance=None,
        actor="tester",
    )
    return variant


PROPOSED = {
    ("install_failure_rate", "abort"),
    ("error_rate", "abort"),
    ("prediction_psi", "pause"),
    ("latency_p95_ratio", "pause"),
}


def limits_of(rollout: Rollout) -> set[tuple[str, str]]:
    """What limits a rollout that nobody filled in: its gates and what each does."""
    return set(rollout.gates.values_list("metric", "action"))


def offered(device: Any, slug: str) -> tuple[str, str]:
    device.etag = ""
    answer = device.poll(slug).json()
    return answer["version"], answer["variant"]


# --- variants -----------------------------------------------------------------------------------


def test_a_variant_reaches_devices_by_a_rollout_with_stages_and_then_for_good() -> None:
    deployment = make_deployment()
    slug, stable = deployment.model.slug, deployment.stable_version
    assert stable is not None
    devices = [make_client() for _ in range(6)]
    for device in devices:
        device.install(slug)
    variant = add_variant(stable)
    rollout = releases.roll_out_variant(
        deployment_id=deployment.pk, variant=variant, actor="tester"
    )
    assert {v.name for v in rollout.variants.all()} == {"fp32", "int8"}
    # Six devices: five canaries or half of them, whichever is less, and a control beside them.
    assert [row.percent for row in rollout.stages.all()] == [50, 100]
    assert limits_of(rollout) == PROPOSED
    rollout.gates.all().delete()
    assert {offered(device, slug)[1] for device in devices} == {"fp32"}
    rollout.stages.update(bake_seconds=0)
    rollouts.start_rollout(rollout_id=rollout.pk, actor="tester")
    previews = [row["devices"] for row in preview_stages(Rollout.objects.get(pk=rollout.pk))]
    for reached in previews:
        got = [device.install(slug)["variant"] for device in devices]
        assert got.count("int8") == reached
        rollouts.advance_rollout(rollout_id=rollout.pk, actor="tester")
    assert Rollout.objects.get().state == "completed"
    assert {v.name for v in Deployment.objects.get().variants.all()} == {"fp32", "int8"}
    assert {offered(device, slug) for device in devices} == {(stable.version, "int8")}


def test_a_release_without_classes_has_no_gate_on_them() -> None:
    deployment = make_deployment()
    stable = deployment.stable_version
    assert stable is not None
    variant = add_variant(stable)
    Version.objects.filter(pk=stable.pk).update(
        contract={"task": "regression", "form": "values", "outputs": {"values": "y"}}
    )
    variant.refresh_from_db()
    rollout = releases.roll_out_variant(
        deployment_id=deployment.pk, variant=variant, actor="tester"
    )
    assert "prediction_psi" not in {gate.metric for gate in rollout.gates.all()}
    with pytest.raises(InvalidFleetInputError, match="would never pass"):
        releases.propose_rollout(
            deployment_id=deployment.pk,
            version=variant.version,
            variants=["fp32", "int8"],
            actor="tester",
            gates=[{"metric": "confidence_drop", "threshold": 0.05, "action": "pause"}],
        )


def test_devices_that_a_variant_does_not_fit_are_no_part_of_its_rollout() -> None:
    deployment = make_deployment()
    slug, stable = deployment.model.slug, deployment.stable_version
    assert stable is not None
    plain, other = (
        make_client(),
        make_client(capabilities={"arch": "riscv64", "providers": ["cpu"]}),
    )
    for device in (plain, other):
        device.install(slug)
    variant = add_variant(stable, arch=["x86_64"])
    rollout = releases.roll_out_variant(
        deployment_id=deployment.pk, variant=variant, actor="tester"
    )
    last = preview_stages(rollout)[-1]
    assert (last["devices"], last["unchanged"], last["incompatible"]) == (2, 1, 0)
    rollout.stages.exclude(percent=100).delete()
    rollout.stages.update(index=0)
    rollouts.start_rollout(rollout_id=rollout.pk, actor="tester")
    other.etag = ""
    answer = other.poll(slug).json()
    assert (answer["variant"], answer["rollout"]) == ("fp32", None)
    assert plain.install(slug)["variant"] == "int8"


def test_the_same_variants_again_are_no_rollout() -> None:
    deployment = make_deployment()
    assert deployment.stable_version is not None
    with pytest.raises(InvalidFleetInputError, match="offers already"):
        make_rollout(deployment=deployment, target_version=deployment.stable_version)


@pytest.mark.parametrize("names", [[], ["nobody"], ["fp32", "nobody"], ["held"]])
def test_only_variants_that_may_be_offered_can_be_named(names: list[str]) -> None:
    deployment = make_deployment()
    target = make_release(deployment.model)
    held = add_variant(target, name="held")
    Variant.objects.filter(pk=held.pk).update(is_promotable=False)
    with pytest.raises(InvalidFleetInputError):
        make_rollout(deployment=deployment, target_version=target, variants=names)
    assert not Rollout.objects.exists()


def test_a_variant_is_rolled_out_over_the_api(api: APIClient) -> None:
    deployment = make_deployment()
    assert deployment.stable_version is not None
    path = f"/api/v1/deployments/{deployment.pk}/roll-out-variant/"
    assert api.post(path, {"variant": "int8"}, format="json").status_code == 400
    add_variant(deployment.stable_version)
    response = api.post(path, {"variant": "int8"}, format="json")
    assert response.status_code == 201, response.content
    assert (response.json()["state"], response.json()["variants"]) == ("draft", ["fp32", "int8"])


# --- a deployment's version ---------------------------------------------------------------------


def test_another_stable_version_makes_a_draft_and_moves_nobody(api: APIClient) -> None:
    deployment = make_deployment()
    device, slug = make_client(), deployment.model.slug
    target = make_release(deployment.model)
    before = offered(device, slug)
    path = f"/api/v1/deployments/{deployment.pk}/"
    body = api.patch(path, {"stable_version": target.version}, format="json").json()
    rollout = Rollout.objects.get(pk=body["proposed_rollout"])
    assert (rollout.state, rollout.target_version_id) == ("draft", target.pk)
    assert offered(device, slug) == before


def test_at_once_says_how_many_devices_from_what_to_what_and_needs_a_reason(
    api: APIClient,
) -> None:
    deployment = make_deployment()
    assert deployment.stable_version is not None
    for _ in range(3):
        make_device()
    target = make_release(deployment.model)
    path = f"/api/v1/deployments/{deployment.pk}/"
    body: dict[str, Any] = {"stable_version": target.version, "is_at_once": True}
    refused = api.patch(path, body, format="json")
    assert (refused.status_code, refused.json()["code"]) == (400, "reason_required")
    body["reason"] = "the plant is down"
    for confirmed in ({}, {"confirmed_devices": 2}):
        refused = api.patch(path, {**body, **confirmed}, format="json")
        assert (refused.status_code, refused.json()["code"]) == (409, "confirmation_required")
        assert refused.json()["details"] == {
            "devices": 3,
            "moves": [
                {
                    "devices": 3,
                    "from": f"{deployment.stable_version.version} fp32",
                    "to": f"{target.version} fp32",
                }
            ],
        }
    assert Deployment.objects.get().stable_version_id == deployment.stable_version_id
    done = api.patch(path, {**body, "confirmed_devices": 3}, format="json")
    assert (done.status_code, done.json()["stable_version"]) == (200, target.version)
    event = AuditEvent.objects.get(action="deployment.set_at_once")
    assert (event.actor, event.details["devices"]) == ("ada", 3)
    assert event.details["reason"] == "the plant is down"


def test_the_service_of_fields_does_not_change_the_version() -> None:
    deployment = make_deployment()
    with pytest.raises(InvalidFleetInputError):
        update_deployment(
            deployment_id=deployment.pk,
            actor="tester",
            stable_version=make_release(deployment.model),
        )


# --- versions that were taken back --------------------------------------------------------------


def take_back(deployment: Deployment, target: Version) -> Rollout:
    """A rollout that its gate has aborted."""
    gate = {"metric": "prediction_psi", "threshold": 0.1, "action": "abort"}
    rollout = make_rollout(deployment=deployment, target_version=target, gates=[gate])
    rollouts.start_rollout(rollout_id=rollout.pk, actor="tester")
    submit_evidence(
        rollout_id=rollout.pk, stage_index=0, metric="prediction_psi", value=0.9, devices=9,
        details={"lower": 0.8},
    )  # fmt: skip
    tick_rollouts()
    tick_rollouts()
    rollout.refresh_from_db()
    assert rollout.state in ("aborted", "aborting", "rolled_back")
    return rollout


def test_a_version_that_a_gate_took_back_is_marked_and_needs_a_reason(api: APIClient) -> None:
    deployment = make_deployment()
    target = make_release(deployment.model)
    rollout = take_back(deployment, target)
    assert f"rollout {rollout.pk} took it back" in find_taken_back([target.pk])[target.pk].words
    body = {"deployment": deployment.pk, "target_version": target.version, "stages": [STAGE]}
    refused = api.post("/api/v1/rollouts/", body, format="json")
    assert (refused.status_code, refused.json()["code"]) == (400, "reason_required")
    for refuse in (
        lambda: create_deployment(
            name="other", model=deployment.model, stable_version=target, actor="tester"
        ),
        lambda: set_at_once(deployment, target, reason=" "),
        lambda: releases.propose_rollout(
            deployment_id=deployment.pk, version=target, actor="tester"
        ),
    ):
        with pytest.raises(ReasonRequiredError):
            refuse()
    made = api.post("/api/v1/rollouts/", {**body, "reason": "the data was wrong"}, format="json")
    assert made.status_code == 201, made.content
    assert any("was taken back before" in line for line in made.json()["notices"])


def test_a_person_who_aborts_marks_nothing_and_a_completed_rollout_clears_the_mark() -> None:
    deployment = make_deployment()
    target = make_release(deployment.model)
    rollout = make_rollout(deployment=deployment, target_version=target)
    rollouts.start_rollout(rollout_id=rollout.pk, actor="tester")
    rollouts.abort_rollout(rollout_id=rollout.pk, actor="tester")
    tick_rollouts()
    assert find_taken_back([target.pk]) == {}
    take_back(deployment, target)
    assert target.pk in find_taken_back([target.pk])
    again = make_rollout(deployment=deployment, target_version=target, reason="mended data")
    rollouts.start_rollout(rollout_id=again.pk, actor="tester")
    rollouts.advance_rollout(rollout_id=again.pk, actor="tester")
    assert find_taken_back([target.pk]) == {}


def test_the_forms_mark_a_version_that_was_taken_back(ada: Any) -> None:
    deployment = make_deployment()
    target = make_release(deployment.model)
    take_back(deployment, target)
    for path in (
        "/admin/fleet/rollout/add/",
        f"/admin/fleet/deployment/{deployment.pk}/change/",
        "/admin/registry/alias/add/",
        f"/admin/registry/version/{target.pk}/change/",
    ):
        text = ada.get(path).content.decode()
        assert "took it back" in text, path


# --- yanked, deprecated -------------------------------------------------------------------------


def test_a_yank_takes_effect_in_its_own_transaction(
    django_capture_on_commit_callbacks: Any,
) -> None:
    deployment = make_deployment()
    slug = deployment.model.slug
    device = make_client()
    device.install(slug)
    target = make_release(deployment.model)
    rollout = make_rollout(deployment=deployment, target_version=target)
    rollouts.start_rollout(rollout_id=rollout.pk, actor="tester")
    draft = make_rollout(target_version=target, deployment=deployment)
    assert offered(device, slug)[0] == target.version
    foreseen = " ".join(foresee_version(target, "yanked"))
    assert f"Rollout {rollout.pk} of" in foreseen and "1 device from" in foreseen
    counter = Plan.objects.get(model=deployment.model).counter
    transition_version(version_id=target.pk, to="yanked", actor="eve", reason="leaks")
    assert deployment.stable_version is not None
    assert offered(device, slug)[0] == deployment.stable_version.version
    assert Plan.objects.get(model=deployment.model).counter > counter
    rollout.refresh_from_db()
    draft.refresh_from_db()
    assert (rollout.state, draft.state) == ("aborting", "aborted")
    assert "yanked: leaks" in rollout.reason
    assert any("aborting" in line for line in notices(target))
    assert any("target" in line and "yanked" in line for line in rollout_notices(rollout))


def test_a_yanked_stable_version_is_offered_to_nobody_and_its_deployment_says_so() -> None:
    deployment = make_deployment()
    stable = deployment.stable_version
    assert stable is not None
    device = make_client()
    transition_version(version_id=stable.pk, to="yanked", actor="eve", reason="leaks")
    assert device.poll(deployment.model.slug).status_code == 204
    deployment.refresh_from_db()
    assert any("is yanked" in line for line in deployment_notices(Deployment.objects.get()))
    assert any("offers its devices nothing" in line for line in notices(Version.objects.get()))


def test_a_deprecated_version_stays_offered_and_says_so() -> None:
    deployment = make_deployment()
    stable = deployment.stable_version
    assert stable is not None
    device = make_client()
    before = offered(device, deployment.model.slug)
    transition_version(version_id=stable.pk, to="deprecated", actor="eve", reason="old")
    assert offered(device, deployment.model.slug) == before
    assert any("is deprecated" in line for line in deployment_notices(Deployment.objects.get()))


# --- aliases ------------------------------------------------------------------------------------


def test_moving_an_alias_is_a_rollout_of_the_deployments_that_follow_it() -> None:
    first = make_deployment()
    assert first.stable_version is not None
    model = first.model
    alias = move_alias(version=first.stable_version, name="champion", actor="tester")
    update_deployment(deployment_id=first.pk, actor="tester", follows=alias)
    device = make_client()
    device.install(model.slug)
    target = make_release(model)
    move_alias(version=target, name="champion", actor="ada", reason="better")
    rollout = Rollout.objects.get()
    assert (rollout.state, rollout.target_version_id) == ("running", target.pk)
    assert limits_of(rollout) == PROPOSED
    first.refresh_from_db()
    assert first.stable_version_id != target.pk
    assert any("follows champion" in line for line in deployment_notices(first))
    third = make_release(model)
    with pytest.raises(InvalidFleetInputError, match="stays where it is"):
        move_alias(version=third, name="champion", actor="ada", reason="even better")
    alias.refresh_from_db()
    assert alias.version_id == target.pk


def test_a_deployment_that_follows_an_alias_starts_at_its_version() -> None:
    version = make_release(make_deployment().model)
    alias = move_alias(version=version, name="stable", actor="tester")
    made = create_deployment(name="tracks", model=version.model, follows=alias, actor="tester")
    assert made.stable_version_id == version.pk
    other = move_alias(version=make_deployment().stable_version, name="a", actor="t")  # type: ignore[arg-type]
    with pytest.raises(InvalidFleetInputError):
        update_deployment(deployment_id=made.pk, actor="tester", follows=other)


def test_a_protected_alias_is_protected_by_code(api: APIClient, reader: APIClient) -> None:
    version = make_release(make_deployment().model)
    alias = move_alias(version=version, name="champion", actor="tester")
    protect_alias(alias_id=alias.pk, is_protected=True, actor="tester", reason="production")
    target = make_release(version.model)
    with pytest.raises(AliasProtectedError):
        move_alias(version=target, name="champion", actor="bob", reason="x")
    with pytest.raises(InvalidFieldError):
        move_alias(version=target, name="champion", actor="bob", may_move_protected=True)
    ready = make_release(version.model)
    Version.objects.filter(pk=ready.pk).update(state="ready")
    with pytest.raises(StateError):
        move_alias(version=ready, name="champion", actor="bob", reason="x", may_move_protected=True)
    path = f"/api/v1/models/{version.model.slug}/aliases/champion/"
    from django.contrib.auth.models import Permission, User

    bob = User.objects.get(username="bob")
    bob.user_permissions.set(
        Permission.objects.filter(codename__in=["change_alias", "add_alias", "view_alias"])
    )
    reader.force_authenticate(User.objects.get(pk=bob.pk))
    body = {"version": target.version, "reason": "x"}
    refused = reader.put(path, body, format="json")
    assert (refused.status_code, refused.json()["code"]) == (403, "alias_protected")
    protection = {"is_protected": False, "reason": "mine now"}
    assert reader.post(f"{path}protection/", protection, format="json").status_code == 403
    assert api.put(path, body, format="json").json()["version"] == target.version
    assert api.post(f"{path}protection/", protection, format="json").status_code == 200


# --- overlaps -----------------------------------------------------------------------------------


def test_overlapping_deployments_say_which_one_wins() -> None:
    wide = make_deployment(priority=1)
    assert wide.stable_version is not None
    narrow = create_deployment(
        name="narrow", model=wide.model, selector={"site": ["lab"]}, priority=5, actor="tester",
        stable_version=wide.stable_version,
    )  # fmt: skip
    hidden = create_deployment(
        name="hidden", model=wide.model, selector={"site": ["lab"], "arch": ["arm64"]},
        priority=0, stable_version=wide.stable_version, actor="tester",
    )  # fmt: skip
    apart = create_deployment(
        name="apart", model=wide.model, selector={"site": ["nice"]}, priority=9, actor="tester",
        stable_version=wide.stable_version,
    )  # fmt: skip
    assert any("“narrow”" in line and "wins" in line for line in deployment_notices(wide))
    assert any(
        "“narrow”" in line and "wins all its devices" in line for line in deployment_notices(hidden)
    )
    assert not any("apart" in line for line in deployment_notices(narrow))
    assert any("It wins" in line for line in deployment_notices(apart))

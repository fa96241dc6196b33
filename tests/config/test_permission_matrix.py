"""Who may call what: every address of the management API, every method, every kind of caller."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.urls import URLPattern, URLResolver, get_resolver
from rest_framework.test import APIClient

from fleet.models import Deployment, Rollout
from registry.services.aliases import move_alias
from tests.factories.fleet import make_client, make_deployment, make_release
from tests.factories.registry import make_version

pytestmark = pytest.mark.django_db
METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")
#: Addresses that say the same to everybody who is logged in: they name no row.
PLAIN = {"", "compression/passes/", "compression/presets/"}
#: POSTs below a row that make another; every other one below a row changes that row.
MAKES_MORE = {
    "models/{slug}/datasets/", "models/{slug}/datasets/{pk}/split/", "models/{slug}/versions/",
    "compression/jobs/{pk}/rerun/", "uploads/{pk}/parts/", "uploads/{pk}/complete/",
}  # fmt: skip
#: Acts that need a permission of their own in place of their model's.
OWN = {
    ("POST", "rollouts/{pk}/approve/"): "fleet.approve_rollout",
    ("POST", "models/{slug}/aliases/{name}/protection/"): "registry.move_protected_alias",
    ("POST", "models/{slug}/versions/{version}/transition/"): "registry.decide_version",
    ("POST", "devices/{device_id}/decommission/"): "fleet.decommission_device",
    ("POST", "devices/label-many/"): "fleet.change_device",
    ("POST", "deployments/{pk}/roll-out-variant/"): "fleet.add_rollout",
}
VALUES = {
    "slug": "none", "version": "1.0.0", "variant": "none", "name": "none", "device_id": "none",
    "pk": "1", "version_id": "1", "number": "1",
}  # fmt: skip
JOB = "00000000-0000-4000-8000-000000000000"


def patterns(entries: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    for entry in entries:
        address = before + str(entry.pattern)
        if isinstance(entry, URLResolver):
            yield from patterns(entry.url_patterns, address)
        elif isinstance(entry, URLPattern):
            yield address, entry.callback


def endpoints() -> dict[str, Any]:
    """Addresses below `/api/v1/` with their parts by name, and the view that answers."""
    found = {}
    for address, callback in patterns(get_resolver().url_patterns):
        if not address.startswith("api/v1/") or "format" in address:
            continue
        path = re.sub(r"\(\?P<(\w+)>(?:\[[^\]]*\]|[^()\[\]])+\)", r"{\1}", address)
        path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", path).replace("^", "").replace("$", "")
        found[path.removeprefix("api/v1/").replace("\\", "")] = callback
    return found


ENDPOINTS = endpoints()


def url(path: str) -> str:
    values = {**VALUES, "pk": JOB} if path.startswith(("compression/", "uploads/")) else VALUES
    return "/api/v1/" + path.format(**values)


def model_of(path: str) -> tuple[str, str]:
    view = getattr(ENDPOINTS[path], "cls", None) or ENDPOINTS[path].view_class
    options = view.queryset.model._meta
    return options.app_label, options.model_name


def verb_for(method: str, path: str) -> str:
    if method in ("GET", "HEAD", "OPTIONS"):
        return "view"
    if method == "POST":
        return "change" if "{" in path and path not in MAKES_MORE else "add"
    if (method, path) == ("PUT", "models/{slug}/aliases/{name}/"):
        return "add"  # there is no alias of that name yet
    if path.startswith("uploads/"):
        return "add"  # an upload is the first half of making a version
    return {"PUT": "change", "PATCH": "change", "DELETE": "delete"}[method]


def needed(method: str, path: str) -> set[str]:
    """The permissions without which the call is refused."""
    if path in PLAIN:
        return set()
    if (method, path) in OWN:
        return {OWN[method, path]}
    app, model = model_of(path)
    return {f"{app}.{verb_for(method, path)}_{model}"}


def answers(client: APIClient, path: str, methods: Collection[str] = METHODS) -> dict[str, int]:
    return {
        method: client.generic(method, url(path), "{}", content_type="application/json").status_code
        for method in methods
    }


def client_with(names: set[str]) -> APIClient:
    """A client of a user who has these permissions and no other."""
    user = User.objects.create_user("-".join(sorted(names)).replace(".", "-")[:100] or "nobody")
    permissions = [
        Permission.objects.get(content_type__app_label=app, codename=codename)
        for app, codename in (name.split(".") for name in sorted(names))
    ]
    user.user_permissions.set(permissions)
    client = APIClient(raise_request_exception=False)
    client.force_authenticate(user)
    return client


def serves(path: str) -> set[str]:
    """The methods that the view answers; HEAD wherever GET is."""
    callback = ENDPOINTS[path]
    view = getattr(callback, "cls", None) or callback.view_class
    own = getattr(callback, "actions", None)
    found = {
        method
        for method in METHODS
        if (method.lower() in own if own is not None else hasattr(view, method.lower()))
    }
    return found | {"OPTIONS"} | ({"HEAD"} if "GET" in found else set())


def refused(client: APIClient, path: str) -> set[str]:
    """The methods that the view serves and this caller may not use."""
    codes = answers(client, path, serves(path))
    return {method for method, code in codes.items() if code in (401, 403)}


def test_the_table_covers_the_whole_api() -> None:
    assert len(ENDPOINTS) > 50
    assert sum(len(serves(path)) for path in ENDPOINTS) > 150
    assert set(ENDPOINTS) >= PLAIN | MAKES_MORE | {path for _, path in OWN}
    assert not [path for path in ENDPOINTS if re.search(r"[()<>\[\]?+]", path)]


def test_nobody_and_a_device_get_nowhere() -> None:
    device = APIClient()
    secret = make_client().token
    device.credentials(HTTP_AUTHORIZATION=f"Bearer {secret}")
    for client in (APIClient(), device):
        for path in ENDPOINTS:
            codes = answers(client, path)
            assert set(codes.values()) == {401}, (path, codes)


def test_a_user_without_permissions_reads_what_names_no_row() -> None:
    nobody = client_with(set())
    for path in ENDPOINTS:
        assert refused(nobody, path) == (set() if path in PLAIN else serves(path)), path


def test_a_viewer_reads_everything_and_does_nothing(reader: APIClient) -> None:
    for path in ENDPOINTS:
        expected = serves(path) - {"GET", "HEAD", "OPTIONS"}
        assert refused(reader, path) == expected, path


def test_a_superuser_is_refused_nothing(api: APIClient) -> None:
    api.raise_request_exception = False
    for path in ENDPOINTS:
        codes = answers(api, path)
        assert not {401, 403, 500} & set(codes.values()), (path, codes)
        assert {method for method in METHODS if codes[method] != 405} == serves(path), path


def test_each_permission_alone_opens_its_own_calls_and_no_others() -> None:
    every = {name for path in ENDPOINTS for method in serves(path) for name in needed(method, path)}
    assert len(every) > 35
    for name in sorted(every):
        client = client_with({name})
        for path in ENDPOINTS:
            expected = {method for method in serves(path) if not needed(method, path) <= {name}}
            assert refused(client, path) == expected, (name, path)


def test_moving_an_alias_is_a_change_and_making_one_an_addition() -> None:
    version = make_version()
    move_alias(version=version, name="best", reason="", actor="ada")
    body = {"version": version.version}
    mover, maker = client_with({"registry.change_alias"}), client_with({"registry.add_alias"})
    base = f"/api/v1/models/{version.model.slug}/aliases"
    codes = [
        client.put(f"{base}/{name}/", body, format="json").status_code
        for client in (mover, maker)
        for name in ("best", "next")
    ]
    assert codes == [200, 403, 403, 200]


def test_moving_an_alias_that_a_deployment_follows_is_a_rollout() -> None:
    deployment = make_deployment()
    assert deployment.stable_version is not None
    alias = move_alias(version=deployment.stable_version, name="best", reason="", actor="ada")
    Deployment.objects.update(follows=alias)
    address = f"/api/v1/models/{deployment.model.slug}/aliases/best/"
    body = {"version": make_release(deployment.model).version}
    change, roll_out = "registry.change_alias", "fleet.add_rollout"
    codes = [
        client_with(names).put(address, body, format="json").status_code
        for names in ({change}, {roll_out}, {change, roll_out})
    ]
    assert codes == [403, 403, 200] and Rollout.objects.get().state == "running"


@pytest.mark.parametrize(
    ("body", "also"),
    [
        ({"priority": 3}, ""),
        ({"stable_version": None}, "fleet.add_rollout"),
        ({"variants": ["fp32"]}, "fleet.add_rollout"),
        ({"follows": None}, "fleet.add_rollout"),
        ({"stable_version": None, "is_at_once": True}, "fleet.release_at_once"),
        ({"variants": ["fp32"], "is_at_once": True}, "fleet.release_at_once"),
    ],
)
def test_another_release_of_a_deployment_needs_more_than_changing_it(
    body: dict[str, Any], also: str
) -> None:
    address = f"/api/v1/deployments/{make_deployment().pk}/"
    change = "fleet.change_deployment"
    every = {"fleet.add_rollout", "fleet.release_at_once"}
    without = client_with({change, *every} - {also} if also else every)
    assert without.patch(address, body, format="json").status_code == 403
    allowed = client_with({change, also} - {""})
    assert allowed.patch(address, body, format="json").status_code not in (401, 403)


def test_a_patch_changes_only_what_it_names(api: APIClient) -> None:
    path = "/api/v1/devices/"
    api.post(path, {"device_id": "cam-1", "labels": {"site": "x"}}, format="json")
    assert api.patch(f"{path}cam-1/", {}, format="json").json()["labels"] == {"site": "x"}
    assert api.patch(f"{path}cam-1/", {"lables": {}}, format="json").status_code == 400
    assert api.patch(f"{path}cam-1/", {"labels": None}, format="json").status_code == 400
    assert api.get(f"{path}cam-1/").json()["labels"] == {"site": "x"}
    assert api.patch(f"{path}cam-1/", {"labels": {}}, format="json").json()["labels"] == {}

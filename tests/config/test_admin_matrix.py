"""Who may open which page of the admin and use which action: all of them, for every caller.

What a page needs is a set of permissions, or one of several sets. Permissions only add up, so two
callers show it for a page and every permission alone: who has one of the sets and nothing else is
let in, and who has everything but a part of each set is refused.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, Permission, User
from django.test import Client, RequestFactory
from django.urls import URLPattern, URLResolver, reverse
from knox.models import AuthToken

from compression.models import Job
from config.api_tokens import make_api_token
from config.roles import ROLES
from fleet.models import Deployment, Device, Gate, Rollout
from notifications.models import Channel
from registry.models import AuditEvent, Blob, DataSet, Model, Variant, Version
from registry.services.audit import record_event
from tests.factories.compression import make_job
from tests.factories.compression import make_version as make_measured_version
from tests.factories.fleet import make_client, make_deployment, make_rollout
from tests.factories.registry import make_dataset

pytestmark = pytest.mark.django_db
Needs = list[set[str]]
FILLERS: dict[str, Any] = {
    "CharField": "x", "TextField": "x", "JSONField": {}, "BinaryField": b"x", "FloatField": 1.0,
    "IntegerField": 1, "PositiveIntegerField": 1, "PositiveSmallIntegerField": 1,
    "PositiveBigIntegerField": 1, "BigIntegerField": 1,
    "DateTimeField": datetime(2026, 1, 1, tzinfo=UTC),
}  # fmt: skip

#: Pages that need only that somebody of the staff is logged in, and those before that.
STAFF = {
    "index", "password_change", "password_change_done", "jsi18n", "search", "logout",
}  # fmt: skip
ANYBODY = {"login"}
#: Served, and with nothing behind it for these tables: 404 or a list of what one may view.
EMPTY = {"autocomplete", "view_on_site", "app_list"}
#: No table of the project itself: only superusers are meant to see Celery's schedule.
SCHEDULE = "django_celery_beat"
NEVER_ADDED = {
    "registry_variant", "registry_variantfile", "registry_blob", "registry_auditevent",
    "registry_baseline", "fleet_agentwheel", "fleet_installation", "fleet_gateevaluation",
    "fleet_deviceincident", "fleet_samplebatch", "ingest_driftevaluation", "ingest_inboxbatch",
    "ingest_rejectedrecord", "ingest_window", "ingest_incident", "fleet_device",
    "notifications_delivery", "notifications_outboxevent", "ingest_summary",
}  # fmt: skip
NEVER_CHANGED = NEVER_ADDED - {"fleet_device"} | {
    "registry_dataset",
    "fleet_jointoken",
    "fleet_calibrationbuild",
}
DELETED = {
    "auth_user", "auth_group", "ingest_alertrule", "ingest_driftpolicy", "notifications_channel",
    "notifications_rule",
}  # fmt: skip
#: Their pages show the row and change nothing, whichever the method.
SHOWN = {"fleet_device", "fleet_rollout", "compression_job"}
#: What is told by another table of tests: whose token a row is, and where a page leads on to.
ELSEWHERE = {
    f"knox_authtoken_{page}" for page in ("change", "history", "delete", "revoke_one")
}  # fmt: skip
LEADS_ON = {"ingest_driftevaluation_change": "ingest_drift_detail"}


def one(name: str) -> Needs:
    return [{name}]


def seen(table: str, *names: str) -> Needs:
    """To see a row, one may view or change it; with `names` that is not enough."""
    app, _, model = table.partition("_")
    return [{f"{app}.{verb}_{model}", *names} for verb in ("view", "change")]


ONLY_READ = {"fleet_rollout_live", "fleet_rollout_power"}
#: Pages with a rule of their own: (URL name, word in the address) to what opens them.
OWN_PAGES: dict[tuple[str, str], Needs] = {
    ("auth_user_add", ""): [{"auth.add_user", "auth.change_user"}],
    ("auth_user_password_change", ""): one("auth.change_user"),
    ("registry_auditevent_verify_now", ""): seen("registry_auditevent"),
    ("registry_dataset_split", ""): one("registry.add_dataset"),
    ("registry_version_transition", ""): one("registry.decide_version"),
    ("registry_version_contract", ""): one("registry.change_version"),
    ("registry_version_compare", ""): seen("registry_version"),
    ("notifications_channel_test_channel", ""): one("notifications.change_channel"),
    ("notifications_channel_replace_secret", ""): one("notifications.change_channel"),
    ("fleet_device_act", ""): one("fleet.change_device"),
    ("fleet_device_act", "decommission"): one("fleet.decommission_device"),
    ("fleet_rollout_live", ""): seen("fleet_rollout"),
    ("fleet_rollout_step", ""): one("fleet.change_rollout"),
    ("fleet_rollout_step", "approve"): seen("fleet_rollout", "fleet.approve_rollout"),
    ("fleet_rollout_variant", ""): one("fleet.add_rollout"),
    ("fleet_rollout_power", ""): one("fleet.add_rollout"),
    ("fleet_rollout_page", ""): seen("fleet_rollout"),
    ("ingest_incident_acknowledge_one", ""): one("ingest.change_incident"),
    ("ingest_incident_open_evaluation", ""): seen("ingest_incident"),
    ("compression_job_cancel", ""): one("compression.change_job"),
    ("compression_job_rerun", ""): seen("compression_job", "compression.add_job"),
}
#: The other pages of a table with names of their own show what it holds.
PARTS = {
    "ingest_driftevaluation": [
        "ingest_drift_model", "ingest_drift_csv", "ingest_drift_detail", "ingest_drift_bins_csv",
        "ingest_drift_history_csv",
    ],
    "compression_job": [
        f"compression_job_{part}"
        for part in ("candidates", "version_csv", "picture", "live", "layers", "version")
    ],
}  # fmt: skip
WORDS = {
    "to": ["approved", "deprecated", "yanked"],
    "step": ["start", "approve", "advance", "pause", "resume", "abort", "note"],
    "act": [
        "accept", "suspend", "reject", "decommission", "clear_quarantine", "rotate", "labels",
        "pin", "allow_sampling", "forbid_sampling", "let_in_again",
    ],
}  # fmt: skip
#: Every action of a list by table, and the permission that it needs.
ACTIONS: dict[str, dict[str, str]] = {
    "knox_authtoken": {"revoke_selected": "knox.change_authtoken"},
    "registry_alias": {
        "protect_selected": "registry.move_protected_alias",
        "unprotect_selected": "registry.move_protected_alias",
    },
    "registry_version": {"compare_selected": "registry.view_version"},
    "fleet_deployment": {
        "retire_selected": "fleet.change_deployment",
        "reactivate_selected": "fleet.change_deployment",
    },
    "fleet_device": {
        "accept_selected": "fleet.change_device",
        "suspend_selected": "fleet.change_device",
        "clear_selected": "fleet.change_device",
        "export_selected": "fleet.view_device",
    },
    "fleet_jointoken": {"revoke_selected": "fleet.change_jointoken"},
    "fleet_rollout": {
        **{
            f"{step}_selected": "fleet.change_rollout"
            for step in ("start", "advance", "pause", "resume", "abort")
        },
        "approve_selected": "fleet.approve_rollout",
        "export_selected": "fleet.view_rollout",
    },
    "ingest_inboxbatch": {"count_again": "ingest.change_inboxbatch"},
    "ingest_incident": {
        "acknowledge_selected": "ingest.change_incident",
        "mute_selected": "ingest.change_incident",
    },
    "auth_user": {"delete_selected": "auth.delete_user"},
    "auth_group": {"delete_selected": "auth.delete_group"},
    "ingest_alertrule": {"delete_selected": "ingest.delete_alertrule"},
    "notifications_channel": {"delete_selected": "notifications.delete_channel"},
    "notifications_rule": {"delete_selected": "notifications.delete_rule"},
    "notifications_delivery": {"send_again": "notifications.change_delivery"},
    "ingest_driftpolicy": {"delete_selected": "ingest.delete_driftpolicy"},
}


def patterns(entries: Any) -> Iterator[URLPattern]:
    for entry in entries:
        if isinstance(entry, URLResolver):
            yield from patterns(entry.url_patterns)
        elif isinstance(entry, URLPattern) and entry.name:
            yield entry


def tables() -> dict[str, Any]:
    """`app_model` to the admin of the table."""
    return {
        f"{model._meta.app_label}_{model._meta.model_name}": page
        for model, page in admin.site._registry.items()
    }


def permission(table: str, verb: str) -> str:
    model = tables()[table].model._meta
    return f"{model.app_label}.{verb}_{model.model_name}"


def needs(name: str, word: str, method: str) -> Needs:
    """The sets of permissions of which one opens the page; none where only nobody may."""
    for key in ((name, word), (name, "")):
        if key in OWN_PAGES:
            return OWN_PAGES[key]
    for table, parts in PARTS.items():
        if name in parts:
            return seen(table)
    table, _, kind = name.rpartition("_")
    if kind == "add":
        return [] if table in NEVER_ADDED else one(permission(table, "add"))
    if kind == "delete":
        return one(permission(table, "delete")) if table in DELETED else []
    if kind == "change" and method == "POST" and table not in SHOWN:
        return [] if table in NEVER_CHANGED else one(permission(table, "change"))
    return seen(table)


def let(names: set[str], *, staff: bool = True) -> Client:
    """A browser in which somebody with these permissions and no others has logged in."""
    user = User.objects.create_user(uuid.uuid4().hex, is_staff=staff)
    wanted = {tuple(name.split(".")) for name in names}
    through = User.user_permissions.through
    through.objects.bulk_create(
        through(user_id=user.pk, permission_id=row.pk)
        for row in every_permission()
        if (row.content_type.app_label, row.codename) in wanted
    )
    client = Client(raise_request_exception=False)
    client.force_login(user)
    return client


def every_permission() -> list[Permission]:
    return list(Permission.objects.select_related("content_type"))


def every_name() -> set[str]:
    return {f"{row.content_type.app_label}.{row.codename}" for row in every_permission()}


def is_refused(client: Client, address: str, method: str) -> bool:
    response = client.get(address) if method == "GET" else client.post(address, {})
    assert response.status_code != 500, address
    is_sent_to_login = response.status_code == 302 and "/login/" in response["Location"]
    return response.status_code in (403, 404) or is_sent_to_login


def filler(field: Any) -> Any:
    if field.choices:
        return field.choices[0][0]
    return "0" * 64 if field.name.endswith("sha256") else FILLERS[field.get_internal_type()]


def fill(model: Any, rows: dict[Any, Any]) -> Any:
    """A row of the table with something in every field that must have something."""
    if model not in rows and (there := model._base_manager.first()):
        rows[model] = there
    elif model not in rows:
        values: dict[str, Any] = {}
        for field in model._meta.concrete_fields:
            if field.is_relation and not field.null:
                values[field.name] = fill(field.related_model, rows)
            elif not (field.null or field.blank or field.primary_key or field.has_default()):
                values[field.name] = filler(field)
        rows[model] = model._base_manager.create(**values)
    return rows[model]


@pytest.fixture
def rows(db: None) -> dict[Any, Any]:
    """Model to one row of it, for every table that has pages."""
    deployment = make_deployment()
    rollout = make_rollout(deployment=deployment)
    person = User.objects.create_user("somebody")
    token, _ = make_api_token(user=person, days=1, actor="tester")
    version = deployment.stable_version
    assert version is not None
    data = make_dataset(deployment.model)
    found: dict[Any, Any] = {
        Deployment: deployment, Rollout: rollout, Gate: rollout.gates.first() or None,
        Device: make_client().device, User: person, AuthToken: token, Version: version,
        Model: deployment.model, DataSet: data,
        Blob: data.blob,
        Job: make_job(make_measured_version()),
        Channel: Channel.objects.create(name="mail", kind="email", recipients=["a@example.org"]),
        Variant: version.variants.get(), Group: Group.objects.create(name="some"),
        AuditEvent: record_event(actor="tester", action="a.done", obj=None, summary="a thing"),
    }  # fmt: skip
    found = {model: row for model, row in found.items() if row is not None}
    for table, page in tables().items():
        if not table.startswith(SCHEDULE):
            fill(page.model, found)
    return found


def addresses(rows: dict[Any, Any]) -> Iterator[tuple[str, str, str]]:
    """Every page of every table: its URL name, the word in its address, and the address."""
    version = rows[Version]
    for entry in patterns(admin.site.urls[0]):
        name = str(entry.name)
        if name in STAFF | ANYBODY | EMPTY | ELSEWHERE | set(LEADS_ON) or name.startswith(SCHEDULE):
            continue
        table = max((key for key in tables() if name.startswith(key + "_")), key=len, default="")
        if name.startswith("ingest_drift_"):
            table = "ingest_driftevaluation"
        if name == "fleet_rollout_variant":
            table = "registry_variant"
        key = rows[tables()[table].model].pk
        names = list(entry.pattern.converters) or list(entry.pattern.regex.groupindex)  # type: ignore[attr-defined]
        parts = {
            "slug": version.model.slug,
            "left": version.pk,
            "right": rows[Rollout].target_version_id,
            "version_id": version.pk,
        }
        values = {part: parts.get(part, key) for part in names}
        words = next((WORDS[part] for part in names if part in WORDS), [""])
        for word in words:
            given = {part: word if part in WORDS else value for part, value in values.items()}
            yield name, word, reverse(f"admin:{name}", kwargs=given)


def methods_of(name: str) -> list[str]:
    if name in ("fleet_device_act", "compression_job_cancel", "compression_job_rerun"):
        return ["POST"]
    posts = name.endswith(("_add", "_change", "_delete", "_password_change", "_split"))
    posts = posts or name in {key for key, _ in OWN_PAGES} - {"ingest_incident_open_evaluation"}
    return ["GET", "POST"] if posts and name not in ONLY_READ else ["GET"]


def test_every_page_opens_for_each_set_that_it_needs_and_for_nothing_less(
    rows: dict[Any, Any],
) -> None:
    everything = every_name()
    found = list(addresses(rows))
    assert len(found) > 180
    wrong = []
    for name, word, address in found:
        for method in methods_of(name):
            sets = needs(name, word, method)
            wrong += [
                (method, address, "refused", names)
                for names in sets
                if is_refused(let(names), address, method)
            ]
            for lost in closing(sets):
                with_all_else = let(everything - lost)
                if not is_refused(with_all_else, address, method):
                    wrong.append((method, address, "open without", lost))
    assert not wrong, "\n".join(map(str, wrong))


def closing(sets: Needs) -> list[set[str]]:
    """Every choice of one permission out of each set; without such a choice nothing is open."""
    choices: list[set[str]] = [set()]
    for names in sets:
        choices = [{*chosen, name} for chosen in choices for name in sorted(names)]
    return choices


def test_nobody_and_who_is_not_of_the_staff_open_nothing(rows: dict[Any, Any]) -> None:
    stranger = let(every_name(), staff=False)
    for name, _, address in addresses(rows):
        for method in methods_of(name):
            assert is_refused(Client(), address, method), address
            assert is_refused(stranger, address, method), address


def test_what_leads_on_leads_to_a_page_that_has_its_own_rule(rows: dict[Any, Any]) -> None:
    for name, target in LEADS_ON.items():
        key = rows[tables()[name.rpartition("_")[0]].model].pk
        answer = let(set()).get(reverse(f"admin:{name}", args=[key]))
        assert answer.status_code == 302
        assert answer["Location"] == reverse(f"admin:{target}", args=[key])


def test_the_schedule_is_for_superusers(db: None) -> None:
    for role in Group.objects.filter(name__in=ROLES):
        assert not role.permissions.filter(content_type__app_label=SCHEDULE).exists()
    names = [str(e.name) for e in patterns(admin.site.urls[0]) if str(e.name).startswith(SCHEDULE)]
    plain = [name for name in names if name.endswith(("_changelist", "_add"))]
    assert plain
    client = let({name for name in every_name() if not name.startswith(SCHEDULE)})
    assert all(is_refused(client, reverse(f"admin:{name}"), "GET") for name in plain)


def actions_of(client_permissions: set[str], table: str) -> set[str]:
    """The actions that the list offers to somebody who has these permissions alone."""
    let(client_permissions)
    request = RequestFactory().get("/")
    request.user = User.objects.latest("pk")
    return set(tables()[table].get_actions(request))


def test_every_action_is_offered_with_its_permission_and_to_nobody_without() -> None:
    everything = every_name()
    seen = set()
    for table, page in tables().items():
        if table.startswith(SCHEDULE):
            continue
        expected = dict(ACTIONS.get(table, {}))
        if "export_csv" in page.actions:
            expected["export_csv"] = permission(table, "view")
        assert actions_of(everything, table) == set(expected), table
        for name, needed in expected.items():
            assert name in actions_of({needed}, table), (table, name)
            # Django counts who may change a row among those who may view it.
            also = {permission(table, "change")} if needed == permission(table, "view") else set()
            assert name not in actions_of(everything - {needed} - also, table), (table, name)
            seen.add((table, name))
    assert len(seen) > 40


def test_an_action_that_is_not_offered_does_nothing_when_it_is_asked_for(
    rows: dict[Any, Any],
) -> None:
    asked = 0
    for table, actions in ACTIONS.items():
        model = tables()[table].model
        key = rows[model].pk
        address = reverse(f"admin:{table}_changelist")
        before = list(model._base_manager.order_by("pk").values())
        for name, needed in actions.items():
            if needed == permission(table, "view"):
                continue
            client = let(every_name() - {needed})
            fields = {"action": name, "_selected_action": [key], "confirmed": "1", "post": "yes"}
            assert client.post(address, {**fields, "reason": "x"}).status_code in (200, 302, 403)
            after = list(model._base_manager.order_by("pk").values())
            assert [row for row in after if row in before] == before, (table, name)
            asked += 1
    assert asked > 15

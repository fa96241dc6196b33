"""One contract, two ways in: the front's groups and the view that they are measured against."""

import gzip
import json

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from config.front.intake import Call, answer_calls
from fleet.models import Device
from ingest.models import InboxBatch, RejectedRecord, Window
from ingest.services.aggregation import aggregate_batches
from tests.factories.ingest import make_device, make_record, make_release
from tests.ingest.credentials import issue_token

pytestmark = pytest.mark.django_db


def by_view(calls):
    answers = []
    for call in calls:
        headers = {"Authorization": call.authorization} if call.authorization else {}
        if call.encoding:
            headers["Content-Encoding"] = call.encoding
        answer = Client().post(
            call.path, call.body, content_type=call.content_type, headers=headers
        )
        told = {name.lower(): value for name, value in answer.headers.items()}
        answers.append((answer.status_code, told, answer.json()))
    return answers


def by_lane(calls):
    return [
        (status, {name.lower(): value for name, value in headers}, json.loads(body))
        for status, headers, body in answer_calls(calls)
    ]


@pytest.fixture(params=[by_view, by_lane], ids=["view", "lane"])
def answers_of(request):
    return request.param


@pytest.fixture
def variant():
    return make_release()


@pytest.fixture
def token(variant):
    return issue_token(make_device(variant=variant))


def call(token, body, encoding="", content_type="application/json", path="/api/ingest"):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Call(path, f"Bearer {token}" if token else "", content_type, encoding, raw)


def batch(*items, **over):
    return {"device_id": "edge-001", "batch_id": "b1", "records": list(items), **over}


def stored():
    while aggregate_batches():
        pass
    return sum(Window.objects.values_list("n", flat=True))


def test_what_is_taken(token, answers_of):
    calls = [
        call(token, batch(make_record(), make_record(latency_ms=-1))),
        call(token, batch(make_record(), make_record(), make_record())),
        call(
            token, gzip.compress(json.dumps(batch(make_record(), batch_id="b2")).encode()), "gzip"
        ),
        call(token, {"records": [make_record(confidence=0.25)]}),
        call(token, batch(make_record(), batch_id="b3.a", replaces=["b3"])),
        call(token, batch(make_record(), batch_id="b3")),
        call(token, batch(make_record(), batch_id="b2.a", replaces=["b2"])),
    ]
    told = [body for status, _, body in answers_of(calls) if status == 200]
    assert [(body["accepted"], body["duplicates"]) for body in told] == [
        (1, 0), (1, 0), (1, 0), (1, 0), *told_of_b3(told), (0, 1),
    ]  # fmt: skip
    assert [item["index"] for item in told[0]["rejected"]] == [1]
    assert told[1] == told[0]
    assert RejectedRecord.objects.count() == 1
    assert stored() == 4


def told_of_b3(told):
    """A part and the whole it replaces are not both counted, whichever is stored first."""
    pair = [(body["accepted"], body["duplicates"]) for body in told[4:6]]
    assert sorted(pair) in ([(0, 0), (1, 0)], [(0, 1), (1, 0)])
    return pair


REFUSED = {
    "no token": (None, batch(make_record()), "", "application/json"),
    "an unknown token": ("nobody", batch(make_record()), "", "application/json"),
    "another content type": ("own", b"a,b", "", "text/csv"),
    "not JSON": ("own", b"hello", "", "application/json"),
    "no records": ("own", batch(), "", "application/json"),
    "only bad records": ("own", batch(make_record(latency_ms=-1), 7), "", "application/json"),
    "not gzip": ("own", b"{}", "gzip", "application/json"),
    "an unknown encoding": ("own", b"{}", "br", "application/json"),
    "a bomb": ("own", gzip.compress(b" " * 5_000_000), "gzip", "application/json"),
    "too many records": ("own", batch(*[{}] * 5001), "", "application/json"),
    "another device": ("own", batch(make_record(), device_id="x"), "", "application/json"),
    "nothing": ("own", b"", "", "application/json"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_refused_alike_and_alone(token, name):
    whose, body, encoding, content_type = REFUSED[name]
    bad = call(token if whose == "own" else whose, body, encoding, content_type)
    (view,) = by_view([bad])
    assert not InboxBatch.objects.exists() and 400 <= view[0] < 500
    group = [
        call(token, batch(make_record(), batch_id="before")),
        bad,
        call(token, batch(make_record(), batch_id="after")),
    ]
    before, lane, after = by_lane(group)
    assert (lane[0], lane[2]) == (view[0], view[2])
    assert lane[1].get("www-authenticate") == view[1].get("www-authenticate")
    assert (before[0], after[0]) == (200, 200) and stored() == 2


def test_a_device_that_is_not_accepted_is_refused(token, answers_of):
    Device.objects.update(status=Device.Status.SUSPENDED)
    ((status, _, body),) = answers_of([call(token, batch(make_record()))])
    assert (status, body["code"]) == (403, "device_suspended")


def test_each_device_has_its_own_quota(variant, token, answers_of, settings):
    settings.AVIARY_QUOTAS = {**settings.AVIARY_QUOTAS, "ingest": 2}
    other = issue_token(make_device("edge-002", variant))
    calls = [call(token, batch(make_record(), batch_id=str(number))) for number in range(3)]
    calls.append(call(other, batch(make_record(), device_id="edge-002")))
    answers = answers_of(calls)
    assert [status for status, _, _ in answers] == [200, 200, 429, 200]
    assert answers[2][2]["code"] == "throttled" and int(answers[2][1]["retry-after"]) >= 1


def test_one_that_the_database_refuses_is_refused_alone(variant, token, monkeypatch):
    from ingest.services import intake

    pack = intake.pack_columns
    monkeypatch.setattr(
        intake, "pack_columns",
        lambda columns, cohorts: None if len(columns) == 2 else pack(columns, cohorts),
    )  # fmt: skip
    calls = [call(token, batch(*[make_record()] * size, batch_id=str(size))) for size in (1, 2, 3)]
    assert [status for status, _, _ in by_lane(calls)] == [200, 500, 200]
    assert stored() == 4


def test_a_group_costs_the_same_however_many_batches_it_has(variant):
    def group(first, count):
        calls = []
        for number in range(first, first + count):
            token = issue_token(make_device(f"d{number}", variant))
            calls.append(call(token, batch(make_record(), device_id=f"d{number}")))
        return calls

    one, many = group(0, 1), group(1, 20)
    queries = []
    for calls in (one, many):
        with CaptureQueriesContext(connection) as captured:
            assert all(status == 200 for status, _, _ in by_lane(calls))
        queries.append(len(captured))
    assert queries[1] <= queries[0] <= 14

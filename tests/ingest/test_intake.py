"""Intake over HTTP: what is acknowledged is stored once, what is refused stores nothing."""

import gzip
import json
from datetime import timedelta

import pytest
from backports import zstd
from django.test import Client
from django.utils import timezone

from fleet.models import Device
from ingest.models import InboxBatch, RejectedRecord, Window
from ingest.services.aggregation import aggregate_batches
from tests.factories.ingest import make_device, make_record, make_release
from tests.ingest.credentials import issue_token

pytestmark = pytest.mark.django_db


@pytest.fixture
def device():
    return make_device(variant=make_release())


@pytest.fixture
def send(device):
    headers = {"Authorization": f"Bearer {issue_token(device)}"}

    def post(body, content_type="application/json", **extra):
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        return Client().post(
            "/api/ingest", body, content_type=content_type, headers={**headers, **extra}
        )

    return post


def batch(*items, **over):
    return {"device_id": "edge-001", "batch_id": "b1", "records": list(items), **over}


def nothing_is_stored():
    return not (InboxBatch.objects.exists() or RejectedRecord.objects.exists())


def test_a_batch_is_stored_and_counted(send):
    answer = send(batch(make_record(), make_record(class_id=4)))
    assert answer.status_code == 200, answer.content
    assert answer.json() == {"accepted": 2, "duplicates": 0, "rejected": []}
    assert aggregate_batches() == 1
    window = Window.objects.get()
    assert window.n == 2 and window.counts["classes"][3:5] == [1, 1]
    assert window.variant is not None and window.cohort == "stable"


def test_a_repeated_batch_gets_the_first_answer_and_stores_nothing(send):
    first = send(batch(make_record(), make_record(latency_ms=-1)))
    again = send(batch(make_record(), make_record(), make_record()))
    assert first.json() == again.json() and again.status_code == 200
    assert InboxBatch.objects.count() == 1 and RejectedRecord.objects.count() == 1
    aggregate_batches()
    assert aggregate_batches() == 0
    assert Window.objects.get().n == 1


def test_parts_of_a_batch_that_was_never_stored_are_counted_and_the_whole_no_longer(send):
    records = [make_record(), make_record()]
    for part, record in zip(("b1.a", "b1.b"), records, strict=True):
        answer = send(batch(record, batch_id=part, replaces=["b1"]))
        assert answer.json() == {"accepted": 1, "duplicates": 0, "rejected": []}
    late = send(batch(*records))
    assert (late.status_code, late.json()["accepted"]) == (200, 0)
    while aggregate_batches():
        pass
    assert Window.objects.get().n == 2


def test_parts_of_a_batch_that_is_stored_are_duplicates_at_any_depth(send):
    send(batch(make_record(), make_record()))
    for part, replaces in (("a", ["b1"]), ("a.a", ["b1", "a"]), ("b", ["x", "b1"])):
        answer = send(batch(make_record(), batch_id=part, replaces=replaces))
        assert answer.json() == {"accepted": 0, "duplicates": 1, "rejected": []}, part
    while aggregate_batches():
        pass
    assert Window.objects.get().n == 2


def test_a_part_that_is_refused_closes_nothing(send):
    assert send(batch(7, batch_id="a", replaces=["b1"])).status_code == 422
    assert send(batch(make_record())).json()["accepted"] == 1


@pytest.mark.parametrize(
    "replaces", ["b1", [1], [""], ["x" * 129], [f"b{n}" for n in range(65)], {"b1": 1}]
)
@pytest.mark.parametrize("odd", [0.5, float("nan")], ids=["strict", "lenient"])
def test_what_cannot_be_replaced_is_refused(send, replaces, odd):
    answer = send(batch(make_record(confidence=odd), replaces=replaces))
    assert answer.status_code == 422
    assert nothing_is_stored()


def test_the_lenient_reader_knows_what_is_replaced(send):
    body = batch(make_record(), make_record(confidence=float("nan")), replaces=["b0"])
    assert send(body).json()["accepted"] == 1
    assert send(batch(make_record(), batch_id="b0")).json()["accepted"] == 0


def test_the_bare_shape_without_batch_id_is_taken_and_is_idempotent(send):
    body = {"device_id": "edge-001", "records": [make_record()]}
    assert send(body).json()["accepted"] == 1
    assert send(body).json()["accepted"] == 1
    assert InboxBatch.objects.count() == 1
    assert len(InboxBatch.objects.get().batch_id) == 64


@pytest.mark.parametrize(("pack", "name"), [(gzip.compress, "gzip"), (zstd.compress, "zstd")])
def test_a_compressed_body_is_inflated(send, pack, name):
    body = pack(json.dumps(batch(make_record())).encode())
    assert send(body, **{"Content-Encoding": name}).json()["accepted"] == 1


def test_bad_records_are_rejected_alone_and_kept_for_inspection(send):
    bad = [
        make_record(confidence=float("nan")),
        make_record(latency_ms=-2),
        make_record(class_id=10),
        make_record(model_version="7.7"),
    ]
    answer = send(batch(*bad, make_record()))
    assert answer.status_code == 200
    assert answer.json()["accepted"] == 1
    assert [item["index"] for item in answer.json()["rejected"]] == [0, 1, 2, 3]
    assert RejectedRecord.objects.count() == 4
    aggregate_batches()
    assert Window.objects.get().n == 1


REFUSED = {
    "not JSON": (b"hello", {}, 422),
    "not an object": (b"[1]", {}, 422),
    "no records": (batch(), {}, 422),
    "only bad records": (batch(make_record(latency_ms=-1)), {}, 422),
    "not gzip": (b"{}", {"Content-Encoding": "gzip"}, 422),
    "an unknown encoding": (b"{}", {"Content-Encoding": "br"}, 415),
    "too many bytes": (b" " * (1024 * 1024 + 1), {}, 413),
    "a bomb": (gzip.compress(b" " * 5_000_000), {"Content-Encoding": "gzip"}, 413),
    "too many records": (batch(*[{}] * 5001), {}, 413),
    "another device": (batch(make_record(), device_id="edge-002"), {}, 403),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_body_stores_nothing(send, name):
    body, headers, status = REFUSED[name]
    answer = send(body, **headers)
    assert answer.status_code == status, answer.content
    assert set(answer.json()) == {"code", "message", "details"}
    assert nothing_is_stored()


def test_another_content_type_is_refused(send):
    assert send(b"a,b", content_type="text/csv").status_code == 415
    assert nothing_is_stored()


def test_without_or_with_an_unknown_credential_nothing_is_taken(device):
    for headers in ({}, {"Authorization": "Bearer nobody"}):
        answer = Client().post(
            "/api/ingest",
            json.dumps(batch(make_record())),
            content_type="application/json",
            headers=headers,
        )
        assert answer.status_code == 401
    assert nothing_is_stored()


def test_a_pending_device_is_refused(device, send):
    Device.objects.filter(pk=device.pk).update(status=Device.Status.PENDING)
    assert send(batch(make_record())).status_code == 403
    assert nothing_is_stored()


def test_a_version_of_a_model_the_device_does_not_have_is_rejected(send):
    make_release(slug="other", version="2.0.0")
    answer = send(batch(make_record(model_version="2.0.0", model="other"), make_record()))
    assert [item["index"] for item in answer.json()["rejected"]] == [0]


def test_a_manifest_digest_names_a_version_too(send):
    from registry.models import Variant

    digest = Variant.objects.get().manifest_sha256
    assert send(batch(make_record(model_version=digest))).json()["accepted"] == 1


def test_late_records_reach_their_own_window_and_very_old_ones_none(send):
    now = timezone.now().timestamp()
    send(batch(make_record(timestamp=now - 86_400), make_record(timestamp=now - 30 * 86_400)))
    aggregate_batches()
    window = Window.objects.get()
    assert window.n == 1 and window.start.timestamp() <= now - 86_400


def test_an_unreadable_batch_holds_up_no_other(send):
    send(batch(make_record()))
    send(batch(make_record(), batch_id="b2"))
    InboxBatch.objects.filter(batch_id="b1").update(payload=b"junk")
    now = timezone.now()
    for attempt in range(InboxBatch.MAX_ATTEMPTS):
        assert InboxBatch.objects.get(batch_id="b1").state == InboxBatch.State.PENDING
        aggregate_batches(now=now + timedelta(hours=attempt))
    assert InboxBatch.objects.get(batch_id="b1").state == InboxBatch.State.FAILED
    assert Window.objects.get().n == 1


def test_failed_inferences_count_as_errors(send):
    failed = {"confidence": None, "class_id": None}
    send(
        batch(
            make_record(error="non_finite", **failed), make_record(error="oom", **failed),
            make_record(),
        )
    )  # fmt: skip
    aggregate_batches()
    window = Window.objects.get()
    assert (window.n, window.errors, window.counts["nonfinite"]) == (3, 2, 1)

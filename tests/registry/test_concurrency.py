"""Two people at once: one order, one blob, one validation."""

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from django.db import connection

from registry.exceptions import ConflictError
from registry.models import Blob, Version
from registry.services.audit import record_event, verify_chain
from registry.services.blobs import store_blob
from registry.services.versions import validate_version
from tests.factories.registry import make_model, make_upload

pytestmark = [
    pytest.mark.django_db(transaction=True),
    # SQLite's test database lives in memory and its threads share one cache: it answers "table
    # is locked" at once, where a file would wait.
    pytest.mark.skipif(connection.vendor == "sqlite", reason="needs PostgreSQL"),
]
THREADS = 4


def at_once(act: Callable[[int], Any]) -> list[Any]:
    """What `act` gives or raises in each of four threads that start together."""
    barrier = Barrier(THREADS)

    def run(number: int) -> Any:
        barrier.wait()
        try:
            return act(number)
        except ConflictError as error:
            return error
        finally:
            connection.close()

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(run, range(THREADS)))


def test_versions_uploaded_at_once_get_sequences_of_their_own() -> None:
    model = make_model()
    found = at_once(lambda number: make_upload(model, version=f"1.{number}"))
    assert sorted(version.sequence for version in found) == [1, 2, 3, 4]
    verify_chain()


def test_one_of_those_who_take_a_name_at_once_gets_it() -> None:
    model = make_model()
    found = at_once(lambda number: make_upload(model, version="1.0"))
    assert sum(isinstance(result, ConflictError) for result in found) == THREADS - 1
    assert Version.objects.get().sequence == 1


def test_equal_bytes_stored_at_once_are_one_blob() -> None:
    data = b"x" * 100_000
    at_once(lambda number: store_blob(stream=io.BytesIO(data), max_bytes=10**6))
    assert Blob.objects.count() == 1


def test_a_version_validated_at_once_by_many_has_one_manifest() -> None:
    version = make_upload()
    at_once(lambda number: validate_version(version_id=version.pk))
    version.refresh_from_db()
    assert (version.state, version.validation_attempts) == ("ready", 1)
    assert version.variants.get().manifest_sha256


def test_events_recorded_at_once_form_one_chain() -> None:
    at_once(
        lambda number: record_event(
            actor=f"a{number}", action="x.y", obj=None, summary="s", details={}
        )
    )
    assert verify_chain() == THREADS

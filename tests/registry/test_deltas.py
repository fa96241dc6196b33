"""Deltas: made in the background from what is stored, kept while asked for, never a pin."""

import io
from datetime import timedelta

import numpy as np
import pytest
from django.core.files.storage import default_storage
from django.utils import timezone

from registry.models import Blob, Delta, VariantFile
from registry.patches import apply_patch, make_patch
from registry.services import deltas
from registry.services.blobs import is_referenced, open_blob, store_blob
from registry.services.garbage import find_garbage
from registry.storage_paths import blob_path
from tests.factories.fleet import make_release, manifest_of
from tests.factories.registry import make_model

pytestmark = pytest.mark.django_db
OLD = np.random.default_rng(0).bytes(200_000)
NEW = OLD[:150_000] + b"another head" + OLD[150_050:]
STRANGER = np.random.default_rng(1).bytes(200_000)


def make_pair(old: bytes = OLD, new: bytes = NEW) -> tuple[str, str]:
    """The manifest digests of two releases of one model."""
    model = make_model()
    return manifest_of(make_release(model, old)), manifest_of(make_release(model, new))


def make_ready(old: bytes = OLD, new: bytes = NEW) -> tuple[Delta, tuple[str, str]]:
    pair = make_pair(old, new)
    assert deltas.queue_deltas([pair]) == 1
    made = deltas.make_next_delta(now=timezone.now())
    assert made is not None
    return made, pair


@pytest.mark.parametrize("new", [NEW, OLD + b"tail", OLD[:100], b""], ids=len)
def test_a_patch_makes_the_new_file_of_the_old_one(new: bytes) -> None:
    assert apply_patch(OLD, make_patch(OLD, new), size_bytes=len(new)) == new


def test_a_patch_of_another_base_is_refused() -> None:
    with pytest.raises(ValueError, match="does not apply"):
        apply_patch(STRANGER, make_patch(OLD, NEW), size_bytes=len(NEW))


def test_a_delta_is_made_once_and_its_patch_makes_the_target() -> None:
    delta, pair = make_ready()
    assert delta.state == Delta.State.READY
    assert delta.patch is not None and delta.patch.size_bytes < len(NEW) / 100
    with open_blob(delta.patch.pk) as stream:
        assert apply_patch(OLD, stream.read(), size_bytes=len(NEW)) == NEW
    assert deltas.queue_deltas([pair]) == 0
    assert deltas.make_next_delta(now=timezone.now()) is None
    found = deltas.find_delta(base_manifest=pair[0], target_sha256=delta.target_sha256)
    assert found == delta


def test_a_patch_of_half_the_file_or_more_is_not_offered() -> None:
    delta, pair = make_ready(new=STRANGER)
    assert (delta.state, delta.patch) == (Delta.State.NOT_WORTH_IT, None)
    assert deltas.find_delta(base_manifest=pair[0], target_sha256=delta.target_sha256) is None


def test_files_that_are_equal_small_or_large_queue_nothing(settings: object) -> None:
    settings.AVIARY_DELTA_MAX_BYTES = 250_000  # type: ignore[attr-defined]
    pairs = [make_pair(new=OLD), make_pair(new=NEW[:1000]), make_pair(new=OLD + OLD)]
    unknown = ("0" * 64, pairs[0][1])
    assert deltas.queue_deltas([*pairs, unknown]) == 0
    assert not Delta.objects.exists()


def test_a_missing_file_fails_the_delta_and_leaves_the_queue_going() -> None:
    pairs = [make_pair(), make_pair(OLD[::-1], NEW[::-1])]
    assert deltas.queue_deltas(pairs) == 2
    first = Delta.objects.earliest("pk")
    default_storage.delete(blob_path(first.base_sha256))
    now = timezone.now()
    states = [deltas.make_next_delta(now=now) for _ in range(2)]
    assert [row and row.state for row in states] == [Delta.State.FAILED, Delta.State.READY]
    assert "BlobMissingError" in Delta.objects.get(pk=first.pk).problem


def test_a_claimed_delta_is_left_alone_until_the_claim_is_stale() -> None:
    deltas.queue_deltas([make_pair()])
    now = timezone.now()
    Delta.objects.update(state=Delta.State.MAKING, started_at=now, attempts=1)
    assert deltas.make_next_delta(now=now) is None
    late = now + deltas.CLAIM_TIMEOUT + timedelta(seconds=1)
    made = deltas.make_next_delta(now=late)
    assert made is not None and made.state == Delta.State.READY


def test_a_delta_whose_making_kills_the_worker_is_given_up() -> None:
    deltas.queue_deltas([make_pair()])
    now = timezone.now()
    Delta.objects.update(
        state=Delta.State.MAKING, started_at=now - timedelta(hours=1), attempts=Delta.MAX_ATTEMPTS
    )
    made = deltas.make_next_delta(now=now)
    assert made is not None and made.state == Delta.State.FAILED


def test_a_patch_is_kept_while_its_row_is_and_pins_no_model() -> None:
    delta, _ = make_ready()
    assert delta.patch is not None
    assert is_referenced(delta.patch)
    VariantFile.objects.all().delete()
    for sha256 in (delta.base_sha256, delta.target_sha256):
        assert not is_referenced(Blob.objects.get(pk=sha256))
    now = timezone.now()
    assert deltas.prune_deltas(now=now) == 0
    assert deltas.prune_deltas(now=now + deltas.KEEP + timedelta(days=1)) == 1
    garbage = find_garbage(now=now + timedelta(days=40))
    assert delta.patch.pk in {blob.pk for blob in garbage}


def test_a_delta_asked_for_again_is_kept_longer() -> None:
    _, pair = make_ready()
    Delta.objects.update(requested_at=timezone.now() - timedelta(days=29))
    assert deltas.queue_deltas([pair]) == 0
    later = timezone.now() + timedelta(days=5)
    assert deltas.prune_deltas(now=later) == 0


def test_a_delta_goes_with_its_base() -> None:
    blob = store_blob(stream=io.BytesIO(OLD), max_bytes=len(OLD))
    Delta.objects.create(base_sha256="1" * 64, target_sha256=blob.pk)
    assert Blob.objects.filter(pk=blob.pk).exists()
    assert deltas.prune_deltas(now=timezone.now()) == 1

"""Lists and pages of data sets and samples cost the same for one row and for many."""

import pytest
from django.test import Client
from django.urls import reverse

from fleet.models import CalibrationBuild, SampleBatch
from fleet.services.samples import request_calibration, set_sampling
from registry.models import Blob, DataSet, Model
from tests.factories.fleet import make_client
from tests.factories.registry import make_dataset, make_model
from tests.queries import count_queries

pytestmark = pytest.mark.django_db


def make_rows(model: Model, number: int) -> tuple[DataSet, CalibrationBuild, SampleBatch]:
    """A data set, an order that was filled with it, and inputs that a device sent."""
    dataset = make_dataset(model)
    blob = Blob.objects.get(pk=dataset.blob_id)
    sender = make_client().device
    set_sampling(device_id=sender.device_id, is_allowed=True, actor="ada")
    batch = SampleBatch.objects.create(
        device=sender, model=model, blob=blob, manifest_sha256="a" * 64, size_bytes=100
    )
    build = request_calibration(model=model, name=f"set-of-{number}", actor="ada", keep_out=dataset)
    build.state, build.dataset = CalibrationBuild.State.DONE, dataset
    build.save()
    return dataset, build, batch


def list_budgets(
    model: Model, dataset: DataSet, build: CalibrationBuild, batch: SampleBatch
) -> dict[str, int]:
    """The most queries of each address: session and user, then what it shows."""
    return {
        f"/api/v1/models/{model.slug}/datasets/": 4,
        "/api/v1/calibration-builds/": 3,
        f"/api/v1/calibration-builds/{build.pk}/": 3,
        reverse("admin:registry_dataset_changelist"): 9,
        reverse("admin:registry_dataset_change", args=[dataset.pk]): 6,
        reverse("admin:registry_dataset_add"): 4,
        reverse("admin:fleet_calibrationbuild_changelist"): 9,
        reverse("admin:fleet_calibrationbuild_change", args=[build.pk]): 8,
        reverse("admin:fleet_calibrationbuild_add"): 5,
        reverse("admin:fleet_samplebatch_changelist"): 9,
        reverse("admin:fleet_samplebatch_change", args=[batch.pk]): 6,
    }


def test_lists_and_pages_keep_their_budget_whatever_the_number_of_rows(
    admin_client: Client,
) -> None:
    model = make_model()
    budgets = list_budgets(model, *make_rows(model, 0))
    few = count_queries(admin_client, budgets)
    for number in range(1, 5):
        make_rows(model, number)
    many = count_queries(admin_client, budgets)
    assert {address: n for address, n in many.items() if n > budgets[address]} == {}
    assert {address: (few[address], n) for address, n in many.items() if n > few[address]} == {}

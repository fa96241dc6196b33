"""Models of odd inputs from upload to a variant, through the worker's child process."""

import io
from typing import Any

import numpy as np
import pytest

from compression.exceptions import DataSetUnusableError
from compression.services.jobs import create_job
from compression.services.running import run_job
from compression.states import JobState
from registry.services.datasets import register_dataset
from registry.services.models import create_model
from registry.services.uploads import upload_version
from registry.services.versions import validate_version
from tests.factories.compression import pack_npz
from tests.factories.task_models import TASK_MODELS


@pytest.fixture(autouse=True)
def own_home(settings: Any, tmp_path: Any) -> None:
    settings.AVIARY_HOME = tmp_path


def add_set(slug: str, kind: str, arrays: dict[str, Any]) -> Any:
    return register_dataset(
        model_slug=slug, name=kind, kind=kind, stream=io.BytesIO(pack_npz(**arrays)), actor="me"
    )


def publish(name: str, rows: int = 96) -> tuple[Any, dict[str, Any]]:
    """A ready version of a model, and its data sets by kind."""
    made = TASK_MODELS[name]()
    labels = ["silence", "speech"] if made.contract["task"] == "classification" else []
    slug = name.replace("_", "-")
    create_model(slug=slug, actor="me", labels=labels, task=made.contract["task"])
    generator = np.random.default_rng(4)
    sets = {kind: add_set(slug, kind, made.draw(generator, rows)) for kind in KINDS}
    version = upload_version(
        model_slug=slug,
        version="1.0.0",
        files=[("model.onnx", io.BytesIO(made.model.SerializeToString()), None)],
        actor="me",
        dataset=sets["evaluation"],
        metadata={"outputs": made.contract},
    )
    version = validate_version(version_id=version.pk)
    assert version.state == "ready", version.rejection_reason
    return version, sets


KINDS = ("calibration", "evaluation")


def order(version: Any, sets: dict[str, Any], preset: str) -> Any:
    return create_job(
        version=version,
        preset=preset,
        recipe={
            "data": {"min_calibration": 50},
            "gates": {"min_agreement": 0.9, "max_accuracy_drop_points": 5.0},
        },
        calibration_dataset=sets["calibration"],
        evaluation_dataset=sets["evaluation"],
        actor="me",
    )


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("name", "preset"),
    [("voice_activity", "static-int8"), ("time_first", "dynamic-int8"), ("echo", "static-int8")],
)
def test_a_model_of_odd_inputs_becomes_a_variant_that_may_be_promoted(
    name: str, preset: str
) -> None:
    version, sets = publish(name)
    job = run_job(job_id=order(version, sets, preset).pk)
    assert job.state == JobState.PASSED, job.error or job.report
    assert job.report is not None and job.result_variant is not None
    assert job.report["task"] == version.contract["task"]
    assert job.result_variant.is_promotable
    assert job.report["variant"]["agreement"]["value"] >= 0.9


@pytest.mark.django_db
def test_a_set_without_the_state_is_refused_when_the_job_is_ordered() -> None:
    version, sets = publish("voice_activity")
    arrays = TASK_MODELS["voice_activity"]().draw(np.random.default_rng(9), 96)
    del arrays["state"]
    without = register_dataset(
        model_slug=version.model.slug,
        name="without",
        kind="evaluation",
        stream=io.BytesIO(pack_npz(**arrays)),
        actor="me",
    )
    with pytest.raises(DataSetUnusableError, match=r"\['input', 'state'\]"):
        order(version, {**sets, "evaluation": without}, "dynamic-int8")

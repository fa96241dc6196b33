"""Each test has a storage and keys of its own."""

from pathlib import Path
from typing import Any

import pytest

from registry.models import Version
from registry.services.aliases import move_alias
from registry.services.variants import attach_variant
from tests.factories.registry import make_dataset, make_model, make_version


@pytest.fixture(autouse=True)
def home(clean_surroundings: None, settings: Any, tmp_path: Path) -> Path:
    """The folder below which blobs and keys are written."""
    settings.AVIARY_HOME = tmp_path
    settings.AVIARY_KEYS_DIR = tmp_path / "keys"
    settings.STORAGES = {
        **settings.STORAGES,
        "default": {
            "BACKEND": "django.core.files.storage.FileSystemStorage",
            "OPTIONS": {"location": str(tmp_path / "objects")},
        },
    }
    return tmp_path


@pytest.fixture
def filled() -> Version:
    """A version with data set, baseline, two variants, an alias and a successor."""
    model = make_model()
    version = make_version(model, dataset=make_dataset(model))
    source = version.variants.get()
    attach_variant(
        version=version,
        name="int8-static",
        files=[("model.onnx", "model", source.files.get(role="model").blob_id)],
        metrics={
            "accuracy": {"value": 0.982, "low": 0.966, "high": 0.99, "samples": 500},
            "latency_ms": {"p50": 0.11, "p95": 0.15, "p99": 0.22},
        },
        provenance={"kind": "compression"},
        derived_from=source,
        is_promotable=False,
        actor="tester",
    )
    make_version(model, state="ready", metadata={"parent": version.version})
    move_alias(version=version, name="champion", actor="tester", reason="best so far")
    return version


def stored_files(home: Path) -> list[Path]:
    """Every file below the storage, staged ones included."""
    return sorted(path for path in (home / "objects").rglob("*") if path.is_file())

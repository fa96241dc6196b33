"""Each test has a storage and keys of its own."""

from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from rest_framework.test import APIClient


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
def api() -> APIClient:
    """A client of a superuser."""
    client = APIClient()
    client.force_authenticate(User.objects.create(username="ada", is_superuser=True, is_staff=True))
    return client


@pytest.fixture
def reader() -> APIClient:
    """A client of a user who may only read."""
    user = User.objects.create(username="bob")
    user.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    client = APIClient()
    client.force_authenticate(user)
    return client


def stored_files(home: Path) -> list[Path]:
    """Every file below the storage, staged ones included."""
    return sorted(path for path in (home / "objects").rglob("*") if path.is_file())

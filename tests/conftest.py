"""What every test relies on: an empty cache, and files below a directory of the run."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.core.cache import cache
from django.db import connection
from django.test import Client
from rest_framework.test import APIClient

from fleet.polling.answers import reused
from fleet.polling.poll_notes import forget_notes
from servers.kept import end_with_parent
from tests.databases import template_of
from tests.where_run import record_suite

STARTED = pytest.StashKey[float]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record-suite", type=Path, help="write how the whole suite ended there")


def pytest_terminal_summary(terminalreporter: Any, exitstatus: int, config: pytest.Config) -> None:
    """For `make where-run`; parallel workers have no terminal and write nothing."""
    path = config.getoption("--record-suite")
    if path is not None:
        stats = terminalreporter.stats
        counts = {
            name: len(stats.get(name, []))
            for name in ("failed", "error", "passed", "skipped", "xfailed", "xpassed")
        }
        seconds = time.monotonic() - config.stash[STARTED]
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        record_suite(path, counts, seconds=seconds, exit_status=exitstatus, cores=cores or 1)


def pytest_configure(config: pytest.Config) -> None:
    """Give each parallel worker a Redis database of its own; pytest-django makes PostgreSQL's."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    # A good hash takes a third of a second, which hundreds of tests would pay for each person.
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    config.stash[STARTED] = time.monotonic()
    if worker:
        end_with_parent()
    if settings.REDIS_URL and worker.startswith("gw"):
        parts = urlsplit(settings.REDIS_URL)
        location = urlunsplit(parts._replace(path=f"/{int(worker[2:]) + 1}"))
        settings.CACHES["default"]["LOCATION"] = location


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings_parallel_suffix: None) -> None:
    """The test database is a copy of one that is migrated once for all workers."""
    url = os.environ.get("DATABASE_URL", "")
    if url.startswith("postgres"):
        connection.settings_dict["TEST"]["TEMPLATE"] = template_of(url)


@pytest.fixture(scope="session")
def run_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("aviary")


@pytest.fixture(autouse=True)
def clean_surroundings(settings: Any, run_directory: Path) -> Iterator[None]:
    """No cached answer of an earlier test, and no key or blob in the working tree."""
    settings.AVIARY_KEYS_DIR = run_directory / "keys"
    storage = settings.STORAGES["default"]
    if storage["BACKEND"].endswith("FileSystemStorage"):
        options = {**storage.get("OPTIONS", {}), "location": str(run_directory / "objects")}
        settings.STORAGES = {**settings.STORAGES, "default": {**storage, "OPTIONS": options}}
    cache.clear()
    reused.clear()
    forget_notes()
    yield


@pytest.fixture
def ada(db: None) -> Client:
    """A browser in which a superuser has signed in."""
    client = Client()
    client.force_login(get_user_model().objects.create_superuser("ada"))
    return client


@pytest.fixture
def api(db: None) -> APIClient:
    """A client of a superuser."""
    client = APIClient()
    client.force_authenticate(get_user_model().objects.create_superuser("ada"))
    return client


@pytest.fixture
def reader(db: None) -> APIClient:
    """A client of a user who may look at everything and change nothing."""
    user = get_user_model().objects.create_user("bob")
    user.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    client = APIClient()
    client.force_authenticate(user)
    return client

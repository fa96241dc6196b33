"""The look-back that policies got by default grows to a day; one that a person chose stays."""

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from ingest.models import DriftPolicy
from ingest.services.policies import change_policy
from tests.factories.registry import make_model

BEFORE = [("ingest", "0006_incident_memory_moved")]
AFTER = [("ingest", "0007_lookback_of_a_day")]


@pytest.mark.django_db(transaction=True)
def test_only_a_look_back_that_nobody_chose_is_raised():
    old, tuned, short, chosen = (make_model(slug=name) for name in "abcd")
    DriftPolicy.objects.create(model=old, lookback_windows=4)
    DriftPolicy.objects.create(model=tuned, lookback_windows=4)
    change_policy(model=tuned, actor="ada", min_devices=3)
    DriftPolicy.objects.create(model=short, lookback_windows=3)
    change_policy(model=chosen, actor="ada", lookback_windows=4)
    MigrationExecutor(connection).migrate(BEFORE)
    MigrationExecutor(connection).migrate(AFTER)
    found = dict(DriftPolicy.objects.values_list("model__slug", "lookback_windows"))
    assert found == {"a": 24, "b": 24, "c": 3, "d": 4}
    assert DriftPolicy.objects.get(model=tuned).min_devices == 3

"""Data of a server that ran before: what the migrations make of it."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

pytestmark = pytest.mark.django_db(transaction=True)
BEFORE = [("fleet", "0010_named_variants")]
AFTER = [("fleet", "0011_name_offered_variants")]


def test_deployments_name_what_they_offered_before() -> None:
    executor = MigrationExecutor(connection)
    everything = executor.loader.graph.leaf_nodes()
    executor.migrate(BEFORE)
    try:
        # The other apps' tables stay as they are today.
        today = executor.loader.graph.leaf_nodes("registry")
        old: Any = executor.loader.project_state([*BEFORE, *today]).apps
        model = old.get_model("registry", "Model").objects.create(slug="digits", title="x")
        versions = [
            old.get_model("registry", "Version").objects.create(
                model=model, version=f"1.{n}.0", sequence=n, state="approved"
            )
            for n in (1, 2)
        ]
        names = {"fp32": (True, "a"), "int8": (True, "b"), "held": (False, "c"), "raw": (True, "")}
        for version in versions:
            for name, (is_promotable, digest) in names.items():
                old.get_model("registry", "Variant").objects.create(
                    version=version,
                    name=name,
                    is_promotable=is_promotable,
                    manifest_sha256=f"{digest}{version.pk}".rjust(64, "0") if digest else None,
                )
        fields = {"name": "all", "model": model, "stable_version": versions[0]}
        deployment = old.get_model("fleet", "Deployment").objects.create(**fields)
        empty = old.get_model("fleet", "Deployment").objects.create(name="none", model=model)
        rollout = old.get_model("fleet", "Rollout").objects.create(
            deployment=deployment, target_version=versions[1], previous_version=versions[0],
            salt="x", state="running",
        )  # fmt: skip
        executor = MigrationExecutor(connection)
        executor.migrate(AFTER)
        new: Any = executor.loader.project_state(AFTER).apps
        deployments = new.get_model("fleet", "Deployment").objects
        rollouts = new.get_model("fleet", "Rollout").objects

        def named(rows: Any) -> list[tuple[str, str]]:
            return sorted((row.version.version, row.name) for row in rows.all())

        kept = [("1.1.0", "fp32"), ("1.1.0", "int8")]
        assert named(deployments.get(pk=deployment.pk).variants) == kept
        assert named(deployments.get(pk=empty.pk).variants) == []
        moved = rollouts.get(pk=rollout.pk)
        assert named(moved.previous_variants) == kept
        assert named(moved.variants) == [("1.2.0", "fp32"), ("1.2.0", "int8")]
    finally:
        MigrationExecutor(connection).migrate(everything)


def test_a_model_s_plan_keeps_its_counter_under_its_new_name() -> None:
    executor = MigrationExecutor(connection)
    everything = executor.loader.graph.leaf_nodes()
    before = [("fleet", "0018_device_groups")]
    executor.migrate(before)
    try:
        today = executor.loader.graph.leaf_nodes("registry")
        old: Any = executor.loader.project_state([*before, *today]).apps
        model = old.get_model("registry", "Model").objects.create(slug="digits", title="x")
        old.get_model("fleet", "ModelCounter").objects.create(
            model=model, value=7, plan={"model": "digits"}, plan_digest="a" * 64
        )
        after = [("fleet", "0019_plans")]
        executor = MigrationExecutor(connection)
        executor.migrate(after)
        new: Any = executor.loader.project_state([*after, *today]).apps
        (row,) = new.get_model("fleet", "Plan").objects.values_list(
            "model_id", "counter", "content", "digest"
        )
        assert row == (model.pk, 7, {"model": "digits"}, "a" * 64)
    finally:
        MigrationExecutor(connection).migrate(everything)

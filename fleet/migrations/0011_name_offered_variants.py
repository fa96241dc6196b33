"""Deployments and rollouts name the variants that they offer now: nothing changes for devices."""

from typing import Any

from django.db import migrations


def name_variants(apps: Any, schema_editor: Any) -> None:
    Deployment = apps.get_model("fleet", "Deployment")
    Rollout = apps.get_model("fleet", "Rollout")
    Variant = apps.get_model("registry", "Variant")
    offered = Variant.objects.filter(is_promotable=True, manifest_sha256__isnull=False)
    for deployment in Deployment.objects.exclude(stable_version=None).iterator():
        deployment.variants.set(offered.filter(version_id=deployment.stable_version_id))
    # A rollout that is over moves nothing any more; what it offered is on record all the same.
    for rollout in Rollout.objects.iterator():
        rollout.variants.set(offered.filter(version_id=rollout.target_version_id))
        if rollout.previous_version_id is not None:
            before = offered.filter(version_id=rollout.previous_version_id)
            rollout.previous_variants.set(before)


class Migration(migrations.Migration):
    dependencies = [("fleet", "0010_named_variants")]

    operations = [migrations.RunPython(name_variants, migrations.RunPython.noop)]

from collections import defaultdict
from datetime import timedelta
import json

from django.db import migrations
from django.db.models import Max

from ingest.rules.clusters import clusters_of
from ingest.rules.windows import WindowCounts

DAYS = 9
"""What a judgement may look back to, and a day more; the windows themselves stay."""


def roll_up(apps, schema_editor):
    """Adds up the windows of the last days, an hour of a release at a time."""
    Window = apps.get_model('ingest', 'Window')
    RollUp = apps.get_model('ingest', 'RollUp')
    Device = apps.get_model('fleet', 'Device')
    newest = Window.objects.aggregate(at=Max('start'))['at']
    if newest is None or RollUp.objects.exists():
        return
    recent = Window.objects.filter(start__gte=newest - timedelta(days=DAYS))
    cells = {}
    keys = recent.order_by().values_list('version_id', 'start', 'seconds').distinct()
    for version, start, seconds in keys.order_by('version_id', 'start', 'seconds'):
        rows = recent.filter(version_id=version, start=start, seconds=seconds).order_by('pk')
        found = defaultdict(dict)
        unknown = set(rows.values_list('device_id', flat=True)) - cells.keys()
        for device in Device.objects.filter(pk__in=unknown).only('labels', 'attributes'):
            told = {**device.attributes, **device.labels}
            cells[device.pk] = json.dumps(
                {name: str(told[name]) for name in ('site', 'hardware_class') if told.get(name)},
                sort_keys=True,
            )
        for row in rows.iterator(chunk_size=2000):
            key = (row.variant_id, row.cohort, cells[row.device_id])
            found[key][row.device_id] = WindowCounts.from_json(row.counts)
        RollUp.objects.bulk_create(
            RollUp(
                version_id=version, variant_id=variant, cohort=cohort, cell=cell, start=start,
                seconds=seconds, data=clusters_of(devices).pack(), is_part=False,
            )
            for (variant, cohort, cell), devices in found.items()
        )


class Migration(migrations.Migration):

    dependencies = [
        ('fleet', '0018_device_groups'),
        ('ingest', '0010_rollups'),
    ]

    operations = [migrations.RunPython(roll_up, migrations.RunPython.noop)]

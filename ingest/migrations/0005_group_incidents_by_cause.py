from datetime import timedelta

from django.conf import settings
from django.db import migrations
from django.utils import timezone

OPEN = ('pending', 'firing', 'acknowledged', 'no_data')
JOIN_WINDOWS = 3


def group_incidents(apps, schema_editor):
    """Every incident keeps its memory in a finding; open ones that began together become one.

    Of those the most telling is kept: a slice before the whole fleet, predictions before others. The
    others are resolved, name it, and their findings go on in it. No row and no event is lost.
    """
    Incident = apps.get_model('ingest', 'Incident')
    Finding = apps.get_model('ingest', 'IncidentFinding')
    Event = apps.get_model('ingest', 'IncidentEvent')
    for row in Incident.objects.order_by('pk').iterator(chunk_size=500):
        # Who acknowledged is the incident's; a finding only fires.
        status = 'firing' if row.status == 'acknowledged' else row.status
        before = 'firing' if row.before_no_data == 'acknowledged' else row.before_no_data
        Finding.objects.create(
            incident=row, rule_id=row.rule_id, version_id=row.version_id,
            variant_key=row.variant_key, slice=row.slice, metric=row.metric, status=status,
            severity=row.severity, value=row.value, threshold=row.threshold,
            evaluation_id=row.evaluation_id, recent=row.recent, calm=row.calm,
            before_no_data=before, opened_at=row.opened_at, resolved_at=row.resolved_at,
        )
    gap = JOIN_WINDOWS * timedelta(seconds=settings.AVIARY_WINDOW_SECONDS)
    now = timezone.now()
    groups, last = {}, {}
    rows = Incident.objects.filter(status__in=OPEN).order_by('opened_at', 'pk')
    for row in rows.iterator(chunk_size=500):
        key = (row.rule_id, row.model_id, row.version_id)
        if key not in last or row.opened_at - last[key] > gap:
            groups.setdefault(key, []).append([])
        groups[key][-1].append(row)
        last[key] = row.opened_at
    for group in (group for found in groups.values() for group in found):
        kept = min(group, key=_rank)
        kept.joined_at = last[kept.rule_id, kept.model_id, kept.version_id]
        if any(row.status in ('firing', 'acknowledged') for row in group):
            if kept.status not in ('firing', 'acknowledged'):
                kept.status = 'firing'
                kept.fired_at = kept.fired_at or now
        if any(row.severity == 'critical' for row in group):
            kept.severity = 'critical'
        kept.opened_at = min(row.opened_at for row in group)
        kept.save()
        for row in group:
            if row.pk == kept.pk:
                continue
            Finding.objects.filter(incident=row).update(incident=kept)
            before, row.status, row.resolved_at, row.merged_into = row.status, 'resolved', now, kept
            row.save()
            Event.objects.create(
                incident=row, action='merged', from_status=before, to_status='resolved',
                actor='system', reason=f'The same cause as incident {kept.pk}, which goes on.',
                value=row.value, threshold=row.threshold, at=now,
            )


def _rank(row):
    label = row.slice.partition('=')[0]
    ratio = (row.value or 0.0) / row.threshold if row.threshold else 0.0
    return (
        {'site': 0, 'hardware_class': 1}.get(label, 2),
        row.metric != 'prediction_psi',
        row.status not in ('firing', 'acknowledged'),
        -ratio,
    )


class Migration(migrations.Migration):

    dependencies = [
        ('ingest', '0004_incidents_are_causes'),
    ]

    operations = [migrations.RunPython(group_incidents, migrations.RunPython.noop)]

"""`make bench-drift`: a table, then one last line of JSON with every figure by its key."""

from __future__ import annotations

import json
import os
import random
import sys
import time
from typing import Any

SIZES = (100, 10_000, 1_000_000)
WINDOWS_OF = 10_000
"""Devices beyond so many are in the roll-ups alone: a judgement could not tell."""
ROWS = 1_000_000


def main() -> int:
    """Judges a model of ten slices in an empty database that the environment names."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    os.environ["LOG_LEVEL"] = "ERROR"
    import django

    django.setup()
    from django.core.management import call_command

    from benchmarks.agent.figures import Figure, print_table
    from benchmarks.ingest.fleet import make_devices, make_release

    call_command("migrate", verbosity=0)
    variant = make_release()
    figures, before = [], 0
    for size in SIZES:
        count = min(size, WINDOWS_OF)
        make_devices(variant, max(0, count - before), before)
        make_windows(variant, count)
        make_rollups(variant, size)
        before = max(before, count)
        devices, seconds, rows = judge(variant)
        words = f"{rows} judgements of 10 slices, each device with one window of the last hour"
        figures.append(Figure(f"judge_ms_{size}", 1_000 * seconds, "ms", words, 50.0))
        words = "tests of at most 1,000 devices against their own past, before it"
        figures.append(Figure(f"device_tests_ms_{size}", 1_000 * devices, "ms", words))
    make_past(variant)
    _, seconds, rows = judge(variant)
    words = f"{rows} judgements, with a day to look back and seven days of same hours"
    figures.append(Figure(f"judge_ms_{SIZES[-1]}_week", 1_000 * seconds, "ms", words))
    figures.append(
        Figure(
            "scipy_ks_ms_1m_rows", 1_000 * compare_rows(), "ms",
            f"scipy's two-sample Kolmogorov-Smirnov on {ROWS:,} raw rows a side, one feature",
        )
    )  # fmt: skip
    weight, words = weigh(WINDOWS_OF)
    figures.append(Figure("db_mb_per_1000_devices_plateau", weight, "MB", words))
    print_table(figures)
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(json.dumps({figure.key: round(figure.value, 4) for figure in figures}))
    return 0


def make_windows(variant: Any, size: int) -> None:
    """One window of the last complete hour for each device."""
    from datetime import UTC, datetime

    from django.conf import settings
    from django.utils import timezone

    from fleet.models import Device
    from ingest.models import DriftEvaluation, Window

    DriftEvaluation.objects.all().delete()
    Window.objects.all().delete()
    seconds = settings.AVIARY_WINDOW_SECONDS
    start = datetime.fromtimestamp((timezone.now().timestamp() // seconds - 1) * seconds, UTC)
    draw = random.Random(1)
    shapes = [_counts(draw) for _ in range(64)]
    Window.objects.bulk_create(
        (
            Window(
                device_id=device, version=variant.version, variant=variant,
                variant_key=variant.pk, start=start, seconds=seconds,
                n=shapes[number % 64]["n"], counts=shapes[number % 64],
            )
            for number, device in enumerate(Device.objects.values_list("pk", flat=True)[:size])
        ),
        batch_size=1_000,
    )  # fmt: skip


def _counts(draw: random.Random) -> dict[str, Any]:
    n = 3_600

    def spread(width: int) -> list[int]:
        row = [0] * width
        for _ in range(n // 10):
            row[min(width - 1, int(draw.betavariate(3, 3) * width))] += 10
        return row

    return {
        "n": n, "latency_n": n, "latency_sum": 3.0 * n, "latency_sum_squares": 9.5 * n,
        "latency": {str(20 + at): count for at, count in enumerate(spread(30))},
        "confidence_n": n, "confidence_sum": 0.5 * n, "confidence_sum_squares": 0.3 * n,
        "confidence": spread(64), "classes": [n // 10] * 10 + [0],
        "features": {f"{name}@{'a' * 12}": spread(64) for name in ("input_mean", "input_std")},
    }  # fmt: skip


def make_rollups(variant: Any, size: int, hours_ago: int = 1) -> None:
    """The roll-ups of an hour of `size` devices, five sites by four kinds of hardware."""
    from datetime import UTC, datetime

    import numpy as np
    from django.conf import settings
    from django.utils import timezone

    from ingest.models import RollUp
    from ingest.rules.windows import WindowCounts

    if hours_ago == 1:
        RollUp.objects.all().delete()
    seconds = settings.AVIARY_WINDOW_SECONDS
    now = timezone.now().timestamp()
    start = datetime.fromtimestamp((now // seconds - hours_ago) * seconds, UTC)
    draw = random.Random(hours_ago)
    shapes = [WindowCounts.from_json(_counts(draw)) for _ in range(64)]
    cells = [(site, hardware) for site in range(5) for hardware in range(4)]
    first = first_device()
    rows = []
    for number, (site, hardware) in enumerate(cells):
        ids = np.arange(first + number, first + size, len(cells))
        cell = json.dumps({"hardware_class": f"hw-{hardware}", "site": f"site-{site}"})
        rows.append(
            RollUp(
                version=variant.version, variant=variant, cell=cell, start=start,
                seconds=seconds, data=_clusters(ids, first, shapes).pack(), is_part=False,
            )
        )  # fmt: skip
    RollUp.objects.bulk_create(rows)


def _clusters(ids: Any, first: int, shapes: list[Any]) -> Any:
    """The counts of devices of which each has one of `shapes`; known are those with windows."""
    import numpy as np

    from ingest.rules.clusters import (
        GROUPS,
        Clusters,
        clusters_of,
        clusters_of_rows,
        group_of,
        keep_known,
    )

    if len(ids) <= GROUPS:
        return clusters_of({int(pk): shapes[pk % len(shapes)] for pk in ids})
    one = clusters_of_rows(shapes)
    times = np.zeros((GROUPS, len(shapes)), np.int64)
    np.add.at(times, (group_of(ids), ids % len(shapes)), 1)
    parts = {name: (low, times @ counts) for name, (low, counts) in one.parts.items()}
    known = keep_known(ids[ids < first + WINDOWS_OF])
    return Clusters(np.arange(GROUPS), True, known, times @ one.sums, parts)


def first_device() -> int:
    """The least key of a device."""
    from fleet.models import Device

    return int(Device.objects.order_by("pk").values_list("pk", flat=True)[0])


def make_past(variant: Any) -> None:
    """Roll-ups of the day and of the same hours of the week before, of as many groups."""
    from ingest.models import DriftEvaluation

    DriftEvaluation.objects.all().delete()
    hours = {*range(2, 25), *(24 * day + hour for day in range(1, 8) for hour in range(1, 5))}
    for hours_ago in sorted(hours):
        make_rollups(variant, WINDOWS_OF, hours_ago)


def judge(variant: Any) -> tuple[float, float, int]:
    """Seconds that the devices' own tests took, then the judgement; and how many it made."""
    from datetime import timedelta

    from django.utils import timezone

    from ingest.services.evaluation import (
        evaluate_model,
        examine_devices_of_model,
        settle_delay,
    )

    # The last hour is judged once what comes late has had its time.
    now = timezone.now() + settle_delay() + timedelta(seconds=1)
    model_id = variant.version.model_id
    started = time.perf_counter()
    examine_devices_of_model(model_id=model_id, now=now)
    between = time.perf_counter()
    rows = evaluate_model(model_id=model_id, now=now)
    return between - started, time.perf_counter() - between, rows


def compare_rows() -> float:
    """Seconds of a comparison that reads every record."""
    import numpy as np
    from scipy.stats import ks_2samp

    draw = np.random.default_rng(1)
    before, after = draw.normal(size=ROWS), draw.normal(size=ROWS)
    started = time.perf_counter()
    ks_2samp(before, after)
    return time.perf_counter() - started


def weigh(devices: int) -> tuple[float, str]:
    """Megabytes of windows a thousand devices end at, by the rows just written."""
    from django.conf import settings
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_total_relation_size('ingest_window')")
        per_row = cursor.fetchone()[0] / devices
    days = settings.AVIARY_KEEP_DAYS["windows"]
    rows = days * 86_400 // settings.AVIARY_WINDOW_SECONDS
    words = f"windows alone: {per_row:,.0f} bytes a row, {rows} rows a device in {days} days"
    return per_row * rows * 1_000 / 1e6, words


if __name__ == "__main__":
    sys.exit(main())

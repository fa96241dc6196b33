"""`make bench-fleet`: what a fleet costs to judge, list and search; JSON last.

Runs below `python -m servers --durable`. Times are server time, of the median of several calls in
this process: pages through Django's own handlers, signed in, with a warm connection.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import django

from benchmarks.agent.figures import Figure, print_table

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

DEVICES = int(os.environ.get("DEVICES", "1000000"))
REPEATS = 5


def main() -> int:
    django.setup()
    from django.core.management import call_command

    from benchmarks.fleet.loading import load_devices

    call_command("migrate", interactive=False, verbosity=0)
    started = time.monotonic()
    load_devices(DEVICES)
    print(f"loaded {DEVICES:,} devices in {time.monotonic() - started:.0f} s", file=sys.stderr)
    figures = [*measure_pages(), *measure_rollout()]
    print_table(figures)
    print(json.dumps({figure.key: round(figure.value, 4) for figure in figures}))
    return 0


def median_ms(call: Callable[[], Any], repeats: int = REPEATS) -> float:
    """Milliseconds of the middle call; the first, which fills caches, is not counted."""
    call()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times)


def measure_pages() -> list[Figure]:
    """The list of devices, its searches and filters, and one device's page."""
    from django.contrib.auth import get_user_model
    from django.test import Client

    from config import settings
    from fleet.models import Device

    settings.ALLOWED_HOSTS.append("testserver")
    browser = Client()
    browser.force_login(get_user_model().objects.create_superuser("bench"))
    number = max(1, DEVICES // 2 - 12_345)
    one = Device.objects.get(pk=number)
    admin, api = "/admin/fleet/device/", "/api/v1/devices/"
    addresses = {
        "list": admin,
        "list_page_100": f"{admin}?p=100",
        "search_id": f"{admin}?q={one.device_id}",
        "search_id_part": f"{admin}?q={one.device_id[-5:]}",
        "search_label": f"{admin}?q=site%3Dsite-77",
        "search_frequent_label": f"{admin}?q=ring%3Dearly",
        "search_value": f"{admin}?q=site-77",
        "search_nothing": f"{admin}?q=no-such-device-anywhere",
        "filter_status": f"{admin}?status__exact=accepted",
        "filter_rare_status": f"{admin}?status__exact=pending",
        "filter_fresh": f"{admin}?seen=fresh",
        "filter_silent": f"{admin}?seen=silent",
        "filter_never": f"{admin}?seen=never",
        "filter_agent": f"{admin}?agent=1.3.0",
        "filter_quarantine": f"{admin}?quarantine=yes",
        "filter_firing": f"{admin}?firing=any",
        "device": f"{admin}{one.pk}/change/",
        "api_list": api,
        "api_label": f"{api}?label=site%3Dsite-77",
        "api_prefix": f"{api}?device_id__startswith={one.device_id[:10]}",
    }
    figures, slowest = [], 0.0
    for name, address in addresses.items():

        def get(address: str = address) -> None:
            answer = browser.get(address)
            assert answer.status_code == 200, (address, answer.status_code)

        taken = median_ms(get)
        if name != "device":
            slowest = max(slowest, taken)
        figures.append(Figure(f"{name}_ms", taken, "ms", address, 300))
    suffix = f"_{DEVICES}"
    return [
        Figure(f"device_page_ms{suffix}", slowest, "ms", "the slowest list, search or filter", 300),
        *figures,
    ]


def measure_rollout() -> list[Figure]:
    """A throttled rollout over all devices, half of which have answered."""
    from django.utils import timezone

    from fleet.foresight import foresee
    from fleet.models import Rollout
    from fleet.selectors import preview_stages
    from fleet.services.deployments import update_deployment
    from fleet.services.reconcile import reach_now, states_now, tick_rollouts
    from fleet.services.rollouts import start_rollout
    from tests.factories.fleet import make_deployment, make_release, make_rollout

    deployment = make_deployment(selector={"site": [f"site-{n}" for n in range(200)]})
    other = make_deployment(
        name="early", stable_version=deployment.stable_version, selector={"ring": ["early"]}
    )
    rollout = make_rollout(
        deployment=deployment,
        target_version=make_release(deployment.model),
        stages=[{"percent": 100, "bake_seconds": 10**6, "patience_seconds": 10**6}],
        max_in_flight=DEVICES,
        offers_per_minute=1000,
    )
    preview = median_ms(lambda: preview_stages(rollout), 1)
    foresight = median_ms(
        lambda: foresee(
            deployment.model_id,
            lambda: update_deployment(
                deployment_id=other.pk, actor="bench", selector={"ring": ["late"]}
            ),
        ),
        1,
    )
    start_rollout(rollout_id=rollout.pk, actor="bench")
    load_installations(rollout)
    rollout = Rollout.objects.get(pk=rollout.pk)
    started = time.perf_counter()
    reach_now(rollout, in_background=True)
    states_now(rollout, in_background=True)
    counting = (time.perf_counter() - started) * 1000
    moments = iter(range(1, 1000))
    tick = median_ms(
        lambda: tick_rollouts(now=timezone.now() + timedelta(seconds=10 * next(moments)))
    )
    assert Rollout.objects.get(pk=rollout.pk).state == "running"
    return [
        Figure(f"tick_ms_{DEVICES}", tick, "ms", "a throttled rollout over all devices", 50),
        Figure(
            "tick_counting_ms",
            counting,
            "ms",
            "counting the same devices, in the background, at most a fiftieth of the time",
        ),
        Figure("preview_ms", preview, "ms", "devices that each stage reaches and fits"),
        Figure("foresight_ms", foresight, "ms", "devices that another selector would move"),
    ]


def load_installations(rollout: Any) -> None:
    """Every second device has committed the target, every tenth of the others is under way."""
    from django.db import connection

    variant = rollout.variants.get()
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO fleet_installation (
                device_id, model_id, version_id, variant_id, manifest_sha256, deployment_id,
                rollout_id, stage_index, cohort, assignment_id, counter, state, code, detail,
                last_seq, attempts, offered_at, updated_at)
            SELECT n, %s, %s, %s, %s, %s, %s, 0, 'canary', 'bench.1.' || n, 1,
                CASE WHEN n %% 2 = 0 THEN 'committed' ELSE 'downloading' END, '', '', 1, 0,
                now(), now()
            FROM generate_series(1, %s) AS n WHERE n %% 2 = 0 OR n %% 10 = 1
            """,
            [
                rollout.deployment.model_id,
                variant.version_id,
                variant.pk,
                variant.manifest_sha256,
                rollout.deployment_id,
                rollout.pk,
                DEVICES,
            ],
        )
        cursor.execute("ANALYZE fleet_installation")


if __name__ == "__main__":
    sys.exit(main())

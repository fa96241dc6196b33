"""`make bench-poll`: polls per second of the real front, beside their limits; JSON last.

Runs below `python -m servers --durable`: PostgreSQL with fsync, Valkey, and the web server in two
processes. The figures of one run are comparable with each other alone: all share the machine.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import django
import urllib3

from benchmarks.agent.figures import Figure, print_table
from benchmarks.poll import served
from benchmarks.poll.wrk import Caller, Load, WrkError, run, run_polls

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

DEVICES = int(os.environ.get("DEVICES", "1000000"))
WARM = 2_000
SECONDS = float(os.environ.get("SECONDS", "8"))


def main() -> int:
    django.setup()
    from django.core.management import call_command

    from benchmarks.fleet.loading import load_devices

    call_command("migrate", interactive=False, verbosity=0)
    load_devices(DEVICES)
    with tempfile.TemporaryDirectory(prefix="bench-poll-") as folder:
        figures = measure(Path(folder))
    print_table(figures)
    print(json.dumps({figure.key: round(figure.value, 4) for figure in figures}))
    return 0


def measure(folder: Path) -> list[Figure]:
    """Every figure, the limits first."""
    with served.bare(folder, "rsgi") as url:
        bare = run_polls(url, callers(1, WARM), model="shapes", folder=folder, seconds=SECONDS)
    with served.bare(folder, "wsgi") as url:
        wsgi = run_polls(url, callers(1, WARM), model="shapes", folder=folder, seconds=SECONDS)
    from tests.factories.fleet import make_deployment, make_release, set_at_once

    deployment = make_deployment(name="bench")
    slug = deployment.model.slug
    with served.aviary(folder) as url:
        known = [first_polls(url, slug, caller) for caller in callers(1, WARM)]
        known = again(url, slug, known)
        warm = run_polls(url, known, model=slug, folder=folder, seconds=SECONDS)
        set_at_once(deployment, make_release(deployment.model), confirmed_devices=10**7)
        # More devices than can be answered in the time, so that each poll is a device's first.
        fresh = callers(WARM + 1, min(DEVICES, WARM + int(SECONDS * 20_000)))
        new = run_polls(url, fresh, model=slug, folder=folder, seconds=SECONDS)
    assert new.requests <= len(fresh), "some devices were asked for twice"
    for name, load in {"bare": bare, "wsgi": wsgi, "warm": warm, "new": new}.items():
        print(f"{name}: {load}", file=sys.stderr)
    figures = [
        Figure(
            "poll_warm_ratio_bare", warm.per_second / bare.per_second, "×",
            f"{bare.per_second:,.0f}/s of a bare function on the same server (RSGI; "
            f"WSGI: {wsgi.per_second:,.0f}/s)", 0.5, is_more_better=True,
        ),
        Figure("poll_warm_rps", warm.per_second, "/s", words(warm), 15_000, is_more_better=True),
        Figure("poll_new_rps", new.per_second, "/s", words(new), 2_000, is_more_better=True),
    ]  # fmt: skip
    if served.has_mlflow():
        with served.mlflow(folder) as url:
            for _ in range(4 * served.WORKERS):  # each of its processes loads what it needs
                urllib3.request("GET", url, timeout=120, retries=False)
            peer = run(url, seconds=SECONDS)
        if not peer.requests:
            raise WrkError(f"MLflow answered nothing in {SECONDS:g} s")
        figures.append(
            Figure(
                "poll_mlflow_ratio", warm.per_second / peer.per_second, "×",
                f"MLflow's alias endpoint: {peer.per_second:,.0f}/s, {words(peer)}", 40,
                is_more_better=True,
            )
        )  # fmt: skip
    return figures


def callers(first: int, last: int) -> list[Caller]:
    """Devices by their numbers, that know nothing yet."""
    from benchmarks.fleet.loading import device_id, token_of

    return [Caller(device_id(number), token_of(number)) for number in range(first, last + 1)]


def words(load: Load) -> str:
    """How a run went beside its rate."""
    return f"{DEVICES:,} devices; p99 {load.p99_ms:.1f} ms; {load.others} refused or failed"


_kept: dict[str, http.client.HTTPConnection] = {}


def poll(url: str, model: str, caller: Caller) -> http.client.HTTPResponse:
    """One poll; its body is read."""
    host = urlsplit(url).netloc
    connection = _kept.setdefault(host, http.client.HTTPConnection(host, timeout=60))
    headers = {"Authorization": f"Bearer {caller.token}", "X-Agent-Version": "1.0.0"}
    if caller.etag:
        headers["If-None-Match"] = caller.etag
    if caller.running:
        headers["X-Running-Digest"] = caller.running
    connection.request(
        "GET", f"/api/models/latest?device_id={caller.device_id}&model={model}", headers=headers
    )
    answer = connection.getresponse()
    answer.body = answer.read()  # type: ignore[attr-defined]
    return answer


def first_polls(url: str, model: str, caller: Caller) -> Caller:
    """The device once it has been answered in full and runs what it was told."""
    answer = poll(url, model, caller)
    assert answer.status == 200, answer.body  # type: ignore[attr-defined]
    payload = json.loads(answer.body)["assignment"]["payload"]  # type: ignore[attr-defined]
    digest = json.loads(base64.b64decode(payload))["manifest_sha256"]
    return Caller(caller.device_id, caller.token, answer.headers["ETag"], digest)


def again(url: str, model: str, known: list[Caller]) -> list[Caller]:
    """The devices once every web process has seen each again; one connection reaches one of them.

    Now and then a device's assignment is due to be renewed in between, and its ETag is another.
    """
    for _ in range(served.WORKERS * 2):
        _kept.clear()
        for index, caller in enumerate(known):
            answer = poll(url, model, caller)
            if answer.status == 200:
                known[index] = replace(caller, etag=answer.headers["ETag"])
    return known


if __name__ == "__main__":
    sys.exit(main())

"""`manage.py simulate_fleet`: devices by the thousand that speak the protocol and run nothing."""

from __future__ import annotations

import asyncio
import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from fleet.simulation.profiles import PROFILES, MixError, parse_mix

MOST_DEVICES = 100_000


class Command(BaseCommand):
    """Prints one JSON object of what happened: polls by status, installations, failures."""

    help = (
        "Enrols devices with a join token and has them poll, install and report. The join token "
        "must allow as many uses; to stop, interrupt."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("url", help="the server, such as http://127.0.0.1:8000")
        parser.add_argument("--model", required=True, help="slug of the model to ask for")
        parser.add_argument("--join-token", required=True)
        parser.add_argument("--devices", type=int, default=1000)
        parser.add_argument(
            "--prefix", default="sim", help="device ids are <prefix>-00001 and so on"
        )
        parser.add_argument("--label", action="append", default=[], metavar="NAME=VALUE")
        parser.add_argument(
            "--mix", default="healthy=90,slow=4,failing=2,flaky=2,dying=1,offline=1",
            help=f"profiles with weights; there are {', '.join(PROFILES)}",
        )  # fmt: skip
        end = parser.add_mutually_exclusive_group(required=True)
        end.add_argument("--rounds", type=int, help="polls of each device")
        end.add_argument("--seconds", type=float, help="how long to go on")
        parser.add_argument(
            "--speed", type=float, default=1.0,
            help="how much faster than told; 0 waits for nothing",
        )  # fmt: skip
        parser.add_argument("--connections", type=int, default=64)
        parser.add_argument("--seed", default="0", help="the same seed, the same devices and luck")
        parser.add_argument("--no-download", action="store_true", help="fetch no files")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            from fleet.simulation.devices import Simulation, simulate
        except ImportError as error:
            raise CommandError(f"requirements-demo.txt is not installed: {error}") from error
        count = options["devices"]
        if not 1 <= count <= MOST_DEVICES:
            raise CommandError(f"--devices: expected 1 to {MOST_DEVICES:,}; got {count}")
        if options["speed"] < 0 or options["connections"] < 1:
            raise CommandError("--speed is from 0 and --connections from 1")
        labels = [label.partition("=") for label in options["label"]]
        if not all(name and sign for name, sign, _ in labels):
            raise CommandError("--label: expected NAME=VALUE")
        try:
            mix = parse_mix(options["mix"])
        except MixError as error:
            raise CommandError(f"--mix: {error}") from error
        simulation = Simulation(
            url=options["url"].rstrip("/"),
            model=options["model"],
            join_token=options["join_token"],
            mix=mix,
            attributes={name: value for name, _, value in labels},
            seed=options["seed"],
            rounds=options["rounds"],
            seconds=options["seconds"],
            speed=options["speed"],
            connections=options["connections"],
            is_downloading=not options["no_download"],
        )
        ids = [f"{options['prefix']}-{number:05d}" for number in range(1, count + 1)]
        counts, problems = asyncio.run(simulate(simulation, ids))
        self.stdout.write(json.dumps(dict(sorted(counts.items()))))
        if problems:
            shown = "; ".join(problems[:5])
            raise CommandError(f"{len(problems)} devices could not go on, such as: {shown}")

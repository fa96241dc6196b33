"""Compression jobs."""

from __future__ import annotations

import argparse

from aviary_client.cli.arguments import Parsers, add_wait, read_json
from aviary_client.cli.output import Output
from aviary_client.cli.session import connect
from aviary_client.errors import UsageError
from aviary_client.rows import Job


def add_commands(commands: Parsers) -> None:
    """`compress` and `job`."""
    parser = commands.add_parser("compress", help="make a smaller variant of a version")
    parser.add_argument("model")
    parser.add_argument("version")
    parser.add_argument("--preset", help="such as static-int8; docs/compression.md lists them")
    parser.add_argument("--recipe", metavar="FILE", help="JSON of an own recipe")
    parser.add_argument("--evaluation", required=True, help="name of a data set")
    parser.add_argument("--calibration", help="name of a data set")
    parser.add_argument("--variant-name", default="")
    parser.add_argument("--wait", action="store_true", help="until the job has ended")
    add_wait(parser, timeout_seconds=86_400.0, interval=2.0)
    parser.set_defaults(act=compress)
    parser = commands.add_parser("job", help="wait for a compression job")
    parser.add_argument("job")
    add_wait(parser, timeout_seconds=86_400.0, interval=2.0)
    parser.set_defaults(act=wait_job)


def compress(options: argparse.Namespace, output: Output) -> None:
    if not options.preset and not options.recipe:
        raise UsageError("Name a --preset or give a --recipe")
    client = connect(options)
    job = client.compress(
        options.model,
        options.version,
        evaluation=options.evaluation,
        calibration=options.calibration,
        preset=options.preset,
        recipe=read_json(options.recipe, dict, "recipe"),
        variant_name=options.variant_name,
    )
    if options.wait:
        options.job = job["id"]
        wait_job(options, output)
    else:
        output.show(job, _words)


def wait_job(options: argparse.Namespace, output: Output) -> None:
    last = ""

    def tell(job: Job) -> None:
        nonlocal last
        progress = job["progress"]
        words = f"{job['state']} {progress['name']}".strip()
        if words != last:
            last = words
            output.note(f"{words}, {100 * progress['fraction']:.0f} %")

    job = connect(options).wait_job(
        options.job,
        timeout_seconds=options.timeout,
        interval_seconds=options.interval,
        on_change=tell,
    )
    output.show(job, _words)


def _words(job: Job) -> str:
    return f"Job {job['id']}: {job['variant_name']} is {job['state']}"

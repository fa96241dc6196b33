"""Deployments and rollouts."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from aviary_client.cli.arguments import Parsers, add_wait, read_json, read_selector
from aviary_client.cli.output import Output
from aviary_client.cli.session import connect
from aviary_client.client import Client
from aviary_client.errors import ApiError, UsageError
from aviary_client.rows import Rollout

_STEPS = {
    "approve": "let it begin",
    "advance": "go to the next stage now",
    "pause": "hold it where it is",
    "resume": "let it go on",
    "abort": "end it and send devices back",
}
_WATCH = 7 * 86_400.0


def add_commands(commands: Parsers) -> None:
    """`deployments`, `deploy` and everything below `rollout`."""
    parser = commands.add_parser("deployments", help="list deployments")
    parser.set_defaults(act=list_deployments)
    parser = commands.add_parser(
        "deploy", help="make a deployment",
        description="Makes a deployment whose devices run a version. One that is there already "
        "and offers the version is left; another version needs `aviary rollout start`.",
    )  # fmt: skip
    parser.add_argument("name")
    parser.add_argument("--model", required=True)
    parser.add_argument("--version", required=True)
    parser.add_argument("--selector", action="append", default=[], metavar="LABEL=VALUE")
    parser.add_argument("--priority", type=int, default=0)
    parser.set_defaults(act=deploy)
    rollout = commands.add_parser("rollout", help="start, watch and steer rollouts")
    below = rollout.add_subparsers(dest="step", required=True, metavar="STEP")
    _add_start(below)
    parser = below.add_parser("watch", help="follow a rollout to its end")
    parser.add_argument("rollout", type=int)
    _add_watching(parser)
    parser.set_defaults(act=watch)
    parser = below.add_parser("list", help="list rollouts")
    parser.add_argument("--state")
    parser.set_defaults(act=list_rollouts)
    for name, words in _STEPS.items():
        parser = below.add_parser(name, help=words)
        parser.add_argument("rollout", type=int)
        parser.add_argument("--reason", default="")
        parser.set_defaults(act=take_step)


def _add_start(below: Parsers) -> None:
    parser = below.add_parser("start", help="roll a version out to a deployment")
    parser.add_argument("deployment")
    parser.add_argument("--version", required=True)
    parser.add_argument("--variant", action="append", dest="variants")
    parser.add_argument(
        "--stages", help="percentages, such as 5,25,100; without it the server proposes all"
    )
    parser.add_argument("--bake-seconds", type=int, default=3600, help="of each of --stages")
    parser.add_argument("--min-devices", type=int, default=1, help="of each of --stages")
    parser.add_argument("--plan", metavar="FILE", help="JSON with stages, gates and options")
    parser.add_argument("--reason", default="")
    parser.add_argument("--draft", action="store_true", help="do not start it")
    parser.add_argument("--watch", action="store_true", help="until it has ended")
    _add_watching(parser)
    parser.set_defaults(act=start)


def _add_watching(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--fail-on-pause", action="store_true", help="end with 21 when it is held")
    add_wait(parser, timeout_seconds=_WATCH, interval=5.0)


def list_deployments(options: argparse.Namespace, output: Output) -> None:
    output.table(
        connect(options).deployments(), ("name", "model", "stable_version", "state", "selector")
    )


def deploy(options: argparse.Namespace, output: Output) -> None:
    client = connect(options)
    selector = read_selector(options.selector)
    try:
        found = client.deployment(options.name)
    except ApiError as error:
        if error.status != 404:
            raise
        found = client.create_deployment(
            options.name,
            model=options.model,
            version=options.version,
            selector=selector,
            priority=options.priority,
        )
    else:
        there = (found["model"], found["stable_version"], found["selector"])
        if there != (options.model, options.version, selector):
            raise UsageError(
                f"{options.name} is there with {found['model']} {found['stable_version']} for "
                f"{found['selector'] or 'all devices'}; roll out with `aviary rollout start`"
            )
    output.show(found, lambda row: f"{row['name']} offers {row['model']} {row['stable_version']}")
    for notice in found["notices"]:
        output.note(notice)


def start(options: argparse.Namespace, output: Output) -> None:
    client = connect(options)
    plan = _read_plan(options)
    made = client.create_rollout(
        options.deployment,
        options.version,
        variants=options.variants,
        reason=options.reason,
        **plan,
    )
    if options.draft:
        output.show(made, _words)
        return
    started = client.step_rollout(made["id"], "start", options.reason)
    for notice in started["notices"]:
        output.note(notice)
    if options.watch:
        options.rollout = started["id"]
        _watch(client, options, output)
    else:
        output.show(started, _words)


def watch(options: argparse.Namespace, output: Output) -> None:
    _watch(connect(options), options, output)


def list_rollouts(options: argparse.Namespace, output: Output) -> None:
    output.table(
        connect(options).rollouts(state=options.state),
        ("id", "model", "target_version", "state", "current_stage", "reason"),
    )


def take_step(options: argparse.Namespace, output: Output) -> None:
    moved = connect(options).step_rollout(options.rollout, options.step, options.reason)
    output.show(moved, _words)


def _watch(client: Client, options: argparse.Namespace, output: Output) -> None:
    shown = 0

    def tell(rollout: Rollout) -> None:
        nonlocal shown
        for event in sorted(rollout["events"], key=lambda row: int(row["revision"])):
            if event["revision"] > shown:
                shown = event["revision"]
                output.line(event, _event_words(event, len(rollout["stages"])))

    client.watch_rollout(
        options.rollout,
        timeout_seconds=options.timeout,
        interval_seconds=options.interval,
        is_pause_end=options.fail_on_pause,
        on_change=tell,
    )


def _read_plan(options: argparse.Namespace) -> dict[str, Any]:
    if options.plan is not None and options.stages is not None:
        raise UsageError("Give --plan or --stages, not both")
    if options.plan is not None:
        found: dict[str, Any] = read_json(options.plan, dict, "plan")
        if "stages" not in found:
            raise UsageError(f"--plan {options.plan}: expected an object with stages")
        return found
    if options.stages is None:
        return {}
    try:
        percents = [float(text) for text in options.stages.split(",")]
    except ValueError as error:
        raise UsageError(f"--stages expects percentages; got {options.stages!r}") from error
    common = {"bake_seconds": options.bake_seconds, "min_devices": options.min_devices}
    return {"stages": [{"percent": percent, **common} for percent in percents]}


def _words(rollout: Rollout) -> str:
    return f"Rollout {rollout['id']} to {rollout['target_version']} is {rollout['state']}"


def _event_words(event: Mapping[str, Any], stages: int) -> str:
    words = f"{event['at'][:19]}  {event['action'].replace('_', ' ')}: {event['to_state']}"
    words += f", stage {event['stage_index'] + 1} of {stages}"
    return words + (f" – {event['reason']}" if event["reason"] else "")

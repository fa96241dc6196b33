"""Devices, join tokens and incidents."""

from __future__ import annotations

import argparse
import time

from aviary_client.cli.arguments import Parsers, days_from_now, read_pairs
from aviary_client.cli.output import Output
from aviary_client.cli.session import connect
from aviary_client.rows import Incident, JoinToken

_INCIDENT = ("id", "model", "version", "severity", "status", "headline", "opened_at")


def add_commands(commands: Parsers) -> None:
    """Everything about devices and what goes wrong on them."""
    parser = commands.add_parser("devices", help="list devices")
    parser.add_argument("--label", action="append", default=[], metavar="LABEL=VALUE")
    parser.add_argument("--status")
    parser.set_defaults(act=list_devices)
    tokens = commands.add_parser("join-token", help="make, list and revoke join tokens")
    below = tokens.add_subparsers(dest="step", required=True, metavar="STEP")
    parser = below.add_parser("create", help="make one; its secret is shown this once")
    parser.add_argument("name")
    parser.add_argument("--label", action="append", default=[], metavar="LABEL=VALUE")
    parser.add_argument("--max-uses", type=int, default=1)
    parser.add_argument("--days", type=float, help="until it expires")
    parser.add_argument("--auto-accept", action="store_true")
    parser.set_defaults(act=create_join_token)
    parser = below.add_parser("list", help="list them")
    parser.set_defaults(act=list_join_tokens)
    parser = below.add_parser("revoke", help="let no device join with one any more")
    parser.add_argument("id", type=int)
    parser.set_defaults(act=revoke_join_token)
    parser = commands.add_parser("incidents", help="list incidents, or follow them")
    parser.add_argument("--model")
    parser.add_argument("--all", action="store_true", help="those that are over, too")
    parser.add_argument("--follow", action="store_true", help="go on, and tell each change")
    parser.add_argument("--interval", type=float, default=10.0, metavar="SECONDS")
    parser.add_argument("--for", type=float, dest="seconds", help="follow for so many seconds")
    parser.set_defaults(act=show_incidents)


def list_devices(options: argparse.Namespace, output: Output) -> None:
    labels = read_pairs(options.label, "label")
    rows = connect(options).devices(labels=labels, status=options.status)
    output.table(rows, ("device_id", "status", "labels", "agent_version", "last_seen_at"))


def create_join_token(options: argparse.Namespace, output: Output) -> None:
    made = connect(options).create_join_token(
        options.name,
        labels=read_pairs(options.label, "label"),
        max_uses=options.max_uses,
        is_auto_accept=options.auto_accept,
        expires_at=None if options.days is None else days_from_now(options.days),
    )
    output.show(made, lambda row: str(row["token"]))


def list_join_tokens(options: argparse.Namespace, output: Output) -> None:
    columns = ("id", "name", "labels", "uses", "max_uses", "expires_at", "revoked_at")
    output.table(connect(options).join_tokens(), columns)


def revoke_join_token(options: argparse.Namespace, output: Output) -> None:
    def words(row: JoinToken) -> str:
        return f"{row['name']} is revoked"

    output.show(connect(options).revoke_join_token(options.id), words)


def show_incidents(options: argparse.Namespace, output: Output) -> None:
    client = connect(options)
    is_open = None if options.all or options.follow else True
    if not options.follow:
        output.table(client.incidents(model=options.model, is_open=is_open), _INCIDENT)
        return
    ends_at = None if options.seconds is None else time.monotonic() + options.seconds
    known: dict[int, tuple[str, str]] = {}
    while True:
        for incident in reversed(list(client.incidents(model=options.model, is_open=is_open))):
            state = (incident["status"], incident["severity"])
            if known.get(incident["id"]) != state:
                known[incident["id"]] = state
                output.line(incident, _words(incident))
        if ends_at is not None and time.monotonic() >= ends_at:
            return
        time.sleep(options.interval)


def _words(incident: Incident) -> str:
    return (
        f"{incident['status']:<12} {incident['severity']:<8} {incident['model']} "
        f"{incident['version']}: {incident['headline'] or incident['metric']}"
    )

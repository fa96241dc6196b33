"""Logging in and out."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from pathlib import Path

from aviary_client.cli.arguments import Parsers
from aviary_client.cli.output import Output
from aviary_client.client import Client
from aviary_client.credentials import (
    Credentials,
    find_credentials,
    forget_credentials,
    keep_credentials,
)
from aviary_client.errors import SettingsError, UsageError


def add_commands(commands: Parsers) -> None:
    """`login`, `logout` and `whoami`."""
    parser = commands.add_parser(
        "login", help="keep a token for a server", description="Reads the token from a prompt, "
        "from standard input, from --token-file or from AVIARY_TOKEN; never from an argument, "
        "which other users of the machine could read. Pages of the server make tokens.",
    )  # fmt: skip
    parser.add_argument("--token-file", metavar="FILE")
    parser.set_defaults(act=log_in)
    parser = commands.add_parser("logout", help="forget the token of a server")
    parser.set_defaults(act=log_out)
    parser = commands.add_parser("whoami", help="tell whom the token belongs to")
    parser.set_defaults(act=who_am_i)


def log_in(options: argparse.Namespace, output: Output) -> None:
    server = (options.server or os.environ.get("AVIARY_SERVER", "")).rstrip("/")
    if not server:
        raise UsageError("Which server? aviary login --server https://aviary.example.org")
    credentials = Credentials(server, _read_token(options.token_file))
    who = Client(credentials.server, credentials.token).whoami()
    path = keep_credentials(credentials)
    output.show(
        {**who, "server": server}, lambda found: f"Logged in to {server} as {found['user']}"
    )
    output.note(f"The token is in {path}")


def log_out(options: argparse.Namespace, output: Output) -> None:
    server = find_credentials(options.server).server
    was_there = forget_credentials(server)
    words = "Logged out of" if was_there else "Was not logged in to"
    output.show({"server": server, "was_logged_in": was_there}, lambda _: f"{words} {server}")


def who_am_i(options: argparse.Namespace, output: Output) -> None:
    output.show(
        connect(options).whoami(), lambda found: f"{found['user']} on Aviary {found['version']}"
    )


def connect(options: argparse.Namespace) -> Client:
    """A client of the server that was chosen."""
    credentials = find_credentials(options.server)
    return Client(credentials.server, credentials.token)


def _read_token(token_file: str | None) -> str:
    if token_file is not None:
        try:
            token = Path(token_file).read_text(encoding="utf-8")
        except OSError as error:
            raise UsageError(f"--token-file {token_file}: {error}") from error
    elif os.environ.get("AVIARY_TOKEN"):
        token = os.environ["AVIARY_TOKEN"]
    elif sys.stdin.isatty():
        token = getpass.getpass("API token: ")
    else:
        token = sys.stdin.readline()
    if not token.strip():
        raise SettingsError("The token is empty")
    return token.strip()

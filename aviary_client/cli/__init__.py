"""The command `aviary`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from aviary_client.cli import compression, fleet, models, rollouts, session
from aviary_client.cli.output import Output
from aviary_client.errors import ClientError, Exit
from aviary_client.version import __version__


def make_parser() -> argparse.ArgumentParser:
    """Every command with its options; `--json`, `--quiet` and `--server` at any place."""
    common = argparse.ArgumentParser(add_help=False)
    for name, words in (
        ("--json", "print JSON and nothing else"),
        ("--quiet", "tell no progress"),
    ):
        common.add_argument(name, action="store_true", default=argparse.SUPPRESS, help=words)
    common.add_argument("--server", default=argparse.SUPPRESS, help="address; else AVIARY_SERVER")
    parser = argparse.ArgumentParser(
        prog="aviary", description="Works with an Aviary server.", parents=[common]
    )
    parser.add_argument("--version", action="version", version=f"aviary {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in (session, models, compression, rollouts, fleet):
        module.add_commands(_Everywhere(commands, common))
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status of a command."""
    options = make_parser().parse_args(arguments)
    options.server = getattr(options, "server", None)
    output = Output(
        is_json=getattr(options, "json", False), is_quiet=getattr(options, "quiet", False)
    )
    try:
        options.act(options, output)
    except ClientError as error:
        output.error(error)
        return int(error.exit)
    except BrokenPipeError:
        # Whoever read the output has had enough, as `head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(Exit.OK)
    except KeyboardInterrupt:
        return 130
    return int(Exit.OK)


def run() -> None:
    """The program's entry."""
    sys.exit(main())


class _Everywhere:
    """Subparsers that give each command the common options, and those below it, too."""

    def __init__(self, commands: Any, common: argparse.ArgumentParser) -> None:
        self._commands = commands
        self._common = common

    def add_parser(self, name: str, **options: Any) -> argparse.ArgumentParser:
        parser: Any = self._commands.add_parser(name, parents=[self._common], **options)
        below = parser.add_subparsers
        parser.add_subparsers = lambda **given: _Everywhere(below(**given), self._common)
        return parser  # type: ignore[no-any-return]

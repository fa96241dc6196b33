"""Arguments that several commands have, and what is read of them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from aviary_client.errors import UsageError

Parsers = Any  # argparse's own type of subparsers is private


def add_wait(parser: argparse.ArgumentParser, *, timeout_seconds: float, interval: float) -> None:
    """How long is waited, and how often is asked."""
    parser.add_argument("--timeout", type=float, default=timeout_seconds, metavar="SECONDS")
    parser.add_argument("--interval", type=float, default=interval, metavar="SECONDS")


def read_pairs(values: Sequence[str], name: str) -> dict[str, str]:
    """`key=value` each, as a mapping. Raises UsageError."""
    found: dict[str, str] = {}
    for text in values:
        key, sign, value = text.partition("=")
        if not (key and sign and value):
            raise UsageError(f"--{name} expects key=value; got {text!r}")
        found[key] = value
    return found


def read_selector(values: Sequence[str]) -> dict[str, list[str]]:
    """`key=value` each; a key that is there twice takes either value."""
    found: dict[str, list[str]] = {}
    for text in values:
        for key, value in read_pairs([text], "selector").items():
            found.setdefault(key, []).append(value)
    return found


def read_json(path: str | None, kind: type, name: str) -> Any:
    """The content of a JSON file; None without a path. Raises UsageError."""
    if path is None:
        return None
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"--{name} {path}: {error}") from error
    if not isinstance(value, kind):
        raise UsageError(f"--{name} {path}: expected a JSON {kind.__name__}")
    return value


def find_files(paths: Sequence[str]) -> dict[str, Path]:
    """Path in the variant to the file: of a folder all its files, under their names in it.

    Raises:
        UsageError: there is no such file, or two have one name.
    """
    found: dict[str, Path] = {}
    for text in paths:
        path = Path(text)
        if path.is_dir():
            inside = sorted(
                item
                for item in path.rglob("*")
                if item.is_file()
                and not any(p.startswith(".") for p in item.relative_to(path).parts)
            )
            named = {item.relative_to(path).as_posix(): item for item in inside}
        elif path.is_file():
            named = {path.name: path}
        else:
            raise UsageError(f"There is no file or folder {text}")
        for name, item in named.items():
            if name in found:
                raise UsageError(f"Two files would be {name}: {found[name]} and {item}")
            found[name] = item
    if not found:
        raise UsageError("There is no file to push")
    return found


def days_from_now(days: float) -> str:
    """That moment as RFC 3339."""
    return (datetime.now(UTC) + timedelta(days=days)).isoformat(timespec="seconds")

"""Which server, and with which token: from arguments, the environment, or a file of one's own."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aviary_client.errors import SettingsError

FILE_NAME = "credentials.json"


@dataclass(frozen=True)
class Credentials:
    """Where to call and as whom."""

    server: str
    token: str


def credentials_path(environment: Mapping[str, str] = os.environ) -> Path:
    """`AVIARY_CREDENTIALS`, or `aviary/credentials.json` below the user's configuration."""
    if own := environment.get("AVIARY_CREDENTIALS"):
        return Path(own)
    base = environment.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "aviary" / FILE_NAME


def find_credentials(
    server: str | None = None, environment: Mapping[str, str] = os.environ
) -> Credentials:
    """The server that was named, that of `AVIARY_SERVER` or the last one logged in to.

    `AVIARY_TOKEN` counts before the file, which holds a token for each server.

    Raises:
        SettingsError: one of the two is missing.
    """
    kept = _read(credentials_path(environment))
    chosen = server or environment.get("AVIARY_SERVER") or kept.get("server", "")
    if not chosen:
        raise SettingsError("Which server? Log in with `aviary login`, or set AVIARY_SERVER")
    chosen = chosen.rstrip("/")
    token = environment.get("AVIARY_TOKEN") or kept.get("tokens", {}).get(chosen, "")
    if not token:
        raise SettingsError(
            f"No token for {chosen}: log in with `aviary login`, or set AVIARY_TOKEN"
        )
    return Credentials(chosen, token.strip())


def keep_credentials(credentials: Credentials, environment: Mapping[str, str] = os.environ) -> Path:
    """The file that has the token now, which nobody else can read."""
    path = credentials_path(environment)
    kept = _read(path)
    tokens = {**kept.get("tokens", {}), credentials.server: credentials.token}
    _write(path, {"server": credentials.server, "tokens": tokens})
    return path


def forget_credentials(server: str, environment: Mapping[str, str] = os.environ) -> bool:
    """Takes the token of a server out of the file; False when there was none."""
    path = credentials_path(environment)
    kept = _read(path)
    tokens = dict(kept.get("tokens", {}))
    if tokens.pop(server.rstrip("/"), None) is None:
        return False
    _write(path, {"server": kept.get("server", ""), "tokens": tokens})
    return True


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path} cannot be read: {error}") from error
    if not isinstance(found, dict) or not isinstance(found.get("tokens", {}), dict):
        raise SettingsError(f"{path} is no file of this program; remove it and log in again")
    return found


def _write(path: Path, content: Mapping[str, object]) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
        json.dump(content, handle, indent=2)
    os.replace(fresh, path)

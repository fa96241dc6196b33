"""Readers of environment variables; secrets may come from a file named by `<NAME>_FILE`."""

import os
from collections.abc import Sequence
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off", ""}


def env_str(name: str, default: str = "") -> str:
    """The variable's text, or the content of the file that `<name>_FILE` names."""
    file_name = os.environ.get(f"{name}_FILE")
    if file_name:
        try:
            return Path(file_name).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ImproperlyConfigured(
                f"{name}_FILE={file_name} cannot be read: {error}"
            ) from error
    return os.environ.get(name, default)


def env_bool(name: str, default: bool = False) -> bool:
    """The variable as a boolean; anything but 1/0, true/false, yes/no, on/off is refused."""
    raw = os.environ.get(name)
    if raw is None:
        return default
    if raw.strip().lower() in _TRUE:
        return True
    if raw.strip().lower() in _FALSE:
        return False
    raise ImproperlyConfigured(f"{name} must be one of 1, 0, true, false; got {raw!r}")


def env_int(name: str, default: int, *, minimum: int = 0) -> int:
    """The variable as an integer of at least `minimum`."""
    raw = os.environ.get(name)
    if raw is None:
        return default
    try:
        value = int(raw)
    except ValueError as error:
        raise ImproperlyConfigured(f"{name} must be an integer; got {raw!r}") from error
    if value < minimum:
        raise ImproperlyConfigured(f"{name} must be at least {minimum}; got {value}")
    return value


def env_choice(name: str, choices: Sequence[str]) -> str:
    """The variable, one of `choices`; the first of them where it is not set."""
    raw = os.environ.get(name, choices[0])
    if raw not in choices:
        raise ImproperlyConfigured(f"{name} must be one of {', '.join(choices)}; got {raw!r}")
    return raw


def env_list(name: str, default: str = "") -> list[str]:
    """The variable split at commas, blanks dropped."""
    return [part.strip() for part in os.environ.get(name, default).split(",") if part.strip()]


def env_pairs(name: str) -> dict[str, str]:
    """The variable as a table, from items such as `left=right` with commas between."""
    found = {}
    for item in env_list(name):
        left, is_pair, right = item.partition("=")
        if not is_pair or not left.strip() or not right.strip():
            raise ImproperlyConfigured(f"{name} must be items of the form a=b; got {item!r}")
        found[left.strip()] = right.strip()
    return found


def env_list_of_secrets(name: str) -> list[str]:
    """As `env_list`, of a variable that may come from a file."""
    return [part.strip() for part in env_str(name).split(",") if part.strip()]


def secret_or_generated(name: str, path: Path) -> str:
    """The secret from the environment, or one generated once into `path` (mode 0600).

    Generating keeps the embedded default free of shared secrets; `check --deploy` asks for an
    explicit one in production.
    """
    value = env_str(name)
    if value:
        return value
    import secrets

    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text(encoding="utf-8").strip()
    with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
        handle.write(secrets.token_urlsafe(48))
        handle.flush()
        os.fsync(handle.fileno())
    return path.read_text(encoding="utf-8").strip()

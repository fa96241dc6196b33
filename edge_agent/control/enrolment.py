"""The settings of a new device, written when it enrols with nothing but an address and a token."""

import hashlib
import json
import os
import platform
import re
from pathlib import Path
from urllib.parse import urlsplit

from edge_agent.config import Config, load_config
from edge_agent.exceptions import ConfigurationError

MACHINE_ID = Path("/etc/machine-id")

_SETTINGS = """\
# Written by `aviary-agent enroll`. See packaging/agent.toml for more, config/sections.py for all.
[agent]
device_id = {device_id}
server_url = {server_url}
home = {home}
"""


def default_config_path() -> Path:
    """Where the settings lie when nobody says: the system's place, or the user's own."""
    named = os.environ.get("AVIARY_AGENT_CONFIG")
    if named:
        return Path(named)
    base = own_folder("XDG_CONFIG_HOME", ".config")
    return (base or Path("/etc")) / "aviary-agent" / "agent.toml"


def default_home() -> Path:
    """Where the state lies: beside settings that were named, else the system's or user's place."""
    named = os.environ.get("AVIARY_AGENT_CONFIG")
    if named:
        return Path(named).parent / "state"
    base = own_folder("XDG_STATE_HOME", ".local/state")
    return (base or Path("/var/lib")) / "aviary-agent"


def own_folder(variable: str, below_home: str) -> Path | None:
    """This user's folder for such files; None for root, and for a user without a home.

    A service's user that systemd made at start has neither HOME nor a usable line in passwd.
    """
    if os.geteuid() == 0:
        return None
    if os.environ.get(variable):
        return Path(os.environ[variable])
    try:
        return Path.home() / below_home
    except RuntimeError:
        return None


def clean_host_name() -> str:
    """The host's name, as far as a device's id may hold it."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", platform.node()).strip("-._") or "device"
    return name[:128]


def default_device_id() -> str:
    """The host's name and eight digits of its machine id, hashed as machine-id(5) asks."""
    name = clean_host_name()
    try:
        machine = MACHINE_ID.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        machine = ""
    if re.fullmatch(r"[0-9a-f]{32}", machine) is None:
        # Empty or "uninitialized" in an image that has not booted yet: equal on all its copies.
        return name
    digest = hashlib.sha256(b"aviary-agent:" + machine.encode()).hexdigest()
    return f"{name[:100]}-{digest[:8]}"


def prepare_settings(path: Path, *, server_url: str, device_id: str, home: str) -> Config:
    """The settings in `path`; they are written first when there are none.

    Args:
        server_url, device_id, home: empty takes what the file says, or the default of a new one.

    Raises:
        ConfigurationError: no file and no address, an address that is none, or a file that says
            something else than what was asked for.
    """
    wanted = {"server_url": server_url.rstrip("/"), "device_id": device_id, "home": home}
    if not path.exists():
        if not server_url:
            raise ConfigurationError(f"{path} does not exist; name the control plane: --server URL")
        parts = urlsplit(server_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigurationError(f"--server: expected http(s)://host, got {server_url}")
        text = _SETTINGS.format(
            device_id=json.dumps(device_id or default_device_id()),
            server_url=json.dumps(wanted["server_url"]),
            home=json.dumps(str(Path(home).resolve() if home else default_home())),
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        if os.geteuid() == 0:
            # No secret is in it, and the service reads it as a user of its own.
            path.chmod(0o644)
        return load_config(path)
    config = load_config(path)
    known = {
        "server_url": config.server_url.rstrip("/"),
        "device_id": config.device_id,
        "home": str(config.home),
    }
    for name, value in wanted.items():
        if value and value != known[name]:
            raise ConfigurationError(f"{path} says {name} = {known[name]}, asked for {value}")
    return config

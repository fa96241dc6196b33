"""The systemd unit that runs the agent at boot."""

import os
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

from edge_agent.exceptions import ConfigurationError

UNIT = Path("/etc/systemd/system/aviary-agent.service")
STATE_ROOT = Path("/var/lib")
COMMAND = "@COMMAND@"
STATE = "@STATE@"


def render_unit(*, program: Path, config_path: Path, home: Path) -> str:
    """The unit's text for this installation.

    Raises:
        ConfigurationError: a path with white space, which a unit would split, or a home elsewhere
            than directly below /var/lib, where systemd gives the service's own user its state.
    """
    if home.parent != STATE_ROOT:
        raise ConfigurationError(f"home: expected a folder in {STATE_ROOT}, got {home}")
    for path in (program, config_path, home):
        if not path.is_absolute() or any(letter.isspace() or letter == "%" for letter in str(path)):
            raise ConfigurationError(f"a unit cannot name the path {str(path)!r}")
    template = (files("edge_agent") / "packaging" / "aviary-agent.service").read_text("utf-8")
    return template.replace(COMMAND, f"{program} --config {config_path} run").replace(
        STATE, home.name
    )


def own_program() -> Path:
    """The `aviary-agent` beside this interpreter."""
    return Path(sys.executable).with_name("aviary-agent")


def install_unit(text: str) -> list[str]:
    """Writes the unit, and starts it now and at every boot; returns what was done.

    Raises:
        ConfigurationError: not root, or systemd refused.
    """
    if os.geteuid() != 0:
        raise ConfigurationError("installing a service needs root; --print only shows the unit")
    UNIT.write_text(text, encoding="utf-8")
    done = [f"wrote {UNIT}"]
    systemctl = shutil.which("systemctl")
    if systemctl is None or not Path("/run/systemd/system").exists():
        return [*done, "systemd does not run here: start the agent another way"]
    for arguments in (["daemon-reload"], ["enable", "--now", UNIT.name]):
        answer = subprocess.run([systemctl, *arguments], capture_output=True, text=True)
        if answer.returncode:
            raise ConfigurationError(f"systemctl {arguments[0]}: {answer.stderr.strip()}")
        done.append(f"systemctl {' '.join(arguments)}")
    return done

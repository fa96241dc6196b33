"""The systemd unit that runs the agent at boot."""

import os
import shutil
import stat
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

from edge_agent.exceptions import ConfigurationError

UNIT = Path("/etc/systemd/system/aviary-agent.service")
STATE_ROOT = Path("/var/lib")
HOMES = (Path("/root"), Path("/home"), Path("/run/user"))
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


def check_reach(paths: list[Path]) -> None:
    """Whether a user that systemd makes may read `paths` under the unit's `ProtectHome`.

    Raises:
        ConfigurationError: one lies below a person's home, or is closed to other users.
    """
    for path in paths:
        whole = path.resolve()
        if any(whole.is_relative_to(folder) for folder in HOMES):
            raise ConfigurationError(
                f"{path}: a service cannot look into {whole.parents[-2]}; install the agent into "
                "/opt and keep its settings in /etc"
            )
        for part in (whole, *whole.parents):
            needed = stat.S_IROTH if part == whole else stat.S_IXOTH
            if not part.stat().st_mode & needed:
                raise ConfigurationError(
                    f"the service's user cannot read {part}: chmod o+rX {part}"
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

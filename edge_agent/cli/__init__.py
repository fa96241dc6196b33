"""The commands of `aviary-agent`."""

import importlib
import logging
import sys
from collections.abc import Callable

from edge_agent.cli.ownership import hand_over
from edge_agent.cli.parser import build_parser
from edge_agent.config import load_config
from edge_agent.control.enrolment import prepare_settings
from edge_agent.exceptions import AgentError

#: Module and function by command. A device runs one for years: the others are not loaded with it.
COMMANDS = {
    "run": ("acting", "run"),
    "enroll": ("acting", "enroll"),
    "install-service": ("acting", "install_service"),
    "factory": ("acting", "factory"),
    "sync": ("acting", "sync"),
    "rollback": ("acting", "ask"),
    "pin": ("acting", "ask"),
    "unpin": ("acting", "ask"),
    "unblock": ("acting", "ask"),
    "status": ("showing", "status"),
    "infer": ("showing", "infer"),
    "bench": ("showing", "bench"),
    "wasm": ("showing", "wasm"),
    "doctor": ("showing", "doctor"),
    "spool": ("records", "spool"),
}


def main(argv: list[str] | None = None) -> int:
    """Runs one command; returns the exit status: 0 done, 1 failed, 2 wrong usage."""
    arguments = build_parser().parse_args(argv)
    is_enrolling = arguments.command == "enroll"
    is_new = is_enrolling and not arguments.config.exists()
    try:
        if is_enrolling:
            config = prepare_settings(
                arguments.config,
                server_url=arguments.server,
                device_id=arguments.device_id,
                home=arguments.home,
            )
        else:
            config = load_config(arguments.config)
        logging.basicConfig(
            level=config.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
        )
        try:
            return find_command(arguments.command)(config, arguments)
        finally:
            hand_over(config.home)
    except AgentError as error:
        if is_new:
            # The enrolment failed; without this the next `enrol` would use the same wrong settings.
            arguments.config.unlink(missing_ok=True)
        print(f"{error.code}: {error}", file=sys.stderr)
        return 1
    except PermissionError as error:
        # The home belongs to the service's user.
        print(f"permission_denied: {error.filename}: run it as the agent's user", file=sys.stderr)
        return 1


def find_command(name: str) -> Callable[..., int]:
    """What carries out the command: takes the settings and the arguments, returns the status."""
    module, function = COMMANDS[name]
    command: Callable[..., int] = getattr(
        importlib.import_module(f"edge_agent.cli.{module}"), function
    )
    return command

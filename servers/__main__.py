"""`python -m servers [--durable] [--with-parent] -- CMD [ARG...]`."""

import argparse
import sys

from servers.kept import end_with_parent
from servers.launcher import run_with_servers
from servers.processes import ServerError


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m servers", description=__doc__)
    parser.add_argument("--durable", action="store_true", help="keep fsync on in PostgreSQL")
    parser.add_argument(
        "--with-parent", action="store_true", help="end when the starting process is gone"
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- CMD")
    arguments = parser.parse_args()
    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if not command:
        parser.error("no command given")
    if arguments.with_parent:
        end_with_parent()
    try:
        return run_with_servers(command, is_durable=arguments.durable)
    except ServerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())

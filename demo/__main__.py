"""`python -m demo [--fresh]` plays and serves; `check` plays and verifies; `serve` only serves."""

import argparse
import fcntl
import shutil
import signal
import sys
import time
import webbrowser
from pathlib import Path
from types import FrameType

from demo.check import verify
from demo.client import Api, ApiError
from demo.narration import Narrator, StoryError
from demo.stack import ADMIN, REPOSITORY, Stack
from demo.story import CHAPTERS, Story
from servers.kept import end_with_parent
from servers.patience import PatienceError
from servers.processes import ServerError

VAR = REPOSITORY / "var"
#: Where each command keeps its data. AVIARY_HOME is `server` below it, so that `manage.py` without
#: any setting works on what `serve` serves.
HOMES = {"play": VAR / "demo", "check": VAR / "demo-check", "serve": VAR}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("command", nargs="?", choices=list(HOMES), default="play")
    parser.add_argument("--fresh", action="store_true", help="forget the last run")
    parser.add_argument(
        "--with-parent", action="store_true", help="end when the starting process is gone"
    )
    parser.add_argument("--open", action="store_true", help="open the browser at the end")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, _end)
    # A shell without job control starts background commands with SIGINT ignored.
    signal.signal(signal.SIGINT, _end)
    if arguments.with_parent:
        end_with_parent()
    is_check = arguments.command == "check"
    home = HOMES[arguments.command]
    VAR.mkdir(exist_ok=True)
    with (VAR / f"{arguments.command}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"A server already runs on {home}; stop it first.", file=sys.stderr)
            return 1
        if arguments.command == "serve":
            return serve(home)
        if arguments.fresh or is_check:
            shutil.rmtree(home, ignore_errors=True)
        return play(home, is_check=is_check, is_opened=arguments.open)


def play(home: Path, *, is_check: bool, is_opened: bool = False) -> int:
    """Play the story below `home`; then verify it, or serve until Ctrl-C. The exit status."""
    narrator = Narrator(CHAPTERS)
    print("Aviary: model registry and fleet control plane for edge AI\n")
    stack = Stack(home)
    story: Story | None = None
    try:
        stack.start()
        narrator.line(f"server at {stack.url}, logs in {stack.logs.relative_to(REPOSITORY)}")
        story = Story(Api(stack.url, stack.token), home / "agents", narrator)
        story.play()
        if is_check:
            return verify(story, stack)
        _print_invitation(stack)
        if is_opened:
            webbrowser.open(stack.url)
        return _wait(stack)
    except (StoryError, ApiError, ServerError, PatienceError, RuntimeError) as error:
        print(
            f"\nThe story stopped: {error}\nLogs: {stack.logs} and {home}/agents", file=sys.stderr
        )
        return 1
    except KeyboardInterrupt:
        print("\nStopping; `make demo` continues here, `make demo FRESH=1` starts over.")
        return 0
    finally:
        if story is not None:
            story.stop()
        stack.stop()


def serve(home: Path) -> int:
    """Serve an empty or earlier used server below `home` until Ctrl-C. The exit status."""
    stack = Stack(home, intervals={})
    try:
        stack.start()
        _print_login(stack)
        print("  Ctrl-C stops the server, its worker and its Valkey.\n", flush=True)
        return _wait(stack)
    except (ServerError, RuntimeError) as error:
        print(f"\nThe server did not start: {error}\nLogs: {stack.logs}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    finally:
        stack.stop()


def _wait(stack: Stack) -> int:
    while not stack.dead_processes():
        time.sleep(1)
    print(f"ended by itself: {', '.join(stack.dead_processes())}", file=sys.stderr)
    return 1


def _print_login(stack: Stack) -> None:
    print(
        f"""
  Open   {stack.url}/admin/
  Login  {ADMIN}   password  {stack.password}
"""
    )


def _print_invitation(stack: Stack) -> None:
    _print_login(stack)
    print(
        f"""\
  Worth a look
    Rollouts   the one that went all the way, and the one that its own gates aborted
    Drift      digits-cnn: line-b beside the baseline, bin by bin
    Alerts     the incident that fires now, with its history
    Models     digits-cnn 1.0.0: FP32 and INT8 side by side
    API        {stack.url}/api/docs/

  Ctrl-C stops everything; `make demo` continues, `make demo FRESH=1` starts over.
""",
        flush=True,
    )


def _end(_signal_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())

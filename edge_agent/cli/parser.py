"""What can be typed behind `aviary-agent`."""

import argparse
from pathlib import Path

from edge_agent.control.enrolment import default_config_path, default_home
from edge_agent.version import __version__


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="aviary-agent", description="Aviary's edge agent.")
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument(
        "--config", type=Path, default=default_config_path(), help="TOML file (%(default)s)"
    )
    commands = parser.add_subparsers(required=True, dest="command", metavar="command")

    def add(name: str, help: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help)
        # Also after the command, where people write it; SUPPRESS keeps the earlier value.
        sub.add_argument("--config", type=Path, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        return sub

    add("run", "keep the best verified model running")
    enroll = add("enroll", "trade a join token for this device's credentials")
    enroll.add_argument("--join-token", default="", help="or AVIARY_JOIN_TOKEN, unseen by others")
    enroll.add_argument("--server", default="", help="writes the settings when there are none yet")
    enroll.add_argument("--device-id", default="", help="default: host name and machine id, hashed")
    enroll.add_argument("--home", default="", help=f"for new settings (default {default_home()})")
    service = add("install-service", "run at boot, by systemd")
    service.add_argument("--print", action="store_true", help="only show the unit")
    factory = add("factory", "releases shipped with the device")
    factory.add_argument("action", choices=("add", "list"))
    factory.add_argument("folder", type=Path, nargs="?", help="manifest, keys and files of one")
    factory.add_argument("--current", action="store_true", help="add what runs now")
    factory.add_argument("--model", default="")
    sync = add("sync", "poll and install once")
    sync.add_argument("--once", action="store_true", help="accepted for clarity; always once")
    status = add("status", "what runs on this device")
    status.add_argument("--json", action="store_true")
    infer = add("infer", "classify the rows of an npz or npy file")
    infer.add_argument("input", type=Path)
    infer.add_argument("--model", default="")
    infer.add_argument("--limit", type=int, default=10)
    bench = add("bench", "compare latency by provider and threads on this device")
    bench.add_argument("--model", default="")
    bench.add_argument("--providers", default="", help="cuda,cpu; empty takes the configured ones")
    bench.add_argument("--threads", default="", help="1,2; empty takes the configured number")
    bench.add_argument("--runs", type=int, default=1000, help="per row (%(default)s)")
    bench.add_argument("--seconds", type=float, default=20.0, help="per row at most (%(default)s)")
    for name, text in (
        ("rollback", "return to the previous release and block the current one"),
        ("pin", "keep the current release whatever the server says"),
        ("unpin", "follow the server again"),
        ("unblock", "forget which releases were blocked"),
    ):
        request = add(name, text)
        request.add_argument("--model", default="")
    wasm = add("wasm", "classify images through a guest module in a sandbox")
    wasm.add_argument("action", choices=("run", "bench"))
    wasm.add_argument("module", type=Path)
    wasm.add_argument("images", type=Path, help="npy of uint8 images [N, height, width, channels]")
    wasm.add_argument("--model", default="")
    wasm.add_argument("--runs", type=int, default=200)
    spool = add("spool", "records waiting for upload, and dead letters")
    actions = ("stat", "flush", "export", "dead-letters", "aside", "requeue", "discard")
    spool.add_argument("action", choices=actions)
    spool.add_argument(
        "ids", type=int, nargs="*", help="of dead letters, as `dead-letters` lists them"
    )
    spool.add_argument("--all", action="store_true", help="every dead letter")
    doctor = add("doctor", "what is wrong with this device")
    doctor.add_argument("--json", action="store_true")
    return parser

"""The agent's TUF client behind the command line that TUF's conformance suite drives."""

import argparse
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path

import urllib3

from edge_agent.exceptions import AgentError, TransferError
from edge_agent.files import DiskFiles
from edge_agent.tuf.updater import TrustUpdater


def fetch_from(base: str) -> object:
    pool = urllib3.PoolManager(retries=False)

    def fetch(name: str, limit: int) -> bytes | None:
        answer = pool.request("GET", base.rstrip("/") + "/" + name, preload_content=False)
        if answer.status in (403, 404):
            return None
        data = answer.read(limit + 1)
        if answer.status != 200 or len(data) > limit:
            raise TransferError(f"{name}: {answer.status}, {len(data)} bytes")
        return data

    return fetch


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--metadata-url")
    parser.add_argument("--metadata-dir", type=Path)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("init").add_argument("root", type=Path)
    commands.add_parser("refresh")
    arguments = parser.parse_args()
    if arguments.command == "init":
        shutil.copyfile(arguments.root, arguments.metadata_dir / "root.json")
        return 0
    try:
        TrustUpdater(DiskFiles(), arguments.metadata_dir).refresh(
            fetch_from(arguments.metadata_url), now=datetime.now(UTC)
        )
    except AgentError as error:
        print(f"{error.code}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

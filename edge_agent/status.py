"""What `status` prints: read from disk alone, so that it works beside a running agent."""

import json
import sqlite3
from pathlib import Path
from typing import Any

from edge_agent.config import Config
from edge_agent.exceptions import StateError
from edge_agent.files import DiskFiles
from edge_agent.inference.providers import list_available
from edge_agent.observation.spool import Spool
from edge_agent.observation.spool_file import is_read_only
from edge_agent.releases.state import Layout
from edge_agent.version import __version__


def describe_state(config: Config) -> dict[str, Any]:
    """Models, spool, providers and trouble of the home in `config`, as JSON values.

    Raises:
        StateError: state.json is damaged; a restarted agent rebuilds it.
    """
    layout, files = Layout(config.home), DiskFiles()
    data = files.read(layout.state)
    try:
        models = json.loads(data)["models"] if data else {}
    except (ValueError, TypeError, KeyError) as error:
        raise StateError(
            f"the state in {layout.home} is damaged ({error}); restart the agent: it rebuilds it"
        ) from error
    try:
        runtime = json.loads(files.read(layout.runtime) or b"{}")
    except ValueError:
        runtime = {}  # it is being written in place: see `Runner.write_runtime`
    rows = {}
    for slug, row in models.items():
        current = row["current"] or {}
        rows[slug] = {
            "version": current.get("version"),
            "variant": current.get("variant"),
            "manifest_sha256": current.get("manifest_sha256"),
            "state": "trial" if row["trial"] else "committed" if row["current"] else "none",
            "previous": row["previous"],
            "trial": row["trial"],
            "tries": row["tries"],
            "blocked": row["blocked"],
            "is_watched": row["is_watched"],
            "is_pinned": row["is_pinned"],
            "counter": row["counter"],
            "latency": runtime.get("latency", {}).get(slug),
        }
    return {
        "device_id": config.device_id,
        "agent_version": __version__,
        "is_enrolled": Path(layout.credentials).exists(),
        "models": rows,
        "spool": read_spool_stat(config, layout),
        "providers": {"available": list_available(), "active": runtime.get("providers", {})},
        "trouble": read_trouble(layout, runtime),
        "drift": runtime.get("drift", {}),
        "incidents": runtime.get("incidents", []),
    }


def read_spool_stat(config: Config, layout: Layout) -> dict[str, int]:
    if not layout.spool.exists():
        return {}
    try:
        spool = Spool(layout.spool, config.spool, is_owner=False)
    except sqlite3.Error:
        return {}  # `read_trouble` says why
    try:
        return spool.stat()
    except sqlite3.Error:
        return {}
    finally:
        spool.close()


def read_trouble(layout: Layout, runtime: dict[str, Any]) -> dict[str, str]:
    """What does not work, by part: as the running agent says, and what shows on the disk."""
    trouble = dict(runtime.get("trouble", {}))
    if layout.home.exists() and is_read_only(layout.home):
        trouble["home"] = f"read_only: {layout.home} takes no writes; what runs goes on running"
    return trouble

"""The commands for records on their way to the control plane."""

import argparse
import json

from edge_agent.config import Config
from edge_agent.exceptions import AgentError
from edge_agent.releases.state import HomeLock, Layout


def spool(config: Config, arguments: argparse.Namespace) -> int:
    from edge_agent.agent import Agent
    from edge_agent.observation.spool import Spool

    layout = Layout(config.home)
    if arguments.action == "flush":
        with HomeLock(layout.lock):
            agent = Agent(config)
            try:
                print(json.dumps({"accepted": agent.uploader.upload_records(max_batches=10_000)}))
            finally:
                agent.close()
        return 0
    spool = Spool(layout.spool, config.spool, is_owner=False)
    try:
        match arguments.action:
            case "stat":
                print(json.dumps(spool.stat()))
            case "export":
                for row in spool.export():
                    print(json.dumps(row))
            case "dead-letters" | "aside":  # "aside" is the name of older agents
                for row in spool.dead_letters.rows():
                    print(json.dumps(row))
            case action:
                if arguments.all == bool(arguments.ids):
                    raise AgentError(f"spool {action} takes the ids of dead letters, or --all")
                act = (
                    spool.dead_letters.requeue
                    if action == "requeue"
                    else spool.dead_letters.discard
                )
                done = act(None if arguments.all else arguments.ids)
                print(json.dumps({"requeued" if action == "requeue" else "discarded": done}))
                return 0 if done or arguments.all else 1
    finally:
        spool.close()
    return 0

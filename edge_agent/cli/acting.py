"""The commands that change what a device holds and runs."""

import argparse
import dataclasses
import gc
import json
import uuid

from edge_agent.cli.choice import pick_model
from edge_agent.cli.ownership import hand_over
from edge_agent.config import Config
from edge_agent.exceptions import AgentError, LockedError, NotEnrolledError
from edge_agent.releases.state import HomeLock, Layout


def run(config: Config, arguments: argparse.Namespace) -> int:
    # The parser is a web of references: its memory is used again by what is imported now.
    gc.collect()
    from edge_agent.agent import Agent
    from edge_agent.run import run_forever

    with HomeLock(Layout(config.home).lock):
        agent = Agent(config)
        try:
            run_forever(agent)
        finally:
            agent.close()
    return 0


def enroll(config: Config, arguments: argparse.Namespace) -> int:
    from edge_agent.agent import Agent

    if arguments.join_token:
        config = dataclasses.replace(config, join_token=arguments.join_token, join_token_file="")
    with HomeLock(Layout(config.home).lock):
        agent = Agent(config)
        try:
            status = agent.enroll()
        finally:
            agent.close()
    row = {"device_id": config.device_id, "status": status, "config": str(arguments.config)}
    print(json.dumps(row))
    return 0


def install_service(config: Config, arguments: argparse.Namespace) -> int:
    from edge_agent.cli.service import check_reach, install_unit, own_program, render_unit

    program, config_path = own_program(), arguments.config.resolve()
    text = render_unit(program=program, config_path=config_path, home=config.home)
    if arguments.print:
        print(text)
        return 0
    check_reach([program, config_path])
    if not Layout(config.home).credentials.exists() and not config.read_join_token():
        raise NotEnrolledError("enrol first: aviary-agent enroll --join-token TOKEN")
    print("\n".join(install_unit(text)))
    return 0


def factory(config: Config, arguments: argparse.Namespace) -> int:
    from edge_agent.files import DiskFiles, make_dirs
    from edge_agent.releases.factory import add_current, add_folder, find_releases, read_keys

    files, layout = DiskFiles(), Layout(config.home)
    if arguments.action == "add":
        if arguments.current == bool(arguments.folder):
            raise AgentError("factory add takes a folder, or --current")
        with HomeLock(layout.lock):
            for folder in layout.folders():
                make_dirs(files, folder)
            if arguments.current:
                add_current(files, layout, pick_model(config, arguments.model))
            else:
                add_folder(files, layout, arguments.folder)
    for slug, (manifest, _) in find_releases(files, layout, read_keys(files, layout)).items():
        row = {"model": slug, "version": manifest.version, "variant": manifest.variant}
        print(json.dumps({**row, "manifest_sha256": manifest.digest}))
    return 0


def sync(config: Config, arguments: argparse.Namespace) -> int:
    from edge_agent.agent import Agent, require_enrolled
    from edge_agent.status import describe_state

    with HomeLock(Layout(config.home).lock):
        agent = Agent(config)
        try:
            require_enrolled(agent)
            agent.installer.boot()
            changed = agent.sync()
            agent.uploader.upload_records()
        finally:
            agent.close()
    models = describe_state(config)["models"]
    print(json.dumps({"changed": sorted(changed), "models": models}, indent=1))
    return 0


def ask(config: Config, arguments: argparse.Namespace) -> int:
    """Acts at once, or through the running agent when there is one."""
    from edge_agent.agent import Agent
    from edge_agent.requests import apply_request

    layout = Layout(config.home)
    model = pick_model(config, arguments.model)
    request = {"action": arguments.command, "model": model}
    try:
        with HomeLock(layout.lock):
            agent = Agent(config)
            try:
                is_done = apply_request(agent, request)
            finally:
                agent.close()
    except LockedError:
        path = layout.requests / f"{uuid.uuid4().hex}.json"
        path.with_suffix(".tmp").write_text(json.dumps(request))
        hand_over(config.home)
        path.with_suffix(".tmp").rename(path)
        print(json.dumps({**request, "result": "asked the running agent"}))
        return 0
    print(json.dumps({**request, "result": "done" if is_done else "nothing to do"}))
    return 0 if is_done else 1

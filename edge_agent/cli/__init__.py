"""The commands of `aviary-agent`."""

import argparse
import dataclasses
import json
import logging
import sys
import time
import uuid
from pathlib import Path
from typing import Any

from edge_agent import __version__
from edge_agent.cli.ownership import hand_over
from edge_agent.config import Config, load_config
from edge_agent.control.enrolment import default_config_path, default_home, prepare_settings
from edge_agent.exceptions import (
    AgentError,
    ConfigurationError,
    InputError,
    LockedError,
    NoModelError,
    NotEnrolledError,
)
from edge_agent.releases.state import HomeLock, Layout


def main(argv: list[str] | None = None) -> int:
    """Runs one command; returns the exit status: 0 done, 1 failed, 2 wrong usage."""
    arguments = build_parser().parse_args(argv)
    is_new = arguments.command is command_enroll and not arguments.config.exists()
    try:
        if arguments.command is command_enroll:
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
            return int(arguments.command(config, arguments) or 0)
        finally:
            hand_over(config.home)
    except AgentError as error:
        if is_new:
            # Settings that did not lead to a credential would bind the next try to their words.
            arguments.config.unlink(missing_ok=True)
        print(f"{error.code}: {error}", file=sys.stderr)
        return 1
    except PermissionError as error:
        # The home belongs to the service's user.
        print(f"permission_denied: {error.filename}: run it as the agent's user", file=sys.stderr)
        return 1


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="aviary-agent", description="Aviary's edge agent.")
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument(
        "--config", type=Path, default=default_config_path(), help="TOML file (%(default)s)"
    )
    commands = parser.add_subparsers(required=True, metavar="command")

    def add(name: str, command: Any, help: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help)
        # Also after the command, where people write it; SUPPRESS keeps the earlier value.
        sub.add_argument("--config", type=Path, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        sub.set_defaults(command=command)
        return sub

    add("run", command_run, "keep the best verified model running")
    enroll = add("enroll", command_enroll, "trade a join token for this device's credentials")
    enroll.add_argument("--join-token", default="", help="or AVIARY_JOIN_TOKEN, unseen by others")
    enroll.add_argument("--server", default="", help="writes the settings when there are none yet")
    enroll.add_argument("--device-id", default="", help="default: host name and machine id, hashed")
    enroll.add_argument("--home", default="", help=f"for new settings (default {default_home()})")
    service = add("install-service", command_service, "run at boot, by systemd")
    service.add_argument("--print", action="store_true", help="only show the unit")
    factory = add("factory", command_factory, "releases shipped with the device")
    factory.add_argument("action", choices=("add", "list"))
    factory.add_argument("folder", type=Path, nargs="?", help="manifest, keys and files of one")
    factory.add_argument("--current", action="store_true", help="add what runs now")
    factory.add_argument("--model", default="")
    sync = add("sync", command_sync, "poll and install once")
    sync.add_argument("--once", action="store_true", help="accepted for clarity; always once")
    status = add("status", command_status, "what runs on this device")
    status.add_argument("--json", action="store_true")
    infer = add("infer", command_infer, "classify the rows of an npz or npy file")
    infer.add_argument("input", type=Path)
    infer.add_argument("--model", default="")
    infer.add_argument("--limit", type=int, default=10)
    bench = add("bench", command_bench, "compare latency by provider and threads on this device")
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
        request = add(name, command_request, text)
        request.add_argument("--model", default="")
        request.set_defaults(action=name)
    wasm = add("wasm", command_wasm, "classify images through a guest module in a sandbox")
    wasm.add_argument("action", choices=("run", "bench"))
    wasm.add_argument("module", type=Path)
    wasm.add_argument("images", type=Path, help="npy of uint8 images [N, height, width, channels]")
    wasm.add_argument("--model", default="")
    wasm.add_argument("--runs", type=int, default=200)
    spool = add("spool", command_spool, "records waiting for upload, and those set aside")
    spool.add_argument("action", choices=("stat", "flush", "export", "aside", "requeue", "discard"))
    spool.add_argument("ids", type=int, nargs="*", help="of records set aside, as `aside` says")
    spool.add_argument("--all", action="store_true", help="every record set aside")
    doctor = add("doctor", command_doctor, "what is wrong with this device")
    doctor.add_argument("--json", action="store_true")
    return parser


def command_run(config: Config, arguments: argparse.Namespace) -> int:
    from edge_agent.agent import Agent
    from edge_agent.run import run_forever

    with HomeLock(Layout(config.home).lock):
        agent = Agent(config)
        try:
            run_forever(agent)
        finally:
            agent.close()
    return 0


def command_enroll(config: Config, arguments: argparse.Namespace) -> int:
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


def command_service(config: Config, arguments: argparse.Namespace) -> int:
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


def command_factory(config: Config, arguments: argparse.Namespace) -> int:
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
                add_current(files, layout, _pick_model(config, arguments.model))
            else:
                add_folder(files, layout, arguments.folder)
    for slug, (manifest, _) in find_releases(files, layout, read_keys(files, layout)).items():
        row = {"model": slug, "version": manifest.version, "variant": manifest.variant}
        print(json.dumps({**row, "manifest_sha256": manifest.digest}))
    return 0


def command_sync(config: Config, arguments: argparse.Namespace) -> int:
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


def command_status(config: Config, arguments: argparse.Namespace) -> int:
    from edge_agent.status import describe_state

    status = describe_state(config)
    if arguments.json:
        print(json.dumps(status, indent=1))
        return 0
    print(f"{status['device_id']}  agent {status['agent_version']}")
    for slug, row in status["models"].items():
        print(f"  {slug}: {row['version'] or '-'} {row['variant'] or ''} [{row['state']}]")
        for digest, reason in row["blocked"].items():
            print(f"    blocked {digest[:12]}: {reason}")
        providers = status["providers"]["active"].get(slug)
        if providers:
            print(f"    {providers.get('refusal') or 'runs on ' + '+'.join(providers['active'])}")
            for fallback in providers["fallbacks"]:
                print("    {provider}: {kind}: {detail}".format(**fallback))
    for row in status["incidents"]:
        subject = f" of {row['model']}" if row.get("model") else ""
        print(
            f"  fires: {row['metric']}{subject} at {row['value']:.4g}, threshold "
            f"{row['threshold']:.4g}, for {row['for_s']:.0f} s"
        )
    print(f"  spool: {status['spool']}")
    for name, reason in status["trouble"].items():
        print(f"  trouble: {name}: {reason}")
    return 0


def command_infer(config: Config, arguments: argparse.Namespace) -> int:
    from edge_agent.cli.rows import read_rows

    rows = read_rows(arguments.input)
    session = _open_session(config, arguments.model)
    for index in range(min(len(rows), arguments.limit)):
        row_inputs = rows[index : index + 1]
        session.check_inputs(row_inputs)
        result = session.infer(row_inputs)
        top = [
            {"class_id": i, "label": label, "confidence": round(p, 6)}
            for i, label, p in result.top_k
        ]
        row = {"index": index, "top_k": top, "latency_ms": round(result.latency_ms, 4)}
        print(json.dumps({**row, "error": result.error} if result.error else row))
    return 0


def command_bench(config: Config, arguments: argparse.Namespace) -> int:
    from edge_agent.agent import Agent
    from edge_agent.config.provider_options import OPTIONS
    from edge_agent.inference.bench import MAX_RUNS, compare_providers, format_table

    providers = (
        arguments.providers.split(",") if arguments.providers else config.inference.providers
    )
    threads = (arguments.threads or str(config.inference.intra_op_threads)).split(",")
    if not set(providers) <= set(OPTIONS):
        raise ConfigurationError(f"--providers: expected some of {sorted(OPTIONS)}")
    if not all(count.isdigit() and 0 < int(count) <= 256 for count in threads):
        raise ConfigurationError("--threads: expected numbers from 1 to 256")
    if not 0 < arguments.runs <= MAX_RUNS or not 0 < arguments.seconds <= 3600:
        raise ConfigurationError(f"expected --runs up to {MAX_RUNS} and --seconds up to 3600")
    model = _pick_model(config, arguments.model)
    agent = Agent(config)
    try:
        rows = compare_providers(
            lambda inference: agent.open_session(model, inference),
            config.inference,
            providers=providers,
            threads=[int(count) for count in threads],
            runs=arguments.runs,
            seconds=arguments.seconds,
        )
    finally:
        agent.close()
    print(format_table(rows))
    print(json.dumps(rows))
    return 1 if any("error" in row for row in rows) else 0


def command_wasm(config: Config, arguments: argparse.Namespace) -> int:
    import numpy as np

    from edge_agent.cli.rows import read_rows
    from edge_agent.inference.bench import describe_latencies
    from edge_agent.sandbox.compiled import CompiledCache
    from edge_agent.sandbox.processor import describe_model
    from edge_agent.sandbox.sandbox import Sandbox

    session = _open_session(config, arguments.model)
    images = read_rows(arguments.images)
    cache = CompiledCache(Layout(config.home).optimised)
    try:
        module = arguments.module.read_bytes()
    except OSError as error:
        raise InputError(f"{arguments.module}: {error.strerror}") from error
    sandbox = Sandbox(module, session.session, config.sandbox, cache=cache)
    try:
        sandbox.prepare(describe_model(session), top_k=config.inference.top_k)
        if arguments.action == "run":
            for image in images:
                hits = sandbox.classify(image)
                print(json.dumps([{"class_id": i, "confidence": round(p, 6)} for i, p in hits]))
            return 0
        times = np.empty(arguments.runs)
        for index in range(arguments.runs):
            started = time.perf_counter_ns()
            sandbox.classify(images[index % len(images)])
            times[index] = time.perf_counter_ns() - started
        print(json.dumps({"runs": arguments.runs, "classify_us": describe_latencies(times)}))
    finally:
        sandbox.close()
    return 0


def command_request(config: Config, arguments: argparse.Namespace) -> int:
    """Acts at once, or through the running agent when there is one."""
    from edge_agent.agent import Agent
    from edge_agent.run import apply_request

    layout = Layout(config.home)
    model = _pick_model(config, arguments.model)
    request = {"action": arguments.action, "model": model}
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


def command_spool(config: Config, arguments: argparse.Namespace) -> int:
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
    spool = Spool(layout.spool, config.spool)
    try:
        match arguments.action:
            case "stat":
                print(json.dumps(spool.stat()))
            case "export":
                for row in spool.export():
                    print(json.dumps(row))
            case "aside":
                for row in spool.aside.rows():
                    print(json.dumps(row))
            case action:
                if arguments.all == bool(arguments.ids):
                    raise AgentError(f"spool {action} takes the ids of records set aside, or --all")
                act = spool.aside.requeue if action == "requeue" else spool.aside.discard
                done = act(None if arguments.all else arguments.ids)
                print(json.dumps({"requeued" if action == "requeue" else "discarded": done}))
                return 0 if done or arguments.all else 1
    finally:
        spool.close()
    return 0


def command_doctor(config: Config, arguments: argparse.Namespace) -> int:
    from edge_agent.cli.doctor import examine_device

    checks = examine_device(config)
    if arguments.json:
        print(json.dumps([vars(check) for check in checks], indent=1))
    else:
        for check in checks:
            print(f"{'ok  ' if check.is_ok else 'FAIL'} {check.name}: {check.detail}")
            if check.advice and not check.is_ok:
                print(f"       {check.advice}")
    return 0 if all(check.is_ok for check in checks) else 1


def _pick_model(config: Config, wanted: str) -> str:
    from edge_agent.status import describe_state

    if wanted:
        return wanted
    models = sorted(describe_state(config)["models"])
    if not models:
        raise NoModelError("no model is installed: aviary-agent sync --once asks for one")
    if len(models) > 1:
        raise AgentError(f"name one of the models with --model: {models}")
    return models[0]


def _open_session(config: Config, wanted: str) -> Any:
    from edge_agent.agent import Agent

    model = _pick_model(config, wanted)
    agent = Agent(config)
    try:
        return agent.open_session(model)
    finally:
        agent.close()

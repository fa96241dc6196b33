"""The commands that show what a device holds, or ask its models."""

import argparse
import json
import time
from typing import Any

from edge_agent.cli.choice import open_session, pick_model
from edge_agent.config import Config
from edge_agent.exceptions import ConfigurationError, InputError
from edge_agent.releases.state import Layout


def status(config: Config, arguments: argparse.Namespace) -> int:
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


def infer(config: Config, arguments: argparse.Namespace) -> int:
    from edge_agent.inference.table import read_table

    rows = read_table(arguments.input)
    session = open_session(config, arguments.model)
    for index in range(min(len(rows), arguments.limit)):
        row_inputs = session.arrange(rows.take(index))
        session.check_inputs(row_inputs)
        result = session.infer(row_inputs)
        top = [
            {"class_id": i, "label": label, "confidence": round(p, 6)}
            for i, label, p in result.top_k
        ]
        row: dict[str, Any] = {"index": index, "latency_ms": round(result.latency_ms, 4)}
        if session.has_classes:
            row["top_k"] = top
        if result.measures:
            row["measures"] = {name: round(n, 6) for name, n in result.measures.items()}
        if result.boxes:
            row["boxes"] = [
                {"class_id": box.class_id, "label": box.label, "score": round(box.score, 6),
                 "corners": [round(number, 4) for number in box.corners]}
                for box in result.boxes
            ]  # fmt: skip
        print(json.dumps({**row, "error": result.error} if result.error else row))
    return 0


def bench(config: Config, arguments: argparse.Namespace) -> int:
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
    model = pick_model(config, arguments.model)
    agent = Agent(config, is_owner=False)
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


def wasm(config: Config, arguments: argparse.Namespace) -> int:
    import numpy as np

    from edge_agent.inference.bench import describe_latencies
    from edge_agent.inference.table import read_table
    from edge_agent.sandbox.compiled import CompiledCache
    from edge_agent.sandbox.processor import describe_model
    from edge_agent.sandbox.sandbox import Sandbox

    session = open_session(config, arguments.model)
    images = read_table(arguments.images).first
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


def doctor(config: Config, arguments: argparse.Namespace) -> int:
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

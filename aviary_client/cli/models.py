"""Models and their versions: push, wait, decide, download, compare."""

from __future__ import annotations

import argparse
from pathlib import Path

from aviary_client.cli.arguments import Parsers, add_wait, find_files, read_json
from aviary_client.cli.output import Output
from aviary_client.cli.session import connect
from aviary_client.client import Client
from aviary_client.errors import ApiError

VERSION_COLUMNS = ("version", "state", "created_at", "tags", "notes")
_DECISIONS = {
    "approve": ("approved", "let it be deployed"),
    "deprecate": ("deprecated", "tell that it is to be moved away from"),
    "yank": ("yanked", "withdraw it from all devices; needs --reason"),
}


def add_commands(commands: Parsers) -> None:
    """Everything about models."""
    parser = commands.add_parser("models", help="list models")
    parser.set_defaults(act=list_models)
    parser = commands.add_parser("versions", help="list the versions of a model")
    parser.add_argument("model")
    parser.add_argument("--state")
    parser.set_defaults(act=list_versions)
    parser = commands.add_parser(
        "push", help="upload a version",
        description="Uploads files, or the files of folders, as a version. What was interrupted "
        "goes on where it stopped; bytes that the server has are not sent.",
    )  # fmt: skip
    parser.add_argument("model")
    parser.add_argument("version")
    parser.add_argument("paths", nargs="+", metavar="FILE_OR_FOLDER")
    parser.add_argument("--create", action="store_true", help="make the model if there is none")
    parser.add_argument("--task", default="classification", help="of a model that is made")
    parser.add_argument("--labels", default="", help="of a model that is made: a,b,c")
    parser.add_argument("--notes", default="")
    parser.add_argument("--tag", action="append", default=[], dest="tags")
    parser.add_argument("--metadata", metavar="FILE", help="JSON, as docs/registry.md says")
    parser.add_argument("--dataset", help="name of an evaluation set")
    parser.add_argument("--wait", action="store_true", help="until it is validated")
    add_wait(parser, timeout_seconds=3600.0, interval=1.0)
    parser.set_defaults(act=push)
    parser = commands.add_parser("wait", help="wait until a version is validated")
    parser.add_argument("model")
    parser.add_argument("version")
    add_wait(parser, timeout_seconds=3600.0, interval=1.0)
    parser.set_defaults(act=wait)
    for name, (to, words) in _DECISIONS.items():
        parser = commands.add_parser(name, help=f"{name} a version: {words}")
        parser.add_argument("model")
        parser.add_argument("version")
        parser.add_argument("--reason", default="")
        parser.set_defaults(act=decide, to=to)
    parser = commands.add_parser("alias", help="move an alias to a version")
    parser.add_argument("model")
    parser.add_argument("alias")
    parser.add_argument("version")
    parser.add_argument("--reason", default="")
    parser.set_defaults(act=move_alias)
    parser = commands.add_parser("dataset", help="add a data set (npz)")
    parser.add_argument("model")
    parser.add_argument("name")
    parser.add_argument("path", metavar="FILE")
    parser.add_argument("--kind", default="evaluation", choices=["evaluation", "calibration"])
    parser.set_defaults(act=add_dataset)
    parser = commands.add_parser("download", help="download the files of a version, verified")
    parser.add_argument("model")
    parser.add_argument("version")
    parser.add_argument("--variant", default="fp32")
    parser.add_argument("--to", default=".", metavar="FOLDER")
    parser.set_defaults(act=download)
    parser = commands.add_parser("compare", help="put versions side by side")
    parser.add_argument("model")
    parser.add_argument("versions", nargs="+", metavar="version")
    parser.set_defaults(act=compare)


def list_models(options: argparse.Namespace, output: Output) -> None:
    output.table(connect(options).models(), ("slug", "title", "task", "created_at"))


def list_versions(options: argparse.Namespace, output: Output) -> None:
    rows = connect(options).versions(options.model, state=options.state)
    output.table(rows, VERSION_COLUMNS)


def push(options: argparse.Namespace, output: Output) -> None:
    metadata = read_json(options.metadata, dict, "metadata") or {}
    if options.notes:
        metadata["notes"] = options.notes
    if options.tags:
        metadata["tags"] = options.tags
    files = find_files(options.paths)
    client = connect(options)
    if options.create:
        _ensure_model(client, options, output)
    dataset = client.dataset(options.model, options.dataset)["id"] if options.dataset else None
    made = client.push(
        options.model,
        options.version,
        files,
        metadata=metadata,
        dataset=dataset,
        progress=output.progress("Sent"),
    )
    if options.wait:
        output.note(f"{options.model} {options.version} is {made['state']}")
        made = client.wait_version(
            options.model,
            options.version,
            timeout_seconds=options.timeout,
            interval_seconds=options.interval,
        )
    output.show(made, lambda row: f"{row['model']} {row['version']} is {row['state']}")


def wait(options: argparse.Namespace, output: Output) -> None:
    found = connect(options).wait_version(
        options.model,
        options.version,
        timeout_seconds=options.timeout,
        interval_seconds=options.interval,
    )
    output.show(found, lambda row: f"{row['model']} {row['version']} is {row['state']}")


def decide(options: argparse.Namespace, output: Output) -> None:
    moved = connect(options).move_version(
        options.model, options.version, options.to, options.reason
    )
    output.show(moved, lambda row: f"{row['model']} {row['version']} is {row['state']}")


def move_alias(options: argparse.Namespace, output: Output) -> None:
    moved = connect(options).move_alias(
        options.model, options.alias, options.version, options.reason
    )
    output.show(moved, lambda row: f"{row['name']} names {options.model} {row['version']}")


def add_dataset(options: argparse.Namespace, output: Output) -> None:
    made = connect(options).add_dataset(
        options.model, options.name, Path(options.path), options.kind
    )
    output.show(made, lambda row: f"{row['name']}: {row['rows']} rows")


def download(options: argparse.Namespace, output: Output) -> None:
    found = connect(options).download(
        options.model,
        options.version,
        Path(options.to),
        variant=options.variant,
        progress=output.progress("Received"),
    )
    output.show([str(path) for path in found], "\n".join)


def compare(options: argparse.Namespace, output: Output) -> None:
    rows = connect(options).compare(options.model, options.versions)
    output.table(rows, ("version", "variant", "state", "size_bytes", "accuracy", "latency_ms"))


def _ensure_model(client: Client, options: argparse.Namespace, output: Output) -> None:
    labels = [label.strip() for label in options.labels.split(",") if label.strip()]
    try:
        client.create_model(options.model, task=options.task, labels=labels)
    except ApiError as error:
        if error.status != 409:
            raise
    else:
        output.note(f"Made the model {options.model}")

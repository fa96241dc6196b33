"""Imports a model file from disk as a new version."""

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from registry.exceptions import AviaryError
from registry.models import DataSet, DataSetKind, Model, Task, VersionState
from registry.services.datasets import register_dataset
from registry.services.models import create_model
from registry.services.versions import transition_version, upload_version, validate_version


class Command(BaseCommand):
    """`manage.py import_model SLUG VERSION FILE... [--dataset NPZ] [--approve]`."""

    help = "Import files as a new version, validate it, and optionally approve it."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slug")
        parser.add_argument("version")
        parser.add_argument("files", nargs="+", type=Path)
        parser.add_argument("--sha256", help="What a lone file must hash to.")
        parser.add_argument("--title", default="")
        parser.add_argument("--task", choices=Task.values, default=Task.CLASSIFICATION)
        parser.add_argument("--labels", default="", help="Comma-separated, for a new model.")
        parser.add_argument("--dataset", type=Path, help="npz to register as evaluation set.")
        parser.add_argument("--metadata", default="{}", help="JSON object; see the API.")
        parser.add_argument("--approve", action="store_true")
        parser.add_argument("--actor", default="import_model")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            self._import(options)
        except AviaryError as error:
            raise CommandError(f"{error.code}: {error.message}") from error
        except OSError as error:
            raise CommandError(str(error)) from error
        except json.JSONDecodeError as error:
            raise CommandError(f"--metadata is not JSON: {error}") from error

    def _import(self, options: dict[str, Any]) -> None:
        slug, actor = options["slug"], options["actor"]
        paths: list[Path] = options["files"]
        if options["sha256"] and len(paths) != 1:
            raise CommandError("--sha256 goes with a lone file")
        metadata = json.loads(options["metadata"])
        if not Model.objects.filter(slug=slug).exists():
            create_model(
                slug=slug,
                title=options["title"],
                task=options["task"],
                labels=[label for label in options["labels"].split(",") if label],
                actor=actor,
            )
        with ExitStack() as stack:
            files = [
                (
                    "model.onnx" if len(paths) == 1 else path.name,
                    stack.enter_context(path.open("rb")),
                    options["sha256"],
                )
                for path in paths
            ]
            version = upload_version(
                model_slug=slug,
                version=options["version"],
                files=files,
                dataset=self._find_dataset(slug, options["dataset"], actor),
                metadata=metadata,
                actor=actor,
            )
        version = validate_version(version_id=version.pk)
        if version.state == VersionState.REJECTED:
            raise CommandError(f"{version} was rejected: {version.rejection_reason}")
        if version.state == VersionState.UNCLEAR:
            raise CommandError(f"{version}: {version.question}")
        if options["approve"]:
            version = transition_version(
                version_id=version.pk,
                to=VersionState.APPROVED,
                actor=actor,
                reason="Approved at import",
            )
        variant = version.variants.get()
        self.stdout.write(f"{version} is {version.state}; manifest {variant.manifest_sha256}")

    def _find_dataset(self, slug: str, path: Path | None, actor: str) -> DataSet | None:
        if path is None:
            return None
        with path.open("rb") as stream:
            return register_dataset(
                model_slug=slug,
                name=path.stem,
                kind=DataSetKind.EVALUATION,
                stream=stream,
                actor=actor,
            )

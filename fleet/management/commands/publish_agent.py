"""Publishes a wheel of the edge agent, for devices to install from this server."""

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from fleet.services.agent_wheels import publish_agent_wheel
from registry.exceptions import AviaryError


class Command(BaseCommand):
    """`manage.py publish_agent WHEEL`; publishing the newest one again changes nothing."""

    help = "Store a wheel of the edge agent and offer it to devices."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("wheel", type=Path, help="As built by `make agent-wheel`.")

    def handle(self, *args: Any, **options: Any) -> None:
        path: Path = options["wheel"]
        try:
            with path.open("rb") as stream:
                wheel, is_new = publish_agent_wheel(
                    filename=path.name, stream=stream, actor="system"
                )
        except (OSError, AviaryError) as error:
            raise CommandError(str(error)) from error
        word = "Published" if is_new else "Already the newest:"
        self.stdout.write(f"{word} {wheel.filename} sha256={wheel.blob_id}")

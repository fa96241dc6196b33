"""Signs the end of the audit chain into the object store."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.utils import timezone

from registry.services.audit_anchors import anchor_chain


class Command(BaseCommand):
    """`manage.py anchor_audit`; beat does the same on its schedule."""

    help = "Sign the end of the audit chain into the object store."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--restored",
            default="",
            metavar="REASON",
            help="once after a backup was restored: later ends are lost, and why",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        name = anchor_chain(now=timezone.now(), restored=options["restored"])
        self.stdout.write(name or "The last anchor says the same already")

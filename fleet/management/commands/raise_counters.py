"""Makes devices listen again after the database was restored from a backup."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from fleet.services.recovery import JUMP, count_ahead, raise_counters
from registry.exceptions import AviaryError


class Command(BaseCommand):
    """Raises every model's counter past what devices can have acted on."""

    help = (
        "After a restore from a backup: devices refuse assignments that are older than the last "
        "one they acted on (counter_replayed). This raises the counters past those; running it "
        "again is harmless."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--by", type=int, default=JUMP, help=f"default {JUMP}")
        parser.add_argument("--actor", default="command line")
        parser.add_argument("--reason", default="the database was restored")

    def handle(self, *args: Any, **options: Any) -> None:
        ahead = count_ahead()
        try:
            raised = raise_counters(
                actor=options["actor"], reason=options["reason"], by=options["by"]
            )
        except AviaryError as error:
            raise CommandError(error.message) from error
        for slug, value in raised.items():
            self.stdout.write(f"{slug}: {value}")
        self.stdout.write(
            f"{len(raised)} counters raised; {ahead} devices had reported counter_replayed. "
            "Each is offered its release again with its next poll."
        )

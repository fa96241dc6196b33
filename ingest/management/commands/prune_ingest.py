"""`manage.py prune_ingest --days 90`: removes old batches, windows and judgements."""

from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from ingest.services.retention import prune_before

LEAST_DAYS = 8


class Command(BaseCommand):
    """Removes what is older than a number of days."""

    help = "Remove counted batches, windows and judgements that are older than --days."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--days", type=int, default=90)
        parser.add_argument("--dry-run", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["days"] < LEAST_DAYS:
            raise CommandError(f"At least {LEAST_DAYS} days: records may arrive a week late.")
        moment = timezone.now() - timedelta(days=options["days"])
        removed = prune_before(moment=moment, is_dry_run=options["dry_run"])
        verb = "would go" if options["dry_run"] else "removed"
        for table, rows in removed.items():
            self.stdout.write(f"{table}: {rows} rows {verb}")

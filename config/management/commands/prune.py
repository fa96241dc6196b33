"""`manage.py prune [--table NAME] [--days N] [--dry-run]`: removes rows that are old enough."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from config.retention.pruning import prune_tables
from config.retention.tables import LEAST_DAYS, TABLES, find_table


class Command(BaseCommand):
    """What the task of the same name does, now and to the end."""

    help = "Remove rows that are older than AVIARY_KEEP_<TABLE>_DAYS says, or than --days."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--table", help="only this one; the page Storage names them")
        parser.add_argument("--days", type=int, help="in place of the setting; needs --table")
        parser.add_argument("--dry-run", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        name, days = options["table"], options["days"]
        table = find_table(name) if name else None
        if name and table is None:
            known = ", ".join(item.name for item in TABLES)
            raise CommandError(f"There is no table {name!r}; there are {known}.")
        if days is not None:
            if table is None:
                raise CommandError("--days needs --table: each has its own.")
            if days < LEAST_DAYS.get(name, 1):
                raise CommandError(f"At least {LEAST_DAYS.get(name, 1)} days of {name} are kept.")
        chosen = [table] if table else list(TABLES)
        now = timezone.now()
        if options["dry_run"]:
            found = {item.name: item.stale(now, days).count() for item in chosen}
        else:
            found = prune_tables(now=now, tables=chosen, days=days)
        verb = "would go" if options["dry_run"] else "removed"
        for key, rows in found.items():
            self.stdout.write(f"{key}: {rows} rows {verb}")

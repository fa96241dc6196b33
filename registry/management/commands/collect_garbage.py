"""Removes blobs that nothing refers to."""

from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.utils import timezone

from registry.services.garbage import GRACE, find_garbage, sweep_garbage


class Command(BaseCommand):
    """`manage.py collect_garbage [--dry-run] [--grace-hours N]`."""

    help = "Remove blobs that nothing refers to and that were uploaded before the grace period."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="Only say what would go.")
        parser.add_argument(
            "--grace-hours", type=float, default=GRACE.total_seconds() / 3600, help="Default 24."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        grace = timedelta(hours=options["grace_hours"])
        now = timezone.now()
        if options["dry_run"]:
            found = list(find_garbage(now=now, grace=grace))
        else:
            found = sweep_garbage(now=now, grace=grace)
        total = sum(blob.size_bytes for blob in found)
        for blob in found:
            self.stdout.write(f"{blob.sha256} {blob.size_bytes}")
        verb = "Would remove" if options["dry_run"] else "Removed"
        self.stdout.write(f"{verb} {len(found)} blob(s), {total} bytes")

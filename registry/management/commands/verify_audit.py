"""Walks the audit chain, and holds it against its anchors outside the database."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from registry.exceptions import AuditChainError
from registry.services.audit import verify_chain
from registry.services.audit_anchors import expected_ends, read_anchors, restorations


class Command(BaseCommand):
    """`manage.py verify_audit`; exits with 1 when the chain is broken."""

    help = "Check that no audit event was changed, removed or put in between, nor all rewritten."

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            anchors = read_anchors()
            count = verify_chain(expected_ends(anchors))
        except AuditChainError as error:
            raise CommandError(error.message) from error
        self.stdout.write(f"The audit chain is whole: {count} events, {len(anchors)} anchors")
        for line in restorations(anchors):
            self.stdout.write(line)
        if not anchors:
            self.stdout.write("Nothing outside the database stands for it yet: anchor_audit")

"""Walks the audit chain."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from registry.exceptions import AuditChainError
from registry.services.audit import verify_chain


class Command(BaseCommand):
    """`manage.py verify_audit`; exits with 1 when the chain is broken."""

    help = "Check that no audit event was changed, removed or put in between."

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            count = verify_chain()
        except AuditChainError as error:
            raise CommandError(error.message) from error
        self.stdout.write(f"The audit chain is whole: {count} events")

"""For somebody who has lost the telephone and the recovery codes."""

from typing import Any

from allauth.mfa.models import Authenticator
from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from registry.services.audit import record_event


class Command(BaseCommand):
    """`manage.py reset_second_factor USER`: the next sign-in asks for the password alone."""

    help = "Remove a person's authenticator and recovery codes."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username")

    @transaction.atomic
    def handle(self, *args: Any, **options: Any) -> None:
        user = User.objects.filter(username=options["username"]).first()
        if user is None:
            raise CommandError(f"There is no user {options['username']!r}.")
        count, _ = Authenticator.objects.filter(user=user).delete()
        if not count:
            raise CommandError(f"{user.get_username()} has no second factor.")
        record_event(
            actor="system",
            action="user.second_factor_reset",
            obj=user,
            summary=f"The second factor of {user.get_username()} was removed",
        )
        self.stdout.write(f"{user.get_username()} signs in with the password alone now")

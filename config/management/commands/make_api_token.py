"""Makes a token with which a program calls the API."""

from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser

from config.api_tokens import make_api_token
from config.models import EVERYTHING
from config.roles import SCOPES
from registry.exceptions import AviaryError


class Command(BaseCommand):
    """`manage.py make_api_token USER [--days N] [--scopes read,…]` prints the secret alone."""

    help = "Print a new API token of a user; it may do what the user may do, within its scopes."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username")
        parser.add_argument("--days", type=int, default=settings.REST_KNOX["TOKEN_TTL"].days)

        parser.add_argument(
            "--scopes",
            default=EVERYTHING,
            help=f"of {', '.join(SCOPES)}, with commas; {EVERYTHING} if not given",
        )
        parser.add_argument("--name", default="", help="what it is for")

    def handle(self, *args: Any, **options: Any) -> None:
        user = User.objects.filter(username=options["username"]).first()
        if user is None:
            raise CommandError(f"There is no user {options['username']!r}.")
        try:
            _, secret = make_api_token(
                user=user,
                days=options["days"],
                actor="system",
                scopes=options["scopes"].split(","),
                name=options["name"],
            )
        except AviaryError as error:
            raise CommandError(error.message) from error
        self.stdout.write(secret)

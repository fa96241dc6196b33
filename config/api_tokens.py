"""Tokens with which programs call the management API in a person's name."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import AbstractUser
from django.db import transaction
from knox.models import AuthToken

from config.models import EVERYTHING, TokenGrant
from config.roles import SCOPES
from registry.exceptions import InvalidFieldError
from registry.services.audit import record_event

MAX_DAYS = 3650


@transaction.atomic
def make_api_token(
    *,
    user: AbstractUser,
    days: int,
    actor: str,
    scopes: Sequence[str] = (EVERYTHING,),
    name: str = "",
) -> tuple[Any, str]:
    """The token's row and its secret, which is kept nowhere.

    It may do what `user` may do at the time of a call, as far as one of its scopes has it.

    Args:
        days: until it expires, 1 to 3650.
        scopes: keys of `config.roles.SCOPES`, or `everything`.

    Raises:
        InvalidFieldError: the user is inactive, the days are out of range, or a scope is unknown.
    """
    unknown = sorted(set(scopes) - {*SCOPES, EVERYTHING})
    if unknown or not scopes:
        raise InvalidFieldError(
            f"scopes: expected one or more of {', '.join([*SCOPES, EVERYTHING])}, "
            f"found {', '.join(unknown) or 'none'}.",
            {"scopes": unknown},
        )
    if not 1 <= days <= MAX_DAYS:
        raise InvalidFieldError(f"days: expected 1 to {MAX_DAYS}, found {days}.", {"days": days})
    if not user.is_active:
        raise InvalidFieldError(
            f"{user.get_username()} is not active: a token of theirs opens nothing."
        )
    row, secret = AuthToken.objects.create(user=user, expiry=timedelta(days=days))
    TokenGrant.objects.create(token=row, name=name, scopes=sorted(set(scopes)))
    record_event(
        actor=actor,
        action="api_token.made",
        obj=user,
        summary=f"An API token of {user.get_username()} was made for {days} days",
        details={"token_key": row.token_key, "days": days, "scopes": sorted(set(scopes))},
    )
    return row, secret


@transaction.atomic
def revoke_api_token(*, row: Any, actor: str) -> None:
    """Ends a token at once."""
    record_event(
        actor=actor,
        action="api_token.revoked",
        obj=row.user,
        summary=f"An API token of {row.user.get_username()} was revoked",
        details={"token_key": row.token_key},
    )
    row.delete()

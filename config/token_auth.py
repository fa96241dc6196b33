"""Who calls with an API token, and with which scopes."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

from django.db.models import Q
from django.utils import timezone
from drf_spectacular.contrib.knox_auth_token import KnoxTokenScheme
from knox.auth import TokenAuthentication
from rest_framework.exceptions import AuthenticationFailed

from config.models import ScopedUser, TokenGrant

#: A use is noted at most so often: a busy program costs one write a minute.
NOTED_EVERY = timedelta(minutes=1)
_SECRET = re.compile(rb"[0-9a-f]{64}")


class ScopedTokenAuthentication(TokenAuthentication):
    """Knox's tokens, whose user can do no more than the token's scopes let them."""

    def authenticate_credentials(self, token: bytes) -> tuple[Any, Any]:
        """The user, bounded by the scopes, and the token's row."""
        if not _SECRET.fullmatch(token):
            raise AuthenticationFailed("Invalid token.")
        user, row = super().authenticate_credentials(token)
        grant = TokenGrant.objects.filter(token=row).first()
        if grant is None:
            raise AuthenticationFailed("Invalid token.")
        # The same row of the same table, seen by the narrower class: no second query.
        user.__class__ = ScopedUser
        user.token_scopes = tuple(grant.scopes)
        _note_use(grant)
        return user, row


def _note_use(grant: TokenGrant) -> None:
    now = timezone.now()
    if grant.last_used_at is None or grant.last_used_at < now - NOTED_EVERY:
        stale = Q(last_used_at=None) | Q(last_used_at__lt=now - NOTED_EVERY)
        TokenGrant.objects.filter(stale, pk=grant.pk).update(last_used_at=now)


class ScopedTokenScheme(KnoxTokenScheme):
    """The same scheme in the schema."""

    target_class = "config.token_auth.ScopedTokenAuthentication"

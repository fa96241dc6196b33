"""What an API token may be used for, beside knox's row with its digest and expiry."""

from typing import Any

from django.contrib.auth.models import User
from django.db import models
from knox.models import AuthToken

from config.roles import scope_allows

#: The scope that takes nothing away from what the token's user may do.
EVERYTHING = "everything"


class TokenGrant(models.Model):
    """The scopes of one API token, and when it was used last; a token without one opens nothing."""

    token = models.OneToOneField(
        AuthToken, on_delete=models.CASCADE, primary_key=True, related_name="grant"
    )
    name = models.CharField(max_length=100, blank=True)
    scopes = models.JSONField(default=list)
    last_used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.name or str(self.token_id)[:8]


class ScopedUser(User):
    """A user who came with an API token: never more than the user, nor than the token's scopes."""

    token_scopes: tuple[str, ...] = ()

    class Meta:
        proxy = True
        default_permissions = ()

    def has_perm(self, perm: str, obj: Any = None) -> bool:
        """What the user may do, as far as a scope of the token has it."""
        is_in_scope = EVERYTHING in self.token_scopes or scope_allows(self.token_scopes, perm)
        return is_in_scope and super().has_perm(perm, obj)

    def has_module_perms(self, app_label: str) -> bool:
        """Asked by pages alone, and no page takes a token."""
        return False

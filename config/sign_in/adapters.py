"""What allauth asks the project: who may have an account, from where, and with which roles."""

from __future__ import annotations

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.core.exceptions import ImmediateHttpResponse
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from django.conf import settings
from django.http import HttpRequest
from django.shortcuts import render

from config.people import record_refused_stranger
from config.sign_in.external_roles import roles_of, set_roles
from notifications.sealing import seal, unseal
from registry.quotas import caller_address

ACTOR = "single sign-on"


class AccountAdapter(DefaultAccountAdapter):
    """Accounts are made by people who may, never by whoever comes along."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return False

    def get_client_ip(self, request: HttpRequest) -> str:
        """The address that quotas count by, so that no header buys more tries."""
        return caller_address(request.META)


class SecondFactorAdapter(DefaultMFAAdapter):
    """Secrets of authenticators are encrypted at rest, like those of channels."""

    def encrypt(self, text: str) -> str:
        return seal({"secret": text})

    def decrypt(self, encrypted_text: str) -> str:
        return str(unseal(encrypted_text)["secret"])


class SingleSignOnAdapter(DefaultSocialAccountAdapter):
    """Roles come with each sign-in; who has none is let in no more."""

    def is_open_for_signup(self, request: HttpRequest, sociallogin: Any) -> bool:
        """Who has a role elsewhere gets an account at their first sign-in."""
        return bool(self._roles(sociallogin))

    def pre_social_login(self, request: HttpRequest, sociallogin: Any) -> None:
        roles = self._roles(sociallogin)
        if sociallogin.is_existing:
            set_roles(user=sociallogin.user, roles=roles, actor=ACTOR)
        if not roles:
            record_refused_stranger(request, ACTOR)
            page = render(request, "socialaccount/no_role.html", status=403)
            raise ImmediateHttpResponse(page)

    def save_user(self, request: HttpRequest, sociallogin: Any, form: Any = None) -> Any:
        user = super().save_user(request, sociallogin, form)
        set_roles(user=user, roles=self._roles(sociallogin), actor=ACTOR)
        return user

    def can_authenticate_by_email(self, login: Any, email: str) -> bool:
        """An address that another service vouches for opens no account that is here already."""
        return False

    def _roles(self, sociallogin: Any) -> set[str]:
        data = sociallogin.account.extra_data
        # What the user-info endpoint says goes before what the ID token says.
        claims = {**(data.get("id_token") or {}), **(data.get("userinfo") or {})}
        return roles_of(
            claims, claim=settings.AVIARY_OIDC_GROUPS_CLAIM, role_map=settings.AVIARY_OIDC_ROLES
        )

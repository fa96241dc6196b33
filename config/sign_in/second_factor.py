"""Roles that need a second factor: whoever has one is led to set it up before anything else."""

from __future__ import annotations

from collections.abc import Callable

from allauth.account.authentication import get_authentication_records
from allauth.mfa.utils import is_mfa_enabled
from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.urls import reverse

from config.api import error_body

_SATISFIED = "has_second_factor"
#: Where somebody without a second factor may still go: to set one up, or away.
_OPEN = ("/accounts/", "/static/", "/admin/logout/", "/admin/jsi18n/", "/healthz", "/readyz")


class SecondFactorMiddleware:
    """Sends people of the roles of `AVIARY_MFA_ROLES` to their second factor until they have one.

    Who signed in by OpenID Connect has it there. API tokens pass: a program has no second factor,
    and whoever makes a token has passed here before.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if not self._lacks_one(request):
            return self._get_response(request)
        if request.path.startswith("/api/"):
            message = "Your role needs a second factor: set it up in the admin first."
            return JsonResponse(error_body("second_factor_required", message), status=403)
        return HttpResponseRedirect(reverse("mfa_activate_totp"))

    def _lacks_one(self, request: HttpRequest) -> bool:
        if not settings.AVIARY_MFA_ROLES or request.path.startswith(_OPEN):
            return False
        user = request.user
        if not user.is_authenticated or request.session.get(_SATISFIED) == user.pk:
            return False
        is_needed = "everybody" in settings.AVIARY_MFA_ROLES or (
            # A superuser may do what the role admin may do, and more.
            ("admin" in settings.AVIARY_MFA_ROLES and user.is_superuser)
            or user.groups.filter(name__in=settings.AVIARY_MFA_ROLES).exists()
        )
        came_from_elsewhere = any(
            record.get("method") == "socialaccount"
            for record in get_authentication_records(request, user)
        )
        if is_needed and not came_from_elsewhere and not is_mfa_enabled(user):
            return True
        if is_needed:
            request.session[_SATISFIED] = user.pk
        return False

"""What the sign-in pages need to look like the others."""

from typing import Any

from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest


def sign_in_context(request: HttpRequest) -> dict[str, Any]:
    """The admin's own context below `/accounts/`, and nothing elsewhere."""
    if not request.path.startswith("/accounts/"):
        return {}
    return {
        **admin.site.each_context(request),
        "sso_name": settings.AVIARY_OIDC_NAME if settings.AVIARY_OIDC_URL else "",
    }

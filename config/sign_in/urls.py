"""The addresses of allauth that are used; others would let people make accounts or passwords."""

from allauth.account.urls import urlpatterns as account
from allauth.mfa.urls import urlpatterns as second_factor
from allauth.socialaccount.providers.openid_connect.urls import urlpatterns as openid_connect
from allauth.socialaccount.urls import urlpatterns as elsewhere
from django.urls import URLPattern, URLResolver, include, path

_OPEN = {
    "account_login", "account_logout", "account_reauthenticate", "socialaccount_login_cancelled",
    "socialaccount_login_error",
}  # fmt: skip

urlpatterns: list[URLPattern | URLResolver] = [
    *(entry for entry in account if isinstance(entry, URLPattern) and entry.name in _OPEN),
    path("2fa/", include(second_factor)),
    path(
        "3rdparty/",
        include([entry for entry in elsewhere if getattr(entry, "name", "") in _OPEN]),
    ),
    *openid_connect,
]

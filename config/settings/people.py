"""How people sign in: passwords, sessions, the second factor, single sign-on."""

from typing import Any
from urllib.parse import urlsplit

from django.urls import reverse_lazy

from config.env import env_int, env_list, env_pairs, env_str

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
AUTH_PASSWORD_VALIDATORS.append({"NAME": "config.people.PasswordWatch"})
LOGIN_URL = reverse_lazy("account_login")
LOGIN_REDIRECT_URL = reverse_lazy("admin:index")
AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
SESSION_COOKIE_AGE = 3600 * env_int("AVIARY_SESSION_HOURS", 12, minimum=1)
ACCOUNT_ADAPTER = "config.sign_in.adapters.AccountAdapter"
ACCOUNT_LOGIN_METHODS = {"username"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "password1*"]
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_UNIQUE_EMAIL = False  # an address opens no account; names do
ACCOUNT_SESSION_REMEMBER = True  # each session ends after AVIARY_SESSION_HOURS, and not before
ACCOUNT_LOGOUT_REDIRECT_URL = LOGIN_URL
# Tries that fail lock the name out for five minutes; how many calls an address has is a quota.
ACCOUNT_RATE_LIMITS = {"login": False, "login_failed": "5/5m/key"}
MFA_ADAPTER = "config.sign_in.adapters.SecondFactorAdapter"
MFA_SUPPORTED_TYPES = ["totp", "recovery_codes"]
MFA_TOTP_ISSUER = "Aviary"
#: Roles that need a second factor; `everybody` is all people.
AVIARY_MFA_ROLES = env_list("AVIARY_MFA_ROLES")
AVIARY_OIDC_URL = env_str("AVIARY_OIDC_URL").rstrip("/")
AVIARY_OIDC_NAME = env_str("AVIARY_OIDC_NAME", "single sign-on")
AVIARY_OIDC_GROUPS_CLAIM = env_str("AVIARY_OIDC_GROUPS_CLAIM", "groups")
AVIARY_OIDC_ROLES = env_pairs("AVIARY_OIDC_ROLES")  # their group=our role
#: Where its sign-in page may be, beside the address above.
AVIARY_OIDC_ORIGINS = env_list("AVIARY_OIDC_ORIGINS")
if AVIARY_OIDC_URL:
    AVIARY_OIDC_ORIGINS.append("{0.scheme}://{0.netloc}".format(urlsplit(AVIARY_OIDC_URL)))
SOCIALACCOUNT_ADAPTER = "config.sign_in.adapters.SingleSignOnAdapter"
SOCIALACCOUNT_ONLY = False
SOCIALACCOUNT_AUTO_SIGNUP = True
SOCIALACCOUNT_STORE_TOKENS = False
SOCIALACCOUNT_PROVIDERS: dict[str, Any] = {"openid_connect": {"OAUTH_PKCE_ENABLED": True}}
if AVIARY_OIDC_URL:
    SOCIALACCOUNT_PROVIDERS["openid_connect"]["APPS"] = [
        {
            "provider_id": "sso",
            "name": AVIARY_OIDC_NAME,
            "client_id": env_str("AVIARY_OIDC_CLIENT_ID"),
            "secret": env_str("AVIARY_OIDC_CLIENT_SECRET"),
            "settings": {"server_url": AVIARY_OIDC_URL},
        }
    ]

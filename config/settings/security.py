"""Signing keys, HTTPS, and what a browser may load."""

from pathlib import Path

from config.env import env_bool, env_str
from config.settings.base import AVIARY_HOME
from config.settings.people import AVIARY_OIDC_ORIGINS

AVIARY_KEYS_DIR = Path(env_str("AVIARY_KEYS_DIR", str(AVIARY_HOME / "keys")))
AVIARY_SIGNER = env_str("AVIARY_SIGNER")  # the signing service's socket; empty signs in-process

AVIARY_HTTPS = env_bool("AVIARY_HTTPS", False)
if AVIARY_HTTPS:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SECURE_SSL_REDIRECT = True
    # What is called inside, past the proxy that ends TLS.
    SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$", r"^metrics$"]
    SECURE_HSTS_SECONDS = 31_536_000
    SECURE_HSTS_INCLUDE_SUBDOMAINS = True
    SECURE_HSTS_PRELOAD = True
    SESSION_COOKIE_SECURE = True
    CSRF_COOKIE_SECURE = True
SECURE_CONTENT_TYPE_NOSNIFF = True
X_FRAME_OPTIONS = "DENY"
# The theme's scripts (Alpine) evaluate the expressions of their own attributes; nothing inline
# runs, and nothing from elsewhere. A form may lead to the service that signs people in.
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'self'"],
        "script-src": [
            "'self'",
            "'unsafe-eval'",
            # The one inline script there is: on the form of a periodic task, by django-celery-beat.
            "'sha256-QE3U2xYF7B4J2ro1/9oxiKhaWCGW39gB7ocQ/xlD0bE='",
        ],
        "style-src": ["'self'", "'unsafe-inline'"],
        "img-src": ["'self'", "data:"],
        "object-src": ["'none'"],
        "base-uri": ["'self'"],
        "form-action": ["'self'", *AVIARY_OIDC_ORIGINS],
        "frame-ancestors": ["'none'"],
    }
}

"""Deployment checks: settings that would be unsafe in production fail `check --deploy`."""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register

from config.roles import ROLES


@register(Tags.security, deploy=True)
def check_production_settings(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Errors for each setting with which a production server would be unsafe or lose data."""
    found: list[CheckMessage] = []
    if not settings.SECRET_KEY_FROM_ENVIRONMENT:
        found.append(
            Error(
                "SECRET_KEY is generated",
                hint="Set SECRET_KEY or SECRET_KEY_FILE.",
                id="aviary.E001",
            )
        )
    if not settings.DATABASE_URL:
        found.append(
            Error(
                "The database is SQLite", hint="Set DATABASE_URL to PostgreSQL.", id="aviary.E002"
            )
        )
    if not settings.REDIS_URL:
        found.append(Error("There is no Redis or Valkey", hint="Set REDIS_URL.", id="aviary.E003"))
    if not settings.AVIARY_S3_BUCKET:
        found.append(
            Error("Objects are local files", hint="Set AVIARY_S3_BUCKET.", id="aviary.E004")
        )
    if not settings.AVIARY_SIGNER:
        found.append(
            Error(
                "This process reads the private signing keys",
                hint="Run `python -m registry.signer` as a user of its own; set AVIARY_SIGNER.",
                id="aviary.E007",
            )
        )
    if not settings.AVIARY_HTTPS:
        found.append(Error("HTTPS is off", hint="Set AVIARY_HTTPS=1.", id="aviary.E005"))
    if settings.AVIARY_ALLOWED_WEBHOOK_PRIVATE:
        found.append(
            Error(
                "Webhooks may reach private addresses",
                hint="Unset AVIARY_ALLOWED_WEBHOOK_PRIVATE.",
                id="aviary.E006",
            )
        )
    return found


@register(Tags.security)
def check_named_roles(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Errors for settings that name a role there is not, which would let nobody in or all."""
    named = {
        "AVIARY_OIDC_ROLES": set(settings.AVIARY_OIDC_ROLES.values()) - set(ROLES),
        "AVIARY_MFA_ROLES": set(settings.AVIARY_MFA_ROLES) - {*ROLES, "everybody"},
    }
    return [
        Error(
            f"{name} names no role: {', '.join(sorted(unknown))}",
            hint=f"The roles are {', '.join(ROLES)}.",
            id="aviary.E008",
        )
        for name, unknown in named.items()
        if unknown
    ]

"""Addresses of the registry's admin pages and people who open them."""

from typing import Any

from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse

from registry.models import Version


def change_url(obj: Any) -> str:
    """Where one row has its page."""
    meta = obj._meta
    return reverse(f"admin:{meta.app_label}_{meta.model_name}_change", args=[obj.pk])


def client_with(django_user_model: Any, *permissions: str) -> Client:
    """Someone of the staff with these permissions and no others."""
    user = django_user_model.objects.create_user("someone", is_staff=True)
    for name in permissions:
        user.user_permissions.add(
            Permission.objects.get(codename=name, content_type__app_label="registry")
        )
    client = Client()
    client.force_login(user)
    return client


def transition_url(version: Version, to: str) -> str:
    """Where a version is asked to move."""
    return reverse("admin:registry_version_transition", args=[version.pk, to])

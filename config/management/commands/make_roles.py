"""Puts the five roles back to what the table says."""

from typing import Any

from django.contrib.auth.models import Group, Permission
from django.core.management.base import BaseCommand
from django.db import transaction

from config.people import describe_access, record_access
from config.roles import ROLES, ensure_roles


class Command(BaseCommand):
    """`manage.py make_roles`: who is in a group stays in it."""

    help = "Give the groups viewer, publisher, approver, operator and admin their permissions."

    @transaction.atomic
    def handle(self, *args: Any, **options: Any) -> None:
        before = {
            group.name: describe_access(group) for group in Group.objects.filter(name__in=ROLES)
        }
        ensure_roles(groups=Group.objects, permissions=Permission.objects)
        for group in Group.objects.filter(name__in=ROLES).order_by("pk"):
            was = before.get(group.name, {})
            if was != describe_access(group):
                verb = "changed" if was else "made"
                record_access(row=group, before=was, actor="system", verb=verb)
            self.stdout.write(f"{group.name}: {group.permissions.count()} permissions")

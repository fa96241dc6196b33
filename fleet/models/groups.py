"""Selectors that people keep under a name."""

from __future__ import annotations

from django.db import models


class DeviceGroup(models.Model):
    """A selector with a name: whoever matches it now is in the group."""

    name = models.CharField(max_length=100, unique=True)
    selector = models.JSONField(
        default=dict, help_text="Label to the list of allowed values; all must hold."
    )
    description = models.CharField(max_length=500, blank=True)
    created_by = models.CharField(max_length=150)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

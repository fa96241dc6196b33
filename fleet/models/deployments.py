"""What a part of the fleet is to run."""

from __future__ import annotations

from django.db import models
from django.urls import reverse


class Deployment(models.Model):
    """Devices matching the selector run this model, at this stable version."""

    class State(models.TextChoices):
        ACTIVE = "active", "Active"
        RETIRED = "retired", "Retired"

    name = models.CharField(max_length=100, unique=True)
    model = models.ForeignKey(
        "registry.Model", on_delete=models.PROTECT, related_name="deployments"
    )
    selector = models.JSONField(
        default=dict, blank=True, help_text="Label to the list of allowed values; all must hold."
    )
    priority = models.IntegerField(default=0, help_text="The highest wins where selectors overlap.")
    stable_version = models.ForeignKey(
        "registry.Version", null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    variants = models.ManyToManyField(
        "registry.Variant",
        blank=True,
        related_name="+",
        help_text="Variants of the stable version that devices are offered.",
    )
    follows = models.ForeignKey(
        "registry.Alias",
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="followers",
        help_text="Moving this alias starts a rollout to the version that it then names.",
    )
    state = models.CharField(max_length=16, choices=State, default=State.ACTIVE)
    floor_sequence = models.PositiveBigIntegerField(
        default=0, help_text="Devices refuse versions whose sequence is below this."
    )
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["name"]
        permissions = [("release_at_once", "Can move all devices of a deployment at once")]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("admin:fleet_deployment_change", args=[self.pk])


class Plan(models.Model):
    """What the devices of one model are to run now, and how often that changed.

    Content and counter are written together, so a reader of this one row can never pair a new
    content with an old counter.
    """

    model = models.OneToOneField("registry.Model", on_delete=models.CASCADE, related_name="plan")
    counter = models.PositiveBigIntegerField(default=0)
    content = models.JSONField(default=dict)
    digest = models.CharField(max_length=64, blank=True)
    updated_at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return f"Plan {self.counter} of model {self.model_id}"

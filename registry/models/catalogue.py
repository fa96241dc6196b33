"""Models, their versions, and the names that move between versions."""

from django.conf import settings
from django.core.validators import RegexValidator
from django.db import models
from django.urls import reverse
from django.utils import timezone

from registry.querysets import VersionQuerySet
from registry.states import FROZEN_STATES, VersionState

slug_validator = RegexValidator(
    r"^[a-z0-9][a-z0-9._-]{0,99}$", "Lower-case letters, digits, '.', '_' and '-', at most 100."
)
version_validator = RegexValidator(
    r"^[A-Za-z0-9][A-Za-z0-9.+_-]{0,63}$", "Letters, digits, '.', '+', '_' and '-', at most 64."
)


class Task(models.TextChoices):
    """What a model is for."""

    CLASSIFICATION = "classification", "Classification"
    REGRESSION = "regression", "Regression"
    DETECTION = "detection", "Detection"
    SEGMENTATION = "segmentation", "Segmentation"
    EMBEDDING = "embedding", "Embedding"
    SEQUENCE = "sequence", "Sequence"
    ANOMALY = "anomaly", "Anomaly"
    OTHER = "other", "Other"


class Model(models.Model):
    """A thing that gets better over time and keeps its name."""

    slug = models.CharField(max_length=100, unique=True, validators=[slug_validator])
    title = models.CharField(max_length=200, blank=True)
    task = models.CharField(max_length=20, choices=Task, default=Task.CLASSIFICATION)
    labels = models.JSONField(default=list, blank=True, help_text="Class names, in output order.")
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    tags = models.JSONField(default=list, blank=True)
    next_sequence = models.PositiveIntegerField(default=1, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["slug"]
        constraints = [
            models.CheckConstraint(condition=~models.Q(slug=""), name="model_slug_not_empty"),
            models.CheckConstraint(
                condition=models.Q(next_sequence__gte=1), name="model_next_sequence_positive"
            ),
        ]

    def __str__(self) -> str:
        return self.slug

    def get_absolute_url(self) -> str:
        return reverse("admin:registry_model_change", args=[self.pk])

    @property
    def classes(self) -> int | None:
        """How many classes its answers have; None where it is no classifier or has no labels."""
        return len(self.labels) or None if self.task == Task.CLASSIFICATION else None


class Version(models.Model):
    """One release of a model; immutable but for notes, tags and state once it is ready."""

    model = models.ForeignKey(Model, on_delete=models.PROTECT, related_name="versions")
    version = models.CharField(max_length=64, validators=[version_validator])
    sequence = models.PositiveIntegerField(help_text="Rises with each version of the model.")
    state = models.CharField(max_length=12, choices=VersionState, default=VersionState.DRAFT)
    notes = models.TextField(blank=True)
    tags = models.JSONField(default=list, blank=True)
    source = models.JSONField(default=dict, blank=True)
    metrics = models.JSONField(default=dict, blank=True)
    parent = models.ForeignKey(
        "self", null=True, blank=True, on_delete=models.PROTECT, related_name="children"
    )
    dataset = models.ForeignKey(
        "registry.DataSet", null=True, blank=True, on_delete=models.PROTECT, related_name="versions"
    )
    signature = models.JSONField(default=dict, blank=True)
    preprocessing = models.JSONField(default=dict, blank=True)
    postprocessing = models.JSONField(default=dict, blank=True)
    contract = models.JSONField(
        default=dict, blank=True, help_text="What its outputs mean, as the manifests have it."
    )
    contract_given = models.JSONField(
        default=dict, blank=True, help_text="What a person said of it; the rest is inferred."
    )
    question = models.TextField(blank=True, help_text="What is to be said of its outputs.")
    validation_notes = models.JSONField(default=list, blank=True)
    rejection_reason = models.TextField(blank=True)
    validation_started_at = models.DateTimeField(null=True, blank=True, editable=False)
    validation_attempts = models.PositiveSmallIntegerField(default=0, editable=False)
    created_by = models.CharField(max_length=150, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = VersionQuerySet.as_manager()

    class Meta:
        ordering = ["-pk"]
        permissions = [("decide_version", "Can approve, deprecate and yank a version")]
        constraints = [
            models.UniqueConstraint(
                fields=["model", "version"], name="version_name_once_per_model"
            ),
            models.UniqueConstraint(
                fields=["model", "sequence"], name="version_sequence_once_per_model"
            ),
            models.CheckConstraint(
                condition=models.Q(state__in=VersionState.values), name="version_state_known"
            ),
            models.CheckConstraint(
                condition=models.Q(state=VersionState.REJECTED) | models.Q(rejection_reason=""),
                name="version_reason_only_when_rejected",
            ),
            models.CheckConstraint(
                condition=models.Q(state__in=[VersionState.UNCLEAR, VersionState.YANKED])
                | models.Q(question=""),
                name="version_question_only_when_unclear",
            ),
        ]
        indexes = [models.Index(fields=["state"], name="version_state_idx")]

    def __str__(self) -> str:
        return f"{self.model} {self.version}"

    def get_absolute_url(self) -> str:
        return reverse("admin:registry_version_change", args=[self.pk])

    @property
    def is_frozen(self) -> bool:
        """True when files, signature and metrics can no longer change."""
        return self.state in FROZEN_STATES


class Alias(models.Model):
    """A name such as `champion` that moves between the versions of a model."""

    model = models.ForeignKey(Model, on_delete=models.PROTECT, related_name="aliases")
    name = models.CharField(max_length=50, validators=[slug_validator])
    version = models.ForeignKey(Version, on_delete=models.PROTECT, related_name="aliases")
    is_protected = models.BooleanField(default=False)

    class Meta:
        ordering = ["name"]
        verbose_name_plural = "aliases"
        permissions = [("move_protected_alias", "Can move and protect a protected alias")]
        constraints = [
            models.UniqueConstraint(fields=["model", "name"], name="alias_name_once_per_model")
        ]

    def __str__(self) -> str:
        return f"{self.model}@{self.name}"


class AliasMove(models.Model):
    """One move of an alias; the last one at or before T says where the alias was at T."""

    alias = models.ForeignKey(Alias, on_delete=models.PROTECT, related_name="moves")
    from_version = models.ForeignKey(Version, null=True, on_delete=models.PROTECT, related_name="+")
    to_version = models.ForeignKey(Version, on_delete=models.PROTECT, related_name="+")
    actor = models.CharField(max_length=150)
    reason = models.TextField(blank=True)
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-at", "-pk"]
        indexes = [models.Index(fields=["alias", "at"], name="alias_move_at_idx")]

    def __str__(self) -> str:
        return f"{self.alias} -> {self.to_version}"

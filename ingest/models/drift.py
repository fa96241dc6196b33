"""How drift is judged, and every judgement."""

from django.core.validators import MinValueValidator
from django.db import models
from django.urls import reverse

from ingest.rules.judgement import Policy

_DEFAULTS = Policy()


class DriftRule(models.TextChoices):
    """Which rule turns a PSI into a level."""

    EQUIVALENCE = "equivalence", "Noncentral chi-square test"
    FIXED = "fixed", "Fixed thresholds"


class DriftPolicy(models.Model):
    """How the drift of one model is judged; the defaults hold where a model has no row."""

    model = models.OneToOneField(
        "registry.Model", on_delete=models.CASCADE, related_name="drift_policy"
    )
    is_enabled = models.BooleanField(default=True)
    rule = models.CharField(max_length=12, choices=DriftRule, default=DriftRule.EQUIVALENCE)
    warning_psi = models.FloatField(
        default=_DEFAULTS.warning_psi, validators=[MinValueValidator(0.0)]
    )
    critical_psi = models.FloatField(
        default=_DEFAULTS.critical_psi, validators=[MinValueValidator(0.0)]
    )
    warning_confidence_drop = models.FloatField(default=_DEFAULTS.warning_confidence_drop)
    critical_confidence_drop = models.FloatField(default=_DEFAULTS.critical_confidence_drop)
    warning_error_rate = models.FloatField(default=_DEFAULTS.warning_error_rate)
    critical_error_rate = models.FloatField(default=_DEFAULTS.critical_error_rate)
    warning_latency_ratio = models.FloatField(default=_DEFAULTS.warning_latency_ratio)
    critical_latency_ratio = models.FloatField(default=_DEFAULTS.critical_latency_ratio)
    warning_changed_devices = models.FloatField(
        default=_DEFAULTS.warning_changed_devices,
        help_text="Share of devices that may differ from their own past.",
    )
    critical_changed_devices = models.FloatField(default=_DEFAULTS.critical_changed_devices)
    min_devices = models.PositiveIntegerField(default=_DEFAULTS.min_devices)
    min_samples_per_bin = models.PositiveIntegerField(
        default=_DEFAULTS.min_samples_per_bin,
        help_text="Effective records per bin below which nothing is called healthy.",
    )
    lookback_windows = models.PositiveIntegerField(
        default=_DEFAULTS.lookback_windows,
        validators=[MinValueValidator(1)],
        help_text="Windows judged together. Less than a day takes night and day for drift.",
    )
    interval_seconds = models.PositiveIntegerField(
        null=True, blank=True, help_text="Time between judgements; empty for one per window."
    )

    class Meta:
        verbose_name_plural = "drift policies"
        constraints = [
            models.CheckConstraint(
                condition=models.Q(warning_psi__lte=models.F("critical_psi")),
                name="ingest_policy_psi_levels_in_order",
            ),
            models.CheckConstraint(
                condition=models.Q(lookback_windows__gte=1), name="ingest_policy_has_lookback"
            ),
        ]

    def __str__(self) -> str:
        return f"Drift policy of {self.model}"


class DriftEvaluation(models.Model):
    """One metric of one slice judged once, with its inputs and the rule as it was."""

    class Status(models.TextChoices):
        HEALTHY = "healthy", "Healthy"
        WARNING = "warning", "Warning"
        CRITICAL = "critical", "Critical"
        INSUFFICIENT = "insufficient", "Insufficient data"
        NO_REFERENCE = "no_reference", "No reference"

    BREACHES = frozenset({Status.WARNING, Status.CRITICAL})
    UNJUDGED = frozenset({Status.INSUFFICIENT, Status.NO_REFERENCE})

    model = models.ForeignKey(
        "registry.Model", on_delete=models.CASCADE, related_name="drift_evaluations"
    )
    version = models.ForeignKey("registry.Version", on_delete=models.CASCADE, related_name="+")
    variant = models.ForeignKey(
        "registry.Variant",
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="+",
        help_text="Set where the reference belongs to one variant alone.",
    )
    variant_key = models.BigIntegerField(default=0)
    baseline = models.ForeignKey(
        "registry.Baseline", null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    slice = models.CharField(max_length=200, help_text="all, or label=value.")
    metric = models.CharField(max_length=100)
    period_start = models.DateTimeField()
    period_end = models.DateTimeField()
    status = models.CharField(max_length=12, choices=Status)
    value = models.FloatField(null=True)
    threshold = models.FloatField(null=True, help_text="Value from which it is a warning.")
    threshold_critical = models.FloatField(null=True)
    lower_bound = models.FloatField(null=True)
    n = models.PositiveBigIntegerField(default=0)
    n_eff = models.FloatField(default=0)
    n_reference = models.PositiveBigIntegerField(default=0)
    devices = models.PositiveIntegerField(default=0)
    design_effect = models.FloatField(null=True)
    bins = models.PositiveIntegerField(default=0)
    p_value = models.FloatField(null=True)
    q_value = models.FloatField(null=True)
    details = models.JSONField(default=dict)
    rule = models.JSONField(default=dict, help_text="The policy as it was.")
    evaluated_at = models.DateTimeField()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["version", "variant_key", "slice", "metric", "period_end"],
                name="ingest_evaluation_once",
            )
        ]
        indexes = [
            models.Index(fields=["model", "-period_end"], name="ingest_evaluation_model"),
            models.Index(fields=["status"], name="ingest_evaluation_status"),
        ]

    def __str__(self) -> str:
        return f"{self.metric} {self.slice} {self.get_status_display()}"

    def get_absolute_url(self) -> str:
        return reverse("admin:ingest_drift_detail", args=[self.pk])

"""Admin pages of the fleet."""

from fleet.admin import deployments, devices, join_tokens, readonly, rollouts, samples

__all__ = ["deployments", "devices", "join_tokens", "readonly", "rollouts", "samples"]

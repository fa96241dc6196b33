"""Admin pages of the fleet."""

from fleet.admin import (
    agent_wheels,
    deployments,
    devices,
    join_tokens,
    readonly,
    rollouts,
    samples,
)

__all__ = [
    "agent_wheels",
    "deployments",
    "devices",
    "join_tokens",
    "readonly",
    "rollouts",
    "samples",
]

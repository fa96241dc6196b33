"""The fleet's facts: devices, deployments, rollouts and installations."""

from fleet.models.agent_wheels import AgentWheel
from fleet.models.deployments import Deployment, Plan
from fleet.models.devices import Device, DeviceCredential, JoinToken, Quarantine, Telemetry
from fleet.models.groups import DeviceGroup
from fleet.models.incidents import DeviceIncident
from fleet.models.installations import Installation, InstallationEvent
from fleet.models.presence import ServerPresence
from fleet.models.rollouts import Gate, GateEvaluation, Rollout, RolloutEvent, RolloutStage
from fleet.models.samples import CalibrationBuild, SampleBatch
from fleet.models.self_tests import SelfTest

__all__ = [
    "AgentWheel",
    "CalibrationBuild",
    "Deployment",
    "Device",
    "DeviceCredential",
    "DeviceGroup",
    "DeviceIncident",
    "Gate",
    "GateEvaluation",
    "Installation",
    "InstallationEvent",
    "JoinToken",
    "Plan",
    "Quarantine",
    "Rollout",
    "RolloutEvent",
    "RolloutStage",
    "SampleBatch",
    "SelfTest",
    "ServerPresence",
    "Telemetry",
]

"""Tables of the intake and of what is concluded from it."""

from ingest.models.drift import DriftEvaluation, DriftPolicy, DriftRule
from ingest.models.inbox import InboxBatch, RejectedRecord
from ingest.models.incidents import AlertRule, Incident, IncidentEvent, IncidentFinding
from ingest.models.rollups import DeviceTests, RollUp
from ingest.models.summaries import Summary
from ingest.models.windows import Window

__all__ = [
    "AlertRule",
    "DeviceTests",
    "DriftEvaluation",
    "DriftPolicy",
    "DriftRule",
    "InboxBatch",
    "Incident",
    "IncidentEvent",
    "IncidentFinding",
    "RejectedRecord",
    "RollUp",
    "Summary",
    "Window",
]

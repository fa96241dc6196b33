"""Tables of the registry."""

from registry.models.artifacts import Blob, FileRole, Variant, VariantFile
from registry.models.audit import AuditEvent, AuditHead
from registry.models.catalogue import Alias, AliasMove, Model, Task, Version
from registry.models.data import Baseline, DataSet, DataSetKind
from registry.models.deltas import Delta
from registry.models.trust import TrustMetadata
from registry.models.uploads import BlobUpload
from registry.states import VersionState

__all__ = [
    "Alias",
    "AliasMove",
    "AuditEvent",
    "AuditHead",
    "Baseline",
    "Blob",
    "BlobUpload",
    "DataSet",
    "DataSetKind",
    "Delta",
    "FileRole",
    "Model",
    "Task",
    "TrustMetadata",
    "Variant",
    "VariantFile",
    "Version",
    "VersionState",
]

"""The base of every error of Aviary, and what can go wrong in the registry."""

from typing import Any


class AviaryError(Exception):
    """An error with a place in the API: `{"code", "message", "details"}` and a status."""

    code = "error"
    http_status = 400

    def __init__(self, message: str = "", details: dict[str, Any] | None = None) -> None:
        self.message = message or (type(self).__doc__ or "").strip().split("\n")[0]
        self.details: dict[str, Any] = dict(details or {})
        super().__init__(self.message)


class UnavailableError(AviaryError):
    """A store that this needs does not answer now; the same request may succeed later."""

    code = "unavailable"
    http_status = 503
    retry_after_s = 5


class RegistryError(AviaryError):
    """Base of every error of this app."""

    code = "registry_error"


class NotFoundError(RegistryError):
    """There is no such object."""

    code = "not_found"
    http_status = 404


class SigningUnavailableError(RegistryError):
    """The signing service does not sign now."""

    code = "signing_unavailable"
    http_status = 503


class TrustMetadataError(RegistryError):
    """The trust metadata breaks a rule of The Update Framework."""

    code = "trust_metadata_invalid"


class ConflictError(RegistryError):
    """An object of that name exists already."""

    code = "conflict"
    http_status = 409


class StateError(RegistryError):
    """The version is in a state in which this is not possible."""

    code = "wrong_state"
    http_status = 409


class AliasProtectedError(RegistryError):
    """The alias is protected and the caller may not move it."""

    code = "alias_protected"
    http_status = 403


class InvalidFieldError(RegistryError):
    """A value is missing or outside its range."""

    code = "invalid"


class ManifestInvalidError(RegistryError):
    """A manifest breaks one of the rules of its schema."""

    code = "manifest_invalid"


class EnvelopeInvalidError(RegistryError):
    """A signed document cannot be trusted."""

    code = "envelope_invalid"


class DigestMismatchError(RegistryError):
    """The bytes that arrived are not the bytes that were announced."""

    code = "digest_mismatch"


class UploadTooLargeError(RegistryError):
    """The upload is larger than this server takes."""

    code = "too_large"
    http_status = 413


class UploadIncompleteError(RegistryError):
    """The upload ended before all announced bytes arrived."""

    code = "upload_incomplete"


class ModelFileInvalidError(RegistryError):
    """The file is not a model this registry accepts."""

    code = "model_invalid"
    http_status = 422


class DataSetInvalidError(RegistryError):
    """The file is not a data set this registry accepts."""

    code = "dataset_invalid"
    http_status = 422


class ChildFailedError(RegistryError):
    """The limited child process failed or ran past its limits."""

    code = "validation_failed"
    http_status = 422


class BlobMissingError(RegistryError):
    """The bytes of a known digest are not in the storage."""

    code = "blob_missing"
    http_status = 500


class AuditChainError(RegistryError):
    """The audit chain is broken."""

    code = "audit_chain_broken"
    http_status = 500

"""Every error the agent raises on purpose.

`PublishedError` means that the server published something this device must not act on: trying
again brings the same answer. `TransferError` means that the network or the server failed: try again
later.
"""

from typing import Any


class AgentError(Exception):
    """Base of all; `code` is the short reason that goes into events."""

    code = "agent_error"


class StopRequested(Exception):
    """The process was asked to end, and what was under way stops where it can go on later."""


class ConfigurationError(AgentError):
    code = "configuration"


class LockedError(AgentError):
    code = "locked"


class NotEnrolledError(AgentError):
    code = "not_enrolled"


# What the server published is bad.


class PublishedError(AgentError):
    code = "published_bad"


class EnvelopeError(PublishedError):
    code = "envelope_malformed"


class SignatureError(PublishedError):
    code = "signature_invalid"


class DocumentError(PublishedError):
    code = "document_malformed"


class TrustDocumentError(PublishedError):
    """Metadata about keys is missing or malformed."""

    code = "trust_malformed"


class TrustRollbackError(PublishedError):
    """Metadata about keys is older than what was believed before."""

    code = "trust_rolled_back"


class TrustExpiredError(PublishedError):
    """Metadata about keys is too old to be believed."""

    code = "trust_expired"


class WrongDeviceError(PublishedError):
    code = "wrong_device"


class WrongModelError(PublishedError):
    code = "wrong_model"


class ManifestMismatchError(PublishedError):
    code = "manifest_mismatch"


class CounterError(PublishedError):
    code = "counter_replayed"


class FloorError(PublishedError):
    code = "below_floor"


class ExpiredError(PublishedError):
    code = "assignment_expired"


class AgentTooOldError(PublishedError):
    code = "agent_too_old"


class RequirementError(PublishedError):
    code = "requirement_unmet"


class DigestError(PublishedError):
    code = "digest_mismatch"


class LengthError(PublishedError):
    code = "length_mismatch"


# The transfer failed.


class TransferError(AgentError):
    code = "transfer_failed"
    retry_after_s: float | None = None


class AnswerError(TransferError):
    """The server answered with an error status."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        retry_after_s: float | None = None,
        details: Any = None,
    ) -> None:
        super().__init__(f"server answered {status} {code}: {message}")
        self.details: dict[str, Any] = details if isinstance(details, dict) else {}
        self.status = status
        self.server_code = code
        self.retry_after_s = retry_after_s


class TlsError(TransferError):
    """No protected connection came about."""

    code = "tls_failed"


class CertificateError(TlsError):
    """Whoever answers could not show that it is the server."""

    code = "certificate_refused"


class NotTheServerError(TransferError):
    """Something between us and the server answered: a captive portal, a proxy page."""

    code = "not_the_server"


class RedirectError(TransferError):
    code = "redirect_refused"


class DownloadError(TransferError):
    code = "download_failed"


# This device cannot do it.


class DiskFullError(AgentError):
    code = "disk_full"


class BudgetError(AgentError):
    """A release has taken all that it may of the network for now."""

    code = "download_budget_spent"


class StateError(AgentError):
    code = "state_corrupt"


class BlobCorruptError(AgentError):
    code = "blob_corrupt"


class ProviderError(AgentError):
    code = "provider_missing"


class InferenceError(AgentError):
    code = "inference_failed"


class InputError(InferenceError):
    """What was asked about is nothing that the model takes; the release is not to blame."""

    code = "input_invalid"


class NoModelError(InferenceError):
    """No release runs that could answer."""

    code = "no_model"


class GuestError(InferenceError):
    """A guest module answered with a failure, or with something that is no answer."""

    code = "guest_failed"


class GuestRefusedError(GuestError):
    """Not a module that may start: malformed, too large, or with imports or exports not ours."""

    code = "guest_refused"


class GuestTrapError(GuestError):
    code = "guest_trapped"


class GuestTimeoutError(GuestError):
    code = "guest_timeout"


class GuestFuelError(GuestError):
    code = "guest_fuel_spent"

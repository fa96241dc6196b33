"""What can be wrong with an intake request or with acting on an incident."""

from registry.exceptions import AviaryError


class BatchTooLargeError(AviaryError):
    """The body, inflated or not, or its number of records is above the limit."""

    code = "batch_too_large"
    http_status = 413


class UnsupportedEncodingError(AviaryError):
    """The body has a content type or encoding that is not understood."""

    code = "unsupported_encoding"
    http_status = 415


class MalformedBatchError(AviaryError):
    """The body is not a batch, or holds not one usable record."""

    code = "unusable_batch"
    http_status = 422


class ForeignDeviceError(AviaryError):
    """The body names another device than the credential does."""

    code = "wrong_device"
    http_status = 403


class IncidentStateError(AviaryError):
    """The incident is not in a state that allows the action."""

    code = "incident_state"
    http_status = 409


class InvalidMuteError(AviaryError):
    """A mute without a reason, or with an end that is past or too far away."""

    code = "invalid_mute"
    http_status = 422


class ReferenceTooSmallError(AviaryError):
    """Too few records or devices to measure others against."""

    code = "reference_too_small"
    http_status = 422


class PrometheusError(AviaryError):
    """Prometheus gave no number."""

    code = "prometheus_failed"
    http_status = 502

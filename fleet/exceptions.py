"""What the fleet refuses, each with its code and status."""

from typing import Any

from registry.exceptions import AviaryError


class NotAuthenticatedError(AviaryError):
    """No credential, or one the server does not know."""

    code = "not_authenticated"
    http_status = 401


class JoinTokenError(AviaryError):
    """The join token is unknown, expired, revoked or used up."""

    code = "join_token_invalid"
    http_status = 401


class DeviceStatusError(AviaryError):
    """The device is known but may not do anything now."""

    code = "device_refused"
    http_status = 403

    def __init__(
        self, message: str = "", details: dict[str, Any] | None = None, *, code: str = ""
    ) -> None:
        super().__init__(message, details)
        if code:
            self.code = code


class WrongDeviceError(AviaryError):
    """The request names another device than its credential's."""

    code = "wrong_device"
    http_status = 403


class SamplingRefusedError(AviaryError):
    """The device has not been allowed to send sampled inputs."""

    code = "sampling_not_allowed"
    http_status = 403


class DeviceExistsError(AviaryError):
    """The device id is taken."""

    code = "device_exists"
    http_status = 409


class AssignmentUnknownError(AviaryError):
    """No assignment of this id was ever given to this device."""

    code = "assignment_unknown"
    http_status = 404


class AssignmentSupersededError(AviaryError):
    """The device is to run something else by now."""

    code = "assignment_superseded"
    http_status = 409


class AssignmentAbortedError(AviaryError):
    """The rollout the assignment belonged to was aborted."""

    code = "assignment_aborted"
    http_status = 410


class InvalidTransitionError(AviaryError):
    """The state does not allow this step."""

    code = "invalid_transition"
    http_status = 409


class StaleRevisionError(AviaryError):
    """Somebody else has changed the rollout since it was read."""

    code = "stale_revision"
    http_status = 409


class InvalidFleetInputError(AviaryError):
    """A value does not make sense for a device, deployment or rollout."""

    code = "invalid"
    http_status = 400


class ReasonRequiredError(AviaryError):
    """What is asked for has gone wrong before, so it needs a reason."""

    code = "reason_required"
    http_status = 400


class ConfirmationRequiredError(AviaryError):
    """The act moves devices at once; its details say how many, from what, to what."""

    code = "confirmation_required"
    http_status = 409


class PayloadTooLargeError(AviaryError):
    """The body is larger than allowed."""

    code = "too_large"
    http_status = 413

"""What can go wrong in this app."""

from registry.exceptions import AviaryError


class NotificationError(AviaryError):
    """Base of every error of this app."""

    code = "notification_error"


class InvalidChannelError(NotificationError):
    """A channel's fields do not fit together."""

    code = "invalid"


class InvalidRuleError(NotificationError):
    """A rule's fields do not fit together."""

    code = "invalid"


class DeliveryStateError(NotificationError):
    """The delivery is in a state in which this is not possible."""

    code = "wrong_state"
    http_status = 409

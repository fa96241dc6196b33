"""Admin pages of the app."""

from notifications.admin import channels, deliveries, rules

__all__ = ["channels", "deliveries", "rules"]

"""Decisions about notifications: values in, values out; no Django, no clock."""

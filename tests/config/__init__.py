"""Tests of the settings, the error shape and the overview."""

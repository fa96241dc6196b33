"""Which keys this device believes: a client of The Update Framework (TUF), specification 1.0.

Offline root keys say which keys may speak for which role; a new root is believed when enough keys
of the one before signed it. So keys are replaced and revoked without touching a device, and a
device that was off for a year catches up root by root.
"""

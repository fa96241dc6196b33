"""The root of trust: which keys may speak for which role, in TUF's own format."""

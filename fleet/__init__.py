"""Which device should run what, and how a change reaches all of them safely."""

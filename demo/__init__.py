"""The whole loop on one machine: publish, compress, enrol, release, catch a regression, find drift.

`python -m demo` plays it and then serves; `python -m demo check` plays it and verifies every
outcome through the public API and the agents' own status.
"""

"""Devices that speak the protocol and run nothing, by the thousand in one process.

For tests, demonstrations and benchmarks of the server; the agent itself is tried by its own tests.
"""

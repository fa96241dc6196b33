"""`python -m aviary_client` is the command `aviary`."""

from aviary_client.cli import run

run()

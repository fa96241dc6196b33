"""How many queries answers cost."""

from collections.abc import Iterable
from typing import Any

from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext


def count_queries(client: Client, addresses: Iterable[str]) -> dict[str, int]:
    """Queries by address; each must be answered with 200."""
    counts = {}
    for address in addresses:
        with CaptureQueriesContext(connection) as queries:
            answer: Any = client.get(address)
            assert answer.status_code == 200, address
            if answer.streaming:
                answer.getvalue()
        counts[address] = len(queries)
    return counts

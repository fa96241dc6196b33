"""Text that every store of ours can keep."""

from __future__ import annotations

import re

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def is_storable(text: str) -> bool:
    """False when `text` holds U+0000, which PostgreSQL refuses, or half of a surrogate pair, which
    UTF-8 cannot say."""
    return _UNSTORABLE.search(text) is None


def make_storable(text: str) -> str:
    """`text` with what cannot be stored written as its escape, `\\x00` or `\\ud800`."""
    return _UNSTORABLE.sub(lambda found: ascii(found.group())[1:-1], text)

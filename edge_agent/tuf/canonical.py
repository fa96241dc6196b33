"""Canonical JSON as TUF signs it (OLPC canonical JSON): one value, one text."""

from typing import Any

from edge_agent.exceptions import TrustDocumentError

MAX_DEPTH = 32


def encode_canonical(value: Any) -> bytes:
    """The bytes that a signature covers.

    Keys are sorted, there is no white space, strings escape the quote and the backslash alone, and
    numbers are integers.

    Raises:
        TrustDocumentError: a fraction, a key that is no text, or nesting past `MAX_DEPTH`.
    """
    pieces: list[str] = []
    _encode(value, pieces, 0)
    try:
        return "".join(pieces).encode("utf-8")
    except UnicodeEncodeError as error:
        raise TrustDocumentError(f"text is not Unicode: {error.reason}") from error


def _encode(value: Any, pieces: list[str], depth: int) -> None:
    if depth > MAX_DEPTH:
        raise TrustDocumentError(f"expected at most {MAX_DEPTH} levels")
    if isinstance(value, str):
        pieces.append(_quote(value))
    elif value is True or value is False or value is None:
        pieces.append({True: "true", False: "false", None: "null"}[value])
    elif isinstance(value, int):
        pieces.append(str(value))
    elif isinstance(value, list):
        pieces.append("[")
        for index, item in enumerate(value):
            pieces.append("," if index else "")
            _encode(item, pieces, depth + 1)
        pieces.append("]")
    elif isinstance(value, dict):
        pieces.append("{")
        for index, name in enumerate(sorted(value)):
            pieces.append(("," if index else "") + _quote(name) + ":")
            _encode(value[name], pieces, depth + 1)
        pieces.append("}")
    else:
        raise TrustDocumentError(f"expected JSON without fractions, got {type(value).__name__}")


def _quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

"""The least that the same web server can answer with: an empty 304 to everything."""

from typing import Any


class Bare:
    """An RSGI application, as `config.rsgi` is."""

    async def __rsgi__(self, scope: Any, protocol: Any) -> None:
        protocol.response_empty(304, [("ETag", '"0123456789abcdef0123456789abcdef"')])


def wsgi(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """The same as a WSGI application."""
    start_response("304 Not Modified", [("ETag", '"0123456789abcdef0123456789abcdef"')])
    return []


application = Bare()

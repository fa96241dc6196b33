"""What stands in an address: refused where it cannot be stored, or where nobody would look."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from drf_spectacular.generators import SchemaGenerator

from config.api import error_body
from registry.plain_text import is_storable, make_storable

_PEOPLES = "/api/v1/"
_READING = {"HEAD": "get", "OPTIONS": ""}
#: Understood everywhere: the browsable answer's form.
_ALWAYS = frozenset({"format"})


class QueryMiddleware:
    """Checks the path and the query of every call.

    A parameter that an address of the management API does not know is refused with those it knows:
    a filter that does not exist would return everything. Devices may send what an older server
    does not know.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if not is_storable(request.path_info):
            return _refuse(404, "not_found", "No address holds U+0000.")
        for name, values in request.GET.lists():
            if not all(map(is_storable, (name, *values))):
                shown = make_storable(name)[:64]
                return _refuse(400, "invalid", f"?{shown}: a text with U+0000.")
        return self._get_response(request)

    def process_view(
        self, request: HttpRequest, view: Any, args: Any, kwargs: Any
    ) -> HttpResponse | None:
        """The refusal of a parameter that this address does not know; None without one."""
        if not request.GET or not request.path.startswith(_PEOPLES):
            return None
        match = request.resolver_match
        method = _READING.get(request.method or "", (request.method or "").lower())
        known = known_parameters().get((method, _shape(match.route))) if match else None
        if known is None:
            return None
        unknown = sorted(set(request.GET) - known - _ALWAYS)
        if not unknown:
            return None
        names = ", ".join(f"{name[:64]!a}" for name in unknown[:5])
        expected = ", ".join(sorted(known)) or "none"
        return _refuse(
            400, "unknown_parameter", f"Unknown parameter {names}; known are: {expected}."
        )


@lru_cache(maxsize=1)
def known_parameters() -> dict[tuple[str, str], frozenset[str]]:
    """Method and shape of a path to the query parameters that the OpenAPI schema names."""
    schema = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    return {
        (method, _shape(path)): frozenset(
            parameter["name"]
            for parameter in operation.get("parameters", ())
            if parameter["in"] == "query"
        )
        for path, operations in schema["paths"].items()
        for method, operation in operations.items()
    }


def _shape(route: str) -> str:
    """A path or a route of Django's with its parts that vary as `{}`."""
    route = re.sub(r"\(\?P<\w+>(?:[^()\[\]]|\[[^\]]*\])*\)|<[^>]*>|\{[^}]*\}", "{}", route)
    return "/" + route.replace("^", "").replace("$", "").replace("\\Z", "").lstrip("/")


def _refuse(status: int, code: str, message: str) -> JsonResponse:
    return JsonResponse(error_body(code, message), status=status)

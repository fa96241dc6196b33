"""What the OpenAPI schema says beyond what the views do."""

from typing import Any

_ERROR = {
    "type": "object",
    "description": "The one shape of every error.",
    "properties": {
        "code": {"type": "string", "description": "A short reason, for programs."},
        "message": {"type": "string", "description": "What was expected and what came."},
        "details": {"type": "object", "additionalProperties": {}},
    },
    "required": ["code", "message", "details"],
}


def document_errors(result: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
    """The schema with the error shape as the `default` answer of every operation."""
    result.setdefault("components", {}).setdefault("schemas", {})["Error"] = _ERROR
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    for path in result["paths"].values():
        for operation in path.values():
            if isinstance(operation, dict) and "responses" in operation:
                operation["responses"].setdefault(
                    "default", {"description": "Refused or failed.", "content": content}
                )
    return result

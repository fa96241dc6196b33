"""The labels that selectors see, as the database computes them."""

from __future__ import annotations

from typing import Any

from django.db.models import Func, JSONField


class LabelOverlay(Func):
    """One flat JSON object laid over another: the second's values win."""

    output_field = JSONField()
    arity = 2
    template = "(%(expressions)s)"
    arg_joiner = " || "

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(
            compiler, connection, template="json_patch(%(expressions)s)", arg_joiner=", ", **context
        )

"""Tables as CSV and the Pareto picture as SVG, beside JSON."""

import json
from typing import Any

from rest_framework.renderers import BaseRenderer

from compression.report.comparison import pick_fields
from compression.report.picture import draw_points, draw_svg
from registry.spreadsheets import write_lines


class RowsRenderer(BaseRenderer):
    """What is no list of rows is an error, and goes out as one."""

    charset = "utf-8"

    def render(
        self, data: Any, accepted_media_type: Any = None, renderer_context: Any = None
    ) -> str:
        view = (renderer_context or {}).get("view")
        if not isinstance(data, list) or view is None:
            return _write_error(data, renderer_context)
        return self.write_rows(data, view)

    def write_rows(self, rows: list[dict[str, Any]], view: Any) -> str:
        raise NotImplementedError


class CsvRenderer(RowsRenderer):
    """Rows as CSV, for `?format=csv` or `Accept: text/csv`; the view names the fields."""

    media_type = "text/csv"
    format = "csv"

    def write_rows(self, rows: list[dict[str, Any]], view: Any) -> str:
        return "".join(write_lines(view.csv_fields, pick_fields(view.csv_fields, rows)))


class SvgRenderer(RowsRenderer):
    """Rows as a picture of size against quality, for `?format=svg`; the view names it."""

    media_type = "image/svg+xml"
    format = "svg"

    def write_rows(self, rows: list[dict[str, Any]], view: Any) -> str:
        return draw_svg(draw_points(rows), view.picture_title)


def _write_error(data: Any, context: dict[str, Any] | None) -> str:
    """An error in the one shape of errors, and called what it is."""
    response = (context or {}).get("response")
    if response is not None:
        response["Content-Type"] = "application/json"
    return json.dumps(data)

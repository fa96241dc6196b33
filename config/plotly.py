"""The chart library, out of the installed wheel: pages draw without the Internet."""

import gzip
from functools import lru_cache
from importlib import metadata, util
from pathlib import Path

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

#: Part of the address, so that a browser may keep the file for good.
PLOTLY_VERSION = metadata.version("plotly")


@require_safe
def plotly_script(request: HttpRequest) -> HttpResponse:
    """The script, gzipped; public like any static file."""
    response = HttpResponse(_packed_script(), content_type="text/javascript; charset=utf-8")
    response["Content-Encoding"] = "gzip"
    response["Cache-Control"] = "public, max-age=31536000, immutable"
    return response


@lru_cache(maxsize=1)
def _packed_script() -> bytes:
    spec = util.find_spec("plotly")
    assert spec is not None and spec.origin is not None
    script = Path(spec.origin).parent / "package_data" / "plotly.min.js"
    return gzip.compress(script.read_bytes(), 6, mtime=0)

"""The documentation site: `make docs` builds it into var/docs."""

import os
import re
import sys
from pathlib import Path

import django

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
os.environ.setdefault("AVIARY_HOME", str(ROOT / "var" / "lint"))
django.setup()

project = "Aviary"
copyright = "the Aviary authors, Apache-2.0"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
html_theme = "furo"
html_title = "Aviary"
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
autodoc_typehints = "description"
autodoc_member_order = "bysource"
#: Where links to files that are no pages of the site lead; empty names the file alone.
REPOSITORY_URL = os.environ.get("AVIARY_REPOSITORY_URL", "")


def lead_outside(app, docname, source):
    """Has links to files of the repository that are no pages lead there, or name the file."""
    here = (ROOT / "docs" / docname).parent

    def replace(match):
        words, target = match.group(1), match.group(2)
        path = target.partition("#")[0]
        if "://" in target or not path:
            return match.group(0)
        file = (here / path).resolve()
        is_page = file.is_relative_to(ROOT / "docs") and file.suffix in {".md", ".svg", ".png"}
        if is_page:
            return match.group(0)
        name = file.relative_to(ROOT)
        return f"[{words}]({REPOSITORY_URL}/{name})" if REPOSITORY_URL else f"{words} (`{name}`)"

    source[0] = re.sub(r"(?<!!)\[([^\]]*)\]\(([^)\s]+)\)", replace, source[0])


def setup(app):
    app.connect("source-read", lead_outside)

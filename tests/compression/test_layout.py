"""This package must not hide the standard library's package of the same name."""

import sys
from pathlib import Path

import compression
from servers.kept import run

ROOT = Path(compression.__file__).resolve().parent.parent


def test_gzip_and_django_start_from_the_repository_root():
    code = (
        "import gzip, bz2, lzma, django; import compression; gzip.decompress(gzip.compress(b'x'))"
    )
    assert run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_modules_of_the_standard_library_are_found_beside_ours(tmp_path, monkeypatch):
    other = tmp_path / "compression"
    other.mkdir()
    (other / "__init__.py").write_text("")
    (other / "_common.py").write_text("FOUND = True")
    code = f"import sys; sys.path.append({str(tmp_path)!r}); from compression._common import FOUND"
    assert run([sys.executable, "-c", code], cwd=ROOT).returncode == 0

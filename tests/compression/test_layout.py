"""This package must not hide the standard library's package of the same name."""

import subprocess
import sys
from pathlib import Path

import compression

ROOT = Path(compression.__file__).resolve().parent.parent


def test_gzip_and_django_start_from_the_repository_root():
    code = (
        "import gzip, bz2, lzma, django; import compression; gzip.decompress(gzip.compress(b'x'))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)


def test_modules_of_the_standard_library_are_found_beside_ours(tmp_path, monkeypatch):
    other = tmp_path / "compression"
    other.mkdir()
    (other / "__init__.py").write_text("")
    (other / "_common.py").write_text("FOUND = True")
    code = f"import sys; sys.path.append({str(tmp_path)!r}); from compression._common import FOUND"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)

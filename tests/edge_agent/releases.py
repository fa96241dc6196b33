"""Running sessions made without a server, for tests of what answers requests."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from edge_agent.config import Config, InferenceConfig
from edge_agent.inference.session import ModelSession
from edge_agent.observation.observe import Observer
from edge_agent.observation.spool import Spool
from edge_agent.observation.spool_writer import SpoolWriter
from edge_agent.releases.trust import parse_manifest
from edge_agent.serving.serving import Serving
from edge_agent.serving.slots import ModelSlot
from tests.edge_agent.publisher import MODEL, make_manifest


def make_session(
    folder: Path, data: bytes, config: InferenceConfig | None = None, **manifest: Any
) -> ModelSession:
    """A session of the real runtime on the model `data`; the manifest's fields can be given."""
    document = make_manifest({"model.onnx": ("model", data)}, **manifest)
    parsed = parse_manifest(json.dumps(document).encode())
    path = folder / parsed.digest
    path.write_bytes(data)
    return ModelSession(path, parsed, config or InferenceConfig())


class Station:
    """A serving with its slots, spool and writer; nothing of it reaches the network."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.config = Config(device_id="d", server_url="http://nobody", home=folder, **settings)
        self.spool = Spool(folder / "spool.db", self.config.spool)
        self.writer = SpoolWriter(self.spool, self.config.spool)
        self.observer = Observer(self.config)
        self.slots: dict[str, ModelSlot] = {}
        self.serving = Serving(self.config, self.slots, self.writer, self.observer)

    def put(self, data: bytes, slug: str = MODEL, **manifest: Any) -> ModelSession:
        """Loads the model `data` and lets it take over the slot of `slug`."""
        session = make_session(
            self.folder, data, self.config.inference, **{"model": slug, **manifest}
        )
        self.slots.setdefault(slug, ModelSlot()).swap(session)
        return session

    def records(self) -> list[dict[str, Any]]:
        """What was recorded so far."""
        self.writer.flush()
        return self.spool.export()

    def close(self) -> None:
        self.spool.close()


def with_inference(**over: Any) -> InferenceConfig:
    return dataclasses.replace(InferenceConfig(), **over)

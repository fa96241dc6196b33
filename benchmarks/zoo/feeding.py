"""A model's rows as calls, by the product's own reading of inputs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from registry.validation.feeds import Rows, choose_specs, fit_dataset
from registry.validation.rules import extract_signature

Feeds = list[dict[str, Any]]


def read_rows(model: Path, dataset: Path, axes: Mapping[str, int | None] | None = None) -> Rows:
    """The rows of a data set as the model takes them."""
    graph = onnx.load(str(model), load_external_data=False)
    specs = choose_specs(extract_signature(graph)["inputs"], axes or {})
    with np.load(dataset, allow_pickle=False) as archive:
        return fit_dataset(specs, dict(archive))


def list_feeds(rows: Rows) -> Feeds:
    """One call a row, or as many rows as the graph takes."""
    return [feed for feed, _ in rows.batches(1)]

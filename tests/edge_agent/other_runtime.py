"""Loads a model with the agent's own code and prints what runs it, as one line of JSON.

The tests run it in an interpreter whose runtime has other providers than theirs.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.config import InferenceConfig, check_inference
from edge_agent.exceptions import AgentError
from edge_agent.inference.session import ModelSession
from edge_agent.releases.trust import parse_manifest


def main(request: dict[str, Any]) -> dict[str, Any]:
    settings = {**request["inference"], "providers": tuple(request["inference"]["providers"])}
    config = check_inference(InferenceConfig(**settings))
    manifest = parse_manifest(Path(request["manifest"]).read_bytes())
    cache = Path(request["cache"])
    try:
        session = ModelSession(Path(request["model"]), manifest, config, cache=cache)
    except AgentError as error:
        return {"error": error.code, "message": str(error)}
    row = np.asarray(request["row"], dtype=np.float32)
    result = session.infer(row)
    return {
        **session.providers.as_row(),
        "outputs": result.outputs[0].tolist(),
        "cached": sorted(str(p.relative_to(cache)) for p in cache.rglob("*") if p.is_file()),
    }


if __name__ == "__main__":
    print(json.dumps(main(json.load(sys.stdin))))

"""Runs recipes through the product's own chain and keeps what steps they share."""

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.compress.subjects import Subject
from compression.engine.run_recipe import run_chain
from compression.recipe.provenance import step_keys
from compression.recipe.recipe import SCHEMA, parse_recipe

Passes = Sequence[dict[str, Any]]
THREADS = 2
RANDOM_ROWS = 16


@dataclass
class ChainRunner:
    """One subject's recipes, run in one scratch directory; equal beginnings run once."""

    subject: Subject
    scratch: Path
    _steps: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.scratch.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.subject.model, self.scratch / "source.onnx")
        shutil.copyfile(self.subject.evaluation, self.scratch / "evaluation.npz")
        if self.subject.calibration:
            shutil.copyfile(self.subject.calibration, self.scratch / "calibration.npz")
        self._source_digest = hashlib.sha256(self.subject.model.read_bytes()).hexdigest()

    def run(
        self, name: str, passes: Passes, *, random_rows: int | None = None, **sections: Any
    ) -> tuple[dict[str, Any], Path]:
        """The product's report on a recipe, and the variant's file.

        Args:
            name: what the file is called.
            passes: the recipe's passes.
            random_rows: calibrate on so many random rows instead of the subject's set.
            sections: other sections of the recipe.
        """
        is_random = self.subject.calibration is None or random_rows is not None
        rows = random_rows or RANDOM_ROWS
        least = rows if is_random else self.subject.min_calibration
        data = {"allow_random": is_random, "min_calibration": least}
        document = {
            "schema": SCHEMA,
            "passes": list(passes),
            "data": data,
            "limits": {"threads": THREADS},
            **sections,
        }
        recipe = parse_recipe(document)
        calibration = None if is_random else "calibration.npz"
        keys = step_keys(self._source_digest, recipe, calibration)
        done = []
        for key in keys:
            if key not in self._steps:
                break
            file, notes = self._steps[key]
            done.append({"file": file, "notes": notes})

        def keep_step(kind: str, **event: Any) -> None:
            if kind == "step" and event["state"] == "done":
                key = keys[event["index"]]
                shutil.copyfile(self.scratch / event["file"], self.scratch / f"{key}.onnx")
                self._steps[key] = (f"{key}.onnx", event["notes"])

        order = {
            "recipe": recipe.to_json(),
            "source": "source.onnx",
            "calibration": calibration,
            "evaluation": "evaluation.npz",
            "done": done,
        }
        report = run_chain(order, self.scratch, keep_step)
        path = self.scratch / f"{name}.onnx"
        shutil.copyfile(self.scratch / report["file"], path)
        return report, path

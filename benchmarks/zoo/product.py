"""The product's own way of a model: validated in its limited child, compressed in the engine's."""

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.zoo.catalogue import Entry
from compression.recipe.recipe import SCHEMA, parse_recipe
from compression.worker.supervisor import supervise
from registry.exceptions import ChildFailedError
from registry.validation.parent import RejectedError, run_child

THREADS = 1
PASS_SECONDS = {"mixed": 60, "prune": 60}
"""Wall time of a pass; of those that a peer has too, as much as the peer gets."""
PEER_SECONDS = 120
SEARCH_SECONDS = 15
AGREEMENT = 0.95
"""What a person asks of a compressed classifier."""
MAX_MODEL_BYTES = 512 * 1024**2
MEMORY_BYTES = 6 * 1024**3
REFUSALS = ("model_unsupported", "dataset_unusable", "recipe_invalid")

_PREPARE = {"pass": "prepare"}
RECIPES: dict[str, tuple[dict[str, Any], ...]] = {
    "dynamic": (_PREPARE, {"pass": "quantize.dynamic"}),
    "static": (_PREPARE, {"pass": "quantize.static"}),
    "fp16": (_PREPARE, {"pass": "convert.fp16"}),
    "weights": (_PREPARE, {"pass": "quantize.weights", "bits": 8}),
    "mixed": (_PREPARE, {"pass": "mixed.search"}),
    "prune": (
        _PREPARE,
        # A tenth alike in every layer, not repaired: what choosing and repairing takes is minutes.
        {
            "pass": "prune.structured",
            "ratio": 0.1,
            "allocation": "uniform",
            "repair": False,
            "samples": 16,
        },
    ),
}
"""Each kind that a peer has, and three more."""


@dataclass(frozen=True)
class Upload:
    """What became of an upload; `reason` where it was refused."""

    contract: dict[str, Any] | None
    first: dict[str, Any] | None = None
    """What was inferred before a person said anything."""
    question: str = ""
    reason: str = ""
    has_profile: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def is_taken(self) -> bool:
        return self.contract is not None


@dataclass(frozen=True)
class Made:
    """A variant's file, or why there is none.

    `state` is `done`, `refused` (the product says what is in the way, or a gate does) or `failed`.
    """

    state: str
    reason: str = ""
    path: Path | None = None


def upload(entry: Entry, model: Path, calibration: Path, folder: Path) -> Upload:
    """As the registry does it, its question answered by what the entry says."""
    try:
        found = _inspect(entry, model, calibration, folder / "upload", {})
        first = found["contract"]
        question = found["question"]
        if first is None or (first["task"], first["form"]) != (entry.task, entry.form):
            # A person sees what was inferred and corrects it.
            found = _inspect(entry, model, calibration, folder / "corrected", dict(entry.says))
    except (RejectedError, ChildFailedError) as error:
        return Upload(None, reason=str(error))
    reason = "" if found["contract"] else f"asked again: {found['question']}"
    return Upload(
        found["contract"],
        first,
        question,
        reason,
        found["profile"] is not None,
        found["notes"],
    )


def _inspect(
    entry: Entry, model: Path, calibration: Path, folder: Path, given: dict[str, Any]
) -> dict[str, Any]:
    (folder / "files").mkdir(parents=True)
    shutil.copyfile(model, folder / "files" / "model.onnx")
    shutil.copyfile(calibration, folder / "dataset.npz")
    return run_child(
        folder,
        {
            "task": "model",
            "model_path": "model.onnx",
            "external_paths": [],
            "processor_paths": [],
            "processor_golden_paths": [],
            "max_model_bytes": MAX_MODEL_BYTES,
            "model_task": "classification",
            "is_task_open": not entry.labels,
            "labels": list(entry.labels),
            "contract_given": given,
        },
    )


def compress(
    kind: str, contract: dict[str, Any], model: Path, sets: dict[str, Path], folder: Path
) -> Made:
    """One recipe in the engine's limited child."""
    seconds = PASS_SECONDS.get(kind, PEER_SECONDS)
    folder.mkdir(parents=True)
    shutil.copyfile(model, folder / "source.onnx")
    for name in ("calibration", "evaluation"):
        shutil.copyfile(sets[name], folder / f"{name}.npz")
    is_classes = contract["task"] == "classification"
    recipe = parse_recipe(
        {
            "schema": SCHEMA,
            "passes": list(RECIPES[kind]),
            "data": {"min_calibration": 1},
            "gates": {"min_agreement": AGREEMENT if is_classes else None},
            "search": {"seconds": SEARCH_SECONDS},
            "limits": {
                "threads": THREADS,
                "wall_seconds": seconds,
                "memory_bytes": MEMORY_BYTES,
            },
        }
    ).to_json()
    order = {
        "recipe": recipe,
        "limits": recipe["limits"],
        "source": "source.onnx",
        "calibration": "calibration.npz",
        "evaluation": "evaluation.npz",
        "contract": contract,
        "registered_accuracy": None,
        "done": [],
    }
    (folder / "order.json").write_text(json.dumps(order))
    outcome = supervise(
        folder,
        wall_seconds=seconds,
        threads=THREADS,
        on_event=lambda event: None,
        should_stop=lambda: False,
    )
    if outcome.kind != "done" or outcome.report is None:
        state = "refused" if outcome.code in REFUSALS else "failed"
        return Made(state, f"{outcome.code or outcome.kind}: {outcome.message}")
    report = outcome.report
    if report["outcome"] != "passed":
        failed = [row["sentence"] for row in report["gates"] if not row["passed"]]
        flags = report["variant"].get("collapse_flags") or []
        return Made("refused", f"{report['outcome']}: {'; '.join([*failed, *flags])}")
    return Made("done", "", folder / report["file"])

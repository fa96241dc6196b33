"""`make bench-compress`: a table, then one last line of JSON with every figure by its key.

Models can be named to measure these alone: `MODELS="digits-resnet"`. After `BUDGET` seconds (870)
no further variant is begun: its row says so.
"""

import argparse
import json
import logging
import os
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.compress import figures, recipes
from benchmarks.compress.chains import RANDOM_ROWS, THREADS, ChainRunner
from benchmarks.compress.figures import Row
from benchmarks.compress.peers import PEERS
from benchmarks.compress.poison import poison_model
from benchmarks.compress.subjects import Subject, demo_subject, digit_subjects, random_subjects
from compression.exceptions import CompressionError
from compression.measure.evaluation import evaluate_variant
from compression.measure.models import OpenModel
from compression.measure.samples import input_specs, load_samples, random_samples
from compression.recipe.provenance import cpu_flags, library_versions
from compression.recipe.recipe import Target

SEED = 0
BUDGET_SECONDS = 870.0
LARGE_MODEL = "mobilenetv2-224"
OUT_OF_TIME = "not begun: the time of the benchmark was used up"
MIXED_LARGE = {"samples": RANDOM_ROWS, "probe": RANDOM_ROWS, "max_drop_points": 10.0}


class Bench:
    """Measures subjects one after the other and prints a line for each variant."""

    def __init__(self, folder: Path, budget_seconds: float = BUDGET_SECONDS) -> None:
        self.folder = folder
        self.deadline = time.monotonic() + budget_seconds
        self.rows: list[Row] = []
        self.extra: dict[str, Any] = {}

    def measure(
        self, model: str, variant: str, run: Callable[[], dict[str, Any]], *, has_accuracy: bool
    ) -> Row:
        """One row; a refusal or a missing tool becomes its reason."""
        started = time.monotonic()
        if started > self.deadline:
            row = Row(model, variant, reason=OUT_OF_TIME)
            self.rows.append(row)
            return row
        try:
            report = run()
        except CompressionError as error:
            row = Row(model, variant, reason=f"refused: {error}")
        except Exception as error:  # noqa: BLE001 the other rows are still worth having
            row = Row(model, variant, reason=f"failed: {type(error).__name__}: {error}"[:300])
        else:
            seconds = time.monotonic() - started
            row = Row(model, variant, report, seconds, has_accuracy=has_accuracy)
            if not any(other.model == model for other in self.rows):
                self.rows.append(figures.source_row(report, model, has_accuracy))
        self.rows.append(row)
        print(" | ".join(row.cells()), flush=True)
        return row

    def measure_recipes(self, subject: Subject, passes_by_name: dict[str, recipes.Passes]) -> None:
        runner = ChainRunner(subject, self.folder / subject.name)
        for name, passes in passes_by_name.items():
            self.measure(
                subject.name,
                name,
                lambda name=name, passes=passes: runner.run(name, passes)[0],
                has_accuracy=subject.is_trained,
            )
        if subject.is_trained:
            self.measure(
                subject.name,
                "static-int8-random",
                lambda: runner.run(
                    "static-int8-random",
                    recipes.preset("static-int8"),
                    random_rows=recipes.RANDOM_ROWS,
                )[0],
                has_accuracy=True,
            )

    def measure_peers(self, subject: Subject) -> None:
        specs = input_specs(subject.model, {})
        evaluation = load_samples(subject.evaluation, specs)
        calibration = (
            load_samples(subject.calibration, specs)
            if subject.calibration
            else random_samples(specs, RANDOM_ROWS, SEED)
        )
        for peer in PEERS:
            path = self.folder / f"{subject.name}-{peer.name}.onnx"

            def run(peer: Any = peer, path: Path = path) -> dict[str, Any]:
                peer.run(subject, calibration, path)
                return evaluate_variant(
                    OpenModel(subject.model, THREADS),
                    OpenModel(path, THREADS),
                    evaluation,
                    target=Target(),
                )

            self.measure(subject.name, peer.name, run, has_accuracy=subject.is_trained)

    def measure_poisoned(self, subject: Subject) -> None:
        """Static INT8 and the mixed search on a model with four poisoned convolutions."""
        path = self.folder / f"{subject.name}-poisoned.onnx"
        poison_model(subject.model, path)
        poisoned = Subject(path.stem, path, subject.calibration, subject.evaluation)
        names = ("static-int8", "mixed")
        self.measure_recipes(poisoned, {name: recipes.preset(name) for name in names})

    def measure_large_search(self, subject: Subject) -> None:
        """The seconds that the mixed search takes on the 14 MB model."""
        runner = ChainRunner(subject, self.folder / f"{subject.name}-search")
        passes = [recipes.PREPARE, {"pass": "mixed.search", **MIXED_LARGE}]
        row = self.measure(
            subject.name, "mixed", lambda: runner.run("mixed", passes)[0], has_accuracy=False
        )
        if row.report:
            self.extra["mixed_search_seconds"] = row.report["passes"][-1]["seconds"]


def main() -> int:
    """Measures all models, or those named; 0 when nothing failed."""
    parser = argparse.ArgumentParser(prog="benchmarks.compress")
    parser.add_argument("models", nargs="*")
    parser.add_argument("--budget", type=float, default=BUDGET_SECONDS, help="seconds")
    arguments = parser.parse_args()
    started = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="bench-compress-"))
    bench = Bench(folder, arguments.budget)
    try:
        measure_all(bench, set(arguments.models))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print()
    print(figures.format_table(sorted(bench.rows, key=lambda row: row.model)))
    print()
    print(f"CPU flags {' '.join(cpu_flags())}; {os.cpu_count()} cores; {library_versions()}")
    result = figures.collect_figures(bench.rows) | bench.extra
    result["bench_seconds"] = round(time.monotonic() - started, 1)
    print(json.dumps(result, separators=(",", ":")))
    return 0 if all(row.report or row.reason == OUT_OF_TIME for row in bench.rows) else 1


def measure_all(bench: Bench, wanted: set[str]) -> None:
    """Every part, the asked-for figures first, in case that time runs out.

    Raises:
        SystemExit: a name that is no model's.
    """
    subjects = {item.name: item for item in (demo_subject(), *digit_subjects(bench.folder))}
    subjects |= {item.name: item for item in random_subjects(bench.folder)}
    if unknown := wanted - set(subjects):
        raise SystemExit(f"unknown models {sorted(unknown)}; there are {sorted(subjects)}")
    chosen = [item for name, item in subjects.items() if not wanted or name in wanted]
    for subject in chosen:
        if subject.name == figures.DEMO_MODEL:
            bench.measure_recipes(subject, recipes.demo_recipes())
        elif subject.is_trained:
            table = recipes.trained_recipes()
            if subject.name == figures.HEADLINE_MODEL:
                table |= recipes.training_recipes()
            bench.measure_recipes(subject, table)
        elif subject.name == LARGE_MODEL:
            bench.measure_large_search(subject)
        if subject.name == figures.HEADLINE_MODEL:
            bench.measure_poisoned(subject)
    for subject in chosen:
        if not subject.is_trained:
            bench.measure_recipes(subject, recipes.random_recipes())
        if subject.name != figures.DEMO_MODEL:
            bench.measure_peers(subject)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    sys.exit(main())

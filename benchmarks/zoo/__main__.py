"""`make bench-zoo`: the matrix, then one last line of JSON. `MODELS="a b"` for some models."""

import argparse
import json
import logging
import shutil
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from benchmarks.zoo import tables
from benchmarks.zoo.catalogue import ENTRIES, Entry, Packaged
from benchmarks.zoo.children import run_peer, try_variants
from benchmarks.zoo.inputs import draw_sets
from benchmarks.zoo.judging import Cell, failures_where_a_peer_succeeds, judge_cell
from benchmarks.zoo.kept import keep, read_kept
from benchmarks.zoo.packages import read_checked, size_of
from benchmarks.zoo.peers import PEERS_BY_KIND
from benchmarks.zoo.product import RECIPES, Made, Upload, compress, upload

OURS = "aviary"
BUDGET_SECONDS = 1800.0


@dataclass
class Bench:
    """Takes one model after the other through everything."""

    folder: Path
    uploads: dict[str, Upload] = field(default_factory=dict)
    cells: list[Cell] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def measure(self, entry: Entry) -> None:
        """One model; its files are gone afterwards, its figures are kept."""
        started = time.monotonic()
        folder = self.folder / entry.name
        folder.mkdir()
        model, sets = prepare(entry, folder)
        taken = upload(entry, model, sets["calibration"], folder)
        self.uploads[entry.name] = taken
        made: dict[tuple[str, str], Made] = {}
        for kind in RECIPES:
            made[OURS, kind] = (
                compress(kind, taken.contract, model, sets, folder / f"ours-{kind}")
                if taken.contract
                else Made("failed", "never uploaded")
            )
            for peer in PEERS_BY_KIND.get(kind, ()):
                made[peer, kind] = run_peer(peer, model, sets["calibration"], folder / peer)
        cells = judge(entry, taken, model, sets["check"], made, folder / "trial")
        shutil.rmtree(folder)
        seconds = time.monotonic() - started
        self.cells += cells
        self.seconds += seconds
        keep(entry.name, taken, cells, seconds)
        print(tables.describe_model(entry, taken, cells, seconds), flush=True)

    def take_kept(self, name: str) -> bool:
        """Whether the figures of this model are there from a run before."""
        kept = read_kept(name)
        if kept is None:
            return False
        self.uploads[name], cells, seconds = kept
        self.cells += cells
        self.seconds += seconds
        return True


def prepare(entry: Entry, folder: Path) -> tuple[Path, dict[str, Path]]:
    """The model's file, and its three sets of rows as npz."""
    model = folder / "model.onnx"
    learned = None
    if isinstance(entry.source, Packaged):
        source = entry.source
        model.write_bytes(read_checked(source.package, source.member, source.sha256))
    else:
        learned = entry.source.write(model)
    sets = {}
    for name, arrays in draw_sets(entry.draw, entry.rows, learned).items():
        sets[name] = folder / f"{name}.npz"
        np.savez(sets[name], **arrays)  # type: ignore[arg-type]
    return model, sets


def judge(
    entry: Entry,
    taken: Upload,
    model: Path,
    check: Path,
    made: dict[tuple[str, str], Made],
    folder: Path,
) -> list[Cell]:
    """The cells of all tools, by the agent's own answers."""
    # Peers need no upload: where there is none they are judged by what the model is.
    contract = taken.contract or {"task": "other", "form": "none", "outputs": {}}
    names = [item.name for item in onnxruntime.InferenceSession(str(model)).get_outputs()]
    judged = [names.index(name) for name in contract["outputs"].values()]
    if contract["task"] == "classification" and contract["form"] in ("map", "label"):
        judged = []
    elif not judged:
        judged = list(range(len(names)))
    paths = {
        f"{tool}/{kind}": str(result.path)
        for (tool, kind), result in made.items()
        if result.path is not None
    }
    job = {
        "source": str(model),
        "check": str(check),
        "contract": contract,
        "labels": list(entry.labels),
        "axes": contract.get("input_batch_axes", {}),
        "judged": judged,
        "boxes_axis": contract.get("class_axis", -1) if contract["task"] == "detection" else None,
        "variants": paths,
    }
    rows = try_variants(job, folder) if paths else {}
    cells = []
    for (tool, kind), result in made.items():
        if result.path is None:
            cells.append(Cell(entry.name, tool, kind, result.state, result.reason))
            continue
        ratio = model.stat().st_size / result.path.stat().st_size
        cells.append(judge_cell(entry.name, tool, kind, row=rows[f"{tool}/{kind}"], ratio=ratio))
    return cells


def main() -> int:
    """Measures all models, or those named; 0 when the aims are met."""
    parser = argparse.ArgumentParser(prog="benchmarks.zoo")
    parser.add_argument("models", nargs="*")
    parser.add_argument("--budget", type=float, default=BUDGET_SECONDS, help="seconds")
    parser.add_argument("--resume", action="store_true", help="take what var/zoo has")
    parser.add_argument("--write", type=Path, help="a Markdown file that the tables go into")
    arguments = parser.parse_args()
    known = {entry.name: entry for entry in ENTRIES}
    if unknown := set(arguments.models) - set(known):
        raise SystemExit(f"unknown models {sorted(unknown)}; there are {sorted(known)}")
    chosen = [entry for name, entry in known.items() if name in (arguments.models or known)]
    chosen.sort(key=size_in_bytes)
    started = time.monotonic()
    bench = Bench(Path(tempfile.mkdtemp(prefix="bench-zoo-")))
    try:
        for entry in chosen:
            if arguments.resume and bench.take_kept(entry.name):
                continue
            if time.monotonic() - started > arguments.budget:
                bench.skipped.append(entry.name)
                continue
            bench.measure(entry)
    finally:
        shutil.rmtree(bench.folder, ignore_errors=True)
    figures = collect(bench, chosen)
    text = tables.write_page(chosen, bench.uploads, bench.cells, figures)
    print(text)
    if arguments.write:
        tables.replace_tables(arguments.write, text)
    if bench.skipped:
        print(f"Not begun, the time was used up: {', '.join(bench.skipped)}")
    print(json.dumps(figures, separators=(",", ":")))
    is_met = not figures["zoo_wrong"] and not figures["zoo_failed_where_peer_succeeds"]
    return 0 if is_met and not bench.skipped else 1


def size_in_bytes(entry: Entry) -> int:
    """The smallest are measured first, in case that time runs out; exports are small."""
    source = entry.source
    return size_of(source.package, source.member) if isinstance(source, Packaged) else 0


def collect(bench: Bench, chosen: list[Entry]) -> dict[str, Any]:
    """The figures of the last line."""
    ours = [cell for cell in bench.cells if cell.tool == OURS]
    peers = [cell for cell in bench.cells if cell.tool != OURS]
    tried = [entry for entry in chosen if entry.name in bench.uploads]
    count = max(len(tried), 1)
    taken = [entry for entry in tried if bench.uploads[entry.name].is_taken]
    right = [entry for entry in tried if tables.is_task_right(entry, bench.uploads[entry.name])]
    asked = [entry for entry in tried if bench.uploads[entry.name].question]
    return {
        "zoo_models": len(tried),
        "zoo_wrong": sum(cell.state == "wrong" for cell in ours),
        "zoo_failed_where_peer_succeeds": len(failures_where_a_peer_succeeds(ours, peers)),
        "zoo_uploaded_percent": round(100 * len(taken) / count, 1),
        "zoo_task_right_percent": round(100 * len(right) / count, 1),
        "zoo_task_asked_percent": round(100 * len(asked) / count, 1),
        "zoo_done": sum(cell.state == "done" for cell in ours),
        "zoo_refused": sum(cell.state == "refused" for cell in ours),
        "zoo_failed": sum(cell.state == "failed" for cell in ours),
        "zoo_peers_done": sum(cell.state == "done" for cell in peers),
        "zoo_peers_wrong": sum(cell.state == "wrong" for cell in peers),
        "zoo_peers_failed": sum(cell.state == "failed" for cell in peers),
        "zoo_seconds": round(bench.seconds, 1),
    }


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    sys.exit(main())

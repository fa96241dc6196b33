"""`make bench-decisions`: a table, then one last line of JSON with every figure by its key."""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
import time

from benchmarks.decisions.aims import AIMS, write_aim
from benchmarks.decisions.pages import write_pages

WRITE = "--write"
#: Each part's share of the time; together under fifteen minutes on two cores.
PARTS = {
    "gates": 150.0,
    "failures": 60.0,
    "classes": 150.0,
    "fleet": 120.0,
    "season": 180.0,
    "device": 240.0,
}


def main(wanted: list[str]) -> int:
    """Simulates all parts, or those named; 0 when every one ran.

    With `--write` all parts run, and the tables of docs/gates.md and docs/drift.md are theirs.
    """
    is_written, wanted = WRITE in wanted, [name for name in wanted if name != WRITE]
    if is_written and wanted:
        print(f"{WRITE} writes the figures of all parts; got {wanted}", file=sys.stderr)
        return 2
    present = [name for name in PARTS if importlib.util.find_spec(f"{__package__}.{name}")]
    unknown = set(wanted) - set(present)
    if unknown:
        print(f"unknown parts {sorted(unknown)}; there are {sorted(present)}", file=sys.stderr)
        return 2
    figures: dict[str, float] = {}
    for name in wanted or present:
        began = time.monotonic()
        part = importlib.import_module(f"{__package__}.{name}")
        found = part.figures(PARTS[name])
        title = (part.__doc__ or name).splitlines()[0]
        print(f"\n{name}: {title} [{time.monotonic() - began:.0f} s]")
        width = max(len(key) for key in found)
        for key, value in found.items():
            print(f"  {key.ljust(width)}  {value:10.2f}  {write_aim(key, value)}".rstrip())
        sys.stdout.flush()
        figures |= found
    missing = sorted(set(AIMS) - set(figures))
    if missing and not wanted:
        print(f"no part gave {missing}", file=sys.stderr)
        return 1
    if is_written:
        write_pages(figures)
    print(json.dumps({key: round(value, 3) for key, value in figures.items()}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""`make bench-decisions`: a table, then one last line of JSON with every figure by its key."""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
import time

#: Each part's share of the time; together under fifteen minutes on two cores.
PARTS = {
    "gates": 150.0,
    "failures": 60.0,
    "classes": 150.0,
    "fleet": 120.0,
    "season": 120.0,
    "device": 180.0,
}
#: The figure, its aim, and whether it is to be at least that.
AIMS: dict[str, tuple[float, bool]] = {
    "gate_false_fail_percent_5": (2.0, False),
    "gate_false_pass_percent_5": (2.0, False),
    "gate_right_percent_5": (95.0, True),
    "failure_rule_false_abort_percent_half_limit": (1.0, False),
    "failure_rule_median_harmed_5x": (6.0, False),
    "fleet_false_alarm_percent_max": (2.0, False),
    "fleet_power_psi025_neff500_percent": (90.0, True),
    "fleet_five_percent_collapse_found_percent": (90.0, True),
    "season_false_incidents_month": (1.0, False),
    "season_delay_hours": (24.0, False),
    "device_false_alarms_year": (1.0, False),
    "device_delay_records_psi1": (1000.0, False),
    "many_class_collapse_found_percent": (99.0, True),
}


def main(wanted: list[str]) -> int:
    """Simulates all parts, or those named; 0 when every one ran."""
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
            print(f"  {key.ljust(width)}  {value:10.2f}  {_aim_words(key, value)}".rstrip())
        sys.stdout.flush()
        figures |= found
    print(json.dumps({key: round(value, 3) for key, value in figures.items()}))
    return 0


def _aim_words(key: str, value: float) -> str:
    if key not in AIMS:
        return ""
    aim, is_more_better = AIMS[key]
    is_met = value >= aim if is_more_better else value <= aim
    return f"aim {'≥' if is_more_better else '≤'} {aim:g}: {'met' if is_met else 'MISSED'}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

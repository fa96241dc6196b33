"""What the figures are to be."""

from __future__ import annotations

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


def write_aim(key: str, value: float) -> str:
    """`≤ 2: met`; empty for a figure without an aim."""
    if key not in AIMS:
        return ""
    aim, is_more_better = AIMS[key]
    is_met = value >= aim if is_more_better else value <= aim
    return f"{'≥' if is_more_better else '≤'} {aim:g}: {'met' if is_met else 'MISSED'}"

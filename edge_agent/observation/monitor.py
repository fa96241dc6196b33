"""The device's own health: CPU, memory, disk, network, temperature, with hysteresis.

Read from /proc and /sys, so that psutil stays optional.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_agent.config import MonitorConfig


def read_resources(home: Path, last: dict[str, float]) -> dict[str, float]:
    """The resources now. `last` holds counters between calls and is updated.

    Values that this machine does not tell are left out.
    """
    found: dict[str, float] = {}
    cpu = _read("/proc/stat").splitlines()[:1]
    if cpu:
        numbers = [float(word) for word in cpu[0].split()[1:]]
        total, idle = sum(numbers[:8]), sum(numbers[3:5])
        passed = total - last.get("cpu_total", 0.0)
        if "cpu_total" in last and passed > 0:
            busy = passed - (idle - last["cpu_idle"])
            found["cpu_percent"] = round(100.0 * busy / passed, 1)
        last["cpu_total"], last["cpu_idle"] = total, idle
    memory = {
        line.split(":")[0]: float(line.split()[1]) for line in _read("/proc/meminfo").splitlines()
    }
    if memory.get("MemTotal"):
        used = memory["MemTotal"] - memory.get("MemAvailable", 0.0)
        found["memory_percent"] = round(100.0 * used / memory["MemTotal"], 1)
    status = _read("/proc/self/status").splitlines()
    resident = next((line.split()[1] for line in status if line.startswith("VmRSS")), None)
    if resident:
        found["process_rss_mb"] = round(int(resident) / 1024, 1)
    disk = os.statvfs(home)
    found["disk_free_mb"] = round(disk.f_bavail * disk.f_frsize / 2**20, 1)
    received = sent = 0.0
    for line in _read("/proc/net/dev").splitlines()[2:]:
        name, _, numbers_text = line.partition(":")
        if name.strip() != "lo" and numbers_text:
            words = numbers_text.split()
            received, sent = received + float(words[0]), sent + float(words[8])
    found["network_received_mb"] = round(received / 2**20, 2)
    found["network_sent_mb"] = round(sent / 2**20, 2)
    temperatures = [
        float(text) / 1000
        for zone in Path("/sys/class/thermal").glob("thermal_zone*/temp")
        if (text := _read(zone).strip()).lstrip("-").isdigit()
    ]
    if temperatures:
        found["temperature_c"] = max(temperatures)
    return found


def read_available_bytes() -> int | None:
    """Memory that can be had without swapping; None where /proc does not say."""
    for line in _read("/proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


@dataclass
class Thresholds:
    """Raises an event after several samples in a row past a limit, and one when it is over."""

    config: MonitorConfig
    _streaks: dict[str, int] = field(default_factory=dict)
    _raised: set[str] = field(default_factory=set)

    def is_raised(self, *names: str) -> bool:
        """True while one of the metrics `names` is past its limit for good."""
        return not self._raised.isdisjoint(names)

    def check(self, resources: dict[str, float]) -> list[dict[str, Any]]:
        limits = {
            "cpu_percent": (self.config.max_cpu_percent, 1),
            "memory_percent": (self.config.max_memory_percent, 1),
            "temperature_c": (self.config.max_temperature_c, 1),
            "disk_free_mb": (self.config.min_disk_free_mb, -1),
        }
        events = []
        for name, (limit, sign) in limits.items():
            if name not in resources:
                continue
            is_past = sign * resources[name] > sign * limit
            is_raised = name in self._raised
            self._streaks[name] = self._streaks.get(name, 0) + 1 if is_past != is_raised else 0
            if self._streaks[name] < self.config.consecutive_samples:
                continue
            self._streaks[name] = 0
            (self._raised.discard if is_raised else self._raised.add)(name)
            kind = "resource_cleared" if is_raised else "resource_raised"
            events.append({"kind": kind, "metric": name, "value": resources[name], "limit": limit})
        return events

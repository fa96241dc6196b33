"""The device's own health: CPU, memory, disk, network, temperature, with hysteresis.

Read from /proc and /sys, so that psutil stays optional.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

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


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


class Crossing(NamedTuple):
    """A resource that passed its threshold for good, or came back within it."""

    is_firing: bool
    metric: str
    value: float
    threshold: float


@dataclass
class Thresholds:
    """Tells what fires after several samples in a row past a threshold, and when it is over."""

    config: MonitorConfig
    _streaks: dict[str, int] = field(default_factory=dict)
    _firing: set[str] = field(default_factory=set)

    def restore(self, names: Iterable[str]) -> None:
        """Takes up what fired before a restart."""
        self._firing.update(names)

    def is_firing(self, *names: str) -> bool:
        """True while one of the metrics `names` is past its threshold for good."""
        return not self._firing.isdisjoint(names)

    def check(self, resources: dict[str, float]) -> list[Crossing]:
        """What changed with this sample; the way back needs a margin, so that a value that hovers
        about its threshold does not flap."""
        config = self.config
        limits = {
            "cpu_percent": (config.max_cpu_percent, 1),
            "memory_percent": (config.max_memory_percent, 1),
            "temperature_c": (config.max_temperature_c, 1),
            "disk_free_mb": (config.min_disk_free_mb, -1),
        }
        crossings = []
        for name, (limit, sign) in limits.items():
            if name not in resources:
                continue
            value, is_firing = resources[name], name in self._firing
            bound = limit - sign * config.resolve_margin * abs(limit) if is_firing else limit
            is_past = sign * value > sign * bound
            self._streaks[name] = self._streaks.get(name, 0) + 1 if is_past != is_firing else 0
            if self._streaks[name] < config.consecutive_samples:
                continue
            self._streaks[name] = 0
            (self._firing.discard if is_firing else self._firing.add)(name)
            crossings.append(Crossing(not is_firing, name, value, limit))
        return crossings

"""A disk that forgets, at a power cut, whatever POSIX lets it forget."""

import copy
import hashlib
from pathlib import Path


class PowerCut(BaseException):
    """Not an Exception: nothing in the agent may catch it."""


class SimulatedDisk:
    """Data is volatile until `fsync`, names are volatile until `fsync_dir`.

    `cut_at` is the number of the operation before which the power goes; `ignored_syncs` holds
    (operation, folder) pairs that do nothing, to show that the agent needs each.
    """

    def __init__(self, ignored_syncs: frozenset[tuple[str, str]] = frozenset()) -> None:
        self.ignored_syncs = ignored_syncs
        self.names: dict[Path, int] = {}
        self.durable_names: dict[Path, int] = {}
        self.data: dict[int, bytes] = {}
        self.durable_data: dict[int, bytes] = {}
        self.operations = 0
        self.cut_at: int | None = None
        self._next = 0

    def tick(self) -> None:
        self.operations += 1
        if self.operations == self.cut_at:
            raise PowerCut

    def after_power_cut(self, surviving: str) -> "SimulatedDisk":
        """What is left: `none` of the unsynced names, `all`, or those of one folder by its name."""
        disk = SimulatedDisk(self.ignored_syncs)
        disk._next = self._next
        for path in {**self.names, **self.durable_names}:
            is_kept = surviving in ("all", path.parent.name)
            inode = (self.names if is_kept else self.durable_names).get(path)
            if inode is not None:
                disk.names[path] = disk.durable_names[path] = inode
                disk.data[inode] = disk.durable_data[inode] = self.durable_data.get(inode, b"")
        return disk

    def copy(self) -> "SimulatedDisk":
        disk = copy.copy(self)
        disk.names, disk.durable_names = dict(self.names), dict(self.durable_names)
        disk.data, disk.durable_data = dict(self.data), dict(self.durable_data)
        return disk

    def read(self, path: Path) -> bytes | None:
        return self.data[self.names[path]] if path in self.names else None

    def size(self, path: Path) -> int | None:
        data = self.read(path)
        return None if data is None else len(data)

    def digest(self, path: Path) -> str | None:
        data = self.read(path)
        return None if data is None else hashlib.sha256(data).hexdigest()

    def write(self, path: Path, data: bytes) -> None:
        self.tick()
        if path not in self.names:
            self._next += 1
            self.names[path] = self._next
        inode = self.names[path]
        # Truncating may reach the disk at once, the new data not.
        self.data[inode], self.durable_data[inode] = data, b""

    def append(self, path: Path, data: bytes) -> None:
        self.tick()
        self.data[self.names[path]] += data

    def fsync(self, path: Path) -> None:
        self.tick()
        if ("fsync", path.parent.name) not in self.ignored_syncs:
            self.durable_data[self.names[path]] = self.data[self.names[path]]

    def fsync_dir(self, path: Path) -> None:
        self.tick()
        if ("fsync_dir", path.name) in self.ignored_syncs:
            return
        for name in [name for name in self.durable_names if name.parent == path]:
            del self.durable_names[name]
        self.durable_names |= {n: i for n, i in self.names.items() if n.parent == path}

    def rename(self, source: Path, target: Path) -> None:
        self.tick()
        self.names[target] = self.names.pop(source)

    def unlink(self, path: Path) -> None:
        self.tick()
        self.names.pop(path, None)

    def list(self, path: Path) -> list[str]:
        return sorted(name.name for name in self.names if name.parent == path)

    def make_dirs(self, path: Path) -> None:
        pass

    def free_bytes(self, path: Path) -> int:
        return 1 << 40

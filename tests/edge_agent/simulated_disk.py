"""A disk that forgets, at a power cut, whatever POSIX lets it forget."""

import copy
import hashlib
import sys
from collections.abc import Hashable
from pathlib import Path

from edge_agent import files


class PowerCut(BaseException):
    """Not an Exception: nothing in the agent may catch it."""


class SimulatedDisk:
    """Data is volatile until `fsync`, names and folders are volatile until `fsync_dir`.

    `cut_at` is the number of the operation before which the power goes; `ignored_syncs` holds
    (operation, place in the code) pairs that do nothing, to show that the agent needs each.
    """

    def __init__(self, ignored_syncs: frozenset[tuple[str, str]] = frozenset()) -> None:
        self.ignored_syncs = ignored_syncs
        self.seen_syncs: set[tuple[str, str]] = set()
        self.names: dict[Path, int] = {}
        self.durable_names: dict[Path, int] = {}
        self.data: dict[int, bytes] = {}
        self.durable_data: dict[int, bytes] = {}
        self.folders = {Path("/")}
        self.durable_folders = {Path("/")}
        self.server: dict[str, str] = {}
        """What a server remembers of the device: no power cut of the device reaches it."""
        self.operations = 0
        self.cut_at: int | None = None
        self._next = 0

    def tick(self) -> None:
        self.operations += 1
        if self.operations == self.cut_at:
            raise PowerCut

    def after_power_cut(self, surviving: str, contents: str = "lost") -> "SimulatedDisk":
        """What is left of it.

        Args:
            surviving: which unsynced names are kept: `none`, `all`, those in the folder of this
                name, or `odd` for every second change.
            contents: what becomes of unsynced data: `lost`, `kept`, or `torn` to a half and zeros.
        """
        disk = SimulatedDisk(self.ignored_syncs)
        disk.seen_syncs = self.seen_syncs
        disk._next = self._next
        disk.server = dict(self.server)
        for folder in sorted(self.folders):
            is_kept = folder in self.durable_folders or surviving in ("all", folder.parent.name)
            if is_kept and (folder.parent in disk.folders):
                disk.folders.add(folder)
        disk.durable_folders = set(disk.folders)
        changed = [
            path
            for path in sorted({**self.names, **self.durable_names})
            if self.names.get(path) != self.durable_names.get(path)
        ]
        odd = set(changed[1::2]) if surviving == "odd" else set()
        for path in {**self.names, **self.durable_names}:
            is_kept = path in odd or surviving in ("all", path.parent.name)
            inode = (self.names if is_kept else self.durable_names).get(path)
            if inode is not None and path.parent in disk.folders:
                disk.names[path] = disk.durable_names[path] = inode
                disk.data[inode] = disk.durable_data[inode] = self._left_of(inode, contents)
        return disk

    def _left_of(self, inode: int, contents: str) -> bytes:
        durable, data = self.durable_data.get(inode, b""), self.data[inode]
        if contents == "lost" or data == durable:
            return durable
        return data if contents == "kept" else data[: len(data) // 2].ljust(len(data), b"\0")

    def copy(self) -> "SimulatedDisk":
        disk = copy.copy(self)
        disk.names, disk.durable_names = dict(self.names), dict(self.durable_names)
        disk.data, disk.durable_data = dict(self.data), dict(self.durable_data)
        disk.folders, disk.durable_folders = set(self.folders), set(self.durable_folders)
        disk.server = dict(self.server)
        return disk

    def content(self) -> Hashable:
        """What a boot finds; after a power cut, two disks with the same content are alike."""
        files = frozenset((path, self.data[inode]) for path, inode in self.names.items())
        return files, frozenset(self.folders), frozenset(self.server.items())

    def damage(self, path: Path) -> None:
        """What a failing card does: other bytes under the same name, for good."""
        data = self.data[self.names[path]]
        self.data[self.names[path]] = self.durable_data[self.names[path]] = data[:-1] + b"?"

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
        if path.parent not in self.folders:
            raise FileNotFoundError(path)
        if path not in self.names:
            self._next += 1
            self.names[path] = self._next
        inode = self.names[path]
        # Truncating may reach the disk at once, the new data not.
        self.data[inode], self.durable_data[inode] = data, b""

    def append(self, path: Path, data: bytes) -> None:
        self.tick()
        self.data[self.names[path]] += data

    def copy_file(self, source: Path, target: Path) -> None:
        self.write(target, self.data[self.names[source]])

    def fsync(self, path: Path) -> None:
        self.tick()
        if not self._is_ignored("fsync"):
            self.durable_data[self.names[path]] = self.data[self.names[path]]

    def fsync_dir(self, path: Path) -> None:
        self.tick()
        if self._is_ignored("fsync_dir"):
            return
        for name in [name for name in self.durable_names if name.parent == path]:
            del self.durable_names[name]
        self.durable_names |= {n: i for n, i in self.names.items() if n.parent == path}
        self.durable_folders |= {folder for folder in self.folders if folder.parent == path}

    def _is_ignored(self, operation: str) -> bool:
        """Notes who syncs: the function that asked the file layer to."""
        frame = sys._getframe(2)
        while frame.f_code.co_filename == files.__file__ and frame.f_code.co_name != "make_dirs":
            assert frame.f_back is not None
            frame = frame.f_back
        key = (operation, f"{Path(frame.f_code.co_filename).stem}.{frame.f_code.co_name}")
        self.seen_syncs.add(key)
        return key in self.ignored_syncs

    def rename(self, source: Path, target: Path) -> None:
        self.tick()
        self.names[target] = self.names.pop(source)

    def unlink(self, path: Path) -> None:
        self.tick()
        self.names.pop(path, None)

    def list(self, path: Path) -> list[str]:
        return sorted(name.name for name in self.names if name.parent == path)

    def is_dir(self, path: Path) -> bool:
        return path in self.folders

    def make_dir(self, path: Path) -> None:
        self.tick()
        self.folders.add(path)

    def free_bytes(self, path: Path) -> int:
        return 1 << 40

"""Whose files a home holds: the service has its own user, and a person types commands as root."""

import os
import stat
from pathlib import Path

MAX_ENTRIES = 200_000


def find_foreign(home: Path) -> list[Path]:
    """What in `home` belongs to another user than `home` itself, which the service then cannot
    read or replace. Links are not followed; empty where there is no home."""
    try:
        owner = home.stat().st_uid
    except OSError:
        return []
    found: list[Path] = []
    seen = 0
    for folder, folders, names in os.walk(home.resolve()):
        for name in (*folders, *names):
            seen += 1
            if seen > MAX_ENTRIES:
                return found
            path = Path(folder, name)
            try:
                if path.lstat().st_uid != owner:
                    found.append(path)
            except FileNotFoundError:
                continue  # a running agent replaces files while this looks
    return found


def hand_over(home: Path) -> None:
    """Gives what root has made in `home` to the user whose home it is; nothing for other users.

    A file with a second name stays as it is: the name elsewhere may be one that user must not own.
    """
    if os.geteuid() != 0:
        return
    for path in find_foreign(home):
        owner = home.stat()
        try:
            descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW)
        except FileNotFoundError:
            continue
        try:
            entry = os.fstat(descriptor)
            is_ours = entry.st_uid == 0
            if is_ours and (stat.S_ISDIR(entry.st_mode) or entry.st_nlink == 1):
                os.chown(f"/proc/self/fd/{descriptor}", owner.st_uid, owner.st_gid)
        finally:
            os.close(descriptor)

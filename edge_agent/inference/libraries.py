"""Which shared libraries a provider needs and this device lacks.

The runtime only says the first one, to standard error; the system's loader does the same.
"""

import contextlib
import functools
import io
import logging
import re
import struct
from pathlib import Path

logger = logging.getLogger(__name__)
MAX_LIBRARIES = 64
DT_NEEDED, DT_STRTAB = 1, 5
PT_LOAD, PT_DYNAMIC = 1, 2
MAX_ENTRIES = 4096


def runtime_folder() -> Path:
    """Where the installed runtime keeps its libraries."""
    import onnxruntime

    return Path(onnxruntime.__file__).parent / "capi"


def find_provider_library(provider: str, folder: Path | None = None) -> Path | None:
    """The library of `provider` in the installed build, or None when it has none of its own."""
    stem = f"onnxruntime_providers_{provider}"
    names = (f"lib{stem}.so", f"{stem}.dll", f"lib{stem}.dylib")
    found = (folder or runtime_folder()).resolve()
    return next((found / name for name in names if (found / name).exists()), None)


def explain_failure(library: Path) -> str:
    """Why `library` does not load; empty when it does."""
    import ctypes

    shared = library.parent / "libonnxruntime_providers_shared.so"
    try:
        if shared.exists():
            # The provider's symbols come from it, and the runtime loads it first too.
            ctypes.CDLL(str(shared), mode=ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(library))
    except OSError as error:
        missing = find_missing(library)
        if missing:
            return f"missing libraries: {', '.join(missing)}"
        return str(error)[:300]
    return ""


def find_missing(library: Path) -> list[str]:
    """The names of libraries that `library`, or one beside it that it needs, does not find."""
    import ctypes

    missing: list[str] = []
    seen: set[str] = set()
    waiting = [library]
    while waiting and len(seen) < MAX_LIBRARIES:
        current = waiting.pop()
        for name in read_needed(current):
            if name in seen:
                continue
            seen.add(name)
            beside = library.parent / name
            if beside.exists():
                waiting.append(beside)
                continue
            try:
                ctypes.CDLL(name)
            except OSError as error:
                # Another library's absence is told when that one's turn comes.
                if re.match(rf"{re.escape(name)}: cannot open", str(error)):
                    missing.append(name)
                else:
                    missing.append(f"{name} ({str(error)[:120]})")
    return sorted(missing)


def read_needed(library: Path) -> list[str]:
    """The DT_NEEDED names of a 64-bit little-endian ELF file; empty for anything else.

    System V ABI, "Dynamic Section".
    """
    try:
        with library.open("rb") as stream:
            head = stream.read(64)
            if head[:6] != b"\x7fELF\x02\x01":
                return []
            (offset,) = struct.unpack_from("<Q", head, 32)
            size, count = struct.unpack_from("<HH", head, 54)
            stream.seek(offset)
            table = stream.read(size * min(count, 128))
            segments = [
                struct.unpack_from("<I4xQQ8xQ", table, at)
                for at in range(0, len(table) - size + 1, size)
            ]
            dynamic = next((s for s in segments if s[0] == PT_DYNAMIC), None)
            if dynamic is None:
                return []
            stream.seek(dynamic[1])
            raw = stream.read(min(dynamic[3], 16 * MAX_ENTRIES))
            entries = list(struct.iter_unpack("<QQ", raw[: len(raw) // 16 * 16]))
            address = next((value for tag, value in entries if tag == DT_STRTAB), 0)
            home = next(
                (s for s in segments if s[0] == PT_LOAD and s[2] <= address < s[2] + s[3]), None
            )
            if home is None:
                return []
            names = []
            for tag, value in entries:
                if tag == DT_NEEDED:
                    stream.seek(home[1] + address - home[2] + value)
                    names.append(stream.read(256).split(b"\0", 1)[0].decode(errors="replace"))
            return names
    except (OSError, ValueError, struct.error) as error:
        logger.debug("%s is no library: %s", library, error)
        return []


@functools.cache
def preload_cuda() -> str:
    """Loads CUDA and cuDNN from NVIDIA's Python packages, where a device has them from there.

    Returns what the runtime said about it.
    """
    import onnxruntime

    preload = getattr(onnxruntime, "preload_dlls", None)
    if preload is None:
        return ""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        try:
            preload()
        except (OSError, RuntimeError) as error:
            said.write(str(error))
    return said.getvalue()[:2000]

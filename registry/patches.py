"""Patches between two files: what a device that holds the one needs to make the other. Pure.

zstd's "patch-from" (`--patch-from`, since 1.4.5): the old file is the dictionary of the new one,
and long-distance matching finds in it what has not changed, wherever it lies.
"""

import importlib
from typing import Any

try:
    zstd: Any = importlib.import_module("backports.zstd")
except ImportError:
    # Python 3.14 and later carry it, in a package that shares its name with one of our apps.
    zstd = importlib.import_module("compression.zstd")

ALGORITHM = "zstd-patch-from"
LEVEL = 9
WINDOW_LOG_MIN, WINDOW_LOG_MAX = 10, 31


def make_patch(base: bytes, target: bytes) -> bytes:
    """What makes `target` of `base`; takes about five times their size in memory."""
    span = (len(base) + len(target)).bit_length()
    options = {
        zstd.CompressionParameter.compression_level: LEVEL,
        # Both files lie in one window, or the far end of the old one could not be matched.
        zstd.CompressionParameter.window_log: min(max(span, WINDOW_LOG_MIN), WINDOW_LOG_MAX),
        zstd.CompressionParameter.enable_long_distance_matching: 1,
        zstd.CompressionParameter.checksum_flag: 1,
    }
    dictionary = zstd.ZstdDict(base, is_raw=True).as_prefix
    return bytes(zstd.compress(target, options=options, zstd_dict=dictionary))


def apply_patch(base: bytes, patch: bytes, *, size_bytes: int) -> bytes:
    """The file that `patch` makes of `base`, cut off past `size_bytes`.

    Raises:
        ValueError: not a patch, or not one of this base.
    """
    options = {zstd.DecompressionParameter.window_log_max: WINDOW_LOG_MAX}
    dictionary = zstd.ZstdDict(base, is_raw=True).as_prefix
    try:
        decoder = zstd.ZstdDecompressor(zstd_dict=dictionary, options=options)
        return bytes(decoder.decompress(patch, max_length=size_bytes + 1))
    except zstd.ZstdError as error:
        raise ValueError(f"The patch does not apply: {error}") from error

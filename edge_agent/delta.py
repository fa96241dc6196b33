"""Applies zstd patches ("patch-from"): the old file is the dictionary of the new one.

Needs the standard library's zstd (Python 3.14) or `backports.zstd`; peak memory is twice the model.
"""

import importlib
from typing import Any

from edge_agent.exceptions import DownloadError

WINDOW_LOG_MAX = 31


def _find_zstd() -> Any:
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None


def is_supported() -> bool:
    return _find_zstd() is not None


def apply_patch(base: bytes, patch: bytes, *, size_bytes: int) -> bytes:
    """The file that `patch` makes of `base`; stops past `size_bytes`, which is signed.

    Raises:
        DownloadError: the patch does not fit the base, or makes a file of another length.
    """
    zstd = _find_zstd()
    dictionary = zstd.ZstdDict(base, is_raw=True).as_prefix
    options = {zstd.DecompressionParameter.window_log_max: WINDOW_LOG_MAX}
    decoder = zstd.ZstdDecompressor(zstd_dict=dictionary, options=options)
    try:
        data: bytes = decoder.decompress(patch, max_length=size_bytes + 1)
        while not decoder.eof and len(data) <= size_bytes and not decoder.needs_input:
            data += decoder.decompress(b"", max_length=size_bytes + 1 - len(data))
    except zstd.ZstdError as error:
        raise DownloadError(f"patch does not apply: {error}") from error
    if len(data) != size_bytes:
        raise DownloadError(f"patch made {len(data)} bytes, expected {size_bytes}")
    return data

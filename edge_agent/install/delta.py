"""Makes a new model file of the one on this device and a small patch, where that is possible.

zstd's "patch-from": the old file is the dictionary of the new one. Needs the standard library's
zstd (Python 3.14) or `backports.zstd`. A patch only ever saves bytes: the file it makes is checked
against the signed digest like any download, and whatever is wrong with one, the whole file is taken
instead. An offer is a hint that nobody signed, so a patch has a place of its own in `part/`, named
after the file it should make, and no file in `blobs/` is written or removed for its sake.
"""

import importlib
import logging
from typing import Any

from edge_agent.control.answers import DeltaOffer
from edge_agent.exceptions import AgentError, DownloadError
from edge_agent.install.budget import Ledger
from edge_agent.install.download import Downloader
from edge_agent.install.part import Part
from edge_agent.memory import read_available_bytes
from edge_agent.releases.trust import ManifestFile

logger = logging.getLogger(__name__)
ALGORITHM = "zstd-patch-from"
WINDOW_LOG_MAX = 31
MEMORY_RESERVE_BYTES = 16 << 20


def _find_zstd() -> Any:
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None


def is_supported() -> bool:
    return _find_zstd() is not None


def fetch(
    file: ManifestFile,
    offer: DeltaOffer,
    downloader: Downloader,
    *,
    ledger: Ledger | None = None,
) -> bool:
    """True when `file` was made durable from a patch; False when the whole file must be taken."""
    try:
        _fetch(file, offer, downloader, ledger)
    except (AgentError, OSError, ValueError, MemoryError) as error:
        logger.warning(
            "delta for %s is of no use, taking the whole file: %s: %s",
            file.path,
            type(error).__name__,
            error,
        )
        return False
    return True


def _fetch(
    file: ManifestFile, offer: DeltaOffer, downloader: Downloader, ledger: Ledger | None
) -> None:
    if offer.algorithm != ALGORITHM:
        raise DownloadError(f"expected {ALGORITHM}, got {offer.algorithm!r}")
    if offer.size_bytes >= file.size_bytes:
        raise DownloadError(f"a patch of {offer.size_bytes} bytes for a file of {file.size_bytes}")
    files, layout = downloader.files, downloader.layout
    base_path = layout.blob(offer.base_sha256)
    base_size = files.size(base_path)
    if base_size is None or files.digest(base_path) != offer.base_sha256:
        raise DownloadError("the base is not on this device, or not whole")
    check_memory(base_size, offer.size_bytes, file.size_bytes, available=read_available_bytes())
    wanted = ManifestFile("delta", "delta", offer.sha256, offer.size_bytes)
    patch = Part(files, layout.patch(file.sha256), wanted)
    try:
        # One try: the whole file has more, and is what every failure here falls back to.
        downloader.fetch_part(patch, lambda _: offer.address, attempts=1, ledger=ledger)
        base, data = files.read(base_path) or b"", files.read(patch.path) or b""
        content = apply_patch(base, data, size_bytes=file.size_bytes)
        del base, data
        downloader.store(file, content)
    finally:
        patch.discard()
    logger.info("%s made of a patch of %d of %d bytes", file.path, offer.size_bytes, len(content))


def check_memory(
    base_bytes: int, patch_bytes: int, target_bytes: int, *, available: int | None
) -> None:
    """Nothing, when a patch can be applied in `available` bytes; None where nobody can tell.

    In memory at once are the base, the patch, the new file, and the decoder's window, which holds
    the new file once more.

    Raises:
        DownloadError: it would not fit beside a reserve for the model that is running.
    """
    needed = base_bytes + patch_bytes + 2 * target_bytes + MEMORY_RESERVE_BYTES
    if available is not None and needed > available:
        raise DownloadError(f"applying the patch needs {needed} bytes, {available} are available")


def apply_patch(base: bytes, patch: bytes, *, size_bytes: int) -> bytes:
    """The file that `patch` makes of `base`; stops past `size_bytes`, which is signed.

    Raises:
        DownloadError: the patch does not fit the base, or makes a file of another length.
    """
    zstd = _find_zstd()
    try:
        stated = zstd.get_frame_info(patch).decompressed_size
    except zstd.ZstdError as error:
        raise DownloadError(f"not a patch: {error}") from error
    if stated != size_bytes:
        # The decoder takes as much memory as a frame without a size claims to need, up to 2 GiB.
        raise DownloadError(f"patch states {stated} bytes, expected {size_bytes}")
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

"""Releases shipped with the device: what runs when nothing else does.

`factory/` holds them like `blobs/` and `manifests/` together: `<manifest digest>.json` and
`<sha256>`, with `trust_keys.json`, the keys that may sign them. Nothing the agent does by itself
changes or removes them, and the keys count for nothing that comes over the network.
"""

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from edge_agent.exceptions import BlobCorruptError, ConfigurationError, PublishedError
from edge_agent.files import FileLayer, publish, write_atomic
from edge_agent.releases.state import Layout, StateStore
from edge_agent.releases.trust import (
    MANIFEST_TYPE,
    Manifest,
    ManifestFile,
    TrustKey,
    parse_manifest,
    parse_trust_keys,
    verify_envelope,
)

logger = logging.getLogger(__name__)
KEYS_NAME = "trust_keys.json"
MAX_RELEASES = 64


def read_keys(files: FileLayer, layout: Layout) -> tuple[TrustKey, ...]:
    """The keys shipped with the factory releases; none when there are none, or they are damaged."""
    data = files.read(layout.factory / KEYS_NAME)
    if data is None:
        return ()
    try:
        return tuple(parse_trust_keys(json.loads(data)))
    except (ValueError, TypeError, AttributeError, PublishedError) as error:
        logger.error("factory keys cannot be read: %s", error)
        return ()


def find_releases(
    files: FileLayer, layout: Layout, keys: Iterable[TrustKey]
) -> dict[str, tuple[Manifest, bytes]]:
    """Model to the shipped release with the highest sequence, and its envelope as stored.

    Only signatures are checked here; the files are when they are taken into use.
    """
    found: dict[str, tuple[Manifest, bytes]] = {}
    keys = tuple(keys)
    names = [name for name in files.list(layout.factory) if name.endswith(".json")]
    for name in names[: MAX_RELEASES + 1]:
        data = files.read(layout.factory / name)
        if name == KEYS_NAME or data is None:
            continue
        try:
            manifest = read_manifest(json.loads(data), keys)
        except (ValueError, PublishedError) as error:
            logger.error("factory release %s is not used: %s", name, error)
            continue
        known = found.get(manifest.model)
        if known is None or manifest.sequence > known[0].sequence:
            found[manifest.model] = (manifest, data)
    return found


def read_manifest(envelope: Any, keys: Iterable[TrustKey]) -> Manifest:
    return parse_manifest(
        verify_envelope(envelope, keys=keys, payload_type=MANIFEST_TYPE, role="manifest")
    )


def add_release(
    files: FileLayer,
    layout: Layout,
    *,
    envelope: bytes,
    key_rows: list[Mapping[str, Any]],
    find: Callable[[ManifestFile], Path],
) -> Manifest:
    """Puts a release into `factory/`; its manifest comes last, so that a half one is not seen.

    Args:
        key_rows: the keys that may sign it, as an enrolment answer lists them; kept beside those
            already there.
        find: where the bytes of a file of the release lie now.

    Raises:
        PublishedError: the manifest is not signed by one of the keys.
        BlobCorruptError: a file is missing or is not what the manifest says.
    """
    keys = tuple(parse_trust_keys(key_rows))
    manifest = read_manifest(json.loads(envelope), keys)
    for file in manifest.files:
        part = layout.part(file.sha256)
        source = find(file)
        if files.size(source) is None:
            raise BlobCorruptError(f"{file.path}: expected it at {source}")
        files.copy_file(source, part)
        actual = files.digest(part)
        if actual != file.sha256:
            files.unlink(part)
            raise BlobCorruptError(f"{file.path}: expected {file.sha256}, got {actual}")
        publish(files, part, layout.factory / file.sha256)
    rows = {str(row["keyid"]): dict(row) for row in key_rows}
    known = files.read(layout.factory / KEYS_NAME)
    if known is not None:
        rows = {str(row["keyid"]): row for row in json.loads(known)} | rows
    write_atomic(files, layout.factory / KEYS_NAME, json.dumps(list(rows.values())).encode())
    write_atomic(files, layout.factory / f"{manifest.digest}.json", envelope)
    logger.info("factory release %s %s of %s", manifest.version, manifest.variant, manifest.model)
    return manifest


def add_folder(files: FileLayer, layout: Layout, folder: Path) -> Manifest:
    """Adds the release in `folder`: `manifest.json`, `trust_keys.json`, files under their paths.

    Raises:
        ConfigurationError: one of the two documents is missing or is no JSON.
    """
    documents = []
    for name in ("manifest.json", KEYS_NAME):
        data = files.read(folder / name)
        if data is None:
            raise ConfigurationError(f"{folder} has no {name}")
        try:
            documents.append((data, json.loads(data)))
        except ValueError as error:
            raise ConfigurationError(f"{folder / name}: {error}") from error
    (envelope, _), (_, key_rows) = documents
    if not isinstance(key_rows, list):
        raise ConfigurationError(f"{folder / KEYS_NAME}: expected a list of keys")
    return add_release(
        files,
        layout,
        envelope=envelope,
        key_rows=key_rows,
        find=lambda file: folder / file.path,
    )


def add_current(files: FileLayer, layout: Layout, slug: str) -> Manifest:
    """Adds the release of `slug` that runs now, with the keys this device enrolled with.

    Raises:
        ConfigurationError: nothing runs, or the device has not enrolled.
    """
    state = StateStore(files, layout).load()
    current = state.models[slug].current if state and slug in state.models else None
    credentials = files.read(layout.credentials)
    if current is None or credentials is None:
        raise ConfigurationError(f"model {slug} has no committed release on this device")
    envelope = files.read(layout.manifest(current.manifest_sha256))
    if envelope is None:
        raise BlobCorruptError(f"manifest {current.manifest_sha256} is missing")
    return add_release(
        files,
        layout,
        envelope=envelope,
        key_rows=json.loads(credentials)["trust_keys"],
        find=lambda file: layout.blob(file.sha256),
    )

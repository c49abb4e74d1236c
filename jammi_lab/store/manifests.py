"""Manifest files: where they are, how they are written, and how damaged ones are recognised."""

import contextlib
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import msgspec

from jammi_lab.core.errors import ManifestUnsupported
from jammi_lab.core.manifest import MANIFEST_VERSION, Manifest
from jammi_lab.storage.files import StoragePath, list_files, read_regular, write_atomic, write_once
from jammi_lab.storage.object_store import RemotePath

PathT = TypeVar("PathT", Path, RemotePath, StoragePath)
SUFFIX = ".materialization.json"
_MAX_BYTES = 16 * 1024 * 1024
_TOO_DEEP = b"\n" + b" " * 100
"""Occurs in a manifest nested deeper than any that we write. Hashing or showing one could exhaust
the stack."""
_decoder = msgspec.json.Decoder(Manifest)
_DECODE_ERRORS = (msgspec.MsgspecError, ValueError, RecursionError, OverflowError)
"""Raised for bytes that are not a manifest. OverflowError stands for numbers that could not be
written again."""


def manifest_path(parquet: PathT) -> PathT:
    """The path of the manifest beside a Parquet file."""
    return parquet.with_name(manifest_location(parquet.name))


def manifest_location(parquet: str) -> str:
    """The stored location of the manifest beside a Parquet file."""
    return parquet.removesuffix(".parquet") + SUFFIX


def list_manifests(folder: StoragePath) -> Iterator[str]:
    """The paths of all manifests in a workspace's folder, whatever the catalog says. A local folder
    that cannot be read is left out. Raises OSError when a store cannot be asked."""

    def skip(_: str, error: OSError) -> None:
        if isinstance(folder, RemotePath):
            raise error

    for path, _ in list_files(folder, "results", skip):
        if path.endswith(SUFFIX) and path.count("/") == 2:
            yield path


def has_manifests(folder: StoragePath) -> bool:
    """Whether a workspace's folder contains result tables, whatever the catalog says."""
    return any(True for _ in list_manifests(folder))


def digest(body: bytes) -> str:
    """SHA-256 of a manifest's bytes."""
    return hashlib.sha256(body).hexdigest()


def write(parquet: StoragePath, body: bytes) -> None:
    """Write the manifest beside its Parquet file, atomically and durably."""
    path = manifest_path(parquet)
    # In a store, try a conditional put first. An existing object is an unreadable manifest.
    if isinstance(path, Path) or not write_once(path, body):
        write_atomic(path, body)


def read(parquet: StoragePath) -> bytes | None:
    """The bytes of the manifest beside a Parquet file, as `read_file` reads them."""
    return read_file(manifest_path(parquet))


def read_file(path: str | StoragePath) -> bytes | None:
    """The manifest's bytes; None when it does not exist, is not a regular file, or is larger than
    any manifest. Raises OSError when it cannot be read."""
    if isinstance(path, RemotePath):
        return path.read(_MAX_BYTES)
    content = read_regular(path, _MAX_BYTES, follow_links=False)
    return content[1] if content else None


def parse(body: bytes | None) -> Manifest | None:
    """The manifest in these bytes; None when there is none, which counts as lost. Raises
    ManifestUnsupported for a version unknown to this release."""
    if body is None:
        return None
    with contextlib.suppress(*_DECODE_ERRORS):
        manifest = _decoder.decode(body)
        if manifest.manifest_version == MANIFEST_VERSION and manifest.encode() == body:
            # Byte for byte what this release writes, so the checks below would find nothing.
            return None if _TOO_DEEP in body else manifest
    fields = _fields(body)
    if fields is None:
        return None
    if fields["manifest_version"] != MANIFEST_VERSION:
        raise ManifestUnsupported(
            f"The manifest has version {fields['manifest_version']!r}; this release reads "
            f"version {MANIFEST_VERSION}.",
            hint="Open the workspace with the release that wrote it, or a later one.",
        )
    try:
        # Decoded from the bytes again, because msgspec also rejects lone surrogates and numbers
        # out of the range of a double.
        manifest = _decoder.decode(body)
        return None if _TOO_DEEP in manifest.encode() else manifest
    except _DECODE_ERRORS:
        return None


def is_manifest(body: bytes | None) -> bool:
    """Whether the bytes are a manifest, of this release or another, whatever was edited in it. What
    is none counts as lost."""
    fields = _fields(body or b"")
    return fields is not None and len(fields) > 1


def _fields(body: bytes) -> dict[str, Any] | None:
    """The fields of a JSON object with the version of a manifest; None for anything else."""
    try:
        fields = json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_reject_duplicate_keys,
            parse_constant=_reject_constant,
        )
    except (ValueError, RecursionError):
        return None
    return fields if isinstance(fields, dict) and "manifest_version" in fields else None


def _reject_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a key occurs twice")
    return fields


def _reject_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not valid JSON")

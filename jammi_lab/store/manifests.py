"""Manifest files: where they lie, how they are written, and what a reader may find in their place."""

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import msgspec

from jammi_lab.errors import ManifestUnsupported
from jammi_lab.storage.files import Place, write_atomic, write_once
from jammi_lab.storage.plain import plain_bytes
from jammi_lab.storage.remote import RemotePath
from jammi_lab.values.manifest import MANIFEST_VERSION, Manifest

PlaceT = TypeVar("PlaceT", Path, RemotePath, Place)
SUFFIX = ".materialization.json"
_LARGEST = 16 * 1024 * 1024
_TOO_DEEP = b"\n" + b" " * 100
"""What stands in the text of a manifest that is nested deeper than anything here writes: hashing one, and showing it, would not come to an end."""
_decoder = msgspec.json.Decoder(Manifest)
_NONE = (msgspec.MsgspecError, ValueError, RecursionError, OverflowError)
"""What reading bytes that are no manifest raises; the last one is for numbers that could not be written again."""


def manifest_path(parquet: PlaceT) -> PlaceT:
    """The manifest's place beside a Parquet file."""
    return parquet.with_name(parquet.name.removesuffix(".parquet") + SUFFIX)


def found_below(folder: Place) -> list[tuple[str, Place]]:
    """The manifests in a workspace's folder, by their path in it, whatever the catalog says."""
    if isinstance(folder, RemotePath):
        return [
            (f"results/{name}", folder / f"results/{name}")
            for name in (folder / "results").listed()
            if name.endswith(SUFFIX) and name.count("/") == 1
        ]
    return [(path.relative_to(folder).as_posix(), path) for path in sorted((folder / "results").glob(f"*/*{SUFFIX}"))]


def any_below(folder: Place) -> bool:
    """Whether there are result tables in a workspace's folder, whatever the catalog says."""
    if isinstance(folder, RemotePath):
        return bool(found_below(folder))
    return next((folder / "results").glob(f"*/*{SUFFIX}"), None) is not None


def digest(body: bytes) -> str:
    """SHA-256 of a manifest's bytes."""
    return hashlib.sha256(body).hexdigest()


def write(parquet: Place, body: bytes) -> None:
    """Put the manifest beside its Parquet file, durably, whole or not at all."""
    path = manifest_path(parquet)
    if isinstance(path, Path) or not write_once(path, body):  # in a store a new one is a conditional put; what is there is one that cannot be read
        write_atomic(path, body)


def read(parquet: Place) -> bytes | None:
    """The manifest's bytes; None when it is gone, is no plain file, or is larger than any manifest. OSError when it cannot be read."""
    if isinstance(parquet, RemotePath):
        return manifest_path(parquet).read(_LARGEST)
    path = os.fspath(parquet).removesuffix(".parquet") + SUFFIX  # as `manifest_path` has it; a look reads thousands
    found = plain_bytes(path, _LARGEST, links=False)
    return found[1] if found else None


def parse(body: bytes | None) -> Manifest | None:
    """The manifest that the bytes hold; None when they hold none, which counts as lost. ManifestUnsupported for a version not known here."""
    if body is None:
        return None
    with contextlib.suppress(*_NONE):
        manifest = _decoder.decode(body)
        if manifest.manifest_version == MANIFEST_VERSION and manifest.encode() == body:
            # byte for byte what this release writes: there is nothing in it that the checks below are for
            return None if _TOO_DEEP in body else manifest
    try:
        plain = json.loads(body.decode("utf-8"), object_pairs_hook=_once, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    if not isinstance(plain, dict) or "manifest_version" not in plain:
        return None
    if plain["manifest_version"] != MANIFEST_VERSION:
        raise ManifestUnsupported(
            f"The manifest has version {plain['manifest_version']!r}; this release reads version {MANIFEST_VERSION}.",
            hint="Open the workspace with the release that wrote it, or a later one.",
        )
    try:
        manifest = _decoder.decode(body)  # from the bytes: it also refuses lone surrogates and numbers beyond a double
        return None if _TOO_DEEP in manifest.encode() else manifest
    except _NONE:
        return None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")

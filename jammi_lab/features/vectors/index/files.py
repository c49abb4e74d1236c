"""Index files beside a table's Parquet file: the graph, the row map if there is one, and a manifest
with the digests of both.

Corrupt and forged bytes can crash the process, never return or give wrong answers, so nothing is
passed to usearch's loader before its digest and the seal of this user were verified. Files that
fail are simply rebuilt from the vectors; they contain derived data only.
"""

import contextlib
import functools
import hashlib
import importlib.metadata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from jammi_lab.core.user_key import is_own_seal, seal
from jammi_lab.storage.files import (
    AtomicFile,
    StoragePath,
    atomic_file,
    exists,
    fault_point,
    open_for_reading,
    publish_files,
    regular_stat,
    remove_file,
)
from jammi_lab.storage.object_store import RemoteFile, RemotePath
from jammi_lab.storage.own_files import move_folder_aside
from jammi_lab.store.sidecars import (
    GRAPH_SUFFIX,
    INDEX_SUFFIXES,
    MANIFEST_SUFFIX,
    ROW_MAP_SUFFIX,
    sidecar_path,
)

if TYPE_CHECKING:
    from jammi_lab.features.vectors.index.hnsw import AnnIndex, IndexShape

FORMAT_VERSION = 2
_METRIC = "cosine"
_MAX_MANIFEST_BYTES = 1 << 20


class IndexFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of an index."""

    digest: str
    """SHA-256 of its bytes."""
    size: int
    """Size in bytes."""


class IndexManifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The manifest of an index: what it contains, and of which vectors."""

    table: str
    """SHA-256 of the Parquet file with the vectors."""
    precision: str
    """bf16, f16, i8 or f32."""
    connectivity: int
    build_expansion: int
    search_expansion: int
    """As measured; 0 where reading every vector is less work than the graph."""
    dimensions: int
    count: int
    """Rows of the table, all of which are in the index."""
    removed: int
    """Rows removed from the index since it was built."""
    scale: float
    """Factor of each component of a unit vector; 1 unless integers are stored."""
    centre: bytes
    """The mean subtracted from each unit vector, as little-endian float32; empty for none. With a
    mean the metric is the squared distance, else the inner product."""
    body: IndexFile
    rows: IndexFile | None
    """The entry number of each row as little-endian int64 (equal rows share one); None where row
    and entry numbers are equal."""
    usearch_version: str
    metric: str = _METRIC
    format_version: int = FORMAT_VERSION


@dataclass(frozen=True)
class IndexState:
    """The state of an index."""

    status: str
    """ready, building, missing, outdated or damaged."""
    precision: str | None
    """The precision of the existing index."""
    indexed_rows: int
    """Rows in the index."""
    rows: int
    """Rows of the table."""

    def __str__(self) -> str:
        return (
            f"{self.precision if self.status == 'ready' else self.status}, "
            f"{100 * self.indexed_rows // max(1, self.rows)} %"
        )


class _SignedManifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    index: msgspec.Raw
    digest: str
    seal: str


class _ManifestHeader(msgspec.Struct, frozen=True):
    """The common part of manifests of all formats."""

    format_version: int


def write_index(parquet: StoragePath, table: str, ann: "AnnIndex") -> tuple[IndexManifest, bytes]:
    """Write an index beside its table; returns its manifest and the bytes of its graph. `table`:
    the digest of the Parquet file.

    The index is unusable afterwards: its memory is released before the bytes are read back. The
    manifest is written last. On failure no new file remains. Raises OSError."""
    shape = ann.shape
    row_map = None if ann.entry_numbers is None else ann.entry_numbers.astype("<i8").tobytes()
    with _index_files(
        parquet, INDEX_SUFFIXES if row_map is not None else (GRAPH_SUFFIX, MANIFEST_SUFFIX)
    ) as files:
        fault_point("index.before_write")
        ann.save(files[GRAPH_SUFFIX].temp)
        ann.detach_bytes()
        body = files[GRAPH_SUFFIX].temp.read_bytes()
        manifest = IndexManifest(
            table=table,
            precision=shape.parameters.precision,
            connectivity=shape.parameters.connectivity,
            build_expansion=shape.parameters.build_expansion,
            search_expansion=shape.expansion,
            dimensions=shape.dimensions,
            count=shape.count,
            removed=shape.removed,
            scale=shape.coding.scale,
            centre=shape.coding.centre,
            body=_describe_file(body),
            rows=None if row_map is None else _describe_file(row_map),
            usearch_version=usearch_version(),
        )
        manifest_bytes = msgspec.json.encode(manifest, order="sorted")
        parts = {
            MANIFEST_SUFFIX: b'{"index":'
            + manifest_bytes
            + b',"digest":"'
            + hashlib.sha256(manifest_bytes).hexdigest().encode()
            + b'","seal":"'
            + seal(manifest_bytes).encode()
            + b'"}'
        }
        if row_map is not None:
            parts[ROW_MAP_SUFFIX] = row_map
        for suffix, part in parts.items():
            fault_point("index.before_write")
            files[suffix].temp.write_bytes(part)
    return manifest, body


def _describe_file(body: bytes) -> IndexFile:
    return IndexFile(digest=hashlib.sha256(body).hexdigest(), size=len(body))


@contextlib.contextmanager
def _index_files(
    parquet: StoragePath, suffixes: Sequence[str]
) -> Iterator[dict[str, AtomicFile | RemoteFile]]:
    """Temporary files for an index, renamed one after the other when the block ends, and removed
    when it fails."""
    files: dict[str, AtomicFile | RemoteFile] = {}
    try:
        for suffix in suffixes:
            files[suffix] = atomic_file(sidecar_path(parquet, suffix))
        yield files
        # Delete the old files first: after a crash any subset of the renames may have happened, and
        # an old file may happen to have the recorded size.
        if isinstance(parquet, Path):
            for suffix in INDEX_SUFFIXES:
                move_folder_aside(parquet.with_name(sidecar_path(parquet, suffix).name))
        remove_index_files(parquet)
        local_files = [file for file in files.values() if isinstance(file, AtomicFile)]
        if local_files:
            publish_files(*local_files)
        for file in files.values():
            if isinstance(file, RemoteFile):
                file.commit()
                fault_point("file.after_put")
    finally:
        for file in files.values():
            file.abort()  # does nothing for a file that was committed


def read_manifest(parquet: StoragePath) -> IndexManifest | None:
    """The manifest of the index beside a table; None when there is none in the current format
    that this user's kernels wrote. Raises OSError."""
    try:
        signed = _read_signed(sidecar_path(parquet, MANIFEST_SUFFIX))
        if signed is None or not is_own_seal(signed.index, signed.seal):
            return None
        manifest = msgspec.json.decode(signed.index, type=IndexManifest)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return None
    if (manifest.format_version, manifest.metric) != (FORMAT_VERSION, _METRIC):
        return None
    return manifest if len(manifest.centre) in (0, 4 * manifest.dimensions) else None


def missing_reason(parquet: StoragePath) -> str:
    """Why `read_manifest` returns None: "missing", "outdated" (written by another release
    or user) or "damaged". Raises OSError."""
    try:
        if not exists(sidecar_path(parquet, MANIFEST_SUFFIX)):
            return "missing"
        signed = _read_signed(sidecar_path(parquet, MANIFEST_SUFFIX))
        if signed is None:
            return "damaged"
        header = msgspec.json.decode(signed.index, type=_ManifestHeader)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return "damaged"
    is_current = header.format_version == FORMAT_VERSION
    return "damaged" if is_current and is_own_seal(signed.index, signed.seal) else "outdated"


def _read_signed(path: StoragePath) -> _SignedManifest | None:
    """The contents of a manifest file if its digest is right; else None. Raises OSError and what
    msgspec raises."""
    try:
        body = _read_limited(path, _MAX_MANIFEST_BYTES)
    except FileNotFoundError:
        return None
    if body is None:
        return None
    signed = msgspec.json.decode(body, type=_SignedManifest)
    return signed if hashlib.sha256(signed.index).hexdigest() == signed.digest else None


def load_index(parquet: StoragePath, manifest: IndexManifest) -> "AnnIndex | None":
    """The index that a manifest describes, after verifying its bytes; None when they differ. Raises
    OSError."""
    import numpy as np

    from jammi_lab.features.vectors.index.hnsw import open_index

    if manifest.usearch_version != usearch_version():
        return None
    body = read_verified(sidecar_path(parquet, GRAPH_SUFFIX), manifest.body)
    row_map = (
        None
        if manifest.rows is None
        else read_verified(sidecar_path(parquet, ROW_MAP_SUFFIX), manifest.rows)
    )
    if body is None or (row_map is None) != (manifest.rows is None):
        return None
    entry_numbers = (
        None if row_map is None else np.frombuffer(row_map, "<i8").astype(np.int64, copy=False)
    )
    return open_index(body, shape_of(manifest), entry_numbers)


@functools.cache
def usearch_version() -> str:
    """The major and minor version of usearch, on which the file layout may depend; read without
    importing it."""
    return ".".join(importlib.metadata.version("usearch").split(".")[:2])


def shape_of(manifest: IndexManifest) -> "IndexShape":
    """The shape of the index that a manifest describes."""
    from jammi_lab.features.vectors.index.hnsw import BuildParameters, IndexShape
    from jammi_lab.features.vectors.index.quantization import Quantizer

    return IndexShape(
        BuildParameters(manifest.precision, manifest.connectivity, manifest.build_expansion),
        manifest.dimensions,
        manifest.count,
        Quantizer(manifest.precision, manifest.scale, manifest.centre),
        manifest.search_expansion,
        manifest.removed,
    )


def read_verified(path: StoragePath, file: IndexFile) -> bytes | None:
    """The bytes of a file when they match the recorded digest; None otherwise and when the file is
    gone. Raises OSError."""
    try:
        body = _read_limited(path, file.size)
    except FileNotFoundError:
        return None
    return (
        body
        if body is not None
        and len(body) == file.size
        and hashlib.sha256(body).hexdigest() == file.digest
        else None
    )


def _read_limited(path: StoragePath, max_bytes: int) -> bytes | None:
    """The bytes of a file; None when it is larger than `max_bytes` or gone from an object store."""
    if isinstance(path, RemotePath):
        return path.read(max_bytes)
    with open_for_reading(path) as file:
        body = file.read(max_bytes + 1)
    return body if len(body) <= max_bytes else None


def is_complete(parquet: StoragePath, manifest: IndexManifest) -> bool:
    """Whether all files of an index exist with the recorded sizes. Raises OSError."""
    parts = [
        (GRAPH_SUFFIX, manifest.body),
        *([(ROW_MAP_SUFFIX, manifest.rows)] if manifest.rows is not None else []),
    ]
    return all(
        (stat := regular_stat(sidecar_path(parquet, suffix))) is not None and stat.size == file.size
        for suffix, file in parts
    )


def remove_index_files(parquet: StoragePath) -> None:
    """Delete all files of an index, the manifest first. Raises OSError."""
    for suffix in reversed(INDEX_SUFFIXES):
        remove_file(sidecar_path(parquet, suffix))

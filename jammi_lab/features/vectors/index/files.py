"""Index files beside a table's Parquet file: the graph, and a manifest with its digest.

Corrupt and forged bytes can crash the process, never return or give wrong answers, so nothing is
passed to usearch's loader before its digest and the seal of this user were verified. Files that
fail are simply rebuilt from the vectors; they contain derived data only.
"""

import contextlib
import functools
import hashlib
import importlib.metadata
import mmap
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from jammi_lab.core.thread_pool import ThreadPool
from jammi_lab.features.vectors.index.shape import IndexShape
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
from jammi_lab.storage.user_key import is_own_seal, seal
from jammi_lab.store import manifests
from jammi_lab.store.sidecars import (
    GRAPH_SUFFIX,
    INDEX_SUFFIXES,
    MANIFEST_SUFFIX,
    sidecar_path,
)

if TYPE_CHECKING:
    from jammi_lab.features.vectors.index.hnsw import AnnIndex

FORMAT_VERSION = 3
_METRIC = "cosine"
_BLOCK_BYTES = 1 << 23
"""Bytes of a graph that are read while those before them are hashed."""


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
    shape: IndexShape
    body: IndexFile
    usearch_version: str
    metric: str = _METRIC
    format_version: int = FORMAT_VERSION


@dataclass(frozen=True)
class IndexState:
    """The state of an index."""

    status: str
    """ready, building, missing, outdated, not readable by this user, or damaged."""
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


def write_index(parquet: StoragePath, table: str, ann: "AnnIndex") -> tuple[IndexManifest, bytes]:
    """Write an index beside its table; returns its manifest and the bytes of its graph. `table`:
    the digest of the Parquet file.

    The index is unusable afterwards: its memory is released before the bytes are read back. The
    manifest is written last. On failure no new file remains. Raises OSError."""
    with _index_files(parquet) as files:
        fault_point("index.before_write")
        ann.save(files[GRAPH_SUFFIX].temp)
        ann.detach_bytes()
        body = files[GRAPH_SUFFIX].temp.read_bytes()
        manifest = IndexManifest(
            table=table,
            shape=ann.shape,
            body=IndexFile(digest=hashlib.sha256(body).hexdigest(), size=len(body)),
            usearch_version=usearch_version(),
        )
        manifest_bytes = msgspec.json.encode(manifest, order="sorted")
        signed = _SignedManifest(
            index=msgspec.Raw(manifest_bytes),
            digest=hashlib.sha256(manifest_bytes).hexdigest(),
            seal=seal(manifest_bytes),
        )
        fault_point("index.before_write")
        files[MANIFEST_SUFFIX].temp.write_bytes(msgspec.json.encode(signed))
    return manifest, body


@contextlib.contextmanager
def _index_files(parquet: StoragePath) -> Iterator[dict[str, AtomicFile | RemoteFile]]:
    """Temporary files for an index, renamed one after the other when the block ends, and removed
    when it fails."""
    files: dict[str, AtomicFile | RemoteFile] = {}
    try:
        for suffix in INDEX_SUFFIXES:
            files[suffix] = atomic_file(sidecar_path(parquet, suffix))
        yield files
        # Delete the old files first: after a crash any subset of the renames may have happened, and
        # an old file may happen to have the recorded size.
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
    except PermissionError:
        return None
    if signed is None or not is_own_seal(signed.index, signed.seal):
        return None
    try:
        manifest = msgspec.json.decode(signed.index, type=IndexManifest)
    except (msgspec.MsgspecError, RecursionError):
        return None
    if (manifest.format_version, manifest.metric) != (FORMAT_VERSION, _METRIC):
        return None
    return manifest


def missing_reason(parquet: StoragePath) -> str:
    """Why `read_manifest` returns None: "missing", "damaged", "not readable by this user", or
    "outdated" (written by another release or user). Raises OSError."""
    path = sidecar_path(parquet, MANIFEST_SUFFIX)
    if not exists(path):
        return "missing"
    try:
        return "damaged" if _read_signed(path) is None else "outdated"
    except PermissionError:
        return "not readable by this user"


def _read_signed(path: StoragePath) -> _SignedManifest | None:
    """The contents of a manifest file if its digest is right; else None. Raises OSError."""
    try:
        signed = msgspec.json.decode(manifests.read_file(path) or b"", type=_SignedManifest)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return None
    if hashlib.sha256(signed.index).hexdigest() != signed.digest:
        return None
    return signed


def load_index(parquet: StoragePath, manifest: IndexManifest) -> "AnnIndex | None":
    """The index that a manifest describes, after verifying its bytes; None when they differ. Raises
    OSError."""
    from jammi_lab.features.vectors.index.hnsw import open_index

    if manifest.usearch_version != usearch_version():
        return None
    body = read_verified(sidecar_path(parquet, GRAPH_SUFFIX), manifest.body)
    return None if body is None else open_index(body, manifest.shape)


@functools.cache
def usearch_version() -> str:
    """The major and minor version of usearch, on which the file layout may depend; read without
    importing it."""
    return ".".join(importlib.metadata.version("usearch").split(".")[:2])


def read_verified(path: StoragePath, file: IndexFile) -> "bytes | mmap.mmap | None":
    """The bytes of a file when they match the recorded digest; None otherwise and when the file is
    gone. Raises OSError."""
    digest = hashlib.sha256()
    try:
        if isinstance(path, RemotePath):
            body: bytes | mmap.mmap = path.read(file.size) or b""
            digest.update(body)
        else:
            body = _read_while_hashing(path, file.size, digest.update)
    except FileNotFoundError:
        return None
    return body if digest.hexdigest() == file.digest else None


def _read_while_hashing(path: Path, size: int, update: Callable[[memoryview], object]) -> mmap.mmap:
    """The bytes of a file of that size, given to `update` on another thread while more are read: a
    search after a restart waits for both. Raises OSError."""
    body = mmap.mmap(-1, size + 1)  # `update` gets a byte more of a larger file
    view, start = memoryview(body), 0
    with open_for_reading(path) as file, ThreadPool(1, "jammi-digest") as hasher:
        while block := os.readv(file.fileno(), [view[start : start + _BLOCK_BYTES]]):
            hasher.submit(update, view[start : start + block])
            start += block
    return body


def is_complete(parquet: StoragePath, manifest: IndexManifest) -> bool:
    """Whether the graph of an index exists with the recorded size. Raises OSError."""
    stat = regular_stat(sidecar_path(parquet, GRAPH_SUFFIX))
    return stat is not None and stat.size == manifest.body.size


def remove_index_files(parquet: StoragePath) -> None:
    """Delete all files of an index, the manifest first. Raises OSError."""
    for suffix in reversed(INDEX_SUFFIXES):
        remove_file(sidecar_path(parquet, suffix))

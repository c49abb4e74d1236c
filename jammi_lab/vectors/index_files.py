"""The files of an index, beside the Parquet file of its table: the bytes, the row map where there is one, and the manifest that vouches for both.

Damaged bytes would end the process or answer wrongly, so none reaches the index's own loader before its digest was found to be the recorded one.
Whatever is wrong with the files, the index is made anew from the vectors; they hold nothing that is not derived.
"""

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec

from jammi_lab.storage.files import AtomicFile, Place, atomic_file, commit_together, fault_point, opened, remove, stat_of
from jammi_lab.storage.remote import RemoteFile, RemotePath

if TYPE_CHECKING:
    from jammi_lab.vectors.ann import Ann, Shape

BODY, ROWS, MANIFEST = ".idx.usearch", ".idx.rowmap", ".idx.manifest.json"
SUFFIXES = (BODY, ROWS, MANIFEST)
FORMAT = 1
_METRIC = "cosine"
_MANIFEST_BYTES = 1 << 16


class File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of an index."""

    digest: str
    """SHA-256 of its bytes."""
    size: int
    """In bytes."""


class IndexManifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an index is, and of which vectors."""

    table: str
    """SHA-256 of the Parquet file whose vectors are in it."""
    precision: str
    """bf16, f16, i8 or f32."""
    connectivity: int
    build_expansion: int
    search_expansion: int
    """As it was measured; 0 where reading every vector is less work than the graph."""
    dimensions: int
    count: int
    """Rows of the table, which are all in it."""
    removed: int
    """Rows that were taken out since it was made anew."""
    scale: float
    """What a component of a unit vector was multiplied with; 1 unless whole numbers are stored."""
    body: File
    rows: File | None
    """The row of each number in the index, −1 for none, as little-endian int64; None where they are the same."""
    usearch_version: str
    metric: str = _METRIC
    format_version: int = FORMAT


class _Signed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    index: msgspec.Raw
    digest: str


def beside(parquet: Place, suffix: str) -> Place:
    """A file of the index of the table in a Parquet file."""
    return parquet.with_name(parquet.name.removesuffix(".parquet") + suffix)


def write(parquet: Place, table: str, ann: "Ann") -> tuple[IndexManifest, bytes]:
    """Write an index beside its table, and give its manifest and its bytes as the file has them; `table`: the digest of the Parquet file.

    The index finds nothing afterwards: it is let go before its bytes are read. The manifest comes last. On failure nothing new stays. OSError."""
    from jammi_lab.vectors.ann import version

    shape = ann.shape
    rows = None if ann.rows is None else ann.rows.astype("<i8").tobytes()
    with _files(parquet, SUFFIXES if rows is not None else (BODY, MANIFEST)) as files:
        fault_point("index.before_write")
        ann.save(files[BODY].temp)
        ann.taken()
        body = files[BODY].temp.read_bytes()
        manifest = IndexManifest(
            table=table,
            precision=shape.parameters.precision,
            connectivity=shape.parameters.connectivity,
            build_expansion=shape.parameters.build_expansion,
            search_expansion=shape.expansion,
            dimensions=shape.dimensions,
            count=shape.count,
            removed=shape.removed,
            scale=shape.scale,
            body=_file(body),
            rows=None if rows is None else _file(rows),
            usearch_version=version(),
        )
        said = msgspec.json.encode(manifest, order="sorted")
        parts = {MANIFEST: b'{"index":' + said + b',"digest":"' + hashlib.sha256(said).hexdigest().encode() + b'"}'}
        if rows is not None:
            parts[ROWS] = rows
        else:  # before the rest, so that no crash leaves one that belongs to nothing; an index that is written over is of no use any more
            remove(beside(parquet, ROWS))
        for suffix, part in parts.items():
            fault_point("index.before_write")
            files[suffix].temp.write_bytes(part)
    return manifest, body


def _file(body: bytes) -> File:
    return File(digest=hashlib.sha256(body).hexdigest(), size=len(body))


@contextlib.contextmanager
def _files(parquet: Place, suffixes: Sequence[str]) -> Iterator[dict[str, AtomicFile | RemoteFile]]:
    """Files of an index that get their names, one after the other, when the block ends; none when it fails."""
    files: dict[str, AtomicFile | RemoteFile] = {}
    try:
        for suffix in suffixes:
            files[suffix] = atomic_file(beside(parquet, suffix))
        yield files
        here = [file for file in files.values() if isinstance(file, AtomicFile)]
        if here:
            commit_together(*here)
        for file in files.values():
            if isinstance(file, RemoteFile):
                file.commit()
                fault_point("file.after_put")
    finally:
        for file in files.values():
            file.abort()  # nothing is left of a file that has its name


def read(parquet: Place) -> IndexManifest | None:
    """The manifest of the index beside a table; None when there is none that this release wrote and can read. OSError."""
    path = beside(parquet, MANIFEST)
    try:
        body = _bytes(path, _MANIFEST_BYTES)
        if body is None:
            return None
        signed = msgspec.json.decode(body, type=_Signed)
        if hashlib.sha256(signed.index).hexdigest() != signed.digest:
            return None
        found = msgspec.json.decode(signed.index, type=IndexManifest)
    except (FileNotFoundError, IsADirectoryError, msgspec.MsgspecError, RecursionError, ValueError):
        return None
    return found if (found.format_version, found.metric) == (FORMAT, _METRIC) else None


def load(parquet: Place, manifest: IndexManifest) -> "Ann | None":
    """The index that a manifest describes, from bytes whose digest was found to be the recorded one; None when they are others. OSError."""
    import numpy as np

    from jammi_lab.vectors.ann import restored, version

    if manifest.usearch_version != version():
        return None
    body = checked(beside(parquet, BODY), manifest.body)
    numbers = None if manifest.rows is None else checked(beside(parquet, ROWS), manifest.rows)
    if body is None or (numbers is None) != (manifest.rows is None):
        return None
    rows = None if numbers is None else np.frombuffer(numbers, "<i8").astype(np.int64, copy=False)
    return restored(body, shape_of(manifest), rows)


def shape_of(manifest: IndexManifest) -> "Shape":
    """How the index is asked."""
    from jammi_lab.vectors.ann import Parameters, Shape

    return Shape(
        Parameters(manifest.precision, manifest.connectivity, manifest.build_expansion),
        manifest.dimensions,
        manifest.count,
        manifest.scale,
        manifest.search_expansion,
        manifest.removed,
    )


def checked(path: Place, file: File) -> bytes | None:
    """The bytes of a file, when they are the recorded ones. OSError, but for a file that is gone."""
    try:
        body = _bytes(path, file.size)
    except (FileNotFoundError, IsADirectoryError):
        return None
    return body if body is not None and len(body) == file.size and hashlib.sha256(body).hexdigest() == file.digest else None


def _bytes(path: Place, at_most: int) -> bytes | None:
    """None when it holds more than that, or is in a store and gone."""
    if isinstance(path, RemotePath):
        return path.read(at_most)
    with opened(path) as file:
        body = file.read(at_most + 1)
    return body if len(body) <= at_most else None


def complete(parquet: Place, manifest: IndexManifest) -> bool:
    """Whether the files of an index are there with the recorded sizes. OSError."""
    parts = [(BODY, manifest.body), *([(ROWS, manifest.rows)] if manifest.rows is not None else [])]
    return all((stat := stat_of(beside(parquet, suffix))) is not None and stat.size == file.size for suffix, file in parts)


def clear(parquet: Place) -> None:
    """Remove what lies there of an index, the manifest first. OSError."""
    for suffix in reversed(SUFFIXES):
        remove(beside(parquet, suffix))

"""The files of an index, beside the Parquet file of its table: the bytes, the row map where there is one, and the manifest that vouches for both.

Damaged bytes would end the process or answer wrongly, so none reaches the index's own loader before its digest was found to be the recorded one.
Whatever is wrong with the files, the index is made anew from the vectors; they hold nothing that is not derived.
"""

import contextlib
import functools
import hashlib
import importlib.metadata
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from jammi_lab.storage.files import AtomicFile, Place, atomic_file, commit_together, fault_point, is_there, opened, plain_stat, remove
from jammi_lab.storage.remote import RemoteFile, RemotePath

if TYPE_CHECKING:
    from jammi_lab.vectors.ann import Ann, Shape

BODY, ROWS, MANIFEST = ".idx.usearch", ".idx.rowmap", ".idx.manifest.json"
SUFFIXES = (BODY, ROWS, MANIFEST)
FORMAT = 2
_METRIC = "cosine"
_MANIFEST_BYTES = 1 << 20


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
    centre: bytes
    """What was taken off each unit vector before, as little-endian float32; empty for nothing. Distances are compared then, else inner products."""
    body: File
    rows: File | None
    """The number in the index of each row, as little-endian int64, equal rows having one; None where they are the same."""
    usearch_version: str
    metric: str = _METRIC
    format_version: int = FORMAT


class _Signed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    index: msgspec.Raw
    digest: str


class _Written(msgspec.Struct, frozen=True):
    """What manifests of every format say."""

    format_version: int


def beside(parquet: Place, suffix: str) -> Place:
    """A file of the index of the table in a Parquet file."""
    return parquet.with_name(parquet.name.removesuffix(".parquet") + suffix)


def write(parquet: Place, table: str, ann: "Ann") -> tuple[IndexManifest, bytes]:
    """Write an index beside its table, and give its manifest and its bytes as the file has them; `table`: the digest of the Parquet file.

    The index finds nothing afterwards: it is let go before its bytes are read. The manifest comes last. On failure nothing new stays. OSError."""
    shape = ann.shape
    rows = None if ann.numbers is None else ann.numbers.astype("<i8").tobytes()
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
            scale=shape.coding.scale,
            centre=shape.coding.centre,
            body=_file(body),
            rows=None if rows is None else _file(rows),
            usearch_version=version(),
        )
        said = msgspec.json.encode(manifest, order="sorted")
        parts = {MANIFEST: b'{"index":' + said + b',"digest":"' + hashlib.sha256(said).hexdigest().encode() + b'"}'}
        if rows is not None:
            parts[ROWS] = rows
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
        # what is written over is of no use any more; gone first, for a crash may keep any of the renames, and an old file be as long as the new
        for suffix in SUFFIXES:
            _make_way(beside(parquet, suffix))
        clear(parquet)
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


def _make_way(path: Place) -> None:
    """A folder where a file is to be goes aside: whoever made it has it still, and `check` lists what is in it. OSError."""
    if isinstance(path, Path) and path.is_dir() and not path.is_symlink():
        path.rename(path.with_name(f"{path.name}.folder-{secrets.token_hex(4)}"))


def read(parquet: Place) -> IndexManifest | None:
    """The manifest of the index beside a table; None when there is none in the format that this release writes. OSError."""
    try:
        said = _said(beside(parquet, MANIFEST))
        found = None if said is None else msgspec.json.decode(said, type=IndexManifest)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return None
    if found is None or (found.format_version, found.metric) != (FORMAT, _METRIC):
        return None
    return found if len(found.centre) in (0, 4 * found.dimensions) else None


def why_not(parquet: Place) -> str:
    """Why `read` gives none: it is missing, outdated (another release wrote it) or damaged. OSError."""
    try:
        if not is_there(beside(parquet, MANIFEST)):
            return "missing"
        said = _said(beside(parquet, MANIFEST))
        written = FORMAT if said is None else msgspec.json.decode(said, type=_Written).format_version
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return "damaged"
    return "damaged" if written == FORMAT else "outdated"


def _said(path: Place) -> msgspec.Raw | None:
    """What a manifest says, if its digest is the recorded one. OSError; what msgspec raises."""
    try:
        body = _bytes(path, _MANIFEST_BYTES)
    except FileNotFoundError:
        return None
    if body is None:
        return None
    signed = msgspec.json.decode(body, type=_Signed)
    return signed.index if hashlib.sha256(signed.index).hexdigest() == signed.digest else None


def load(parquet: Place, manifest: IndexManifest) -> "Ann | None":
    """The index that a manifest describes, from bytes whose digest was found to be the recorded one; None when they are others. OSError."""
    import numpy as np

    from jammi_lab.vectors.ann import restored

    if manifest.usearch_version != version():
        return None
    body = checked(beside(parquet, BODY), manifest.body)
    numbers = None if manifest.rows is None else checked(beside(parquet, ROWS), manifest.rows)
    if body is None or (numbers is None) != (manifest.rows is None):
        return None
    of_rows = None if numbers is None else np.frombuffer(numbers, "<i8").astype(np.int64, copy=False)
    return restored(body, shape_of(manifest), of_rows)


@functools.cache
def version() -> str:
    """The version of usearch, as far as the layout of its files may depend on it; it is not loaded for that."""
    return ".".join(importlib.metadata.version("usearch").split(".")[:2])


def shape_of(manifest: IndexManifest) -> "Shape":
    """How the index is asked."""
    from jammi_lab.vectors.ann import Parameters, Shape
    from jammi_lab.vectors.coding import Coding

    return Shape(
        Parameters(manifest.precision, manifest.connectivity, manifest.build_expansion),
        manifest.dimensions,
        manifest.count,
        Coding(manifest.precision, manifest.scale, manifest.centre),
        manifest.search_expansion,
        manifest.removed,
    )


def checked(path: Place, file: File) -> bytes | None:
    """The bytes of a file, when they are the recorded ones. OSError, but for a file that is gone or something else by now."""
    try:
        body = _bytes(path, file.size)
    except FileNotFoundError:
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
    return all((stat := plain_stat(beside(parquet, suffix))) is not None and stat.size == file.size for suffix, file in parts)


def clear(parquet: Place) -> None:
    """Remove what lies there of an index, the manifest first. OSError."""
    for suffix in reversed(SUFFIXES):
        remove(beside(parquet, suffix))

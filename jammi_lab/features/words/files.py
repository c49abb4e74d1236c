"""The index file beside a lexical table: a signed header, then the arrays of the postings, which
are mapped into memory.

Everything in it derives from the table. Nothing is searched in it before its digest and the seal of
this user were verified, and a file that fails is made again.
"""

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from jammi_lab.core.user_key import is_own_seal, seal
from jammi_lab.storage.files import (
    StoragePath,
    fault_point,
    open_for_reading,
    regular_stat,
    write_atomic,
)
from jammi_lab.storage.object_store import RemotePath
from jammi_lab.storage.own_files import move_folder_aside
from jammi_lab.store.sidecars import WORDS_SUFFIX, sidecar_path

if TYPE_CHECKING:
    from jammi_lab.features.words.word_index import WordIndex

FORMAT_VERSION = 2
_MAGIC = b"jammiwrd"
_MAX_HEADER_BYTES = 1 << 16
_ALIGNMENT_BYTES = 64
_ELEMENT_BYTES = {"|u1": 1, "<i8": 8, "<i4": 4}
"""Bytes of an element by type."""
_LAYOUT = ("|u1", "<i8", "<i8", "<i4", "<i4", "<i4")
"""The types of the arrays of `Postings`, in their order."""


class WordsHeader(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an index file holds, and of which table."""

    table: str
    """SHA-256 of the Parquet file."""
    rows: int
    """Rows of the table."""
    sizes: list[int]
    """The number of elements of each array."""
    body: str
    """SHA-256 of the bytes after the header."""
    body_bytes: int
    """Their number."""
    format_version: int = FORMAT_VERSION


class _SignedHeader(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    words: msgspec.Raw
    digest: str
    seal: str


def words_path(parquet: StoragePath) -> StoragePath:
    """The path of the index file of the table in a Parquet file."""
    return sidecar_path(parquet, WORDS_SUFFIX)


def write_words(parquet: StoragePath, table: str, index: "WordIndex") -> None:
    """Write the index of a table beside it; `table` is the digest of the Parquet file. On failure
    no new file remains. Raises OSError."""
    arrays = [
        array.astype(kind, copy=False)
        for array, kind in zip(index.postings.arrays, _LAYOUT, strict=True)
    ]
    parts = [
        part for array in arrays for part in (array.data, bytes(-array.nbytes % _ALIGNMENT_BYTES))
    ]
    body = hashlib.sha256()
    for part in parts:
        body.update(part)
    header = msgspec.json.encode(
        WordsHeader(
            table=table,
            rows=index.row_count,
            sizes=[len(array) for array in arrays],
            body=body.hexdigest(),
            body_bytes=sum(memoryview(part).nbytes for part in parts),
        )
    )
    digest = hashlib.sha256(header).hexdigest()
    signed = b'{"words":%b,"digest":"%b","seal":"%b"}' % (
        header,
        digest.encode(),
        seal(header).encode(),
    )
    path = words_path(parquet)
    if isinstance(path, Path):
        move_folder_aside(path)
    fault_point("words.before_write")
    # one copy of the arrays: they are most of the file
    start = _pad(_MAGIC + len(signed).to_bytes(8, "little") + signed)
    write_atomic(path, b"".join([start, *parts]))


def read_header(
    parquet: StoragePath, *, of_any_user: bool = False
) -> tuple[WordsHeader, int] | None:
    """The header of the index file of a table, and where the arrays begin; None when there is no
    sound one in the current format that this user's kernels wrote. Raises OSError."""
    try:
        with open_for_reading(words_path(parquet)) as file:
            first = file.read(_MAX_HEADER_BYTES)
        if first[:8] != _MAGIC:
            return None
        end = 16 + int.from_bytes(first[8:16], "little")
        signed = msgspec.json.decode(first[16:end], type=_SignedHeader)
        if hashlib.sha256(signed.words).hexdigest() != signed.digest:
            return None
        if not of_any_user and not is_own_seal(signed.words, signed.seal):
            return None
        header = msgspec.json.decode(signed.words, type=WordsHeader)
    except (FileNotFoundError, msgspec.MsgspecError, RecursionError, ValueError):
        return None
    return (header, end + -end % _ALIGNMENT_BYTES) if _is_consistent(header) else None


def is_complete(parquet: StoragePath, header: WordsHeader, start: int) -> bool:
    """Whether the file has the recorded size. Raises OSError."""
    stat = regular_stat(words_path(parquet))
    return stat is not None and stat.size == start + header.body_bytes


def load_words(parquet: StoragePath, header: WordsHeader, start: int) -> "WordIndex | None":
    """The index that a header describes, after verifying its bytes; None when they differ. A local
    file is mapped. Raises OSError."""
    import numpy as np
    import pyarrow as pa

    from jammi_lab.features.words.word_index import Postings, WordIndex

    path = words_path(parquet)
    size = start + header.body_bytes
    if isinstance(path, RemotePath):
        with open_for_reading(path) as file:
            data = pa.py_buffer(file.read(size + 1))
    else:
        # Unlike `mmap`, a closed file of Arrow keeps no descriptor for its mapping.
        with pa.memory_map(os.fspath(path)) as mapped:
            data = mapped.read_buffer(size + 1)
    if data.size != size or hashlib.sha256(memoryview(data)[start:]).hexdigest() != header.body:
        return None
    arrays = []
    for count, kind in zip(header.sizes, _LAYOUT, strict=True):
        arrays.append(np.frombuffer(data, kind, count, start))
        start += _padded_length(count, kind)
    return WordIndex(Postings(*arrays))


def _is_consistent(header: WordsHeader) -> bool:
    """Whether the arrays fill the body."""
    return (
        header.format_version == FORMAT_VERSION
        and len(header.sizes) == len(_LAYOUT)
        and min(header.sizes) >= 0
        and header.rows == header.sizes[-1]
        and header.body_bytes
        == sum(_padded_length(c, kind) for c, kind in zip(header.sizes, _LAYOUT, strict=True))
    )


def _padded_length(count: int, kind: str) -> int:
    length = count * _ELEMENT_BYTES[kind]
    return length + -length % _ALIGNMENT_BYTES


def _pad(data: bytes) -> bytes:
    return data + bytes(-len(data) % _ALIGNMENT_BYTES)

"""Digests of files and of their column chunks, and when an unchanged stat may replace hashing."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from jammi_lab.core.canonical_json import digest_of
from jammi_lab.core.manifest import Leaf
from jammi_lab.core.value import Value
from jammi_lab.storage.files import (
    Stat,
    StoragePath,
    is_settled,
    open_for_reading,
    read_regular,
    stat_of,
)
from jammi_lab.storage.object_store import RemotePath
from jammi_lab.storage.parquet import open_parquet, split_leaves
from jammi_lab.storage.parquet_statistics import (
    BLOOM_FILTER_LENGTH,
    BLOOM_FILTER_OFFSET,
    CHUNK_OFFSETS,
    row_groups,
)
from jammi_lab.storage.thrift import parse_struct

# --------------------------------------------------------------------------------------------------
# Consistency of a Parquet file's pages with its footer.
# A reader starts where the footer says that a column chunk begins, and reads pages until it has all
# values. Column digests cover the byte range that the footer gives. Equal digests mean equal values
# only where both are the same bytes; otherwise only the digest of the whole file counts.

_HEADER_BYTES = 256
"""Enough for most page headers. Headers contain the minimum and maximum value, which may be long.
"""
_MAX_HEADER_BYTES = 1 << 20
_DATA_PAGE, _DICTIONARY_PAGE, _DATA_PAGE_V2 = 0, 2, 3


def pages_match_footer(file: BinaryIO, footer: pq.FileMetaData) -> bool:
    """Whether each chunk of an open file begins and ends where the footer says, and holds as many
    values. Raises OSError."""
    groups = [footer.row_group(number) for number in range(footer.num_row_groups)]
    if sum(group.num_rows for group in groups) != footer.num_rows:
        return False
    return all(
        _chunk_matches_footer(file, group.column(number))
        for group in groups
        for number in range(footer.num_columns)
    )


def _chunk_matches_footer(file: BinaryIO, chunk: pq.ColumnChunkMetaData) -> bool:
    dictionary_offset, data_offset = chunk.dictionary_page_offset or None, chunk.data_page_offset
    if chunk.num_values == 0:
        return True  # readers read no page of it
    if chunk.file_path or (
        dictionary_offset is not None and not 4 <= dictionary_offset < data_offset
    ):
        return False  # readers disagree on where such a chunk begins
    position = data_offset if dictionary_offset is None else dictionary_offset
    end, values = position + chunk.total_compressed_size, 0
    while position < end:
        header, body_offset = _read_page_header(file, position, end)
        if header is None:
            return False
        kind, length = header.get(1), header.get(3)
        if (
            not isinstance(length, int)
            or length < 0
            or kind not in (_DATA_PAGE, _DICTIONARY_PAGE, _DATA_PAGE_V2)
        ):
            return False
        if kind != _DICTIONARY_PAGE:
            if values == 0 and dictionary_offset is not None and position != data_offset:
                return False
            page_header = header.get(5 if kind == _DATA_PAGE else 8)
            if (
                not isinstance(page_header, dict)
                or not isinstance(count := page_header.get(1), int)
                or count < 0
            ):
                return False
            values += count
            if values >= chunk.num_values and body_offset + length != end:
                return False  # a reader stops here, before the end of the chunk
        position = body_offset + length
    return bool(position == end and values == chunk.num_values)


def _read_page_header(file: BinaryIO, position: int, end: int) -> tuple[dict[int, Any] | None, int]:
    """The header of a page, and the offset of the page's data; None when there is no valid
    header."""
    size = _HEADER_BYTES
    while True:
        file.seek(position, os.SEEK_SET)
        raw = file.read(min(size, end - position))
        try:
            fields, length = parse_struct(raw, 0)
            return fields, position + length
        except IndexError:
            if size >= min(_MAX_HEADER_BYTES, end - position):
                return None, position
            size *= 16
        except (ValueError, RecursionError):
            return None, position


# --------------------------------------------------------------------------------------------------
# Digests and what is cached of files.

SMALL_FILE_BYTES = 1 << 20
"""Up to this size, a file is read into memory once and hashed there."""
BLOCK_BYTES = 1 << 20
"""Bytes per read. The speed was measured equal from 64 KiB to 4 MiB."""
_MAX_ATTEMPTS = 3
_WAIT_BEFORE, _WRITE = 1, 2
"""Flags of Linux's `sync_file_range`: wait for pages being written, then start writing the others,
without waiting for the disk."""
T = TypeVar("T")


NO_STAT = Stat(0, 0, 0, 0)
"""The stat in an observation of something other than one file."""


class CacheEntry(Value, frozen=True):
    """The result of an earlier observation, for example of one file."""

    stat: Stat
    """The file's stat at that time, or `NO_STAT`."""
    observed_at_ns: int
    """When that stat was taken."""
    payload: dict[str, Any]
    """The digests, rows and columns, as plain JSON."""


class DigestCache(Protocol):
    """Cache of earlier observations by key. Losing it costs time, never correctness."""

    def get(self, key: str) -> CacheEntry | None:
        """The entry of a key, or None."""
        ...

    def put(self, key: str, entry: CacheEntry) -> None:
        """Store an entry, replacing an earlier one."""
        ...


def observation_key(kind: str, *subject: str) -> str:
    """The cache key of one kind of observation (`rows`, `columns`, `parquet` …) of one subject.

    Catalogs store these keys: another form of key loses what was observed before.
    """
    return ":".join((kind, *subject))


class PersistentDigestCache(DigestCache, Protocol):
    """A cache that outlives the process."""

    def save(self) -> None:
        """Store new entries, within the current catalog transaction if there is one."""
        ...


class ParquetDigests(Value, frozen=True):
    """The results of one pass over a Parquet file."""

    _volatile_fields = ("footer",)

    whole: str
    """SHA-256 of all bytes."""
    leaves: list[Leaf]
    """The digests of its column chunks, by row group."""
    rows: int
    """Number of rows, from the footer."""
    bytes: int
    """Size of the file in bytes."""
    footer: pq.FileMetaData
    """Its footer."""


def sha256_file(
    path: str | StoragePath,
    on_bytes: Callable[[int], None] | None = None,
    *,
    follow_links: bool = False,
) -> str:
    """SHA-256 of a file, read in blocks. `on_bytes` is called after each block with the number
    of bytes read so far; `follow_links` for a file that is not our own. Raises OSError, and
    FileNotFoundError for anything but a regular file."""
    if on_bytes is None and not isinstance(path, RemotePath):
        # a buffered file would take longer than its bytes: a status may read 100,000 small ones
        content = read_regular(path, SMALL_FILE_BYTES, follow_links=follow_links)
        if content is not None and content[1] is not None:
            return hashlib.sha256(content[1]).hexdigest()
    with open_for_reading(path, follow_links=follow_links) as file:
        return sha256_stream(file, on_bytes)


def sha256_stream(file: BinaryIO, on_bytes: Callable[[int], None] | None = None) -> str:
    """SHA-256 of the rest of an open binary file. `on_bytes` is called after each block with the
    number of bytes read so far. Raises OSError."""
    digest, bytes_read = hashlib.sha256(), 0
    while block := file.read(BLOCK_BYTES):
        digest.update(block)
        bytes_read += len(block)
        if on_bytes is not None:
            on_bytes(bytes_read)
    return digest.hexdigest()


def digest_parquet(path: Path, footer: pq.FileMetaData | None = None) -> ParquetDigests:
    """Digests, rows and size of a local Parquet file. A caller that has just written it can pass
    its `footer`. Raises pyarrow.ArrowInvalid when it is not a complete Parquet file, OSError."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        return _digest_file(file, footer or open_parquet(file).metadata, size)


def digest_parquet_stream(file: BinaryIO, size: int) -> ParquetDigests:
    """Like `digest_parquet`, for an open, seekable binary file such as fsspec opens."""
    return _digest_file(file, open_parquet(file).metadata, size)


def _digest_file(file: BinaryIO, footer: pq.FileMetaData, size: int) -> ParquetDigests:
    file.seek(0)
    digest, extents = sha256_stream(file), _extents(footer, size)
    leaves = [
        Leaf(*extent, _range_digest(file, extent.offset, extent.length)) for extent in extents
    ]
    return ParquetDigests(digest, leaves, footer.num_rows, size, footer)


class _Extent(NamedTuple):
    """The byte range of a column chunk."""

    column: str
    row_group: int
    offset: int
    length: int


def _extents(footer: pq.FileMetaData, size: int) -> list[_Extent]:
    """The column chunks by row group. Raises pyarrow.ArrowInvalid when one lies outside the
    file."""
    columns, extents = _leaf_columns(footer), list[_Extent]()
    for group in range(footer.num_row_groups):
        chunks = footer.row_group(group)
        for j in range(footer.num_columns):
            chunk = chunks.column(j)
            offset = min(
                (
                    page_offset
                    for page_offset in (chunk.dictionary_page_offset, chunk.data_page_offset)
                    if page_offset
                ),
                default=0,
            )
            extent = _Extent(columns[j], group, offset, chunk.total_compressed_size)
            if chunks.num_rows == 0 and extent.length == 0:
                extents.append(extent)  # no page was written, and the footer names no offset
                continue
            # A file begins with the four bytes `PAR1`.
            if extent.offset < 4 or extent.length < 0 or extent.offset + extent.length > size:
                raise pa.ArrowInvalid(f"column chunk {j} of row group {group} is outside the file")
            extents.append(extent)
    return extents


def _range_digest(file: BinaryIO, offset: int, length: int) -> str:
    part = hashlib.sha256()
    file.seek(offset)
    while length > 0:
        block = file.read(min(BLOCK_BYTES, length))
        if not block:
            raise pa.ArrowInvalid("the file ends inside a column chunk")
        part.update(block)
        length -= len(block)
    return part.hexdigest()


def _leaf_columns(footer: pq.FileMetaData) -> list[str]:
    """The top-level column of each leaf. Raises pyarrow.ArrowInvalid when it cannot be
    determined."""
    try:
        return [name for name, leaves in split_leaves(footer) for _ in leaves]
    except (ValueError, pa.ArrowNotImplementedError) as error:
        raise pa.ArrowInvalid(str(error)) from None


def _signatures(file: BinaryIO, footer: pq.FileMetaData) -> dict[str, str]:
    """What the footer says about each column: types, levels, codec, encodings, numbers of values,
    and the statistics and filters by which a reader skips row groups. Equal bytes give equal rows
    only if these are equal, too. Raises OSError, ValueError and IndexError for a footer that cannot
    be parsed."""
    groups, names = row_groups(file), _leaf_columns(footer)
    signatures: dict[str, list[Any]] = {}
    for j, name in enumerate(names):
        leaf = footer.schema.column(j)
        logical = leaf.logical_type.to_json() if leaf.logical_type is not None else ""
        kind = [
            leaf.path,
            leaf.physical_type,
            logical,
            leaf.max_definition_level,
            leaf.max_repetition_level,
            leaf.length,
        ]
        chunks = [[group.rows, *_chunk_signature(file, group.columns[j])] for group in groups]
        signatures.setdefault(name, []).append([kind, chunks])
    return {name: digest_of(parts) for name, parts in signatures.items()}


def _chunk_signature(file: BinaryIO, chunk: Mapping[int, Any]) -> list[str]:
    fields = [field for field in chunk.items() if field[0] not in CHUNK_OFFSETS]
    if BLOOM_FILTER_OFFSET not in chunk:
        return [repr(fields)]
    offset, length = chunk[BLOOM_FILTER_OFFSET], chunk.get(BLOOM_FILTER_LENGTH)
    if length is None:
        raise ValueError("a bloom filter of unknown length")
    return [repr(fields), _range_digest(file, offset, length)]


def column_digests(leaves: Sequence[Leaf]) -> dict[str, str]:
    """A digest for each column over its leaves, by row group; columns in file order."""
    parts: dict[str, list[str]] = {}
    # The sort is stable: leaves of one row group keep their order.
    for leaf in sorted(leaves, key=lambda leaf: leaf.row_group):
        parts.setdefault(leaf.column, []).append(leaf.digest)
    return {
        column: hashlib.sha256(bytes.fromhex("".join(digests))).hexdigest()
        for column, digests in parts.items()
    }


def is_current(entry: CacheEntry | None, stat: Stat, racy_seconds: float) -> bool:
    """Whether a cached observation is still valid: the stat is the same, and was old enough when it
    was taken that no later edit can have the same one."""
    return (
        entry is not None
        and entry.stat == stat
        and is_settled(entry.stat, entry.observed_at_ns, racy_seconds)
    )


def read_stable(path: Path, read: Callable[[], T]) -> tuple[Stat, T]:
    """The result of `read`, with the stat that the file had before and after it. Reads again when
    the stats differ.

    From the first stat on, writes through a memory mapping change the stat, too. Raises
    FileNotFoundError, or OSError when the file changes every time.
    """
    for _ in range(_MAX_ATTEMPTS):
        stat = stat_of(path)
        if stat is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        # Before the read, so that a write during it is seen in the second stat.
        force_mtime_update(path)
        result = read()
        if stat_of(path) == stat:
            return stat, result
    raise OSError(errno.EBUSY, "it changes while being read", str(path))


def force_mtime_update(path: Path) -> None:
    """Make sure that the next write through a memory mapping changes the file's stat, however old
    the file seems: the clock may have been set. Of two such writes to one page only the first does,
    until the page is written back; starting that makes the next one change it again. Does nothing
    for a file that cannot be synced, or where the system has no such call."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))
        try:
            writeback_function()(descriptor)
        finally:
            os.close(descriptor)


@functools.cache
def writeback_function() -> Callable[[int], object]:
    """A function that starts the write-back of an open file; fsync where there is nothing
    better."""
    try:
        call = ctypes.CDLL(None).sync_file_range
    except (AttributeError, OSError, TypeError):
        return getattr(os, "fdatasync", os.fsync)
    call.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
    return lambda descriptor: call(descriptor, 0, 0, _WAIT_BEFORE | _WRITE)


def parquet_payload(digests: ParquetDigests, file: BinaryIO) -> dict[str, Any]:
    """The cached form of a Parquet file's digests, given the open file. Column digests cover the
    bytes and how they are decoded. They are left out when a reader would find values in other bytes
    than the footer says. Raises OSError."""
    unseparated = {"whole": digests.whole, "by_column": None, "rows": digests.rows}
    if not pages_match_footer(file, digests.footer):
        return unseparated
    try:
        signatures = _signatures(file, digests.footer)
    except (ValueError, IndexError):
        return unseparated
    columns = {
        name: digest_of([digest, signatures[name]])
        for name, digest in column_digests(digests.leaves).items()
    }
    for name, signature in signatures.items():  # a file without row groups has columns, too
        columns.setdefault(name, digest_of(["", signature]))
    return {"whole": digests.whole, "by_column": columns, "rows": digests.rows}

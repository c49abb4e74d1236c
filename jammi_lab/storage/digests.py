"""Digests of files and of their column chunks, and when a stat may stand for them."""

import collections
import concurrent.futures
import contextlib
import errno
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from jammi_lab.canonical import digest_of
from jammi_lab.storage.arrow import arrow_digests, table_digest
from jammi_lab.storage.files import Place, Stat, opened, plain_stat, settled, stat_of
from jammi_lab.storage.growing import BLOCK, Growing
from jammi_lab.storage.mapped import watch
from jammi_lab.storage.pages import as_told
from jammi_lab.storage.parquet import footer_at, footer_of, split_leaves
from jammi_lab.storage.plain import plain_bytes
from jammi_lab.values.anchors import Cost
from jammi_lab.values.base import Value
from jammi_lab.values.manifest import Leaf

__all__ = [
    "BLOCK",
    "Fingerprint",
    "KeptMemo",
    "Memo",
    "MemoEntry",
    "ParquetDigests",
    "arrow_digests",
    "at_rest",
    "column_digests",
    "digest_parquet",
    "digest_parquet_stream",
    "fingerprint",
    "memo_key",
    "parquet_leaves",
    "parquet_payload",
    "read_fingerprint",
    "seen",
    "sha256_file",
    "sha256_stream",
    "table_digest",
    "trusted",
]

_SMALL = 1 << 20
"""Up to this size, a file is read once and kept while it is hashed."""
_SPLIT = 2 << 20
"""From this size on, a file is hashed on two threads."""
_TRIES = 3
T = TypeVar("T")


class MemoEntry(Value, frozen=True):
    """What an earlier look found in one file."""

    stat: Stat
    """The file's stat then."""
    observed_at_ns: int
    """When the look took that stat."""
    payload: dict[str, Any]
    """What it found: digests, rows, columns; plain JSON."""


class Memo(Protocol):
    """What earlier looks found, by key. Losing it costs time, never truth."""

    def get(self, key: str) -> MemoEntry | None:
        """The entry, or None."""
        ...

    def put(self, key: str, entry: MemoEntry) -> None:
        """Keep an entry instead of an earlier one."""
        ...


class KeptMemo(Memo, Protocol):
    """A memo that outlives the process."""

    def save(self) -> None:
        """Store what is new, in the catalog's transaction that runs if one does."""
        ...


class Fingerprint(Value, frozen=True):
    """The digests of one file."""

    whole: str
    """SHA-256 of all bytes."""
    by_column: dict[str, str] | None
    """For Parquet: a digest per top-level column; None when columns cannot be told apart."""
    row_count: int | None
    """Rows, for Parquet."""
    cost: Cost
    """What finding it took: FREE when a stat sufficed, else SCAN."""


class ParquetDigests(Value, frozen=True):
    """All that one pass over a Parquet file gives."""

    _untold = ("footer",)

    whole: str
    """SHA-256 of all bytes."""
    leaves: list[Leaf]
    """Its column chunks, row group by row group."""
    rows: int
    """Rows, by the footer."""
    bytes: int
    """Size of the file."""
    footer: pq.FileMetaData
    """What its footer says."""

    @property
    def signature(self) -> dict[str, str]:
        """Per top-level column a digest of how the footer says its bytes are to be read; found when it is asked for."""
        return _signatures(self.footer)


def sha256_file(path: Place, told: Callable[[int], None] | None = None) -> str:
    """SHA-256 of a file, read in blocks; `told` hears after each how many bytes were read. OSError."""
    with opened(path) as file:
        return sha256_stream(file, told)


def sha256_stream(file: BinaryIO, told: Callable[[int], None] | None = None) -> str:
    """SHA-256 of what an open binary file still holds; `told` hears after each block how many bytes were read. OSError."""
    whole, done = hashlib.sha256(), 0
    while block := file.read(BLOCK):
        whole.update(block)
        done += len(block)
        if told is not None:
            told(done)
    return whole.hexdigest()


class Seen(NamedTuple):
    """What a file is, as far as one reading tells."""

    path: Place
    """Where it lies."""
    data: bytes | None
    """All of it, when it is small."""
    digest: str
    """SHA-256 of all bytes; empty when it is large and no closed Parquet."""
    size: int
    """Bytes."""

    def footer(self) -> pq.FileMetaData | None:
        """Its footer, which proves nothing about the data; None when the file is no closed Parquet. OSError when it cannot be read."""
        return footer_at(self.path) if self.data is None else footer_of(pa.BufferReader(self.data))


def seen(path: Place) -> Seen | None:
    """What a Parquet file is that may be torn; None when there is none. One that cannot be read counts as torn, a large one raises OSError."""
    if isinstance(path, Path):
        with contextlib.suppress(OSError):
            found = plain_bytes(path, _SMALL, links=True)
            if found is None:
                return None
            if (data := found[1]) is not None:
                return Seen(path, data, hashlib.sha256(data).hexdigest(), found[0])
    stat = plain_stat(path)
    if stat is None:
        return None
    return Seen(path, None, "" if footer_at(path) is None else sha256_file(path), stat.size)


def parquet_leaves(path: Path) -> list[Leaf]:
    """The digests of a Parquet file's column chunks. pyarrow.ArrowInvalid when it is no whole Parquet file, OSError."""
    return digest_parquet(path).leaves


def digest_parquet(path: Path, growing: Growing | None = None, footer: pq.FileMetaData | None = None) -> ParquetDigests:
    """Whole digest, leaves, rows and bytes of a local Parquet file, whose `footer` whoever has just written it knows. pyarrow.ArrowInvalid when it is
    no whole Parquet file, OSError.

    A large file is hashed on two threads, which costs the time of one SHA-256 over it; half of that when `growing` took most of the whole in while
    the file was written.
    """
    with FileIO(os.fspath(path)) as file:
        size = os.fstat(file.fileno()).st_size
        if size <= _SMALL:
            return _digest_bytes(file.readall(), footer)
        footer = footer or pq.read_metadata(file)
        if size < _SPLIT:
            return _one_pass(file, footer, size)
    extents = _extents(footer, size)
    left, found = collections.deque(enumerate(extents)), [""] * len(extents)

    def first_the_whole() -> str:
        whole = growing.ended() if growing else sha256_file(path)
        _drain(path, left, found)
        return whole

    with concurrent.futures.ThreadPoolExecutor(1, "jammi-digest") as helper:
        whole = helper.submit(first_the_whole)
        try:
            _drain(path, left, found)
        finally:
            left.clear()  # whoever fails, the other one ends
        return ParquetDigests(whole.result(), _leaves(extents, found), footer.num_rows, size, footer)


def _drain(path: Path, left: "collections.deque[tuple[int, _Extent]]", found: list[str]) -> None:
    """Digest ranges of a file until none is left, beside others who do the same."""
    with open(path, "rb", buffering=0) as file, contextlib.suppress(IndexError):
        while True:
            place, extent = left.popleft()
            found[place] = _range_digest(file, extent.offset, extent.length)


def digest_parquet_stream(file: BinaryIO, size: int) -> ParquetDigests:
    """The same for an open, seekable binary file, such as fsspec opens. Errors likewise."""
    return _one_pass(file, pq.read_metadata(file), size)


def _digest_bytes(data: bytes, footer: pq.FileMetaData | None) -> ParquetDigests:
    footer, view = footer or pq.read_metadata(pa.BufferReader(data)), memoryview(data)
    extents = _extents(footer, len(data))
    found = [hashlib.sha256(view[one.offset : one.offset + one.length]).hexdigest() for one in extents]
    return ParquetDigests(hashlib.sha256(data).hexdigest(), _leaves(extents, found), footer.num_rows, len(data), footer)


def _one_pass(file: BinaryIO, footer: pq.FileMetaData, size: int) -> ParquetDigests:
    file.seek(0)
    whole, extents = sha256_stream(file), _extents(footer, size)
    leaves = _leaves(extents, [_range_digest(file, extent.offset, extent.length) for extent in extents])
    return ParquetDigests(whole, leaves, footer.num_rows, size, footer)


class _Extent(NamedTuple):
    """Where a column chunk lies."""

    column: str
    row_group: int
    offset: int
    length: int


def _extents(footer: pq.FileMetaData, size: int) -> list[_Extent]:
    """The column chunks, row group by row group. pyarrow.ArrowInvalid."""
    owner, extents = _owners(footer), list[_Extent]()
    for group in range(footer.num_row_groups):
        chunks = footer.row_group(group)
        for j in range(footer.num_columns):
            chunk = chunks.column(j)
            offset = min((at for at in (chunk.dictionary_page_offset, chunk.data_page_offset) if at), default=0)
            extent = _Extent(owner[j], group, offset, chunk.total_compressed_size)
            if extent.offset < 4 or extent.length < 0 or extent.offset + extent.length > size:
                raise pa.ArrowInvalid(f"column chunk {j} of row group {group} lies outside the file")
            extents.append(extent)
    return extents


def _leaves(extents: Sequence[_Extent], digests: Sequence[str]) -> list[Leaf]:
    return [Leaf(*extent, digest) for extent, digest in zip(extents, digests, strict=True)]


def _range_digest(file: BinaryIO, offset: int, length: int) -> str:
    part = hashlib.sha256()
    file.seek(offset)
    while length > 0:
        block = file.read(min(BLOCK, length))
        if not block:
            raise pa.ArrowInvalid("the file ends inside a column chunk")
        part.update(block)
        length -= len(block)
    return part.hexdigest()


def _owners(footer: pq.FileMetaData) -> list[str]:
    """For each leaf, the top-level column that it belongs to. pyarrow.ArrowInvalid when that cannot be told."""
    try:
        return [name for name, leaves in split_leaves(footer) for _ in leaves]
    except (ValueError, pa.ArrowNotImplementedError) as error:
        raise pa.ArrowInvalid(str(error)) from None


def _signatures(footer: pq.FileMetaData) -> dict[str, str]:
    """Equal bytes are equal values only if the footer has them read in the same way: types, levels, codec, encodings, values per chunk."""
    said: dict[str, list[Any]] = {}
    for j, name in enumerate(_owners(footer)):
        leaf = footer.schema.column(j)
        logical = leaf.logical_type.to_json() if leaf.logical_type is not None else ""
        kind = [leaf.path, leaf.physical_type, logical, leaf.max_definition_level, leaf.max_repetition_level, leaf.length]
        chunks = [footer.row_group(group).column(j) for group in range(footer.num_row_groups)]
        said.setdefault(name, []).append([kind, [[c.compression, list(c.encodings), c.num_values] for c in chunks]])
    return {name: digest_of(parts) for name, parts in said.items()}


def column_digests(leaves: Sequence[Leaf]) -> dict[str, str]:
    """A digest for each column over its leaves, in row-group order; columns in the order of the file."""
    parts: dict[str, list[str]] = {}
    for leaf in sorted(leaves, key=lambda one: one.row_group):  # stable: leaves of one row group keep their order
        parts.setdefault(leaf.column, []).append(leaf.digest)
    return {column: hashlib.sha256(bytes.fromhex("".join(digests))).hexdigest() for column, digests in parts.items()}


def trusted(entry: MemoEntry | None, stat: Stat, racy_seconds: float) -> bool:
    """Whether what the memo holds is still so: the same stat, and old enough when it was seen that no later edit can share it."""
    return entry is not None and entry.stat == stat and settled(entry.stat, entry.observed_at_ns, racy_seconds)


def memo_key(path: Path, parquet: bool) -> str:
    """Under which key `fingerprint` keeps what it found."""
    return f"{'parquet' if parquet else 'bytes'}:{path}"


def fingerprint(path: Path, memo: Memo, *, parquet: bool, now_ns: int, racy_seconds: float) -> Fingerprint:
    """The digests of a local file: from the memo when the stat proves them, else from its bytes.

    FileNotFoundError when it is not there, other OSError when it cannot be read or does not hold still, pyarrow.ArrowInvalid
    when `parquet` is said and it is none.
    """
    stat = stat_of(path)
    key = memo_key(path, parquet)
    entry = memo.get(key)
    if entry is not None and stat is not None and trusted(entry, stat, racy_seconds):
        return _from_payload(entry.payload, Cost.FREE)
    return read_fingerprint(path, memo, parquet=parquet, now_ns=now_ns)


def read_fingerprint(path: Path, memo: Memo, *, parquet: bool, now_ns: int) -> Fingerprint:
    """The same, always from the bytes; the memo learns them. Errors likewise."""
    stat, payload = at_rest(path, lambda: _payload(path, parquet))
    memo.put(memo_key(path, parquet), MemoEntry(stat, now_ns, payload))
    return _from_payload(payload, Cost.SCAN)


def at_rest(path: Path, read: Callable[[], T]) -> tuple[Stat, T]:
    """What `read` gives, with the stat that the file had both before and after it; read again when they differ.

    From the first stat on, writes through a mapping move it, too. FileNotFoundError when the file is not there, OSError when it changes each time.
    """
    for _ in range(_TRIES):
        before = stat_of(path)
        if before is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        watch(path, before)
        found = read()
        if stat_of(path) == before:
            return before, found
    raise OSError(errno.EBUSY, "it changes while it is read", str(path))


def _payload(path: Path, parquet: bool) -> dict[str, Any]:
    if not parquet:
        return {"whole": sha256_file(path), "by_column": None, "rows": None}
    with open(path, "rb") as file:
        return parquet_payload(digest_parquet(path), file)


def parquet_payload(found: ParquetDigests, file: BinaryIO) -> dict[str, Any]:
    """What the memo keeps of a Parquet file, which is open: digests of columns cover their bytes and how these are read. None of columns when a
    reader would find their values in other bytes than those that the footer says. OSError."""
    if not as_told(file, found.footer):
        return {"whole": found.whole, "by_column": None, "rows": found.rows}
    said = found.signature
    columns = {name: digest_of([digest, said[name]]) for name, digest in column_digests(found.leaves).items()}
    for name, signature in said.items():  # a file without row groups has columns too
        columns.setdefault(name, digest_of(["", signature]))
    return {"whole": found.whole, "by_column": columns, "rows": found.rows}


def _from_payload(payload: Mapping[str, Any], cost: Cost) -> Fingerprint:
    return Fingerprint(payload["whole"], payload["by_column"], payload["rows"], cost)

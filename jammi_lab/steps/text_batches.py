"""Texts of a table for embedding: kept in Arrow memory, each with a digest and a length, and turned
into Python strings on demand."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import AnyStr

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jammi_lab.core.errors import DuplicateKey, SchemaMismatch
from jammi_lab.core.records import Reuse
from jammi_lab.steps.checkpoint import DIGEST_BYTES, Digests
from jammi_lab.storage.parquet import decoded_column
from jammi_lab.storage.vector_arrays import find_rows, to_arrow_rows, to_keys, to_numpy, to_scalar

BATCH_ROWS = 4096
"""Texts that are in Python memory at a time."""


class RowTexts:
    """One text per row: the text columns joined by newlines, without NULL and empty values."""

    def __init__(self, columns: Sequence[pa.ChunkedArray]) -> None:
        self._columns = [_single_array(column) for column in columns]
        self.lengths = _joined_lengths(self._columns)
        """The length of each text in characters."""
        digests = bytearray()
        for start in range(0, len(self), BATCH_ROWS):
            texts = _join_columns(
                [
                    column.slice(start, BATCH_ROWS).cast(pa.large_binary())
                    for column in self._columns
                ],
                b"\n",
            )
            digests += b"".join([hashlib.sha256(text).digest() for text in texts])
        # cut all at once: a slice of each takes as long as a third of its digest
        rows = np.frombuffer(digests, np.uint8).reshape(-1, hashlib.sha256().digest_size)
        self.digests: Digests = rows[:, :DIGEST_BYTES].copy().view(f"V{DIGEST_BYTES}")[:, 0]
        """The digest of each text."""

    def __len__(self) -> int:
        return len(self._columns[0])

    def texts_of(self, rows: NDArray[np.int64]) -> list[str]:
        """The texts of some rows as Python strings."""
        return _join_columns([column.take(to_arrow_rows(rows)) for column in self._columns], "\n")


def _join_columns(columns: Sequence[pa.Array], separator: AnyStr) -> list[AnyStr]:
    """The joined texts, of the type of the separator."""
    parts: list[list[AnyStr]] = [column.to_pylist() for column in columns]
    return (
        parts[0]
        if len(parts) == 1
        else [separator.join(filter(None, row_parts)) for row_parts in zip(*parts, strict=True)]
    )


def _joined_lengths(columns: Sequence[pa.Array]) -> NDArray[np.int64]:
    """The number of characters of each joined text."""
    lengths = np.array([to_numpy(pc.utf8_length(column)) for column in columns], np.int64)
    separators = np.maximum(np.count_nonzero(lengths, axis=0) - 1, 0)
    joined: NDArray[np.int64] = lengths.sum(axis=0) + separators
    return joined


def _single_array(column: pa.ChunkedArray) -> pa.Array:
    """A text column as one array with 64-bit offsets, empty where it is NULL."""
    chunks = decoded_column(column).cast(pa.large_string()).chunks
    array = (
        chunks[0]
        if len(chunks) == 1
        else pa.concat_arrays(chunks or [pa.array([], pa.large_string())])
    )
    return pc.fill_null(array, to_scalar("").cast(array.type)) if array.null_count else array


def digest_batches(digests: Digests) -> Iterator[tuple[int, list[bytes]]]:
    """Yield the digests as Python bytes, in batches, each with the row number of its first."""
    for start in range(0, len(digests), BATCH_ROWS):
        yield start, digests[start : start + BATCH_ROWS].tolist()


def count_reuse(
    keys: pa.Array,
    digests: Digests,
    previous_keys: pa.Array,
    previous_digests: Digests,
    *,
    encoded_before: int = 0,
) -> Reuse:
    """Compare the texts of a new version with those of the previous one, by key."""
    previous_rows = find_rows(keys, previous_keys)
    known = np.flatnonzero(previous_rows >= 0)
    unchanged = int(np.count_nonzero(digests[known] == previous_digests[previous_rows[known]]))
    return Reuse(
        new=len(keys) - len(known),
        changed=len(known) - unchanged,
        removed=len(previous_keys) - len(known),
        unchanged=unchanged,
        encoded_before=encoded_before,
    )


def sorted_keys(column: pa.ChunkedArray, name: str) -> pa.Array:
    """The keys, which come sorted. Raises SchemaMismatch for a NULL, DuplicateKey for equal
    keys."""
    if column.null_count:
        raise SchemaMismatch(
            f"{column.null_count:,} of {len(column):,} rows have no key in {name!r}.",
            column=name,
            expected="a key in every row",
            actual="NULL",
            hint=f"Leave them out: where='{name} IS NOT NULL'.",
        )
    keys = to_keys(column, name)
    storage = keys.storage if isinstance(keys, pa.ExtensionArray) else keys
    equals_previous = pc.equal(storage[1:], storage[:-1])
    if pc.any(equals_previous).as_py():
        duplicates = keys[1:].filter(equals_previous).slice(0, 50).to_pylist()
        distinct_duplicates = list(dict.fromkeys(duplicates))[:5]
        raise DuplicateKey(
            f"The key {name!r} is not unique: {', '.join(map(repr, distinct_duplicates))}.",
            keys=distinct_duplicates,
            hint="Choose a column that identifies a row.",
        )
    return keys

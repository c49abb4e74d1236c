"""The texts of a table as they are embedded: kept as Arrow gave them, each with a digest and a length; as Python's only those that are asked for."""

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jammi_lab.producers.checkpoint import DIGEST_BYTES, Digests
from jammi_lab.storage.parquet import plain_column
from jammi_lab.vectors.arrays import places_of

_ROWS = 4096
"""Texts that are looked at together."""


class Texts:
    """One text a row: the columns joined by line breaks, without those that are NULL or empty."""

    def __init__(self, columns: Sequence[pa.ChunkedArray]) -> None:
        self._columns = [_one(column) for column in columns]
        digests = bytearray()
        self.lengths = np.empty(len(self), np.int64)
        """Characters of each text."""
        for at in range(0, len(self), _ROWS):
            some = self._joined([column.slice(at, _ROWS) for column in self._columns])
            digests += b"".join(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:DIGEST_BYTES] for text in some)
            self.lengths[at : at + _ROWS] = [len(text) for text in some]
        self.digests: Digests = np.frombuffer(digests, f"V{DIGEST_BYTES}")
        """Of each text."""

    def __len__(self) -> int:
        return len(self._columns[0])

    def at(self, rows: NDArray[np.int64]) -> list[str]:
        """The texts of some rows."""
        return self._joined([column.take(places_of(rows)) for column in self._columns])

    @staticmethod
    def _joined(columns: Sequence[pa.Array]) -> list[str]:
        parts = [["" if v is None else v for v in column.to_pylist()] for column in columns]
        return parts[0] if len(parts) == 1 else ["\n".join(filter(None, of)) for of in zip(*parts, strict=True)]


def _one(column: pa.ChunkedArray) -> pa.Array:
    """A column of text as one array, of a type that holds any number of bytes."""
    chunks = plain_column(column).cast(pa.large_string()).chunks
    return chunks[0] if len(chunks) == 1 else pa.concat_arrays(chunks or [pa.array([], pa.large_string())])


def slices(digests: Digests) -> Iterator[tuple[int, list[bytes]]]:
    """The digests as Python's, some at a time, with the row of the first."""
    for at in range(0, len(digests), _ROWS):
        yield at, digests[at : at + _ROWS].tolist()

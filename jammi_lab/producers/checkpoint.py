"""The one file that an interrupted embedding leaves: vectors by the digest of their text, under a digest of their own."""

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from jammi_lab.storage.below import files_below
from jammi_lab.storage.files import Place, atomic_file, make_folder, opened, remove
from jammi_lab.store.results import clear_temporary
from jammi_lab.vectors.arrays import array_of, numbers_of

Digests = NDArray[np.void]
"""Of texts: 16 bytes each."""
DIGEST_BYTES = 16
_MARK = b"jammi_digest"
_TABLES = b"jammi_tables"
_ROWS = 1024
"""Rows that are held at a time, so that saving and loading need little beside the vectors."""
_TOGETHER = 8192
"""The digest goes over the text digests of so many rows, then over their vectors, and so on."""


def digests_in(column: pa.Array) -> Digests:
    """A column of text digests, in its own memory."""
    return np.frombuffer(column.buffers()[1] or b"", f"V{DIGEST_BYTES}", len(column), column.offset * DIGEST_BYTES)


def as_column(digests: Digests) -> pa.Array:
    """The other way round."""
    return pa.Array.from_buffers(pa.binary(DIGEST_BYTES), len(digests), [None, pa.py_buffer(np.ascontiguousarray(digests))])


def no_digests() -> Digests:
    """None at all."""
    return np.empty(0, f"V{DIGEST_BYTES}")


class Checkpoint:
    """Saves and loads what was done; a file that is torn or not its own counts as none. One without a path keeps nothing."""

    def __init__(self, path: Place | None, tables: Sequence[int] = (), still: Callable[[], bool] = lambda: True) -> None:
        """`tables`: the ids of the mutable tables that are read; `still`: whether they are there."""
        self._path, self._tables, self._still = path, tables, still

    def load(self, dimensions: int) -> Iterator[tuple[list[bytes], NDArray[np.float32]]]:
        """Text digests with their vectors, some rows at a time; nothing when there is no sound checkpoint of that width."""
        if self._path is None:
            return
        try:
            if _sound(self._path, dimensions):
                with opened(self._path) as raw, pq.ParquetFile(raw) as file:
                    for batch in file.iter_batches(_ROWS):
                        yield batch.column(0).to_pylist(), _matrix(batch)
        except (OSError, pa.ArrowException):
            return

    def save(self, digests: Digests, vectors: NDArray[np.float32], rows: NDArray[np.int64]) -> bool:
        """Put down these rows, whole or not at all; whether they are. What cannot be put down is encoded again next time."""
        if self._path is None or not self._still():
            return False
        try:
            make_folder(self._path.parent)
            file = atomic_file(self._path)
        except OSError:
            return False
        try:
            self._write(file.temp, digests[rows], vectors, rows)
            file.commit()
        except OSError:
            return False
        finally:
            file.abort()  # nothing is left of a file that has its name
        return True

    def _write(self, path: Path, named: Digests, vectors: NDArray[np.float32], rows: NDArray[np.int64]) -> None:
        schema = _schema(vectors.shape[1])
        with pq.ParquetWriter(path, schema, use_dictionary=False, compression="none", write_statistics=False) as writer:

            def written() -> Iterator[NDArray[np.float32]]:
                for start in range(0, len(rows), _ROWS):
                    some = slice(start, start + _ROWS)
                    block = vectors[rows[some]]
                    column = pa.FixedSizeListArray.from_arrays(array_of(block), vectors.shape[1])
                    writer.write_table(pa.table([as_column(named[some]), column], schema=schema))
                    yield block

            writer.add_key_value_metadata({_MARK.decode(): _digest(named, written()), _TABLES.decode(): " ".join(map(str, self._tables))})

    def remove(self) -> None:
        """Forget it, and what a writer that died over it left; its rows are published."""
        if self._path is not None:
            with contextlib.suppress(OSError):
                clear_temporary(self._path)
                remove(self._path)


def forget_reading(root: Place, table_id: int) -> None:
    """Remove the checkpoints of a workspace that rest on a mutable table."""
    for path, _ in files_below(root, "checkpoints"):
        with contextlib.suppress(OSError, pa.ArrowException):
            with opened(root / path) as raw, pq.ParquetFile(raw) as file:
                said = (file.metadata.metadata or {}).get(_TABLES, b"")
            if str(table_id).encode() in said.split():
                remove(root / path)


def _sound(path: Place, dimensions: int) -> bool:
    """Whether all of a checkpoint is as it was saved."""
    with opened(path) as raw, pq.ParquetFile(raw) as file:
        mark = (file.metadata.metadata or {}).get(_MARK)
        if mark is None or file.schema_arrow.remove_metadata() != _schema(dimensions):
            return False
        named = pa.concat_arrays(file.read(["text_digest"]).column(0).chunks or [pa.array([], pa.binary(DIGEST_BYTES))])
        found = _digest(digests_in(named), (_matrix(batch) for batch in file.iter_batches(_ROWS, columns=["vector"])))
    return found.encode() == bytes(mark)


def _schema(dimensions: int) -> pa.Schema:
    return pa.schema([("text_digest", pa.binary(DIGEST_BYTES)), ("vector", pa.list_(pa.float32(), dimensions))])


def _matrix(batch: pa.RecordBatch) -> NDArray[np.float32]:
    return numbers_of(batch.column("vector").flatten()).reshape(batch.num_rows, -1)


def _digest(named: Digests, blocks: Iterable[NDArray[np.float32]]) -> str:
    """Over all text digests and vectors; the blocks but the last have `_ROWS` rows."""
    running, at = hashlib.sha256(), 0
    for block in blocks:
        if at % _TOGETHER == 0:
            running.update(named[at : at + _TOGETHER].tobytes())
        running.update(np.ascontiguousarray(block).data)
        at += len(block)
    return running.hexdigest()

"""The one file that an interrupted embedding leaves: vectors by the digest of their text, under a digest of their own."""

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from jammi_lab.storage.files import Place, atomic_file, make_folder, opened, remove
from jammi_lab.store.results import clear_temporary

_MARK = b"jammi_digest"
_ROWS = 8192
"""Rows that are held at a time, so that saving and loading need no second copy of the vectors."""


class Checkpoint:
    """Saves and loads what was done; a file that is torn or not its own counts as none."""

    def __init__(self, path: Place) -> None:
        self._path = path

    def load(self, dimensions: int) -> Iterator[tuple[list[bytes], NDArray[np.float32]]]:
        """Text digests with their vectors, some rows at a time; nothing when there is no sound checkpoint of that width."""
        try:
            if self._sound(dimensions):
                with opened(self._path) as raw, pq.ParquetFile(raw) as file:
                    for batch in file.iter_batches(_ROWS):
                        yield batch.column(0).to_pylist(), _matrix(batch)
        except (OSError, pa.ArrowException):
            return

    def _sound(self, dimensions: int) -> bool:
        """Whether all of it is as it was saved."""
        with opened(self._path) as raw, pq.ParquetFile(raw) as file:
            mark = (file.metadata.metadata or {}).get(_MARK)
            if mark is None or file.schema_arrow.remove_metadata() != _schema(dimensions):
                return False
            running = hashlib.sha256()
            for batch in file.iter_batches(_ROWS):
                _take(running, batch.column(0).to_pylist(), _matrix(batch))
        return running.hexdigest().encode() == bytes(mark)

    def save(self, digests: Sequence[bytes], vectors: NDArray[np.float32], rows: Sequence[int]) -> bool:
        """Put down these rows, whole or not at all; whether they are. What cannot be put down is encoded again next time."""
        try:
            make_folder(self._path.parent)
            file = atomic_file(self._path)
        except OSError:
            return False
        try:
            self._write(file.temp, digests, vectors, rows)
            file.commit()
        except OSError:
            return False
        finally:
            file.abort()  # nothing is left of a file that has its name
        return True

    @staticmethod
    def _write(path: Path, digests: Sequence[bytes], vectors: NDArray[np.float32], rows: Sequence[int]) -> None:
        schema, running = _schema(vectors.shape[1]), hashlib.sha256()
        with pq.ParquetWriter(path, schema, use_dictionary=False, compression="none", write_statistics=False) as writer:
            for start in range(0, len(rows), _ROWS):
                some = rows[start : start + _ROWS]
                named, block = [digests[r] for r in some], vectors[some]
                _take(running, named, block)
                column = pa.FixedSizeListArray.from_arrays(pa.array(block.reshape(-1)), vectors.shape[1])
                writer.write_table(pa.table([pa.array(named, pa.binary(16)), column], schema=schema))
            writer.add_key_value_metadata({_MARK.decode(): running.hexdigest()})

    def remove(self) -> None:
        """Forget it, and what a writer that died over it left; its rows are published."""
        with contextlib.suppress(OSError):
            clear_temporary(self._path)
            remove(self._path)


def _schema(dimensions: int) -> pa.Schema:
    return pa.schema([("text_digest", pa.binary(16)), ("vector", pa.list_(pa.float32(), dimensions))])


def _matrix(batch: pa.RecordBatch) -> NDArray[np.float32]:
    flat: NDArray[np.float32] = batch.column(1).flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(batch.num_rows, -1)


def _take(running: "hashlib._Hash", digests: Sequence[bytes], vectors: NDArray[np.float32]) -> None:
    """Into the digest go text digests and vectors row group by row group: `_ROWS` fixes where one ends."""
    running.update(b"".join(digests))
    running.update(np.ascontiguousarray(vectors).data)

"""Checkpoints of interrupted runs: which runs have one and where it is; and that of an embedding,
one Parquet file with vectors by text digest, protected by a digest of its own."""

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.core.records import MutableRecord
from jammi_lab.sources.base import Relation
from jammi_lab.storage.files import (
    StoragePath,
    atomic_file,
    list_files,
    make_folder,
    open_for_reading,
    remove_file,
)
from jammi_lab.storage.parquet import open_parquet
from jammi_lab.storage.vector_arrays import to_arrow, to_numpy
from jammi_lab.store.result_files import CHECKPOINT_SECONDS, ResultFiles, remove_temporary_files

Digests = NDArray[np.void]
"""Text digests, 16 bytes each."""
DIGEST_BYTES = 16
_DIGEST_METADATA = b"jammi_digest"
_TABLES_METADATA = b"jammi_tables"
BATCH_ROWS = 1024
"""Rows per batch, so that saving and loading need little memory besides the vectors."""
_DIGEST_BLOCK_ROWS = 8192
"""The file digest covers the text digests of this many rows, then their vectors, and so on."""


def to_digests(column: pa.Array) -> Digests:
    """A column of text digests as numpy, without a copy."""
    return np.frombuffer(
        column.buffers()[1] or b"", f"V{DIGEST_BYTES}", len(column), column.offset * DIGEST_BYTES
    )


def to_column(digests: Digests) -> pa.Array:
    """Text digests as an Arrow column."""
    return pa.Array.from_buffers(
        pa.binary(DIGEST_BYTES), len(digests), [None, pa.py_buffer(np.ascontiguousarray(digests))]
    )


def empty_digests() -> Digests:
    """An empty array of digests."""
    return np.empty(0, f"V{DIGEST_BYTES}")


class Checkpoint:
    """Saves and loads the vectors of an interrupted run. A truncated or foreign file counts as
    none. Without a path nothing is saved."""

    def __init__(
        self,
        path: StoragePath | None,
        tables: Sequence[int] = (),
        tables_exist: Callable[[], bool] = lambda: True,
    ) -> None:
        """`tables`: ids of the mutable tables that the run reads; `tables_exist`: whether they all
        still exist."""
        self._path, self._tables, self._tables_exist = path, tables, tables_exist

    def load(self, dimensions: int) -> Iterator[tuple[list[bytes], NDArray[np.float32]]]:
        """Yield text digests with their vectors, batch by batch; nothing when there is no intact
        checkpoint of that width."""
        if self._path is None:
            return
        try:
            if _is_intact(self._path, dimensions):
                with open_for_reading(self._path) as raw, open_parquet(raw) as file:
                    for batch in file.iter_batches(BATCH_ROWS, use_threads=False):
                        yield batch.column(0).to_pylist(), _to_matrix(batch)
        except (OSError, pa.ArrowException):
            return

    def save(self, digests: Digests, vectors: NDArray[np.float32], rows: NDArray[np.int64]) -> bool:
        """Write these rows atomically. Returns whether they were written; on failure they will
        simply be encoded again."""
        if self._path is None or not self._tables_exist():
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

    def _write(
        self, path: Path, digests: Digests, vectors: NDArray[np.float32], rows: NDArray[np.int64]
    ) -> None:
        schema = _schema(vectors.shape[1])
        with pq.ParquetWriter(
            path, schema, use_dictionary=False, compression="none", write_statistics=False
        ) as writer:

            def write_blocks() -> Iterator[NDArray[np.float32]]:
                for start in range(0, len(rows), BATCH_ROWS):
                    batch = slice(start, start + BATCH_ROWS)
                    block = vectors[rows[batch]]
                    column = pa.FixedSizeListArray.from_arrays(to_arrow(block), vectors.shape[1])
                    writer.write_table(pa.table([to_column(digests[batch]), column], schema=schema))
                    yield block

            writer.add_key_value_metadata(
                {
                    _DIGEST_METADATA.decode(): _content_digest(digests, write_blocks()),
                    _TABLES_METADATA.decode(): " ".join(map(str, self._tables)),
                }
            )

    def remove(self) -> None:
        """Delete the checkpoint and temporary files of writers that crashed."""
        if self._path is not None:
            with contextlib.suppress(OSError):
                remove_temporary_files(self._path)
                remove_file(self._path)


def saved_table_ids(path: StoragePath) -> list[int]:
    """The ids of the mutable tables whose values a checkpoint may hold. Raises OSError,
    ArrowException."""
    with open_for_reading(path) as raw, open_parquet(raw) as file:
        return [int(i) for i in (file.metadata.metadata or {}).get(_TABLES_METADATA, b"").split()]


def _is_intact(path: StoragePath, dimensions: int) -> bool:
    """Whether the bytes of a checkpoint are as they were written."""
    with open_for_reading(path) as raw, open_parquet(raw) as file:
        recorded_digest = (file.metadata.metadata or {}).get(_DIGEST_METADATA)
        if recorded_digest is None or file.schema_arrow.remove_metadata() != _schema(dimensions):
            return False
        chunks = file.read(["text_digest"], use_threads=False).column(0).chunks
        text_digests = pa.concat_arrays(chunks or [pa.array([], pa.binary(DIGEST_BYTES))])
        vectors = file.iter_batches(BATCH_ROWS, columns=["vector"], use_threads=False)
        actual_digest = _content_digest(to_digests(text_digests), map(_to_matrix, vectors))
    return actual_digest.encode() == bytes(recorded_digest)


def _schema(dimensions: int) -> pa.Schema:
    return pa.schema(
        [("text_digest", pa.binary(DIGEST_BYTES)), ("vector", pa.list_(pa.float32(), dimensions))]
    )


def _to_matrix(batch: pa.RecordBatch) -> NDArray[np.float32]:
    return to_numpy(batch.column("vector").flatten()).reshape(batch.num_rows, -1)


def _content_digest(digests: Digests, blocks: Iterable[NDArray[np.float32]]) -> str:
    """The digest of all text digests and vectors. All blocks but the last have the same number of
    rows."""
    hasher, first_row = hashlib.sha256(), 0
    for block in blocks:
        if first_row % _DIGEST_BLOCK_ROWS == 0:
            hasher.update(digests[first_row : first_row + _DIGEST_BLOCK_ROWS].tobytes())
        hasher.update(np.ascontiguousarray(block).data)
        first_row += len(block)
    return hasher.hexdigest()


@dataclass(frozen=True)
class CheckpointSlot:
    """The file of one checkpoint."""

    path: StoragePath | None
    """None for a run that may not keep anything."""
    table_ids: Sequence[int] = ()
    """Ids of the mutable tables that the run reads."""
    tables_exist: Callable[[], bool] = lambda: True
    """Whether they all still exist."""


class CheckpointFolder:
    """The checkpoints of one workspace."""

    def __init__(self, catalog: Catalog, results: ResultFiles) -> None:
        self._catalog, self._results = catalog, results

    def slot(self, definition: str, inputs: Sequence[Relation], suffix: str) -> CheckpointSlot:
        """The checkpoint of a definition. Changes nothing.

        A run over tables of an ephemeral session gets none, because their values must not outlive
        the session in a file. Every tenant has a checkpoint of its own: with a shared one, the
        time of a run would reveal which rows another tenant has."""
        tables = [
            state
            for state in (relation.mutable and relation.mutable.state for relation in inputs)
            if isinstance(state, MutableRecord)
        ]
        if any(record.session is not None for record in tables):
            return CheckpointSlot(None)

        def tables_exist() -> bool:
            current = [self._catalog.mutable_tables.get(record.name) for record in tables]
            return [record.table_id for record in tables] == [
                record and record.table_id for record in current
            ]

        tenant = self._catalog.scope.tenant
        name = definition if tenant is None else f"{definition}__{tenant}"
        return CheckpointSlot(
            self._results.root / "checkpoints" / (name + suffix),
            [record.table_id for record in tables],
            tables_exist,
        )

    def remove_old(self) -> None:
        """Delete the checkpoints that are too old."""
        now = self._results.clock.now_ns()
        for path, listed_file in list_files(self._results.root, "checkpoints"):
            if now - listed_file.modified_ns > CHECKPOINT_SECONDS * 1_000_000_000:
                with contextlib.suppress(OSError):
                    remove_file(self._results.root / path)

"""One run of an encoder over the texts of a table: reuse the vectors already known, encode the
rest, and keep finished work in a checkpoint on failure."""

import time
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.core.anchors import Observed
from jammi_lab.core.definitions import TEXT_DIGEST_COLUMN
from jammi_lab.core.errors import SchemaMismatch
from jammi_lab.core.records import OnProgress, Progress, Reuse, TableKind
from jammi_lab.engine.prepared_statement import PreparedStatement
from jammi_lab.features.vectors.encoders.base import Encoder, Floats, encode_texts
from jammi_lab.sources.base import Relation
from jammi_lab.steps.checkpoint import (
    Checkpoint,
    CheckpointFolder,
    Digests,
    empty_digests,
    to_column,
    to_digests,
)
from jammi_lab.steps.executor import Executor
from jammi_lab.steps.jobs import TableRows
from jammi_lab.steps.previous_versions import find_previous_version
from jammi_lab.steps.text_batches import RowTexts, count_reuse, digest_batches, sorted_keys
from jammi_lab.storage.files import StoragePath, open_for_reading
from jammi_lab.storage.parquet import open_parquet, row_group_rows
from jammi_lab.storage.vector_arrays import RowNumbers, to_arrow, to_arrow_rows, to_numpy
from jammi_lab.store import read_leases
from jammi_lab.store.result_files import ResultFiles
from jammi_lab.store.storage_errors import attach_remains

_READ_BATCH_ROWS = 1024
"""Rows of an earlier version in memory at a time."""
ENCODE_BLOCK_ROWS = 4096
"""Texts per encoder call; their vectors are in memory twice for a moment."""
_MIN_SAVE_INTERVAL_SECONDS, _MAX_SAVE_TIME_SHARE = 1.0, 0.02
"""A checkpoint is written at most this often, and may take at most this share of the run time."""


class KnownVectors:
    """Finds vectors to reuse: those of the recipe's newest version and of an interrupted run."""

    def __init__(self, catalog: Catalog, results: ResultFiles) -> None:
        self.catalog, self._results = catalog, results

    def previous_version(self, name: str, identity: dict[str, object]) -> "PreviousVersion":
        """The newest ready and intact version made with the same encoder; an empty one when there
        is none."""
        return PreviousVersion(
            *find_previous_version(
                self.catalog,
                self._results,
                name,
                TableKind.EMBEDDING,
                lambda manifest: manifest.descriptor.get("encoder") == identity,
            )
        )

    def checkpoint(self, definition: str, inputs: Sequence[Relation]) -> Checkpoint:
        """The checkpoint of a definition."""
        folder = CheckpointFolder(self.catalog, self._results)
        slot = folder.slot(definition, inputs, ".parquet")
        return Checkpoint(slot.path, slot.table_ids, slot.tables_exist)

    def remove_old_checkpoints(self) -> None:
        """Delete checkpoints that are too old."""
        CheckpointFolder(self.catalog, self._results).remove_old()


class PreviousVersion:
    """An earlier version, read in batches because it may be as large as the new one. A file that
    disappears counts as empty."""

    def __init__(self, path: StoragePath | None = None, damaged: Sequence[int] = ()) -> None:
        self._path = path
        self.damaged = damaged
        """The newer versions that would be taken instead, if they were not damaged."""

    def digests(self) -> tuple[pa.Array, Digests]:
        """The keys, and the digests of their texts."""
        none = pa.nulls(0), empty_digests()
        if self._path is None:
            return none
        release = read_leases.acquire_lease(self._path)
        try:
            with open_for_reading(self._path) as raw, open_parquet(raw) as file:
                table = file.read(["key", TEXT_DIGEST_COLUMN], use_threads=False)
        except FileNotFoundError:
            return none
        finally:
            release()
        return table["key"].combine_chunks(), to_digests(table[TEXT_DIGEST_COLUMN].combine_chunks())

    def vectors(self) -> Iterator[tuple[list[bytes], Floats]]:
        """Yield text digests with their vectors, batch by batch."""
        if self._path is None:
            return
        release = read_leases.acquire_lease(self._path)
        try:
            with (
                open_for_reading(self._path) as raw,
                pq.ParquetFile(raw, buffer_size=1 << 20, pre_buffer=False) as file,
            ):
                for batch in file.iter_batches(
                    _READ_BATCH_ROWS, columns=["vector", TEXT_DIGEST_COLUMN], use_threads=False
                ):
                    yield (
                        batch.column(TEXT_DIGEST_COLUMN).to_pylist(),
                        to_numpy(batch.column("vector").flatten()).reshape(batch.num_rows, -1),
                    )
        except FileNotFoundError:
            return
        finally:
            release()


class EmbeddingRun(TableRows):
    """The rows of one run: reads keys and texts in key order, reuses known vectors, encodes the
    rest."""

    def __init__(
        self,
        prepared: PreparedStatement,
        text_columns: Sequence[int],
        encoder: Encoder,
        previous: PreviousVersion,
        checkpoint: Checkpoint,
        name: str,
        key: str,
        executor: Executor,
    ) -> None:
        """`text_columns`: the output columns to join as text; output column 0 is the key.
        `executor`: runs the encoder."""
        self._executor = executor
        self._prepared = prepared
        self._text_columns = text_columns
        self._encoder = encoder
        self._previous = previous
        self.damaged_versions = previous.damaged
        self._checkpoint, self._name, self._key = checkpoint, name, key
        super().__init__()
        self._digests: Digests = empty_digests()
        self._vectors: Floats = np.empty((0, encoder.dimensions), np.float32)
        self._encode_rows: RowNumbers = np.empty(0, np.int64)
        """Rows without a reusable vector, in encoding order; the finished ones belong into the
        checkpoint."""
        self._encoded_count = self._saved_count = self._resumed_count = 0
        self.reuse: Reuse | None = None
        self.snapshots: dict[tuple[str, str, str], Observed] = {}

    def batches(self, rows: int | None = None) -> Iterator[pa.RecordBatch]:
        """Yield the rows in key order. Without `rows`, batches are whole row groups, which are
        written without a copy."""
        for batch in super().batches(rows or row_group_rows(self.schema)):
            yield batch
            # else the writer's buffers pile up until all batches are written
            pa.default_memory_pool().release_unused()

    def close(self) -> None:
        """Do nothing: the vectors stay until it is known whether they were published."""

    def on_published(self) -> None:
        """Release the rows and delete the checkpoint, after publication."""
        self._release()
        self._checkpoint.remove()

    def remove_checkpoint(self) -> None:
        """Delete the checkpoint, so that every text is encoded."""
        self._checkpoint.remove()

    def on_lost(self, error: BaseException) -> None:
        """Save what was encoded to the checkpoint, after the run failed with `error`."""
        self._save_checkpoint()
        if self._saved_count:
            attach_remains(
                error,
                f"{self._saved_count:,} of {len(self._encode_rows):,} texts are encoded and saved "
                "for the next run",
            )
        self._release()

    def count_texts_to_encode(self) -> tuple[int, int]:
        """How many texts a run would encode now, and how many rows there are. Changes nothing."""
        input_table = self._prepared.run_by_key(self.snapshots).table()
        texts = RowTexts([input_table.column(column) for column in self._text_columns])
        todo = {digest for _, digests in digest_batches(texts.digests) for digest in digests}
        todo.difference_update(self._previous.digests()[1].tolist())
        for digests, _ in self._checkpoint.load(self._encoder.dimensions):
            todo.difference_update(digests)
        return len(todo), len(texts)

    def run(self, on_progress: OnProgress | None) -> None:
        """Encode all texts. An interrupt or error leaves a checkpoint of the finished ones."""
        input_table = self._prepared.run_by_key(self.snapshots).table()
        keys = sorted_keys(input_table.column(0), self._key)
        texts = RowTexts([input_table.column(column) for column in self._text_columns])
        del input_table
        self._digests = texts.digests
        self._vectors = np.empty((len(texts), self._encoder.dimensions), np.float32)
        first_row_of, todo = self._fill_known()
        try:
            self._encode(keys, texts, todo, on_progress)
        except BaseException as error:
            self.on_lost(error)
            raise
        del texts
        duplicate_rows = np.flatnonzero(first_row_of != np.arange(len(first_row_of)))
        for start in range(0, len(duplicate_rows), ENCODE_BLOCK_ROWS):
            rows = duplicate_rows[start : start + ENCODE_BLOCK_ROWS]
            self._vectors[rows] = self._vectors[first_row_of[rows]]
        self.reuse = count_reuse(
            keys, self._digests, *self._previous.digests(), encoded_before=self._resumed_count
        )
        flat = pa.FixedSizeListArray.from_arrays(to_arrow(self._vectors), self._encoder.dimensions)
        self._table = pa.table(
            {"key": keys, "vector": flat, TEXT_DIGEST_COLUMN: to_column(self._digests)}
        )

    def _fill_known(self) -> tuple[RowNumbers, RowNumbers]:
        """Fill in the vectors of the earlier version and the checkpoint. Returns for each row the
        first row with its text, and one row per text that is left to encode."""
        first: dict[bytes, int] = {}
        first_row_of = np.empty(len(self._digests), np.int64)
        for start, digests in digest_batches(self._digests):
            first_row_of[start : start + len(digests)] = [
                first.setdefault(digest, row) for row, digest in enumerate(digests, start)
            ]
        self._fill_from(first, self._previous.vectors())
        resumed = (
            self._fill_from(first, self._checkpoint.load(self._encoder.dimensions)) if first else []
        )
        self._encode_rows = np.array([*resumed, *first.values()], np.int64)
        self._encoded_count = self._saved_count = self._resumed_count = len(resumed)
        return first_row_of, self._encode_rows[len(resumed) :].copy()

    def _fill_from(
        self, row_by_digest: dict[bytes, int], known_vectors: Iterable[tuple[list[bytes], Floats]]
    ) -> list[int]:
        filled: list[int] = []
        for digests, vectors in known_vectors:
            if not row_by_digest or vectors.shape[1] != self._vectors.shape[1]:
                break
            matches = [
                (row, position)
                for position, digest in enumerate(digests)
                if (row := row_by_digest.pop(digest, None)) is not None
            ]
            if matches:
                row_pairs = np.array(matches, np.int64)
                self._vectors[row_pairs[:, 0]] = vectors[row_pairs[:, 1]]
                filled += [row for row, _ in matches]
        return filled

    def _encode(
        self, keys: pa.Array, texts: RowTexts, todo: RowNumbers, on_progress: OnProgress | None
    ) -> None:
        """Encode in order of text length, because batches of similar length are cheapest. After
        unusable vectors only the rows before them are still encoded, so that the error names the
        first bad row."""
        total, next_save = len(todo), time.monotonic() + _MIN_SAVE_INTERVAL_SECONDS
        first_error: SchemaMismatch | None = None
        todo = todo[np.argsort(texts.lengths[todo], kind="stable")]
        while len(todo):
            block, todo = np.sort(todo[:ENCODE_BLOCK_ROWS]), todo[ENCODE_BLOCK_ROWS:]

            def on_batch(rows: RowNumbers, vectors: Floats, block: RowNumbers = block) -> None:
                nonlocal next_save
                self._vectors[block[rows]] = vectors
                self._encode_rows[self._encoded_count : self._encoded_count + len(rows)] = block[
                    rows
                ]
                self._encoded_count += len(rows)
                if on_progress:
                    on_progress(
                        Progress(
                            stage=f"embed {self._name}",
                            done=self._encoded_count - self._resumed_count,
                            total=total,
                            unit="texts",
                        )
                    )
                if (save_started := time.monotonic()) >= next_save:
                    self._save_checkpoint()
                    now = time.monotonic()
                    next_save = now + max(
                        _MIN_SAVE_INTERVAL_SECONDS, (now - save_started) / _MAX_SAVE_TIME_SHARE
                    )

            key_values = keys.take(to_arrow_rows(block)).to_pylist()
            try:
                encode_texts(
                    self._encoder,
                    texts.texts_of(block),
                    on_batch=on_batch,
                    keys=key_values,
                    run_batches=self._executor.map,
                )
            except SchemaMismatch as error:
                if error.key is None:
                    raise
                first_error, first = error, block[key_values.index(error.key)]
                todo = todo[todo < first]
        if first_error is not None:
            raise first_error

    def _save_checkpoint(self) -> None:
        encoded_count = self._encoded_count
        if encoded_count > self._saved_count and self._checkpoint.save(
            self._digests, self._vectors, self._encode_rows[:encoded_count]
        ):
            self._saved_count = encoded_count

    def _release(self) -> None:
        self._table = pa.Table.from_batches([], self.schema)
        self._digests = empty_digests()
        self._encode_rows = self._encode_rows[:0].copy()
        self._vectors = self._vectors[:0].copy()
        self._encoded_count = self._saved_count = 0

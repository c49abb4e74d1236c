"""One run of a row map: take over the outputs of known inputs, call the function for the others."""

import time
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jammi_lab.core.anchors import Observed
from jammi_lab.core.errors import JammiError
from jammi_lab.core.records import OnProgress, Progress, Reuse
from jammi_lab.engine.prepared_statement import PreparedStatement
from jammi_lab.producers.checkpoint import DIGEST_BYTES, Digests, to_column
from jammi_lab.producers.row_calls import Failed, RowCalls
from jammi_lab.producers.row_inputs import input_digests
from jammi_lab.producers.row_outputs import (
    ERROR_COLUMN,
    INPUT_DIGEST_COLUMN,
    Row,
    RowOutputs,
)
from jammi_lab.producers.text_batches import count_reuse, sorted_keys
from jammi_lab.storage.files import StoragePath, open_for_reading
from jammi_lab.store import read_leases
from jammi_lab.vectors.arrays import to_arrow_rows
from jammi_lab.vectors.exact_search import RowNumbers

_BLOCK_ROWS = 4096
"""Rows that are in Python memory at a time."""
_PROGRESS_INTERVAL_SECONDS = 0.05


class RowMapRun:
    """The rows of one run, in key order."""

    def __init__(
        self,
        prepared: PreparedStatement,
        positions: Sequence[int],
        calls: RowCalls,
        outputs: RowOutputs,
        previous: StoragePath | None,
        name: str,
        key: str,
        *,
        record_errors: bool,
    ) -> None:
        """`positions`: the output columns that the function receives; output column 0 is the key.
        `previous`: the version whose outputs can be taken over."""
        self._prepared, self._positions = prepared, positions
        self._calls, self._outputs, self._previous_path = calls, outputs, previous
        self._name, self._key, self._record_errors = name, key, record_errors
        self._table = pa.table({})
        self.reuse = Reuse(new=0, changed=0, removed=0, unchanged=0)
        self.counts: dict[str, int] = {}
        self.snapshots: dict[tuple[str, str, str], Observed] = {}

    @property
    def schema(self) -> pa.Schema:
        """Columns key, the outputs, `_error` where errors are recorded, and the input digest."""
        return self._table.schema

    def batches(self, rows: int = 65536) -> Iterator[pa.RecordBatch]:
        """Yield the rows in key order."""
        yield from self._table.to_batches(max_chunksize=rows)

    def close(self) -> None:
        """Release the rows."""
        self._table = self._table.slice(0, 0)

    def run(self, on_progress: OnProgress | None) -> None:
        """Call the function for all inputs whose outputs are not known. Raises StepFailed with its
        exception as the cause, SchemaMismatch, DuplicateKey, and what reading raises."""
        table = self._prepared.run_ordered(observed_states=self.snapshots).table()
        keys = sorted_keys(table.column(0), self._key)
        inputs = table.select(self._positions).rename_columns(list(self._calls.columns))
        digests = input_digests(inputs)
        previous = read_outputs(self._previous_path)
        previous_digests = dict(
            zip(previous[0].to_pylist(), previous[1][INPUT_DIGEST_COLUMN].to_pylist(), strict=True)
        )
        known = _without_errors(previous[1])
        todo = self._unknown_rows(digests, known)
        answers = self._ask(keys, inputs, digests, todo, on_progress)
        self._table = self._assemble(keys, digests, [known, *answers])
        self.reuse = count_reuse(keys, digests, previous_digests)
        self.counts = {**self.reuse.counts, "calls": len(todo), "errors": self._error_count()}

    def _unknown_rows(self, digests: Digests, known: pa.Table) -> RowNumbers:
        """One row for each digest whose outputs are not known, in key order."""
        known_digests = set(known[INPUT_DIGEST_COLUMN].to_pylist())
        first: dict[bytes, int] = {}
        for row, digest in enumerate(digests.tolist()):
            if digest not in known_digests:
                first.setdefault(digest, row)
        return np.fromiter(first.values(), np.int64, len(first))

    def _ask(
        self,
        keys: pa.Array,
        inputs: pa.Table,
        digests: Digests,
        todo: RowNumbers,
        on_progress: OnProgress | None,
    ) -> list[pa.Table]:
        """The outputs of some rows, with their digests."""
        parts: list[pa.Table] = []
        done, next_report = 0, 0.0
        for start in range(0, len(todo), _BLOCK_ROWS):
            block = todo[start : start + _BLOCK_ROWS]
            block_keys = keys.take(to_arrow_rows(block)).to_pylist()
            numbers: list[int] = []
            rows: list[Row] = []
            for asked, answer in self._calls.run(inputs.take(to_arrow_rows(block))):
                rows += self._rows(answer, [block_keys[number] for number in asked])
                numbers += asked
                done += len(asked)
                if on_progress and (now := time.monotonic()) >= next_report:
                    next_report = now + _PROGRESS_INTERVAL_SECONDS
                    on_progress(self._progress(done, len(todo)))
            part = self._outputs.table(rows)
            parts.append(
                part.append_column(INPUT_DIGEST_COLUMN, to_column(digests[block[numbers]]))
            )
        if on_progress and len(todo):
            on_progress(self._progress(done, len(todo)))
        return parts

    def _rows(self, answer: object, keys: Sequence[object]) -> list[Row]:
        """The outputs of the rows of one call."""
        if isinstance(answer, Failed):
            if isinstance(answer.error, JammiError):
                raise answer.error
            raise self._calls.failure(answer.error, keys) from answer.error
        if self._calls.batched:
            return self._outputs.rows(answer, len(keys))
        return [self._outputs.row(answer)]

    def _progress(self, done: int, total: int) -> Progress:
        return Progress(stage=f"map {self._name}", done=done, total=total, unit="rows")

    def _assemble(self, keys: pa.Array, digests: Digests, parts: Sequence[pa.Table]) -> pa.Table:
        """The table of all keys, with the outputs of their digests."""
        answers = self._outputs.merge_tables(parts)
        row_of = {d: row for row, d in enumerate(answers[INPUT_DIGEST_COLUMN].to_pylist())}
        rows = np.fromiter((row_of[d] for d in digests.tolist()), np.int64, len(digests))
        outputs = answers.drop_columns([INPUT_DIGEST_COLUMN]).take(to_arrow_rows(rows))
        columns = dict(zip(outputs.column_names, outputs.columns, strict=True))
        return pa.table({self._key: keys, **columns, INPUT_DIGEST_COLUMN: to_column(digests)})

    def _error_count(self) -> int:
        if ERROR_COLUMN not in self._table.column_names:
            return 0
        return len(self._table) - int(self._table[ERROR_COLUMN].null_count)


def read_outputs(path: StoragePath | None) -> tuple[pa.Array, pa.Table]:
    """The keys of a version, and its outputs with their digests; empty when it is gone."""
    empty = pa.table({INPUT_DIGEST_COLUMN: pa.array([], pa.binary(DIGEST_BYTES))})
    if path is None:
        return pa.array([]), empty
    release = read_leases.acquire_lease(path)
    try:
        with open_for_reading(path) as raw, pq.ParquetFile(raw) as file:
            table = file.read()
    except FileNotFoundError:
        return pa.array([]), empty
    finally:
        release()
    return table.column(0), table.drop_columns(table.column_names[:1])


def _without_errors(outputs: pa.Table) -> pa.Table:
    """The rows without an error: the others are asked again. Rows that are NULL throughout count,
    too, because a function may return nothing."""
    if ERROR_COLUMN in outputs.column_names:
        outputs = outputs.filter(pc.is_null(outputs[ERROR_COLUMN])).drop_columns([ERROR_COLUMN])
    return outputs

"""One run of a row map: take over the outputs of known inputs, call the function for the others,
and append what it returns to a checkpoint."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jammi_lab.core.anchors import Observed
from jammi_lab.core.errors import JammiError, SchemaMismatch, StepFailed
from jammi_lab.core.records import OnProgress, Progress, Reuse
from jammi_lab.engine.prepared_statement import PreparedStatement
from jammi_lab.features.rows.output_log import OutputLog
from jammi_lab.features.rows.row_calls import (
    Call,
    Failed,
    RowCalls,
    input_digests,
    mismatch_of_rows,
)
from jammi_lab.features.rows.row_outputs import ERROR_COLUMN, INPUT_DIGEST_COLUMN, Row, RowOutputs
from jammi_lab.steps.checkpoint import DIGEST_BYTES, Digests, to_column, to_digests
from jammi_lab.steps.executor import Executor
from jammi_lab.steps.jobs import TableRows
from jammi_lab.steps.step_functions import message_of
from jammi_lab.steps.text_batches import count_reuse, sorted_keys
from jammi_lab.storage.files import StoragePath, open_for_reading
from jammi_lab.storage.parquet import open_parquet
from jammi_lab.storage.vector_arrays import RowNumbers, to_arrow_rows
from jammi_lab.store import read_leases
from jammi_lab.store.storage_errors import attach_remains

_SAVE_INTERVAL_SECONDS = 0.01
"""A checkpoint is written at most this often: calls that take longer are saved one by one."""
_MAX_PENDING_ROWS = 4096
_MAX_ERROR_CHARACTERS = 500


class RowAnswers:
    """Collects the outputs of rows in any order. With `record_errors` an error takes the place of a
    row's outputs; without, the first one is kept to be raised."""

    def __init__(
        self, outputs: RowOutputs, digests: Digests, log: OutputLog, *, record_errors: bool
    ) -> None:
        self._outputs, self._digests, self._log = outputs, digests, log
        self._record_errors = record_errors
        self._numbers: list[int] = []
        self._rows: list[Row] = []
        self._next_save = time.monotonic() + _SAVE_INTERVAL_SECONDS
        self._types = pa.schema([])
        self.parts: list[pa.Table] = []
        """The outputs with their digests, in the order in which they came."""
        self.saved_count = 0
        """Rows in the checkpoint."""
        self.error: tuple[Exception, Sequence[int]] | None = None
        """The first error that is to be raised, with the rows of its call."""

    def add_types(self, part: pa.Table) -> None:
        """Add the types of outputs. Raises SchemaMismatch when they have nothing in common with
        those before: no later row mends that, so that no further call may be paid for."""
        self._types = self._outputs.merged_types(self._types, part)

    def add(self, numbers: Sequence[int], answer: Any, *, batched: bool) -> None:
        """Add what a call for these rows returned."""
        try:
            rows = (
                self._outputs.rows(answer, len(numbers)) if batched else [self._outputs.row(answer)]
            )
        except SchemaMismatch as error:
            self.add_error(numbers, error)
            return
        self._numbers += numbers
        self._rows += rows
        if len(self._rows) >= _MAX_PENDING_ROWS or time.monotonic() >= self._next_save:
            self.flush()

    def add_error(self, numbers: Sequence[int], error: Exception) -> None:
        """Add an exception of the call for these rows."""
        if not self._record_errors:
            self.error = self.error or (error, numbers)
            return
        text = f"{type(error).__name__}: {message_of(error)}"[:_MAX_ERROR_CHARACTERS]
        digests = to_column(self._digests[list(numbers)])
        self.parts.append(
            pa.table({ERROR_COLUMN: [text] * len(numbers), INPUT_DIGEST_COLUMN: digests})
        )

    def flush(self) -> None:
        """Convert and save what was added."""
        numbers, rows, self._numbers, self._rows = self._numbers, self._rows, [], []
        if not rows:
            return
        for numbers_of_table, table in self._tables(numbers, rows):
            self.parts.append(table)
            if self._log.append(table):
                self.saved_count += len(table)
            try:
                self.add_types(table)
            except SchemaMismatch as error:
                self.error = self.error or (error, numbers_of_table)
        self._next_save = time.monotonic() + _SAVE_INTERVAL_SECONDS

    def _tables(self, numbers: list[int], rows: list[Row]) -> list[tuple[Sequence[int], pa.Table]]:
        """The rows as one table; where that is not possible, each row that is by itself."""
        try:
            return [(numbers, self._table(numbers, rows))]
        except SchemaMismatch as error:
            if len(rows) == 1:
                self.add_error(numbers, error)
                return []
        return [
            table
            for number, row in zip(numbers, rows, strict=True)
            for table in self._tables([number], [row])
        ]

    def _table(self, numbers: list[int], rows: list[Row]) -> pa.Table:
        columns = self._outputs.columns(rows)
        return pa.table({**columns, INPUT_DIGEST_COLUMN: to_column(self._digests[numbers])})


_BLOCK_ROWS = 4096
"""Rows that are in Python memory at a time."""
_PROGRESS_INTERVAL_SECONDS = 0.05


class RowMapRun(TableRows):
    """The rows of one run, in key order. Columns: key, the outputs, `_error` where errors are
    recorded, and the input digest."""

    def __init__(
        self,
        prepared: PreparedStatement,
        positions: Sequence[int],
        calls: RowCalls,
        outputs: RowOutputs,
        previous: StoragePath | None,
        log: OutputLog,
        name: str,
        key: str,
        *,
        record_errors: bool,
        executor: Executor,
    ) -> None:
        """`positions`: the output columns that the function receives; output column 0 is the key.
        `previous`: the version whose outputs can be taken over; `log`: the checkpoint."""
        self._prepared, self._positions = prepared, positions
        self._calls, self._outputs, self._previous_path = calls, outputs, previous
        self._name, self._key, self._record_errors = name, key, record_errors
        self._log, self._executor = log, executor
        super().__init__()
        self._resumed_count = self._saved_count = self._todo_count = 0
        self.reuse = Reuse(new=0, changed=0, removed=0, unchanged=0)
        self.counts: dict[str, int] = {}
        self.snapshots: dict[tuple[str, str, str], Observed] = {}

    def on_published(self) -> None:
        """Delete the checkpoint, after publication."""
        self._log.remove()

    def on_lost(self, error: BaseException) -> None:
        """Keep the checkpoint, after the run failed with `error`."""
        self._log.flush()
        self._log.close()
        if remains := self._remains():
            attach_remains(error, remains)

    def _remains(self) -> str:
        """What the checkpoint holds, as a clause; empty when it holds nothing."""
        kept = self._resumed_count + self._saved_count
        total = self._resumed_count + self._todo_count
        clause = f"{kept:,} of {total:,} rows are computed and saved for the next run"
        return clause if kept else ""

    def run(self, on_progress: OnProgress | None) -> None:
        """Call the function for all inputs whose outputs are not known. An error or interrupt
        leaves a checkpoint of the finished calls.

        Raises StepFailed with the function's exception as the cause, SchemaMismatch, DuplicateKey,
        and what reading raises."""
        keys, inputs, digests = self._read_inputs()
        previous_keys, previous = read_outputs(self._previous_path)
        previous_digests = to_digests(previous[INPUT_DIGEST_COLUMN].combine_chunks())
        known = _without_errors(previous)
        first_rows = _first_rows(digests, [known])
        logged = self._log.load()
        todo = _first_rows(digests, [known, *logged])
        self._resumed_count, self._todo_count = len(first_rows) - len(todo), len(todo)
        answers = RowAnswers(self._outputs, digests, self._log, record_errors=self._record_errors)
        try:
            for part in (known, *logged):
                answers.add_types(part)
            self._ask(keys, inputs, todo, answers, on_progress)
            self._table = self._assemble(keys, digests, [known, *logged, *answers.parts])
        except BaseException as error:
            self._saved_count = answers.saved_count
            self.on_lost(error)
            if isinstance(error, StepFailed):
                error.hint = " ".join(filter(None, (error.hint, self._failure_hint())))
            raise
        self._saved_count = answers.saved_count
        reuse = count_reuse(
            keys,
            digests,
            previous_keys,
            previous_digests,
            encoded_before=self._resumed_count,
        )
        self.reuse = msgspec.structs.replace(reuse, errors=self._count_errors())
        calls = {"calls": -(-len(todo) // self._calls.batch), "errors": self.reuse.errors}
        self.counts = {**self.reuse.counts, **calls}

    def _failure_hint(self) -> str:
        advice = 'on_error="record" stores errors in their rows and goes on.'
        remains = self._remains()
        return f"{remains}; {advice}" if remains else advice

    def _count_errors(self) -> int:
        if not self._record_errors:
            return 0
        column = self._table[ERROR_COLUMN]
        return len(column) - int(column.null_count)

    def count_rows_to_ask(self) -> tuple[int, int]:
        """How many rows a run would ask now, and how many rows there are. Changes nothing."""
        _, _, digests = self._read_inputs()
        known = _without_errors(read_outputs(self._previous_path)[1])
        return len(_first_rows(digests, [known, *self._log.load()])), len(digests)

    def _read_inputs(self) -> tuple[pa.Array, pa.Table, Digests]:
        """The keys, what the function receives, and the digests of that."""
        table = self._prepared.run_by_key(self.snapshots).table()
        keys = sorted_keys(table.column(0), self._key)
        inputs = table.select(self._positions).rename_columns(list(self._calls.columns))
        return keys, inputs, input_digests(inputs)

    def _ask(
        self,
        keys: pa.Array,
        inputs: pa.Table,
        todo: RowNumbers,
        answers: RowAnswers,
        on_progress: OnProgress | None,
    ) -> None:
        """Call the function for some rows."""

        def calls() -> Iterator[Call]:
            for start in range(0, len(todo), _BLOCK_ROWS):
                block = todo[start : start + _BLOCK_ROWS]
                yield from self._calls.calls(inputs.take(to_arrow_rows(block)), block.tolist())

        done, started_at = 0, time.monotonic()
        next_report = started_at
        try:
            for numbers, answer in self._calls.run_on(
                self._executor, calls(), lambda: answers.error is not None
            ):
                if isinstance(answer, Failed):
                    answers.add_error(numbers, answer.error)
                else:
                    answers.add(numbers, answer, batched=self._calls.batched)
                done += len(numbers)
                if on_progress and (now := time.monotonic()) >= next_report:
                    next_report = now + _PROGRESS_INTERVAL_SECONDS
                    on_progress(self._progress(done, len(todo), now - started_at))
        finally:
            answers.flush()
        if answers.error is not None:
            error, keys_of_call = answers.error[0], [keys[n].as_py() for n in answers.error[1]]
            if isinstance(error, SchemaMismatch):
                raise mismatch_of_rows(error, keys_of_call)
            if isinstance(error, JammiError):
                raise error
            raise self._calls.failure(error, keys_of_call) from error
        if on_progress and len(todo):
            on_progress(self._progress(done, len(todo), time.monotonic() - started_at))

    def _progress(self, done: int, total: int, seconds: float) -> Progress:
        rate = done / seconds if seconds else None
        return Progress(stage=f"map {self._name}", done=done, total=total, unit="rows", rate=rate)

    def _assemble(self, keys: pa.Array, digests: Digests, parts: Sequence[pa.Table]) -> pa.Table:
        """The table of all keys, with the outputs of their digests."""
        answers = self._outputs.merge_tables(parts)
        row_of = {d: row for row, d in enumerate(answers[INPUT_DIGEST_COLUMN].to_pylist())}
        rows = np.fromiter((row_of[d] for d in digests.tolist()), np.int64, len(digests))
        outputs = answers.take(to_arrow_rows(rows))
        columns = dict(zip(outputs.column_names, outputs.columns, strict=True))
        del columns[INPUT_DIGEST_COLUMN]
        error_column = columns.pop(ERROR_COLUMN, pa.nulls(len(keys)))
        if self._record_errors:
            columns[ERROR_COLUMN] = error_column.cast(pa.string())
        return pa.table({self._key: keys, **columns, INPUT_DIGEST_COLUMN: to_column(digests)})


def _first_rows(digests: Digests, known: Sequence[pa.Table]) -> RowNumbers:
    """One row for each digest whose outputs are not known, in key order."""
    known_digests = {d for table in known for d in table[INPUT_DIGEST_COLUMN].to_pylist()}
    first: dict[bytes, int] = {}
    for row, digest in enumerate(digests.tolist()):
        if digest not in known_digests:
            first.setdefault(digest, row)
    return np.fromiter(first.values(), np.int64, len(first))


def read_outputs(path: StoragePath | None) -> tuple[pa.Array, pa.Table]:
    """The keys of a version, and its outputs with their digests; empty when it is gone."""
    empty = pa.table({INPUT_DIGEST_COLUMN: pa.array([], pa.binary(DIGEST_BYTES))})
    if path is None:
        return pa.nulls(0), empty
    release = read_leases.acquire_lease(path)
    try:
        with open_for_reading(path) as raw, open_parquet(raw) as file:
            table = file.read(use_threads=False)
    except FileNotFoundError:
        return pa.nulls(0), empty
    finally:
        release()
    return table.column(0).combine_chunks(), table.drop_columns(table.column_names[:1])


def _without_errors(outputs: pa.Table) -> pa.Table:
    """The rows without an error: the function is called again for the others. Rows that are NULL
    throughout count, too, because a function may return nothing."""
    if ERROR_COLUMN in outputs.column_names:
        outputs = outputs.filter(pc.is_null(outputs[ERROR_COLUMN])).drop_columns([ERROR_COLUMN])
    return outputs

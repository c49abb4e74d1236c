"""What a row map computes for rows: what its function returns."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from jammi_lab.core.errors import JammiError, SchemaMismatch, message_of
from jammi_lab.features.rows.row_calls import (
    Call,
    Failed,
    RowCalls,
    input_digests,
    mismatch_of_rows,
)
from jammi_lab.features.rows.row_outputs import INPUT_DIGEST_COLUMN, Row, RowOutputs
from jammi_lab.steps.executor import Executor
from jammi_lab.steps.row_digests import Digests
from jammi_lab.steps.row_wise import ERROR_COLUMN, OutputParts
from jammi_lab.storage.vector_arrays import RowNumbers, to_arrow_rows

_BLOCK_ROWS = 4096
"""Rows that are in Python memory at a time."""
_MAX_ERROR_CHARACTERS = 500


class RowMapWork:
    """The calls of one run. With `record_errors` an error takes the place of a row's outputs;
    without, the first one ends the run."""

    stage = "map"
    unit = "row"
    done_word = "computed"
    digest_column = INPUT_DIGEST_COLUMN
    save_pause = 0.0  # a lost second of a paid service is money

    def __init__(
        self, calls: RowCalls, outputs: RowOutputs, executor: Executor, *, record_errors: bool
    ) -> None:
        self._calls, self._outputs, self._executor = calls, outputs, executor
        self._record_errors = record_errors
        self._parts = OutputParts()
        self._types = pa.schema([])
        self._pending: list[tuple[int, Row]] = []
        """Rows with outputs that are not converted."""
        self._error: tuple[Exception, Sequence[int]] | None = None
        """The first error that is to be raised, with the rows of its call."""

    def load(self, columns: Sequence[pa.ChunkedArray]) -> Digests:
        """Receive the inputs of all rows, and return the digest of each."""
        self._inputs = pa.table(list(columns), names=list(self._calls.columns))
        return input_digests(self._inputs)

    def take_over(self, rows: RowNumbers, outputs: pa.Table) -> None:
        """Receive the known outputs of some rows. Raises SchemaMismatch for types that have nothing
        in common: no later row mends that, so that no further call may be paid for."""
        self._types = self._outputs.merged_types(self._types, outputs)
        self._parts.add(rows, outputs, is_saved=True)

    def compute(self, rows: RowNumbers, keys: pa.Array, /) -> Iterator[int]:
        """Call the function for some rows.

        Raises StepFailed with the function's exception as the cause, and SchemaMismatch."""
        calls = self._calls_of(rows)
        for numbers, answer in self._calls.run_on(self._executor, calls, self._has_failed):
            self._add(numbers, answer)
            yield len(numbers)
        self._convert()
        if self._error is not None:
            error, numbers = self._error
            keys_of_call = [keys[number].as_py() for number in numbers]
            if isinstance(error, SchemaMismatch):
                raise mismatch_of_rows(error, keys_of_call)
            if isinstance(error, JammiError):
                raise error
            raise self._calls.failure(error, keys_of_call) from error

    def unsaved(self) -> list[tuple[RowNumbers, pa.Table]]:
        """The outputs computed since the last time, with their rows."""
        self._convert()
        return self._parts.take_unsaved()

    def outputs(self, same_row: RowNumbers) -> dict[str, pa.ChunkedArray]:
        """The outputs of all rows, and their errors where these are recorded."""
        merged = self._outputs.merge_tables([_table({}, 0), *self._parts.tables])
        taken = merged.take(self._parts.positions(same_row))
        columns = dict(zip(taken.column_names, taken.columns, strict=True))
        columns.pop(INPUT_DIGEST_COLUMN, None)
        error_column = columns.pop(ERROR_COLUMN, pa.nulls(len(same_row)))
        if self._record_errors:
            columns[ERROR_COLUMN] = error_column.cast(pa.string())
        return columns

    def call_count(self, rows: int) -> int:
        """How many calls so many rows need."""
        return -(-rows // self._calls.batch)

    def _has_failed(self) -> bool:
        return self._error is not None

    def _calls_of(self, rows: RowNumbers) -> Iterator[Call]:
        for start in range(0, len(rows), _BLOCK_ROWS):
            block = rows[start : start + _BLOCK_ROWS]
            yield from self._calls.calls(self._inputs.take(to_arrow_rows(block)), block.tolist())

    def _add(self, numbers: Sequence[int], answer: Any) -> None:
        """Add what a call for these rows returned."""
        if isinstance(answer, Failed):
            self._add_error(numbers, answer.error)
            return
        try:
            if self._calls.batched:
                rows = self._outputs.rows(answer, len(numbers))
            else:
                rows = [self._outputs.row(answer)]
        except SchemaMismatch as error:
            self._add_error(numbers, error)
        else:
            self._pending += zip(numbers, rows, strict=True)

    def _add_error(self, numbers: Sequence[int], error: Exception) -> None:
        if not self._record_errors:
            self._error = self._error or (error, numbers)
            return
        text = f"{type(error).__name__}: {message_of(error)}"[:_MAX_ERROR_CHARACTERS]
        table = pa.table({ERROR_COLUMN: [text] * len(numbers)})
        # An error is asked again: no checkpoint needs it.
        self._parts.add(np.array(numbers, np.int64), table, is_saved=True)

    def _convert(self) -> None:
        """Convert what calls returned."""
        pending, self._pending = self._pending, []
        if not pending:
            return
        try:
            self._convert_together(pending)
        except SchemaMismatch:
            for each in pending:  # where that is not possible, each row that is by itself
                try:
                    self._convert_together([each])
                except SchemaMismatch as error:
                    self._add_error([each[0]], error)

    def _convert_together(self, pending: Sequence[tuple[int, Row]]) -> None:
        numbers = [number for number, _ in pending]
        table = _table(self._outputs.columns([row for _, row in pending]), len(pending))
        self._parts.add(np.array(numbers, np.int64), table, is_saved=False)
        try:
            self._types = self._outputs.merged_types(self._types, table)
        except SchemaMismatch as error:
            self._error = self._error or (error, numbers)


def _table(columns: Mapping[str, pa.Array], count: int) -> pa.Table:
    """Outputs of so many rows without an error; there may be no column."""
    return pa.table({**columns, ERROR_COLUMN: pa.nulls(count, pa.string())})

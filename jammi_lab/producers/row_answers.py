"""What the calls of one run of a row map returned so far: typed, and appended to a checkpoint."""

import time
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from jammi_lab.core.errors import SchemaMismatch
from jammi_lab.producers.checkpoint import Digests, to_column
from jammi_lab.producers.output_log import OutputLog
from jammi_lab.producers.row_outputs import ERROR_COLUMN, INPUT_DIGEST_COLUMN, Row, RowOutputs

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
        self.parts: list[pa.Table] = []
        """The outputs with their digests, in the order in which they came."""
        self.saved_count = 0
        """Rows in the checkpoint."""
        self.error_count = 0
        """Rows with an error in place of outputs."""
        self.error: tuple[Exception, Sequence[int]] | None = None
        """The first error that is to be raised, with the rows of its call."""

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
        text = f"{type(error).__name__}: {error}"[:_MAX_ERROR_CHARACTERS]
        self.error_count += len(numbers)
        digests = to_column(self._digests[list(numbers)])
        self.parts.append(
            pa.table({ERROR_COLUMN: [text] * len(numbers), INPUT_DIGEST_COLUMN: digests})
        )

    def flush(self) -> None:
        """Convert and save what was added."""
        numbers, rows, self._numbers, self._rows = self._numbers, self._rows, [], []
        if not rows:
            return
        for table in self._tables(numbers, rows):
            self.parts.append(table)
            if self._log.append(table):
                self.saved_count += len(table)
        self._next_save = time.monotonic() + _SAVE_INTERVAL_SECONDS

    def _tables(self, numbers: list[int], rows: list[Row]) -> list[pa.Table]:
        """The rows as one table; where that is not possible, each row that is by itself."""
        try:
            return [self._table(numbers, rows)]
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

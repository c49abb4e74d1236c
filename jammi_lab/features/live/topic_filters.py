"""`where=` conditions of a topic: which rows of a batch satisfy one, with SQL's semantics of
NULL."""

from typing import Any

import numpy as np
import pyarrow as pa

from jammi_lab.core.anchors import frame_input
from jammi_lab.core.errors import SqlError, StatementNotAllowed
from jammi_lab.engine.engine import Engine
from jammi_lab.engine.name_resolution import FixedNames
from jammi_lab.engine.prepared_statement import PreparedStatement
from jammi_lab.engine.row_conditions import check_row_condition, positions_in
from jammi_lab.sources.base import ReadPlan, Relation

_ROWS_NAME = "event"
"""The name of the rows in messages."""
_ROW_COLUMN = "__jammi_row"


class Predicate:
    """A condition that is checked and bound once, and can be evaluated on any number of batches of
    its schema."""

    def __init__(self, engine: Engine, where: str, schema: pa.Schema, tenant: str | None) -> None:
        """Raises StatementNotAllowed for a condition that looks beyond its row, SqlError with near
        columns for one that does not parse or bind, InvalidArgument."""
        self._engine, self._where, self._tenant = engine, check_row_condition(engine, where), tenant
        prepared = self._prepare("SELECT (\n", f"\n) FROM {_ROWS_NAME}", schema.empty_table())
        if prepared.volatile or prepared.reads_clock:
            raise StatementNotAllowed(
                "A condition on a topic must have the same answer whenever a row is read; it "
                f"cannot use {', '.join(prepared.volatile) or 'the current time'}.",
                hint="Compute the value first, and write it into the condition.",
            )
        if prepared.output[0][1] != "BOOLEAN":
            raise SqlError(
                f"A condition must be BOOLEAN, got {prepared.output[0][1]}."
            ).with_position(where, 0)
        # evaluated once on a NULL row, so that an invalid constant is reported now
        self.matching_rows(
            pa.table([pa.nulls(1, field.type) for field in schema], names=schema.names)
        )

    def matching_rows(self, rows: pa.Table) -> np.ndarray[Any, np.dtype[np.int64]]:
        """The numbers of the rows that satisfy the condition, ascending. Raises SqlError when a
        value cannot be compared."""
        # one chunk: DuckDB takes as long for a small batch as for a large one
        numbered = rows.combine_chunks().append_column(
            _ROW_COLUMN, pa.array(np.arange(rows.num_rows))
        )
        head = f"SELECT {_ROW_COLUMN} FROM {_ROWS_NAME} WHERE (\n"
        prepared = self._prepare(head, "\n) ORDER BY 1", numbered)
        with positions_in(self._where, len(head)):
            numbers = prepared.run().table().column(0)
        found: np.ndarray[Any, np.dtype[np.int64]] = numbers.to_numpy()
        return found

    def _prepare(self, head: str, tail: str, rows: pa.Table) -> PreparedStatement:
        relation = Relation(frame_input(_ROWS_NAME), ReadPlan(frame=rows))
        with positions_in(self._where, len(head)):
            [prepared] = self._engine.prepare(
                f"{head}{self._where}{tail}",
                None,
                tenant=self._tenant,
                overriding_resolvers=[FixedNames({_ROWS_NAME: relation})],
            )
        return prepared

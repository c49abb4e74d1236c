"""INSERT, UPDATE and DELETE on mutable tables: evaluated on one snapshot, committed if that is still the newest, else evaluated again."""

import random
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.catalog.mutable_commits import Moved
from jammi_lab.engine.prepared import Prepared
from jammi_lab.engine.tokens import one_expression
from jammi_lab.errors import InvalidArgument, SchemaMismatch, VersionConflict, WorkspaceReadOnly
from jammi_lab.live.mutable import MUTABLE, Tables, shape_of
from jammi_lab.live.schemas import rows_of
from jammi_lab.names import quote
from jammi_lab.values.mutables import Committed, MutableRecord

TRIES = 50
"""How often a change is evaluated before the others are told to have been faster."""
_TURN = 5.0
_PAUSE = 0.02
_DONE = {"insert": "inserted into", "update": "updated in", "delete": "deleted from"}


@dataclass(frozen=True)
class Done:
    """What a change did."""

    verb: str
    """insert, update or delete."""
    table: MutableRecord
    """The table that was changed."""
    committed: Committed
    """The version that it made, and how many rows differ."""
    rows: int
    """How many rows it was about."""
    answer: pa.Table | None
    """What RETURNING asked for."""

    def __str__(self) -> str:
        name = f"{MUTABLE}.{self.table.name}"
        if not (self.committed.inserted or self.committed.updated or self.committed.deleted):
            return f"Nothing changed in {name}, version {self.committed.version}"
        return f"{self.rows} row{'' if self.rows == 1 else 's'} {_DONE[self.verb]} {name}, version {self.committed.version}"


class Committing:
    """Makes changes of mutable tables that SQL describes."""

    def __init__(self, tables: Tables, catalog: Catalog) -> None:
        self._tables, self._catalog, self._turn = tables, catalog, threading.Lock()

    def apply(self, prepared: Prepared) -> Done:
        """Evaluate and commit one change: whole, or not at all.

        Raises as running a statement does; DuplicateKey, SchemaMismatch, TenantForbidden, WorkspaceReadOnly; VersionConflict when others were
        faster too often.
        """
        if self._catalog.read_only:
            raise WorkspaceReadOnly(
                "The workspace was opened with read_only=True; nothing was changed.", hint="Open it without read_only to change it."
            )
        for tried in range(TRIES):
            alone = tried > 0 and self._turn.acquire(timeout=_TURN)  # of the threads here one tries again at a time
            try:
                return self._once(prepared if tried == 0 else prepared.renewed())
            except Moved:
                time.sleep(random.random() * _PAUSE * min(tried, 5))  # noqa: S311  only so that two kernels do not meet again and again
            finally:
                if alone:
                    self._turn.release()
        raise VersionConflict(
            f"Other writers committed first, {TRIES} times in a row; nothing was changed by this statement.", hint="Run it again when they are done."
        )

    def _once(self, prepared: Prepared) -> Done:
        evaluated = prepared.evaluate()
        record = _state(evaluated.target)
        self._catalog.scope.check_owner(record.tenant, f"The mutable table {record.name!r}")
        rows = _in_schema(record, evaluated.rows)
        rests_on = {_state(relation).table_id: _state(relation).version for relation in evaluated.rests_on}
        if evaluated.verb == "delete":
            committed = self._tables.remove(record, rows, rests_on)
        else:
            committed = self._tables.put(record, rows, anew=evaluated.verb == "insert" and not evaluated.merges, rests_on=rests_on)
        return Done(evaluated.verb, record, committed, rows.num_rows, evaluated.answer)


def _state(relation: Any) -> MutableRecord:
    state = relation.changing.state
    assert isinstance(state, MutableRecord), "only mutable tables change"
    return state


def _in_schema(record: MutableRecord, rows: pa.Table) -> pa.Table:
    """Rows as DuckDB gave them, in the schema of the table. SchemaMismatch."""
    columns = []
    for field, column in zip(shape_of(record).schema, rows.columns, strict=True):
        try:
            columns.append(column.cast(field.type))
        except pa.ArrowException:
            raise SchemaMismatch(
                f"A value for the column {field.name!r} of the mutable table {record.name!r} does not fit into {field.type}; nothing was changed.",
                table=record.name,
                column=field.name,
                expected=str(field.type),
                actual=str(column.type),
            ) from None
        if column.null_count and not field.nullable:
            raise SchemaMismatch(
                f"Column {field.name!r} of the mutable table {record.name!r} takes no NULL; nothing was changed.",
                table=record.name,
                column=field.name,
                expected=str(field.type),
                actual="NULL",
            )
    return pa.table(columns, schema=shape_of(record).schema)


def update_text(record: MutableRecord, values: Mapping[str, Any], where: str) -> tuple[str, dict[str, Any]]:
    """The UPDATE that gives columns these values, and its parameters. SchemaMismatch for a column that there is not and for a value that its type
    would change; InvalidArgument."""
    if not isinstance(values, Mapping) or not values:
        raise InvalidArgument("set is a dict of column and value, with at least one column.", hint='m.update({"label": "good"}, "id = 3")')
    schema = shape_of(record).schema
    named = pa.schema([field for field in schema if field.name in values])
    [exact] = rows_of([values], named if len(named) == len(values) else schema, f"The mutable table {record.name!r}").to_pylist()
    params = {f"jammi_set_{at}": exact[column] for at, column in enumerate(values)}
    said = ", ".join(f"{quote(column)} = ${name}" for column, name in zip(values, params, strict=True))
    return f"UPDATE {MUTABLE}.{quote(record.name)} SET {said} WHERE {condition(where)}", params


def delete_text(record: MutableRecord, where: str) -> str:
    """The DELETE of rows for which a condition holds."""
    return f"DELETE FROM {MUTABLE}.{quote(record.name)} WHERE {condition(where)}"


def condition(where: str) -> str:
    """A condition in brackets. StatementNotAllowed, InvalidArgument."""
    return f"({one_expression(where)}\n)"

"""INSERT, UPDATE and DELETE on mutable tables with optimistic commits: a statement is evaluated on
one snapshot, committed if that is still the newest, else evaluated again."""

import random
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.catalog.logs import LogRecord
from jammi_lab.core.errors import (
    InvalidArgument,
    SchemaMismatch,
    VersionConflict,
    WorkspaceReadOnly,
)
from jammi_lab.core.identifiers import quote_identifier
from jammi_lab.core.records import Committed
from jammi_lab.engine.prepared_statement import PreparedStatement
from jammi_lab.engine.sql.tokens import check_expression
from jammi_lab.features.live import dml_evaluation
from jammi_lab.features.live.fold import stored_schema
from jammi_lab.features.live.mutable_tables import (
    MAX_COMMIT_ATTEMPTS,
    MUTABLE,
    MutableTableService,
)
from jammi_lab.features.live.table_changes import Change, Verb, VersionMoved
from jammi_lab.inputs.row_input import cast_column, to_arrow_rows

_RETRY_LOCK_SECONDS = 5.0
MAX_PAUSE_SECONDS = 0.02
_PHRASES = {"insert": "inserted into", "update": "updated in", "delete": "deleted from"}


@dataclass(frozen=True)
class CommitResult:
    """The result of a committed statement."""

    verb: str
    """insert, update or delete."""
    table: LogRecord
    """The changed table."""
    committed: Committed
    """The version that it made, and how many rows differ."""
    rows: int
    """How many rows the statement selected."""
    returned_rows: pa.Table | None
    """The rows of RETURNING."""

    def __str__(self) -> str:
        name = f"{MUTABLE}.{self.table.name}"
        if not (self.committed.inserted or self.committed.updated or self.committed.deleted):
            return f"No rows changed in {name}, version {self.committed.version}"
        return (
            f"{self.rows} row{'' if self.rows == 1 else 's'} {_PHRASES[self.verb]} {name}, version "
            f"{self.committed.version}"
        )


class DmlCommitter:
    """Commits changes of mutable tables that SQL describes."""

    def __init__(self, tables: MutableTableService, catalog: Catalog) -> None:
        self._tables, self._catalog, self._retry_lock = tables, catalog, threading.Lock()

    def apply(self, prepared: PreparedStatement) -> CommitResult:
        """Evaluate and commit one statement atomically.

        Raises as running a statement does; DuplicateKey, SchemaMismatch, TenantForbidden,
        WorkspaceReadOnly; VersionConflict when other writers committed first too often.
        """
        if self._catalog.read_only:
            raise WorkspaceReadOnly(
                "The workspace was opened with read_only=True; nothing was changed.",
                hint="Open it without read_only to change it.",
            )
        for attempt in range(MAX_COMMIT_ATTEMPTS):
            # only one thread of this process retries at a time
            holds_lock = attempt > 0 and self._retry_lock.acquire(timeout=_RETRY_LOCK_SECONDS)
            try:
                return self._evaluate_and_commit(prepared if attempt == 0 else prepared.refreshed())
            except VersionMoved:
                time.sleep(random.random() * MAX_PAUSE_SECONDS * min(attempt, 5))  # noqa: S311  jitter, so that two kernels stop colliding
            finally:
                if holds_lock:
                    self._retry_lock.release()
        raise VersionConflict(
            f"Other writers committed first {MAX_COMMIT_ATTEMPTS} times in a row; this statement "
            "changed nothing.",
            hint="Run it again when they have finished.",
        )

    def _evaluate_and_commit(self, prepared: PreparedStatement) -> CommitResult:
        evaluated = dml_evaluation.evaluate(prepared)
        record = _record_of(evaluated.target)
        self._catalog.scope.check_owner(record.tenant, f"The mutable table {record.name!r}")
        rows = _cast_to_schema(record, evaluated.rows)
        verb: Verb = "insert"
        if evaluated.verb == "delete":
            verb = "delete"
        elif evaluated.verb == "update" or evaluated.merges:
            verb = "upsert"
        read = tuple(map(_record_of, evaluated.dependencies))
        committed = self._tables.commit(record, Change(verb, rows, read))
        return CommitResult(evaluated.verb, record, committed, rows.num_rows, evaluated.returned)


def _record_of(relation: Any) -> LogRecord:
    state = relation.mutable.state
    assert isinstance(state, LogRecord), "only mutable tables change"
    return state


def _cast_to_schema(record: LogRecord, rows: pa.Table) -> pa.Table:
    """Rows as DuckDB returned them, cast to the table's schema. Raises SchemaMismatch."""
    schema = stored_schema(record)
    try:
        columns = [
            cast_column(field, column, record.label)
            for field, column in zip(schema, rows.columns, strict=True)
        ]
    except SchemaMismatch as error:
        error.table = record.name
        raise
    return pa.table(columns, schema=schema)


def update_statement(
    record: LogRecord, values: Mapping[str, Any], where: str
) -> tuple[str, dict[str, Any]]:
    """The UPDATE statement that sets columns to these values, and its parameters. Raises
    SchemaMismatch for an unknown column and for a value that its type would change;
    InvalidArgument."""
    if not isinstance(values, Mapping) or not values:
        raise InvalidArgument(
            "set must be a dict of column names and values with at least one entry.",
            hint='m.update({"label": "good"}, "id = 3")',
        )
    schema = stored_schema(record)
    used_columns = pa.schema([field for field in schema if field.name in values])
    [row] = to_arrow_rows(
        [values],
        used_columns if len(used_columns) == len(values) else schema,
        f"The mutable table {record.name!r}",
    ).to_pylist()
    params = {f"jammi_set_{i}": row[column] for i, column in enumerate(values)}
    assignments = ", ".join(
        f"{quote_identifier(column)} = ${name}" for column, name in zip(values, params, strict=True)
    )
    return (
        (
            f"UPDATE {MUTABLE}.{quote_identifier(record.name)} SET {assignments} WHERE "
            f"{parenthesized(where)}"
        ),
        params,
    )


def delete_statement(record: LogRecord, where: str) -> str:
    """The DELETE statement for the rows that satisfy a condition."""
    return f"DELETE FROM {MUTABLE}.{quote_identifier(record.name)} WHERE {parenthesized(where)}"


def parenthesized(where: str) -> str:
    """A condition in parentheses. Raises StatementNotAllowed, InvalidArgument."""
    return f"({check_expression(where)}\n)"

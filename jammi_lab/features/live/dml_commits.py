"""INSERT, UPDATE and DELETE on mutable tables with optimistic commits: a statement is evaluated on
one snapshot, committed if that is still the newest, else evaluated again."""

import contextlib
import functools
import random
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import duckdb
import pyarrow as pa

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.catalog.logs import LogRecord
from jammi_lab.core.errors import (
    InvalidArgument,
    JammiError,
    SchemaMismatch,
    VersionConflict,
)
from jammi_lab.core.identifiers import ascii_lower, quote_identifier
from jammi_lab.core.records import Committed
from jammi_lab.engine import duckdb_instances
from jammi_lab.engine.dml_binding import copy_target, find_target
from jammi_lab.engine.name_resolution import ResolvedNames
from jammi_lab.engine.prepared_statement import PreparedStatement
from jammi_lab.engine.sql import releases
from jammi_lab.engine.sql.dml import DmlParts
from jammi_lab.engine.sql.tokens import check_expression
from jammi_lab.engine.tenant_instances import TenantInstances
from jammi_lab.features.live.fold import stored_schema
from jammi_lab.features.live.mutable_tables import (
    MUTABLE,
    MutableTableService,
)
from jammi_lab.features.live.table_changes import Change, Verb, VersionMoved
from jammi_lab.inputs.row_input import cast_column, to_arrow_rows
from jammi_lab.sources.attach import in_transaction
from jammi_lab.sources.base import Query, Relation

# --------------------------------------------------------------------------------------------------
# Evaluation of INSERT, UPDATE and DELETE: the statement runs on a copy of its target in a scratch
# database and returns the affected rows.
# The owner of the target commits the change. If the target has a newer version by then, the owner
# evaluates the statement again.

BATCH_ROWS = 65_536
MAX_COMMIT_ATTEMPTS = 50
"""Attempts at a commit before VersionConflict is raised."""


@dataclass(frozen=True)
class DmlResult:
    """The result of evaluating one DML statement."""

    verb: str
    """insert, update or delete."""
    merges: bool
    """Whether an insert may replace existing rows (ON CONFLICT, OR REPLACE)."""
    target: Relation
    """The target in the version that the statement was evaluated on."""
    dependencies: tuple[Relation, ...]
    """The mutable relations that the rows depend on."""
    rows: "pa.Table"
    """All columns of the target: the new rows, for a DELETE the old rows."""
    returned: "pa.Table | None"
    """The rows of the RETURNING clause; None without one."""


def evaluate(prepared: PreparedStatement) -> DmlResult:
    """Run a DML statement on a copy of its target. Raises as `PreparedStatement.run` does."""
    parsed, dml_parts = prepared._parsed, prepared._parsed.dml_parts
    assert dml_parts is not None, "this is a change"
    relations = prepared._rebind(in_order=False)
    name, target = find_target(dml_parts, relations)
    assert target.mutable is not None, "bind_change has checked it"
    others = {p: r for p, r in relations.items() if p != name}
    key = target.mutable.key
    target_unread = (
        dml_parts.verb == "insert"
        and not dml_parts.merges
        and count_references(parsed.reads.tables, dml_parts.target) == 1
    )
    text, params = with_returning_columns(parsed.text, dml_parts), prepared.bound_values()

    def work(instances: TenantInstances, cursor: duckdb.DuckDBPyConnection) -> "pa.Table":
        with contextlib.ExitStack() as undo:
            instances.acquire(undo, cursor, others)
            undo.callback(instances.hold_option(releases.OPTION, releases.OFF))
            database = duckdb_instances.open_scratch(cursor)
            undo.callback(duckdb_instances.close_scratch, cursor, database)
            instances.create_views(cursor, database, others)
            copy_target(
                cursor, name, target, key, has_primary_key=dml_parts.merges, empty=target_unread
            )

            def run(query: Query) -> "pa.Table":
                rows = cursor.execute(text, params or None).to_arrow_reader(BATCH_ROWS).read_all()
                for guard in (
                    relation.consistency.guard
                    for relation in others.values()
                    if relation.consistency.guard is not None
                ):
                    guard(query)
                return rows

            return in_transaction(cursor, run)

    translate_error = functools.partial(_translate_error, prepared, relations)
    rows = prepared._pool.run_for_tenant(prepared._tenant, work, translate_error)
    width = len(target.columns or ())
    returned = (
        rows.select(range(width, rows.num_columns)) if dml_parts.returning is not None else None
    )
    dependencies = [r for r in others.values() if r.mutable is not None] + (
        [] if target_unread else [target]
    )
    return DmlResult(
        dml_parts.verb,
        dml_parts.merges,
        target,
        tuple(dependencies),
        rows.select(range(width)),
        returned,
    )


def _translate_error(
    prepared: PreparedStatement,
    relations: ResolvedNames,
    error: duckdb.Error,
    instances: TenantInstances,
) -> JammiError:
    columns = sorted({column for item in prepared.inputs for column in item.schema})
    context = prepared._parsed.error_context(tuple(relations.values()), columns)
    return prepared._pool.translate_error(
        error, prepared._tenant, instances, replace(context, is_bound=True)
    )


def with_returning_columns(text: str, parts: DmlParts) -> str:
    """The statement with all columns of the target in front of the user's RETURNING list."""
    if parts.returning is None:
        return f"{text}\nRETURNING *"
    start, _ = parts.returning
    return f"{text[:start]} *, {text[start:]}"


def count_references(tables: Any, target: tuple[str, ...]) -> int:
    """How often the target is among the tables that a statement reads."""
    folded_target = tuple(map(ascii_lower, target))
    return sum(tuple(map(ascii_lower, table.parts)) == folded_target for table in tables)


# --------------------------------------------------------------------------------------------------
# The commit.

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
        evaluated = evaluate(prepared)
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

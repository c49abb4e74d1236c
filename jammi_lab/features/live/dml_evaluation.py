"""Evaluation of INSERT, UPDATE and DELETE: the statement runs on a copy of its target in a scratch
database and returns the affected rows.

The owner of the target commits the change. If the target has a newer version by then, the owner
evaluates the statement again.
"""

import contextlib
import functools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import duckdb

from jammi_lab.core.errors import JammiError
from jammi_lab.core.identifiers import ascii_lower
from jammi_lab.engine import duckdb_instances
from jammi_lab.engine.dml_binding import copy_target, find_target
from jammi_lab.engine.name_resolution import ResolvedNames
from jammi_lab.engine.prepared_statement import PreparedStatement
from jammi_lab.engine.sql import releases
from jammi_lab.engine.sql.dml import DmlParts
from jammi_lab.engine.tenant_instances import TenantInstances
from jammi_lab.sources.attach import in_transaction
from jammi_lab.sources.base import Query, Relation

if TYPE_CHECKING:
    import pyarrow as pa


BATCH_ROWS = 65_536


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

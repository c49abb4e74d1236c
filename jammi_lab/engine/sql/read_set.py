"""Binding on empty replicas: a statement's output columns, the columns it reads of each input, and
proof that it reads nothing else.

A replica instance holds no data and cannot open any. The statement is explained there over empty
tables of the right names and types, with filter pushdown off, so that every scan of the plan lists
all columns that it reads. A scan of anything else rejects the statement.
"""

import contextlib
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import duckdb

from jammi_lab.core import identifiers
from jammi_lab.core.errors import StatementNotAllowed
from jammi_lab.core.identifiers import ascii_lower
from jammi_lab.engine import duckdb_instances
from jammi_lab.engine.duckdb_errors import to_jammi_error
from jammi_lab.engine.name_resolution import ResolvedNames
from jammi_lab.engine.sql import function_list, row_order
from jammi_lab.engine.sql.allowlist import TABLE_FUNCTIONS
from jammi_lab.engine.sql.equal_values import MergedValues, merged_values
from jammi_lab.engine.sql.float_sums import ExactForm
from jammi_lab.engine.sql.parse import ParsedStatement, StatementKind
from jammi_lab.engine.sql.syntax_tree import column_definitions
from jammi_lab.sources.scan_conditions import ScanConditions

InputSchemas = Mapping[tuple[str, ...], Mapping[str, str]]
"""Column → SQL type, by name as typed."""

ColumnsRead = dict[tuple[str, ...], set[str]]
"""The columns read, by the name of their table as typed."""

_REPLICA_PREFIX = "__jammi_twin_"
_EXPLAIN = "explain (format json) "
_DESCRIBE = "describe "
_IN_OUT_FUNCTIONS = {"inout_function", "unnest", "recursive_cte", "cte_scan", "column_data_scan"}


@dataclass
class Binding:
    """The binder's result for a statement, kept for later uses of its text. Not modified but for
    what is filled on first use."""

    output: list[tuple[str, str]] = field(default_factory=list)
    """Output columns: exact names and SQL types."""
    columns_read: dict[tuple[str, ...], set[str]] = field(default_factory=dict)
    """The columns read, by table name as typed; empty when only the row count matters."""
    operators: list[str] = field(default_factory=list)
    """The names of the plan's operators, parents before children."""
    merged: MergedValues = field(default_factory=MergedValues)
    """The equal values that the statement takes for one another."""
    inferred_key: list[str] = field(default_factory=list)
    """The output columns that are exactly its GROUP BY expressions, or none."""
    order_sensitive: dict[bool, bool] = field(default_factory=dict)
    """Whether the rows may depend on the order of the inputs' rows, by whether the plan keeps the
    order of the one input. This and the next ones are filled on first use."""
    append_rules: dict[Any, Any] = field(default_factory=dict)
    """The rules of `append_algebra`."""
    scan_conditions: dict[tuple[str, ...], ScanConditions] | None = None
    """The conditions of `scan_conditions`."""
    exact_form: ExactForm | None = None
    """The form of `float_sums`."""


def scratch_address(parts: tuple[str, ...]) -> tuple[str, str]:
    """The schema and table name in a scratch database."""
    return ("main" if len(parts) == 1 else parts[0], parts[-1])


def scratch_name(cursor: duckdb.DuckDBPyConnection, database: str, parts: tuple[str, ...]) -> str:
    """The quoted name of an input in a scratch database, in a schema that exists from now on."""
    schema, name = map(identifiers.quote_identifier, scratch_address(parts))
    if len(parts) > 1:
        cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {database}.{schema}")
    return f"{database}.{schema}.{name}"


class ReplicaTables(NamedTuple):
    """A cursor whose scratch database has an empty replica of each input."""

    cursor: duckdb.DuckDBPyConnection
    database: str
    tables: dict[str, tuple[str, ...]]
    """The inputs by the names of their replicas."""


@contextlib.contextmanager
def replica_tables(
    replicas: duckdb.DuckDBPyConnection, schemas: InputSchemas
) -> Iterator[ReplicaTables]:
    """Replicas of the inputs for one block. Raises duckdb.Error."""
    with replicas.cursor() as cursor, duckdb_instances.scratch(cursor) as database:
        tables = {}
        for number, (parts, columns) in enumerate(schemas.items()):
            tables[_create_replica(cursor, database, number, parts, columns)] = parts
        yield ReplicaTables(cursor, database, tables)


def bind(
    replicas: duckdb.DuckDBPyConnection,
    parsed: ParsedStatement,
    schemas: InputSchemas,
    relations: ResolvedNames,
    params: Mapping[str, Any],
) -> Binding:
    """Bind a statement on empty replicas of its tables. SqlError with near columns;
    StatementNotAllowed for a scan of anything else."""
    with replica_tables(replicas, schemas) as (cursor, _, tables):
        return bind_on_replicas(cursor, tables, parsed, schemas, relations, params)


def bind_columns(
    replicas: duckdb.DuckDBPyConnection,
    text: str,
    schemas: InputSchemas,
    params: Mapping[str, Any],
    columns: int,
) -> tuple[list[ColumnsRead], ColumnsRead]:
    """The columns that each output column reads when selected alone, and the columns that the row
    count depends on. Raises duckdb.Error.

    The optimizer removes only columns that cannot affect the result, so no dependency is missing.
    """
    with replica_tables(replicas, schemas) as (cursor, _, tables):

        def columns_read(expression: str) -> ColumnsRead:
            plan = cursor.execute(
                f"{_EXPLAIN}SELECT {expression} FROM (\n{text}\n)", dict(params) or None
            ).fetchall()[-1][1]
            binding = Binding()
            for root in json.loads(plan):
                _walk_plan(root, tables, schemas, binding)
            return binding.columns_read

        of_each = [columns_read(f"#{position}") for position in range(1, columns + 1)]
        return of_each, columns_read("count(*)")


def _create_replica(
    cursor: duckdb.DuckDBPyConnection,
    database: str,
    number: int,
    parts: tuple[str, ...],
    columns: Mapping[str, str],
) -> str:
    """Create an empty table under a generated name, and a view of it under the name as typed. The
    plan prints the generated name; the view hides `rowid`, which the real relation lacks, too."""
    table = f"{database}.main.{_REPLICA_PREFIX}{number}"
    view = scratch_name(cursor, database, parts)
    cursor.execute(
        f"CREATE TABLE {table} ({column_definitions(columns)}); "
        f"CREATE VIEW {view} AS SELECT * FROM {table}"
    )
    return table


def bind_on_replicas(
    cursor: duckdb.DuckDBPyConnection,
    tables: Mapping[str, tuple[str, ...]],
    parsed: ParsedStatement,
    schemas: InputSchemas,
    relations: ResolvedNames,
    params: Mapping[str, Any],
) -> Binding:
    """Bind a statement in a scratch database that already holds the replicas. `tables` maps each
    replica to the name it replaces. Raises as `bind`."""
    context = parsed.error_context(
        tuple(relations.values()), sorted({c for columns in schemas.values() for c in columns})
    )
    binding = Binding()
    prefix, suffix = (
        (f"{_DESCRIBE}from (", "\n)") if parsed.kind is StatementKind.DESCRIBE else (_DESCRIBE, "")
    )
    try:
        if parsed.dml_parts is None:
            rows = cursor.execute(prefix + parsed.probe + suffix, dict(params) or None).fetchall()
            binding.output = [(row[0], row[1]) for row in rows]
        prefix = _EXPLAIN
        plan = cursor.execute(_EXPLAIN + parsed.probe, dict(params) or None).fetchall()[-1][1]
    except duckdb.Error as error:
        raise to_jammi_error(error, context, prefix=len(prefix)) from None
    for root in json.loads(plan):
        _walk_plan(root, tables, schemas, binding)
    for parts in schemas:
        # A table that the optimizer removed (an outer join that keeps every row) still is an input.
        binding.columns_read.setdefault(parts, set(schemas[parts]))
    check_value_words(parsed, binding)
    if parsed.kind is StatementKind.SELECT:
        binding.merged, root = merged_values(cursor, parsed.probe, parsed.tree, params)
        if root is not None:
            binding.inferred_key = row_order.infer_key(parsed.tree, root, binding.output)
    return binding


def _walk_plan(
    root: dict[str, Any],
    tables: Mapping[str, tuple[str, ...]],
    schemas: InputSchemas,
    binding: Binding,
) -> None:
    stack = [root]
    while stack:
        node = stack.pop()
        binding.operators.append(node.get("name", "").strip())
        info = node.get("extra_info") or {}
        if "Table" in info:
            # Only the target of a DML statement is printed in quotes.
            parts = tables.get(info["Table"]) or tables.get(info["Table"].replace('"', ""))
            if parts is None:
                raise StatementNotAllowed(
                    "The statement reads something that is not a table of the workspace."
                )
            projections = info.get("Projections") or []
            column_texts = [
                c for c in ([projections] if isinstance(projections, str) else projections) if c
            ]
            binding.columns_read.setdefault(parts, set()).update(
                *(_matching_columns(name, schemas[parts]) for name in column_texts)
            )
        elif (
            "Function" in info
            and ascii_lower(str(info["Function"])) not in TABLE_FUNCTIONS | _IN_OUT_FUNCTIONS
        ):
            raise StatementNotAllowed(f"{str(info['Function']).lower()}() cannot be read from.")
        stack.extend(reversed(node.get("children", [])))


def _matching_columns(text: str, schema: Mapping[str, str]) -> Collection[str]:
    """The columns that an entry of a scan's projections may refer to: a column, or the column of a
    struct field (`a.b` may be either). If none matches (a name with a line break), all columns."""
    ends = [len(text), *(position for position, letter in enumerate(text) if letter == ".")]
    return {text[:end] for end in ends if text[:end] in schema} or schema.keys()


def check_value_words(parsed: ParsedStatement, binding: Binding) -> None:
    """Classify value words: `current_date` and `user` are functions unless a column has the name,
    which the binding shows. Raises StatementNotAllowed for refused ones."""
    columns = {ascii_lower(c) for columns in binding.columns_read.values() for c in columns}
    for name, (count, offset) in parsed.reads.value_words.items():
        meaning = function_list.VALUE_WORDS[name]
        if (name in columns or name in parsed.reads.aliases) and (
            count == 1 or meaning == "refused"
        ):
            continue
        if meaning == "refused":
            error = StatementNotAllowed(f"{name} is not available in a workspace.")
            raise error.with_position(
                parsed.full_text,
                None if offset is None else parsed.offset + parsed.probe_offset + offset,
            )
        if meaning == "clock":
            parsed.reads.reads_clock = True
        else:
            parsed.reads.volatile.add(name)

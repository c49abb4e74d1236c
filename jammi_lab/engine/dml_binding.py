"""Binding of INSERT, UPDATE and DELETE: their target, a mutable table, is a table in the scratch
database."""

from collections.abc import Mapping, Sequence
from typing import Any

import duckdb

from jammi_lab.core import identifiers
from jammi_lab.core.errors import JammiError, StatementNotAllowed
from jammi_lab.core.identifiers import ascii_lower
from jammi_lab.engine.name_resolution import ResolvedNames, with_position
from jammi_lab.engine.sql.dml import DmlParts
from jammi_lab.engine.sql.parse import ParsedStatement
from jammi_lab.engine.sql.read_set import (
    Binding,
    InputSchemas,
    bind_on_replicas,
    replica_tables,
    scratch_address,
)
from jammi_lab.engine.sql.syntax_tree import column_definitions
from jammi_lab.sources.base import Relation
from jammi_lab.sources.scratch_duckdb import register_frame


def find_target(parts: DmlParts, relations: Any) -> tuple[tuple[str, ...], Relation]:
    """The target of a DML statement: its name parts and its relation."""
    name = next(
        p for p in relations if tuple(map(ascii_lower, p)) == tuple(map(ascii_lower, parts.target))
    )
    return name, relations[name]


def change_error(parts: DmlParts, relation: Relation) -> JammiError | None:
    """The error when a relation cannot be changed in this way; None when it can."""
    if relation.mutable is None:
        return StatementNotAllowed(
            f"{relation.input.label} is read-only: {parts.verb.upper()} is for mutable tables.",
            hint="A source is changed where it lies, a result table by a new version: "
            "ws.materialize('name', 'SELECT …'); ws.mutable.create(…) makes a table for changes.",
        )
    key_names = {ascii_lower(name) for name in relation.mutable.key}
    if column := next(
        (column for column in parts.columns if ascii_lower(column) in key_names), None
    ):
        return StatementNotAllowed(
            f"{column} is in the key of mutable.{relation.input.name} and cannot be updated.",
            hint="Insert the row under its new key and delete the old one.",
        )
    return None


def bind_change(
    replicas: duckdb.DuckDBPyConnection,
    parsed: ParsedStatement,
    schemas: InputSchemas,
    relations: ResolvedNames,
    params: Mapping[str, Any],
) -> Binding:
    """Bind an INSERT, UPDATE or DELETE on empty replicas; the target is a table there. Raises as
    `bind`, and StatementNotAllowed for a target that cannot be changed."""
    assert parsed.dml_parts is not None, "this is a change"
    name, target = find_target(parsed.dml_parts, relations)
    if (error := change_error(parsed.dml_parts, target)) is not None:
        raise with_position(error, parsed.reads.tables[0], parsed)
    assert target.mutable is not None, "change_error has returned an error otherwise"
    others = {p: columns for p, columns in schemas.items() if p != name}
    with replica_tables(replicas, others) as (cursor, database, tables):
        schema, table = scratch_address(name)
        copy_target(
            cursor,
            name,
            target,
            target.mutable.key,
            has_primary_key=parsed.dml_parts.merges,
            empty=True,
        )
        tables[f"{database}.{schema}.{table}"] = name
        return bind_on_replicas(cursor, tables, parsed, schemas, relations, params)


def copy_target(
    cursor: duckdb.DuckDBPyConnection,
    name: tuple[str, ...],
    target: Relation,
    key: Sequence[str],
    *,
    has_primary_key: bool,
    empty: bool,
) -> None:
    """Create the target as a table in the scratch database, under its name in the statement;
    `empty` when its rows cannot affect the result."""
    schema, table = map(identifiers.quote_identifier, scratch_address(name))
    primary = (
        f", PRIMARY KEY ({', '.join(map(identifiers.quote_identifier, key))})"
        if has_primary_key
        else ""
    )
    cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
    cursor.execute(
        f"CREATE TABLE {schema}.{table} ({column_definitions(target.columns or {})}{primary})"
    )
    if not empty:
        register_frame(cursor, "__jammi_target", target.read.frame)
        cursor.execute(f"INSERT INTO {schema}.{table} SELECT * FROM temp.main.__jammi_target")

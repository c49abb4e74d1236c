"""Binding on empty twins: what a statement puts out, which columns of which input it reads, and proof that it reads nothing else.

A twins instance holds nothing and can open nothing. The statement is explained there over empty tables of the right names and types, with filter
pushdown off, so that every scan of the plan lists all the columns that it reads. Whatever else would be scanned refuses the statement.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import duckdb

from jammi_lab import names
from jammi_lab.engine import duck, functions
from jammi_lab.engine.faults import translate
from jammi_lab.engine.gate import TABLE_FUNCTIONS
from jammi_lab.engine.resolve import Found
from jammi_lab.engine.statements import Form, Parsed
from jammi_lab.engine.typed import declared
from jammi_lab.errors import StatementNotAllowed
from jammi_lab.names import ascii_lower

Schemas = Mapping[tuple[str, ...], Mapping[str, str]]
"""Column → SQL type, for each name as it was typed."""

Reads = dict[tuple[str, ...], set[str]]
"""Columns, by the name of what they are read of, as it was typed."""

_TWIN = "__jammi_twin_"
_EXPLAIN = "explain (format json) "
_DESCRIBE = "describe "
_INOUT = {"inout_function", "unnest", "recursive_cte", "cte_scan", "column_data_scan"}


@dataclass
class Bound:
    """What the binder says of a statement."""

    output: list[tuple[str, str]] = field(default_factory=list)
    """Exact names and SQL types."""
    read: dict[tuple[str, ...], set[str]] = field(default_factory=dict)
    """The columns read of each name as typed; empty when only the number of rows matters."""
    operators: list[str] = field(default_factory=list)
    """Names of the plan's operators, from the root; each child after its parent."""


def address(parts: tuple[str, ...]) -> tuple[str, str]:
    """Schema and name in a scratch database."""
    return ("main" if len(parts) == 1 else parts[0], parts[-1])


def bind(twins: duckdb.DuckDBPyConnection, parsed: Parsed, schemas: Schemas, found: Found, params: Mapping[str, Any]) -> Bound:
    """Bind a statement on twins of what it names. SqlError with near columns, StatementNotAllowed for a scan that no name explains."""
    cursor = twins.cursor()
    try:
        if not schemas:
            return bound_on(cursor, {}, parsed, schemas, found, params)
        with duck.scratch(cursor) as database:
            tables = {twin(cursor, database, number, parts, columns): parts for number, (parts, columns) in enumerate(schemas.items())}
            return bound_on(cursor, tables, parsed, schemas, found, params)
    finally:
        cursor.close()


def bound_again(parsed: Parsed, bound: Bound) -> Bound:
    """What `bind` said earlier of this statement over these schemas. Raises as it does of words that are refused."""
    _check_words(parsed, bound)
    return Bound(list(bound.output), {parts: set(columns) for parts, columns in bound.read.items()}, list(bound.operators))


def bind_columns(twins: duckdb.DuckDBPyConnection, text: str, schemas: Schemas, params: Mapping[str, Any], columns: int) -> tuple[list[Reads], Reads]:
    """What each of the output columns reads when it alone is asked for, and what the number of rows rests on. duckdb.Error.

    The optimiser leaves out only what no row of that column depends on; where it cannot tell, all is kept: never too little.
    """
    cursor = twins.cursor()
    try:
        with duck.scratch(cursor) as database:
            tables = {twin(cursor, database, number, parts, each): parts for number, (parts, each) in enumerate(schemas.items())}

            def reads(asked: str) -> Reads:
                plan = cursor.execute(f"{_EXPLAIN}SELECT {asked} FROM (\n{text}\n)", dict(params) or None).fetchall()[-1][1]
                bound = Bound()
                for root in json.loads(plan):
                    _walk(root, tables, schemas, bound)
                return bound.read

            return [reads(f"#{at}") for at in range(1, columns + 1)], reads("count(*)")
    finally:
        cursor.close()


def twin(cursor: duckdb.DuckDBPyConnection, database: str, number: int, parts: tuple[str, ...], columns: Mapping[str, str]) -> str:
    """Make an empty table under a plain name and a view of it under the typed one: what the plan calls it, and no `rowid`, as with the real thing."""
    schema, view = address(parts)
    table = f"{database}.main.{_TWIN}{number}"
    if len(parts) > 1:
        cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {database}.{names.quote(schema)}")
    cursor.execute(
        f"CREATE TABLE {table} ({declared(columns)}); CREATE VIEW {database}.{names.quote(schema)}.{names.quote(view)} AS SELECT * FROM {table}"
    )
    return table


def bound_on(
    cursor: duckdb.DuckDBPyConnection,
    tables: Mapping[str, tuple[str, ...]],
    parsed: Parsed,
    schemas: Schemas,
    found: Found,
    params: Mapping[str, Any],
) -> Bound:
    """What the binder says in a scratch database where the twins are already: `tables` says which name each of them stands for. Raises as `bind`."""
    place = parsed.place(tuple(found.values()), sorted({c for columns in schemas.values() for c in columns}))
    bound = Bound()
    prefix, suffix = (f"{_DESCRIBE}from (", "\n)") if parsed.form is Form.DESCRIBE else (_DESCRIBE, "")
    try:
        if parsed.cut is None:
            rows = cursor.execute(prefix + parsed.probe + suffix, dict(params) or None).fetchall()
            bound.output = [(row[0], row[1]) for row in rows]
        prefix = _EXPLAIN
        plan = cursor.execute(_EXPLAIN + parsed.probe, dict(params) or None).fetchall()[-1][1]
    except duckdb.Error as error:
        raise translate(error, place, prefix=len(prefix)) from None
    for root in json.loads(plan):
        _walk(root, tables, schemas, bound)
    for parts in schemas:
        # Named, but proved useless (an outer join that keeps every row): still part of what the statement means.
        bound.read.setdefault(parts, set(schemas[parts]))
    _check_words(parsed, bound)
    return bound


def _walk(root: dict[str, Any], tables: Mapping[str, tuple[str, ...]], schemas: Schemas, bound: Bound) -> None:
    stack = [root]
    while stack:
        node = stack.pop()
        bound.operators.append(node.get("name", "").strip())
        info = node.get("extra_info") or {}
        if "Table" in info:
            parts = tables.get(info["Table"]) or tables.get(info["Table"].replace('"', ""))  # only a target is quoted, and holds no quotes
            if parts is None:
                raise StatementNotAllowed("The statement reads something that is not a table of the workspace.")
            listed = info.get("Projections") or []
            printed = [c for c in ([listed] if isinstance(listed, str) else listed) if c]
            bound.read.setdefault(parts, set()).update(*(_columns(name, schemas[parts]) for name in printed))
        elif "Function" in info and ascii_lower(str(info["Function"])) not in TABLE_FUNCTIONS | _INOUT:
            raise StatementNotAllowed(f"{str(info['Function']).lower()}() cannot be read from.")
        stack.extend(reversed(node.get("children", [])))


def _columns(printed: str, schema: Mapping[str, str]) -> Collection[str]:
    """The columns that one entry of a scan's projections may mean: a column, a field inside one (`a.b` may be both), or (a name with a line break in
    it) any."""
    return {column for column in schema if printed == column or printed.startswith(f"{column}.")} or schema.keys()


def _check_words(parsed: Parsed, bound: Bound) -> None:
    """Words like `current_date` and `user` are functions when no column has the name; the read-set tells which."""
    read = {ascii_lower(c) for columns in bound.read.values() for c in columns}
    for word, (count, at) in parsed.reading.words.items():
        meaning = functions.VALUE_WORDS[word]
        if (word in read or word in parsed.reading.aliases) and (count == 1 or meaning == "refused"):
            continue
        if meaning == "refused":
            error = StatementNotAllowed(f"{word} is not available in a workspace.")
            raise error.at(parsed.whole, None if at is None else parsed.offset + parsed.probe_offset + at)
        if meaning == "clock":
            parsed.reading.clock = True
        else:
            parsed.reading.volatile.add(word)

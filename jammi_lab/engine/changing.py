"""What an INSERT, UPDATE or DELETE would do: it is run on a copy of its target in the scratch database of the statement, and gives back the rows.

Whoever keeps the target makes the change durable, or, when the target has moved on meanwhile, has it evaluated again.
"""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import duckdb

from jammi_lab import names
from jammi_lab.engine import duck
from jammi_lab.engine.dml import Cut
from jammi_lab.engine.readset import Bound, Schemas, address, bound_on, twin
from jammi_lab.engine.resolve import Found, placed
from jammi_lab.engine.statements import Parsed
from jammi_lab.engine.typed import declared
from jammi_lab.errors import JammiError, SqlError, StatementNotAllowed
from jammi_lab.names import ascii_lower
from jammi_lab.sources.attaching import in_transaction
from jammi_lab.sources.base import Asking, Relation

if TYPE_CHECKING:
    import pyarrow as pa

    from jammi_lab.engine.instances import Session
    from jammi_lab.engine.prepared import Prepared

_BATCH = 65_536


@dataclass(frozen=True)
class Evaluated:
    """The rows of one evaluation."""

    verb: str
    """insert, update or delete."""
    merges: bool
    """Whether the rows of an insert may be there already."""
    target: Relation
    """What was changed, as it was when the statement was evaluated."""
    rests_on: tuple[Relation, ...]
    """The relations that can change, and that the rows depend on."""
    rows: "pa.Table"
    """All columns of the target: the new rows, for a DELETE the old ones."""
    answer: "pa.Table | None"
    """What stands behind RETURNING, if anything does."""


def target_of(cut: Cut, found: Any) -> tuple[tuple[str, ...], Relation]:
    """The target of a change among what its names stand for."""
    parts = next(p for p in found if tuple(map(ascii_lower, p)) == tuple(map(ascii_lower, cut.target)))
    return parts, found[parts]


def refuse(cut: Cut, relation: Relation) -> JammiError | None:
    """Why this change cannot be made to a relation."""
    if relation.changing is None:
        return StatementNotAllowed(
            f"{relation.input.label} does not change: {cut.verb.upper()} is for mutable tables.",
            hint="Make a new version of a result table with ws.materialize('name', 'SELECT …'), a table that changes with ws.mutable.create(…).",
        )
    folded = {ascii_lower(name) for name in relation.changing.key}
    if part := next((column for column in cut.columns if ascii_lower(column) in folded), None):
        return StatementNotAllowed(
            f"{part} is in the key of mutable.{relation.input.name}, and a key does not change.",
            hint="Insert the row under its new key and delete the old one.",
        )
    columns = list(relation.columns or {})
    if part := next((column for column in cut.columns if ascii_lower(column) not in map(ascii_lower, columns)), None):
        return SqlError(f"There is no column {part} in mutable.{relation.input.name}.", near=names.near(part, columns))
    return None


def bind_change(twins: duckdb.DuckDBPyConnection, parsed: Parsed, schemas: Schemas, found: Found, params: Mapping[str, Any]) -> Bound:
    """Bind an INSERT, UPDATE or DELETE on twins; its target is a table there. Raises as `bind`; StatementNotAllowed for what cannot be changed."""
    assert parsed.cut is not None, "this is a change"
    parts, target = target_of(parsed.cut, found)
    if (error := refuse(parsed.cut, target)) is not None:
        raise placed(error, parsed.reading.tables[0], parsed)
    assert target.changing is not None, "else it was refused"
    cursor = twins.cursor()
    try:
        with duck.scratch(cursor) as database:
            others = {p: columns for p, columns in schemas.items() if p != parts}
            tables = {twin(cursor, database, number, p, columns): p for number, (p, columns) in enumerate(others.items())}
            schema, table = address(parts)
            _copy(cursor, parts, target, target.changing.key, keyed=parsed.cut.merges, empty=True)
            tables[f"{database}.{schema}.{table}"] = parts
            return bound_on(cursor, tables, parsed, schemas, found, params)
    finally:
        cursor.close()


def evaluate(prepared: "Prepared") -> Evaluated:
    """Run a change on copies. Raises as running a statement does."""
    engine, parsed = prepared._engine, prepared._parsed
    cut = parsed.cut
    assert cut is not None, "this is a change"
    found = prepared._now(in_order=False)
    parts, target = target_of(cut, found)
    assert target.changing is not None, "this was seen to when the statement was bound"
    others = {p: r for p, r in found.items() if p != parts}
    key = target.changing.key
    alone = cut.verb == "insert" and not cut.merges and _times(parsed.reading.tables, cut.target) == 1
    text, params = _returning(parsed.text, cut), prepared.bound_values()

    def work(session: "Session", cursor: duckdb.DuckDBPyConnection) -> "pa.Table":
        with contextlib.ExitStack() as undo:
            undo.callback(session.setup(others)(cursor))
            if not others:
                undo.callback(duck.close_scratch, cursor, duck.open_scratch(cursor))
            _copy(cursor, parts, target, key, keyed=cut.merges, empty=alone)

            def run(asking: Asking) -> "pa.Table":
                rows = cursor.execute(text, params or None).to_arrow_reader(_BATCH).read_all()
                for guard in (relation.guard for relation in others.values() if relation.guard is not None):
                    guard(asking)
                return rows

            return in_transaction(cursor, session.attachments.memory, run)

    def failed(error: duckdb.Error, session: "Session") -> JammiError:
        place = replace(parsed.place(tuple(found.values()), sorted({c for i in prepared.inputs for c in i.schema})), bound=True)
        return engine.fault(error, prepared._tenant, session, place)

    rows = engine.in_scratch(prepared._tenant, work, failed)
    width = len(target.columns or ())
    answer = rows.select(range(width, rows.num_columns)) if cut.returning is not None else None
    rests_on = [r for r in others.values() if r.changing is not None] + ([] if alone else [target])
    return Evaluated(cut.verb, cut.merges, target, tuple(rests_on), rows.select(range(width)), answer)


def _returning(text: str, cut: Cut) -> str:
    """The statement with all columns of the target before what the person asked for."""
    if cut.returning is None:
        return f"{text}\nRETURNING *"
    start, _ = cut.returning
    return f"{text[:start]} *, {text[start:]}"


def _times(tables: Any, target: tuple[str, ...]) -> int:
    wanted = tuple(map(ascii_lower, target))
    return sum(tuple(map(ascii_lower, named.parts)) == wanted for named in tables)


def _copy(cursor: duckdb.DuckDBPyConnection, parts: tuple[str, ...], target: Relation, key: Sequence[str], *, keyed: bool, empty: bool) -> None:
    """The target as a table in the scratch database, under the name that the statement gives it; without rows where none of them can matter."""
    schema, table = map(names.quote, address(parts))
    primary = f", PRIMARY KEY ({', '.join(map(names.quote, key))})" if keyed else ""
    cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
    cursor.execute(f"CREATE TABLE {schema}.{table} ({declared(target.columns or {})}{primary})")
    if not empty:
        cursor.register("__jammi_target", target.frame)
        cursor.execute(f"INSERT INTO {schema}.{table} SELECT * FROM temp.main.__jammi_target")

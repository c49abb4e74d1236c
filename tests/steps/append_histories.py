"""Random statements over an input that gains rows, the rows, and what the second computation of a
statement was."""

import datetime
import decimal
import math
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from jammi_lab.core.verdicts import Match
from tests.cases import lines

_SCHEMA = pa.schema(
    {
        "g": pa.string(),
        "k": pa.int32(),
        "x": pa.int64(),
        "d": pa.decimal128(8, 2),
        "b": pa.bool_(),
        "f": pa.float64(),
        "ts": pa.timestamp("us"),
    }
)
_SMALL_SCHEMA = pa.schema({"k": pa.int32(), "name": pa.string(), "w": pa.decimal128(6, 1)})


_FLOATS = [0.0, -0.0, 1e16, 1e-40, 1e300, -1e300, math.inf, -math.inf, math.nan, None]


def new_rows(draw: random.Random, rows: int) -> pa.Table:
    """Rows that are appended."""
    start = datetime.datetime(2020, 1, 1)
    return pa.Table.from_pylist(
        [
            {
                "g": draw.choice(["a", "b", "ä", "", None]),
                "k": draw.choice([*range(6), None]),
                "x": draw.choice([draw.randrange(-(10**12), 10**12), 7, None]),
                "d": decimal.Decimal(draw.randrange(-99999, 99999)).scaleb(-2),
                "b": draw.choice([True, False, None]),
                "f": draw.choice(_FLOATS) if draw.random() < 0.3 else draw.uniform(-1e3, 1e3),
                "ts": start + datetime.timedelta(hours=draw.randrange(100)),
            }
            for _ in range(rows)
        ],
        _SCHEMA,
    )


def small_table() -> pa.Table:
    """The table that does not change."""
    rows = [{"k": k % 5, "name": f"n{k % 3}", "w": decimal.Decimal(k).scaleb(-1)} for k in range(7)]
    return pa.Table.from_pylist(rows, _SMALL_SCHEMA)


def write_file(path: Path, draw: random.Random, rows: int) -> None:
    """A Parquet file of the growing folder."""
    pq.write_table(new_rows(draw, rows), path)


def write_small_table(path: Path) -> None:
    """A Parquet file that does not change."""
    pq.write_table(small_table(), path)


_CONDITIONS = lines("statements/history_conditions.sql")
_VALUES = ("g", "k", "d", "upper(g) AS u", "k + 1 AS k1", "coalesce(x, 0) AS x0", "ts", "b", "x")
_AGGREGATES = lines("statements/history_aggregates.sql")
_OUTSIDE = lines("statements/history_outside.sql")


def _rows(draw: random.Random, depth: int) -> str:
    """Rows of the growing folder, with all its columns."""
    where = f" WHERE {draw.choice(_CONDITIONS)}" if draw.random() < 0.7 else ""
    if depth == 0:
        return f"(SELECT * FROM t{where})"
    match draw.randrange(4):
        case 0:
            return f"(SELECT * FROM {_rows(draw, depth - 1)} r{where})"
        case 1:
            return (
                f"(SELECT r.* FROM {_rows(draw, depth - 1)} r JOIN small ON r.k = small.k"
                f"{draw.choice(['', ' AND r.d > w'])})"
            )
        case 2:
            return f"(SELECT r.* FROM small, {_rows(draw, depth - 1)} r WHERE r.k < small.k)"
        case _:
            return (
                f"(SELECT * FROM {_rows(draw, depth - 1)} UNION ALL "
                f"SELECT * FROM {_rows(draw, depth - 1)})"
            )


def statement(draw: random.Random) -> tuple[str, bool]:
    """A statement over the folder `t` and the table `small`, and whether it is in the algebra."""
    rows = _rows(draw, draw.randrange(3)) + " AS s"
    if draw.random() < 0.25:
        return draw.choice(_OUTSIDE).format(rows=rows.removesuffix(" AS s")), False
    if draw.random() < 0.15:
        return f"WITH s AS (SELECT * FROM {rows}) SELECT g, count(*) AS n FROM s GROUP BY g", True
    if draw.random() < 0.5:
        groups = draw.sample(("g", "k", "b", "x % 3"), draw.randrange(3))
        chosen = draw.sample(_AGGREGATES, draw.randrange(1, 4))
        named = [f"{e} AS g{i}" for i, e in enumerate(groups)]
        named += [f"{e} AS a{i}" for i, e in enumerate(chosen)]
        draw.shuffle(named)
        group_by = f" GROUP BY {', '.join(groups)}" if groups else ""
        return f"SELECT {', '.join(named)} FROM {rows}{group_by}", True
    columns = ", ".join(draw.sample(_VALUES, draw.randrange(1, 5)))
    if draw.random() < 0.1:
        return f"SELECT {columns}, f FROM t WHERE {draw.choice(_CONDITIONS)}", True
    return f"SELECT {draw.choice(['', 'DISTINCT '])}{columns} FROM {rows}", True


def is_increment(ws, statement, *changes):
    """Whether the second computation of a statement, after changes, was an increment; its bytes are
    those of a full one."""
    ws.materialize("it", statement)
    for change in changes:
        change()
    manifest = ws.materialize("it", statement).manifest
    assert ws.verify("it", recompute=True) == Match()
    full = ws.materialize("full", statement, cache="bypass").manifest
    assert full.artifact == manifest.artifact and full.increment is None
    return manifest.increment is not None


def check_damaged_base(ws, append, statement, damage) -> None:
    """A version that is damaged after its increment was planned is replaced by a full run that says
    so, which the next increment extends."""
    made = ws.materialize("it", statement)
    append()
    plan = ws.plan()
    assert [step.action for step in plan.certain] == ["increment"]
    damage(made.path)
    assert "it was computed in full: version 1 of it is damaged" in plan.apply().deviations
    manifest = ws.table("it").manifest
    full = ws.materialize("full", statement, cache="bypass").manifest
    assert manifest.increment is None and manifest.artifact == full.artifact
    assert is_increment(ws, statement, append)


def check_recompute(ws, statements) -> int:
    """Recompute a workspace with the tables s0, s1, … of these statements, each with whether it is
    within the rules. All are byte for byte those of a full run; the number of increments, of which
    none is of a statement outside the rules."""
    run = ws.recompute()
    assert not run.deviations
    increments = 0
    for step in run.steps:
        if step.outcome == "computed" and step.name.startswith("s"):
            statement, is_inside = statements[int(step.name[1:])]
            is_increment = ws.table(step.name).manifest.increment is not None
            assert ws.verify(step.name, recompute=True) == Match(), statement
            assert is_inside or not is_increment, statement
            increments += is_increment
    return increments

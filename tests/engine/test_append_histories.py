"""Random append histories: rows that the append algebra merges are, byte for byte, those that the
statement gives over everything.

The rule comes from a prepared statement, the merging statement is the one that an increment runs.
One connection runs them over tables in memory, so that a history costs a few milliseconds; that an
increment of a workspace does the same with files is in `steps/test_increment.py`."""

import contextlib
import random

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import jammi_lab as jl
from jammi_lab.core.anchors import frame_input
from jammi_lab.engine.name_resolution import NameResolver
from jammi_lab.engine.sql import float_sums
from jammi_lab.engine.sql.append_algebra import (
    BASE,
    PARTIAL_COLUMN,
    NotIncremental,
    base_statement,
)
from jammi_lab.engine.sql.row_order import total_order_positions
from jammi_lab.sources.base import ReadPlan, Relation
from tests.inside import services_of
from tests.sizes import sized, soak
from tests.steps import append_histories as histories

FOLDERS, STATEMENTS, APPENDS = sized((2, 8, 6), (20, 20, 15))
"""About 5 of 7 statements are in the algebra."""


class Frames(NameResolver):
    """A resolver of the two names in the statements."""

    def __init__(self, frames):
        self.relations = {
            (name,): Relation(frame_input(name), ReadPlan(frame=rows))
            for name, rows in frames.items()
        }

    def resolve(self, parts):
        return self.relations.get(parts)


class GrowingTable:
    """A table `t` that grew some times. For each time there is one schema with its new rows and one
    with all rows up to then, both with the table `small`."""

    def __init__(self, draw):
        self.connection = duckdb.connect(config={"threads": 1})
        self.connection.execute("SET default_null_order = 'nulls_last'")
        small, rows = histories.small_table(), histories.new_rows(draw, draw.randrange(30))
        self.connection.execute(";".join(float_sums.create_macros()))
        self.all_rows = [rows]
        self._make("all0", rows, small)
        for number in range(1, APPENDS + 1):
            new = histories.new_rows(draw, draw.choice([0, 1, 2, 5, 20]))
            rows = pa.concat_tables([rows, new])
            self._make(f"new{number}", new, small)
            self._make(f"all{number}", rows, small)
            self.all_rows.append(rows)
        self.frames = Frames({"t": rows, "small": small})

    def _make(self, schema, t, small):
        self.connection.execute(f"CREATE SCHEMA {schema}")
        for name, rows in (("t", t), ("small", small)):
            self.connection.register("rows", rows)
            self.connection.execute(f"CREATE TABLE {schema}.{name} AS FROM rows")

    def rows(self, schema, statement, base=None):
        self.connection.execute(f"SET search_path = '{schema},memory.main'")
        if base is not None:
            self.connection.register(BASE, base)
        return self.connection.execute(statement).to_arrow_table()


def same_bytes(one, other, *, with_floats):
    """Whether two tables are written as equal Parquet files. Without floating point equal values
    are; with it only the bytes tell NaN and the sign of 0."""
    if not with_floats:
        return one.schema == other.schema and one.equals(other)
    return file_of(one) == file_of(other)


def file_of(rows):
    sink = pa.BufferOutputStream()
    pq.write_table(rows.combine_chunks(), sink, compression="none")
    return sink.getvalue().to_pybytes()


class History:
    """A statement over a growing table, and how its rows are computed and merged."""

    def __init__(self, engine, table, prepared, statement):
        self.engine = engine
        self.table, self.statement, self.output = table, statement, prepared.output
        self.rule = prepared.append_rule(table.frames.relations["t",].input.identity)
        self._text = prepared.partial_text if self.rule.has_floats else statement
        positions = total_order_positions(prepared.output, (), prepared.inferred_key)
        self._order = f" ORDER BY {', '.join(map(str, positions))}"

    def in_full(self, number):
        if self.rule.has_floats:
            frames = Frames({"t": self.table.all_rows[number], "small": histories.small_table()})
            [prepared] = self.engine.prepare(self.statement, overriding_resolvers=[frames])
            return prepared.run_ordered().table()
        statement = f"SELECT * FROM (\n{self.statement}\n){self._order}"
        return self.table.rows(
            f"all{number}", self.statement if self.rule.keeps_order else statement
        )

    def first(self):
        """The rows that an increment starts from."""
        return self.table.rows("all0", self._total(self._text)) if self.partial else self.in_full(0)

    @property
    def partial(self):
        return self.rule.partial_columns

    def _total(self, rows):
        if self.partial:
            rows = self.rule.total_statement(self.output, rows)
        return f"SELECT * FROM (\n{rows}\n){self._order}"

    def _base(self, former):
        names = [name for name, _ in self.output]
        stored = [f"{PARTIAL_COLUMN}{i}" if i in self.partial else n for i, n in enumerate(names)]
        return former.select(stored).rename_columns(names)

    def merged(self, number, former):
        if self.rule.keeps_order:
            new = self.table.rows(f"new{number}", self.statement)
            former = self.table.rows("main", base_statement(self.output), former)
            return pa.concat_tables([former, new])
        merging = self.rule.merging_statement(self.rule.partial_output(self.output), self._text)
        return self.table.rows(f"new{number}", self._total(merging), self._base(former))

    def check(self, number, rows):
        """Compare rows with those of the whole statement."""
        expected = self.in_full(number)
        rows = rows.select(range(len(self.output)))
        with_floats = self.rule.keeps_order or self.rule.has_floats
        assert same_bytes(rows, expected, with_floats=with_floats), (self.statement, number)


def check_histories(engine, table, prepared, statement):
    """Compare each merged result, the base of which is the one before, with the full one; how
    many."""
    history = History(engine, table, prepared, statement)
    rows = history.first()
    history.check(0, rows)
    for number in range(1, APPENDS + 1):
        rows = history.merged(number, rows)
        history.check(number, rows)
    return APPENDS


FRAMES = Frames({"t": histories.new_rows(random.Random(1), 3), "small": histories.small_table()})


OUTSIDE = (
    "SELECT name, g FROM t FULL JOIN small USING (k)",
    "SELECT a.k FROM t a, t b",
    "SELECT k, x FROM t QUALIFY row_number() OVER (PARTITION BY k ORDER BY x) = 1",
    "SELECT k, m FROM small, LATERAL (SELECT max(x) AS m FROM t WHERE t.k = small.k)",
    "SELECT g, count(*) AS n FROM t GROUP BY CUBE (g, k)",
    "SELECT x FROM t ORDER BY ALL OFFSET 2",
    "SELECT x FROM t LIMIT 10 PERCENT",
    "SELECT sum(DISTINCT x) AS s FROM t",
    "SELECT g, sum(x) OVER () AS s FROM t",
    "SELECT max(x, 2) AS top FROM t",
    "SELECT sum(x) AS a, sum(x) / 2 AS b FROM t",
    "SELECT k, ts AT TIME ZONE 'UTC' - now() AS age FROM t",
    *(
        f"SELECT g, {aggregate} AS a FROM t GROUP BY g"
        for aggregate in (
            "string_agg(g)",
            "first(x)",
            "arg_max(k, x)",
            "avg(x)",
            "median(x)",
            "stddev(x)",
            "approx_count_distinct(k)",
            "sum(DISTINCT f)",
            "max(NULLIF(f, 0))",
            "product(f)",
        )
    ),
)


def test_what_is_not_listed_is_refused_by_its_plan(tmp_path):
    with jl.open(tmp_path) as ws:
        engine = services_of(ws).engine
        for statement in OUTSIDE:
            [prepared] = engine.prepare(statement, overriding_resolvers=[FRAMES])
            try:
                rule = prepared.append_rule(FRAMES.relations["t",].input.identity)
            except NotIncremental:
                continue
            pytest.fail(f"{statement}: {rule}")


@soak
@pytest.mark.timeout(0)
def test_merged_rows_are_byte_for_byte_those_of_the_whole_statement(tmp_path):
    draw, compared = random.Random(35), 0
    with jl.open(tmp_path) as ws:
        engine = services_of(ws).engine
        for _ in range(FOLDERS):
            table = GrowingTable(draw)
            for _ in range(STATEMENTS):
                statement, is_inside = histories.statement(draw)
                [prepared] = engine.prepare(statement, overriding_resolvers=[table.frames])
                with contextlib.nullcontext() if is_inside else pytest.raises(NotIncremental):
                    compared += check_histories(engine, table, prepared, statement)
            table.connection.close()
    assert compared > FOLDERS * STATEMENTS * APPENDS // 2

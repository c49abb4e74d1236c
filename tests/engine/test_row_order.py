"""Row order: promised, needed, and made total."""

import datetime
from collections.abc import Iterator
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jammi_lab.core.errors import SchemaMismatch, StatementNotAllowed
from jammi_lab.engine import Engine
from jammi_lab.engine.sql import equal_values, row_order, syntax_tree
from tests.engine.shelf import Shelf, engine_of
from tests.sizes import every_case

pytestmark = pytest.mark.one_engine

ORDERED = [
    "SELECT * FROM papers",
    "SELECT id + 1 AS x FROM papers WHERE year > 2000",
    "SELECT * FROM (SELECT id, venue FROM papers) WHERE id > 1",
    "SELECT id FROM papers LIMIT 2",
    "VALUES (1), (2)",
    "SELECT 1",
    "DESCRIBE papers",
    "WITH q AS (SELECT id FROM papers) SELECT * FROM q",
]
UNORDERED = [
    "SELECT venue, count(*) FROM papers GROUP BY venue",
    "SELECT count(*) FROM papers",
    "SELECT DISTINCT venue FROM papers",
    "SELECT p.id FROM papers p JOIN venues v ON p.venue = v.name",
    "SELECT id FROM papers UNION ALL SELECT id FROM papers",
    "SELECT id, row_number() OVER () FROM papers",
    "SELECT id FROM papers ORDER BY id",
    "SELECT id FROM papers WHERE venue IN (SELECT name FROM venues)",
    "SELECT id FROM papers USING SAMPLE 50%",
    "SELECT * FROM papers, jammi.top",
    "PIVOT papers ON venue IN ('a') USING count(*)",
]
SENSITIVE = [
    "SELECT id FROM papers LIMIT 2",
    "SELECT * FROM (SELECT id FROM papers ORDER BY year LIMIT 2)",
    "SELECT DISTINCT ON (venue) venue, id FROM papers ORDER BY venue",
    "SELECT id, row_number() OVER (ORDER BY year) FROM papers",
    "SELECT id, lag(id) OVER (ORDER BY year) FROM papers",
    "SELECT id, first_value(id) OVER (ORDER BY year) FROM papers",
    "SELECT id, ntile(2) OVER (ORDER BY year) FROM papers",
    "SELECT id, sum(id) OVER (ORDER BY year ROWS 1 PRECEDING) FROM papers",
    "SELECT id, list(id) OVER (PARTITION BY year) FROM papers",
    "SELECT first(id) FROM papers",
    "SELECT any_value(venue) FROM papers",
    "SELECT arg_max(id, year) FROM papers",
    "SELECT venue, max(id, year) FROM papers GROUP BY venue",
    "SELECT min(id, year) OVER (PARTITION BY venue) FROM papers",
    "SELECT max_by(id, year) FROM papers",
    "SELECT list(id) FROM papers",
    "SELECT array_agg(id) FROM papers",
    "SELECT string_agg(venue, ',') FROM papers",
    "SELECT list(id ORDER BY year) FROM papers",
    "SELECT list(DISTINCT id) FROM papers",
    "SELECT json_group_array(id) FROM papers",
    "SELECT mode(venue) FROM papers",
    "SELECT p.id, t.id FROM papers p POSITIONAL JOIN jammi.top t",
    "SELECT p.id, t.id FROM papers p ASOF JOIN jammi.top t ON p.id >= t.id",
    "SELECT id FROM papers USING SAMPLE 50%",
    "SELECT venue COLLATE NOCASE AS v FROM papers ORDER BY v",
    "SELECT approx_quantile(cites, 0.5) FROM papers",
    "SUMMARIZE papers",
    "SELECT id FROM papers QUALIFY row_number() OVER (PARTITION BY venue ORDER BY year) = 1",
    "SELECT * FROM papers WHERE id = (SELECT id FROM papers LIMIT 1)",
    "SELECT list_sort(first([id, year])) FROM papers",
    "SELECT list_sort(arg_min(id, year, 1)) FROM papers",
    "SELECT list_reverse_sort(lag([id]) OVER (ORDER BY year)) FROM papers",
    "SELECT list_sort(mode([year])) FROM papers",
    "SELECT id, rank(ORDER BY id) OVER (ORDER BY year ROWS 1 PRECEDING) FROM papers",
    "SELECT id, cume_dist(ORDER BY id) OVER (ORDER BY year ROWS 1 PRECEDING) FROM papers",
    "SELECT histogram(id, [year]) FROM papers",
    "SELECT first(id ORDER BY id) FROM papers",
]
INSENSITIVE = [
    "SELECT id FROM papers",
    "SELECT id FROM papers ORDER BY year",
    "SELECT id FROM papers ORDER BY year LIMIT 2",
    "SELECT venue, count(*) AS n FROM papers GROUP BY venue ORDER BY n LIMIT 1",
    "SELECT p.id FROM papers p JOIN venues v ON p.venue = v.name LIMIT 2",
    "SELECT venue, count(*), sum(cites), avg(cites), min(id), max(id), median(cites) FROM papers GROUP BY venue",
    "SELECT venue, max(id, 2), min(id, 3) FROM papers GROUP BY venue",
    "SELECT id, rank() OVER (ORDER BY year), dense_rank() OVER (ORDER BY year), sum(id) OVER (ORDER BY year) FROM papers",
    "SELECT list(id ORDER BY id) FROM papers",
    "SELECT DISTINCT venue FROM papers",
    "SELECT id FROM papers UNION SELECT id FROM jammi.top",
    "SELECT list_sort(tags), len(tags) FROM papers",
    "SELECT list_sort(list(id)), array_sort(array_agg(venue)) FROM papers",
    "SELECT histogram(id, [1, 3]), quantile_disc(id, [0.25, 0.5]), corr(id, year) FROM papers",
    "SELECT id, rank(ORDER BY id) OVER (ORDER BY year) FROM papers",
    "SELECT string_agg(venue, ',' ORDER BY venue) FROM papers",
]
KEYS = [
    ("SELECT venue, count(*) AS n FROM papers GROUP BY venue", ["venue"]),
    ("SELECT venue AS v, year, count(*) FROM papers GROUP BY 1, year", ["v", "year"]),
    ("SELECT count(*) AS n, p.venue FROM papers p GROUP BY venue", ["venue"]),
    ("SELECT year // 10 AS decade, count(*) AS n FROM papers GROUP BY decade", ["decade"]),
    ("SELECT year // 10 AS decade, count(*) AS n FROM papers GROUP BY year // 10", ["decade"]),
    ("SELECT venue, year, count(*) AS n FROM papers GROUP BY ALL", ["venue", "year"]),
    ("SELECT count(*) AS n FROM papers GROUP BY venue", []),
    ("SELECT venue, count(*) AS n FROM papers GROUP BY venue, year", []),
    ("SELECT venue, year, count(*) AS n FROM papers GROUP BY ROLLUP (venue, year)", []),
    ("SELECT venue, unnest([1, 2]) AS u FROM papers GROUP BY venue", []),
    ("SELECT count(*) AS n FROM papers", []),
    ("SELECT id FROM papers", []),
    ("SELECT venue, count(*) FROM papers GROUP BY venue UNION ALL SELECT venue, 1 FROM papers", []),
    ("SELECT * FROM (SELECT venue, count(*) AS n FROM papers GROUP BY venue)", []),
    ("SELECT venue, venue AS venue, count(*) FROM papers GROUP BY venue", []),
]


@pytest.mark.parametrize("sql", ORDERED)
def test_a_plan_over_one_input_promises_its_order(prepare, sql):
    assert prepare(sql).keeps_order


@pytest.mark.parametrize("sql", UNORDERED)
def test_other_plans_promise_no_order(prepare, sql):
    assert not prepare(sql).keeps_order


@every_case
@pytest.mark.parametrize("sql", SENSITIVE)
def test_a_statement_whose_rows_may_depend_on_row_order_is_marked(prepare, sql):
    assert prepare(sql).order_sensitive


@pytest.mark.parametrize("sql", INSENSITIVE)
def test_a_statement_over_bags_is_not_marked(prepare, sql):
    assert not prepare(sql).order_sensitive


EQUAL_VALUES = [
    ("SELECT DISTINCT lasts FROM spans", True),
    ("SELECT min(lasts) AS m FROM spans", True),
    ("SELECT lasts, count(*) FROM spans GROUP BY lasts", True),
    ("SELECT lasts FROM spans UNION SELECT lasts FROM spans", True),
    ("SELECT id, lasts FROM spans WHERE lasts > INTERVAL 1 DAY", False),
    ("SELECT min(id) AS m FROM spans", False),
    # intervals that arise in the statement
    ("SELECT max(till - since) AS m FROM spans", True),
    ("SELECT max(age(till, since)) AS m FROM spans", True),
    (
        "SELECT DISTINCT CASE id WHEN 1 THEN INTERVAL 1 MONTH ELSE INTERVAL 30 DAY END FROM spans",
        True,
    ),
    ("SELECT median(name::INTERVAL) AS m FROM spans", True),
    ("SELECT quantile_disc(to_hours(id), 0.5) AS m FROM spans", True),
    ("SELECT to_days(id) AS d, count(*) FROM spans GROUP BY ALL", True),
    ("SELECT to_days(id) FROM spans INTERSECT ALL SELECT to_hours(id) FROM spans", True),
    ("SELECT to_days(id) FROM spans EXCEPT SELECT to_hours(id) FROM spans", True),
    ("SELECT list(to_days(id) ORDER BY to_days(id)) FROM spans", True),
    ("SELECT max({'a': to_days(id)}) FROM spans", True),
    ("SELECT string_agg(score * id, ',' ORDER BY score * id) FROM spans", True),
    ("SELECT string_agg(name, ',' ORDER BY name) FROM spans", False),
    ("SELECT max(to_days(id)) OVER (PARTITION BY name) FROM spans", True),
    ("SELECT avg(DISTINCT to_days(id)) FROM spans", True),
    ("SELECT lasts FROM spans ORDER BY lasts LIMIT 1", True),
    ("SELECT id, (SELECT s.lasts::VARCHAR) AS t FROM spans s", True),
    ("WITH RECURSIVE r AS (SELECT lasts l FROM spans UNION SELECT l FROM r) FROM r", True),
    ("PIVOT spans ON id IN (1, 2) USING max(till - since) GROUP BY name", True),
    ("SELECT max(to_days($n)) AS m FROM spans", True),
    ("SELECT DISTINCT name FROM spans WHERE till - since > INTERVAL 7 DAY", False),
    (
        "SELECT name, max(till), avg(to_days(id)), count(DISTINCT lasts) FROM spans GROUP BY name",
        False,
    ),
    ("SELECT max(till + INTERVAL 1 DAY) AS m FROM spans", False),
    ("SELECT max(till::DATE - since::DATE) AS m FROM spans", False),
    ("SELECT max(id + $n) AS m FROM spans WHERE till > $t", False),
    ("SELECT id, (SELECT max(id) FROM spans) AS m, (SELECT s.id + 1) AS n FROM spans s", False),
    # zeros whose sign arises in the statement
    ("SELECT round(score) AS r, count(*) FROM spans GROUP BY ALL", True),
    ("SELECT round(score) AS r FROM spans GROUP BY ALL", True),
    ("SELECT DISTINCT -score FROM spans", True),
    ("SELECT max(score * id) AS m FROM spans", True),
    ("SELECT DISTINCT score::FLOAT FROM spans", True),
    ("SELECT min(name::DOUBLE) AS m FROM spans", True),
    ("SELECT max(x) FROM (SELECT trunc(score) AS x FROM spans)", True),
    ("SELECT quantile_disc(score / id, 0.5) AS m FROM spans", True),
    ("SELECT score * id AS x FROM spans UNION SELECT score FROM spans", True),
    ("SELECT score * id AS x FROM spans ORDER BY x LIMIT 1", True),
    ("SELECT id, (SELECT 1 / -s.score) AS t FROM spans s", False),
    ("SELECT id, (SELECT 1 / x) AS t FROM (SELECT id, -score AS x FROM spans)", True),
    ("SELECT name, max(score), min(score + 1), sum(-score) FROM spans GROUP BY name", False),
    ("SELECT DISTINCT id::DOUBLE FROM spans WHERE -score < 3", False),
    ("SELECT name, avg(score * id) AS a FROM spans GROUP BY name ORDER BY a LIMIT 1", False),
]


@pytest.mark.parametrize(("sql", "marked"), EQUAL_VALUES)
def test_a_statement_that_takes_one_of_equal_values_for_all_is_marked(shelf, prepare, sql, marked):
    spans = pa.array(
        [pa.MonthDayNano([0, 30, 0]), pa.MonthDayNano([1, 0, 0])], pa.month_day_nano_interval()
    )
    times = [datetime.datetime(2020, 1, 1), datetime.datetime(2020, 2, 1)]
    shelf.frame(
        "spans",
        table=pa.table(
            {
                "id": [1, 2],
                "lasts": spans,
                "since": times,
                "till": times[::-1],
                "score": [0.5, 1.5],
                "name": ["1 month", "30 days"],
            }
        ),
    )
    params = {"n": 3, "t": times[0]}
    params = {name: value for name, value in params.items() if f"${name}" in sql}
    assert prepare(sql, **params).order_sensitive is marked


@pytest.mark.parametrize(("sql", "key"), KEYS)
def test_the_key_is_what_was_grouped_by_when_all_of_it_is_put_out(prepare, sql, key):
    assert prepare(sql).inferred_key == key


@pytest.mark.parametrize(
    ("sql", "key", "expected"),
    [
        ("SELECT venue, id FROM papers WHERE venue IS NOT NULL ORDER BY venue DESC", [], [("b", 2), ("a", 1), ("a", 3)]),
        ("SELECT venue, -id AS m, id FROM papers WHERE id < 4 ORDER BY venue", ["id"], [("a", -1, 1), ("a", -3, 3), ("b", -2, 2)]),
        ("SELECT year, id FROM papers ORDER BY year LIMIT 2 -- the end", ["id"], [(2000, 1), (2000, 4)]),
        ("SELECT year, id FROM papers ORDER BY year -- no limit", [], [(2000, 1), (2000, 4), (2001, 2), (2002, 3)]),
        ("SELECT DISTINCT venue FROM papers -- c", [], [("a",), ("b",), (None,)]),
        ("SELECT DISTINCT venue FROM papers /* c", [], None),
        ("SELECT year, count(*) AS n FROM papers GROUP BY year LIMIT 2", [], [(2000, 2), (2001, 1)]),
        ("SELECT id FROM papers UNION ALL SELECT id FROM jammi.top ORDER BY 1 DESC LIMIT 3", [], [(4,), (3,), (3,)]),
        ("(SELECT id FROM papers ORDER BY id LIMIT 1) UNION ALL (SELECT 9)", [], [(1,), (9,)]),
        ("SELECT id FROM papers ORDER BY ALL DESC", [], [(4,), (3,), (2,), (1,)]),
        ("WITH q AS (SELECT id FROM papers ORDER BY id LIMIT 9) SELECT a.id FROM q a JOIN q b USING (id)", [], [(1,), (2,), (3,), (4,)]),
        ("FROM papers SELECT DISTINCT year", [], [(2000,), (2001,), (2002,)]),
        ("SELECT max(id) AS \"order\", venue AS \"limit\" FROM papers GROUP BY venue ORDER BY \"order\" OFFSET 1", [], [(3, "a"), (4, None)]),
        ("PIVOT papers ON venue IN ('a', 'b') USING count(*) GROUP BY year", ["year"], [(2000, 1, 0), (2001, 0, 1), (2002, 1, 0)]),
        ("PIVOT papers ON venue IN ('a', 'b') USING count(*) GROUP BY year ORDER BY year DESC LIMIT 1", [], [(2002, 1, 0)]),
        ("SELECT sum(id) OVER (ORDER BY id) AS s FROM papers WINDOW w AS (ORDER BY year)", [], [(1,), (3,), (6,), (10,)]),
        ("SELECT id FROM papers EXCEPT SELECT 2", [], [(1,), (3,), (4,)]),
    ],
)  # fmt: skip
def test_rows_come_by_own_order_then_key_then_the_rest(
    prepare,
    sql,
    key,
    expected,
):
    if expected is None:
        with pytest.raises(Exception, match="unterminated"):
            prepare(sql)
        return
    table = prepare(sql).run_ordered(key).table()
    assert list(zip(*(c.to_pylist() for c in table.columns), strict=True)) == expected


def test_rows_by_a_unique_key_are_sorted_by_it_alone(prepare, monkeypatch):
    positions: list[list[int]] = []
    find_positions = row_order.total_order_positions

    def find_noted_positions(*args: Any) -> list[int]:
        positions.append(find_positions(*args))
        return positions[-1]

    monkeypatch.setattr(row_order, "total_order_positions", find_noted_positions)
    statement = prepare("SELECT -id AS m, venue, year FROM papers ORDER BY m")
    assert statement.run_by_key({}).table()["m"].to_pylist() == [-4, -3, -2, -1]
    assert statement.run_ordered().table().num_rows == 4
    assert positions == [[1], [1, 2, 3]]


def test_an_input_in_order_is_not_sorted(prepare):
    assert prepare("SELECT -id AS m FROM papers").run_ordered([]).table()["m"].to_pylist() == [
        -1,
        -2,
        -3,
        -4,
    ]


def test_a_key_column_that_is_not_put_out_is_named(
    prepare,
):
    with pytest.raises(SchemaMismatch, match="venu ") as error:
        prepare("SELECT venue FROM papers").run_ordered(["venu"])
    assert error.value.column == "venu"


def test_a_pivot_without_a_list_cannot_be_put_in_order(
    prepare,
):
    prepared = prepare("PIVOT papers ON venue USING count(*)")
    assert {"a", "b"} <= set(prepared.run().table().schema.names)
    with pytest.raises(StatementNotAllowed, match="depend on its data") as error:
        prepared.run_ordered([])
    assert "IN (" in error.value.hint


BIG = [
    "SELECT * FROM big",
    "SELECT g, count(*) AS n, min(x) AS m FROM big GROUP BY g",
    "SELECT a.x, b.y FROM big a JOIN small b ON a.g = b.g",
    "SELECT DISTINCT g, y FROM big",
    "SELECT x, y FROM big WHERE y % 3 = 0",
    "SELECT x, y FROM big ORDER BY y",
    "SELECT g, x FROM big ORDER BY g LIMIT 5000",
    "SELECT g FROM big UNION ALL SELECT g FROM small",
    "SELECT x FROM big ORDER BY y DESC LIMIT 10 OFFSET 100",
    "SELECT a.x FROM big a LEFT JOIN small b ON a.g = b.g LIMIT 1000",
]


@pytest.fixture(scope="module")
def threaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Engine]]:
    folder = tmp_path_factory.mktemp("big")
    n = 300_000
    big = pa.table(
        {
            "x": pa.array([(i * 7919) % n for i in range(n)]),
            "y": pa.array([i % 11 for i in range(n)]),
            "g": [f"g{(i * 31) % 1000}" for i in range(n)],
        }
    )
    for part in range(3):
        pq.write_table(
            big.slice(part * 100_000, 100_000), folder / f"big{part}.parquet", row_group_size=10_000
        )
    shelf = Shelf()
    shelf.body("big", body=f"SELECT * FROM read_parquet('{folder}/big*.parquet')")
    shelf.frame(
        "small", table=pa.table({"g": [f"g{i % 500}" for i in range(700)], "y": list(range(700))})
    )
    shelf.frame("frame", table=pa.Table.from_batches(big.to_batches(max_chunksize=1000)))
    engines = [
        engine_of(shelf, folder / f"spill{threads}", engine__threads=threads)
        for threads in (1, 2, 8)
    ]
    yield engines
    for engine in engines:
        engine.close()


@pytest.mark.parametrize(
    "sql", [*BIG, "SELECT x, y FROM frame WHERE y > 3", "SELECT y, count(*) FROM frame GROUP BY y"]
)
def test_equal_rows_come_in_equal_order_whatever_the_number_of_threads(threaded, sql):
    tables = [engine.prepare(sql)[0].run_ordered([]).table() for engine in threaded]
    assert len(tables[0]) > 0
    assert tables[0].equals(tables[1])
    assert tables[0].equals(tables[2])


@pytest.mark.parametrize(
    ("aggregate", "merges"),
    [("count(*)", False), ("count(DISTINCT x)", False), ("max(x)", True), ("mode(x)", True)],
)
def test_the_plan_is_printed_only_for_aggregates_that_return_a_value(aggregate, merges):
    sql = f"SELECT {aggregate} FROM t"
    with duckdb.connect() as connection:
        tree = syntax_tree.tree_of(connection, sql)
        # there is no table t, so that whatever is asked about the plan is an error
        merged = equal_values.merged_values(connection, sql, tree, {})
    assert merged.ambiguous is merges

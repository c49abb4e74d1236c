"""Row order: promised, needed, and made total."""

import datetime
from collections.abc import Iterator
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jammi_lab.core.errors import StatementNotAllowed
from jammi_lab.engine import Engine
from jammi_lab.engine.sql import equal_values, releases, row_order, syntax_tree
from tests.cases import cases, lines
from tests.engine.shelf import Shelf, engine_of
from tests.sizes import every_case

pytestmark = pytest.mark.one_engine

ORDERED = lines("statements/ordered.sql")
UNORDERED = lines("statements/unordered.sql")
SENSITIVE = lines("statements/order_sensitive.sql")
INSENSITIVE = lines("statements/order_insensitive.sql")
KEYS = cases("statements/inferred_keys", "sql", "key")


@pytest.mark.parametrize("sql", ORDERED)
def test_a_plan_over_one_input_promises_its_order(prepare, sql):
    assert prepare(sql).keeps_order


@pytest.mark.every_case
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


EQUAL_VALUES = cases("statements/equal_values", "sql", "marked")


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
    found = prepare(sql, **params).order_sensitive
    assert found is marked or (found and releases.IS_2)  # which marks some more: slower, as sound


@pytest.mark.parametrize(("sql", "key"), KEYS)
def test_the_key_is_what_was_grouped_by_when_all_of_it_is_put_out(prepare, sql, key):
    assert prepare(sql).inferred_key == key


@pytest.mark.parametrize(
    ("sql", "key", "expected"),
    cases("statements/own_order", "sql", "key", "expected"),
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
    assert list(map(list, zip(*(c.to_pylist() for c in table.columns), strict=True))) == expected


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
        merged, _ = equal_values.merged_values(connection, sql, tree, {})
    assert merged.ambiguous is merges

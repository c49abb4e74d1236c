"""Stored sums and averages of floating-point numbers are the same in any order, on any number of
threads, and next to the exact sum."""

import hashlib
import itertools
import math
import random

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import jammi_lab as jl
from jammi_lab.inputs import version_changes
from jammi_lab.steps import recompute_check
from jammi_lab.storage.parquet import ParquetSink
from tests.cases import cases
from tests.engine.shelf import Shelf, engine_of
from tests.inside import record_of, services_of
from tests.sizes import sized, soak

INF, NAN = math.inf, math.nan


def stored(engine, sql, **params):
    [prepared] = engine.prepare(sql, params)
    return prepared.run_ordered().table()


@pytest.fixture
def numbers(shelf):
    def put(values, kind=None):
        kind = kind or pa.float64()
        rows = [{"g": n % 3, "p": value} for n, value in enumerate(values)]
        schema = pa.schema([("g", pa.int64()), ("p", kind)])
        shelf.frame("t", table=pa.Table.from_pylist(rows, schema), kind="source")

    return put


def bits(table):
    """The columns, numbers as their bits, so that NaN is equal to itself and 0.0 not to -0.0."""
    return [
        [each.hex() if isinstance(each, float) else each for each in column.to_pylist()]
        for column in table.columns
    ]


@pytest.mark.parametrize(("values", "total"), cases("statements/exact_sums", "values", "total"))
def test_a_sum_is_the_exact_one_rounded(engine, numbers, values, total):
    for order in itertools.islice(itertools.permutations(values), 6):
        numbers(order)
        expected = pa.table({"s": pa.array([total], pa.float64())})
        assert bits(stored(engine, "SELECT sum(p) AS s FROM t")) == bits(expected)


def test_an_average_is_the_sum_by_the_count(engine, numbers):
    numbers([0.1] * 10)
    table = stored(engine, "SELECT avg(p) AS a, mean(p) AS m, count(*) AS n FROM t")
    assert table.to_pylist() == [{"a": 0.1, "m": 0.1, "n": 10}]


@soak
def test_random_sums_are_within_a_unit_of_the_exact_ones_whatever_the_order(engine, numbers):
    rng = random.Random(7)
    for _ in range(sized(12, 1_000)):
        width, count = rng.choice([1, 8, 30, 60]), rng.choice([1, 2, 9, 300])
        values = [rng.uniform(-1, 1) * 2.0 ** rng.uniform(-width, width) for _ in range(count)]
        values += [-each for each in rng.sample(values, count // 2)]
        numbers(values)
        first = stored(engine, "SELECT sum(p) AS s, avg(p) AS a FROM t")
        exact, found = math.fsum(values), first["s"][0].as_py()
        assert abs(found - exact) <= math.ulp(exact)
        rng.shuffle(values)
        numbers(values)
        assert bits(stored(engine, "SELECT sum(p) AS s, avg(p) AS a FROM t")) == bits(first)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT g, sum(p), avg(p) FROM t GROUP BY g",
        "SELECT g, SUM( p ) FILTER (WHERE p > 10) AS s FROM t GROUP BY ALL HAVING sum(p) > 0",
        "SELECT sum(p) / count(*) AS m FROM t WHERE g IN (SELECT g FROM t GROUP BY g HAVING sum(p) < $limit)",
        'WITH s AS (SELECT g, sum(p) FROM t GROUP BY g) SELECT g, "sum(p)" * 2 FROM s',
        "SELECT * FROM (SELECT g, sum(p + 1), avg(2 * p) FROM t GROUP BY g) ORDER BY 2 DESC LIMIT 2",
        "SELECT g, sum(p) FROM t GROUP BY g ORDER BY sum(p) LIMIT 1",
        "SELECT g, sum(sum(p)) OVER (ORDER BY g) AS w FROM t GROUP BY g",
        "SELECT sum(DISTINCT p) AS d, stddev(p) AS v, sum(p) OVER () AS w FROM t GROUP BY p",
        "SELECT corr(p, g) AS c, geomean(p) AS m, sum(COLUMNS(*)) FROM t",
        "PIVOT t ON g IN (0, 1) USING sum(p)",
        "SELECT sum(p) AS f, sum(g) AS n, sum(p::DECIMAL(18, 4)) AS d, avg(g) AS a FROM t",
    ],
)
def test_a_stored_statement_gives_the_columns_of_a_plain_one_and_one_answer(tmp_path, sql):
    rng = random.Random(3)
    values = [math.exp(rng.uniform(-9, 9)) for _ in range(30_000)]
    found = []
    for run in range(sized(2, 8)):
        shelf = Shelf()
        rows = {"g": [n % 3 for n in range(len(values))], "p": values}
        shelf.frame("t", table=pa.table(rows), kind="source")
        engine = engine_of(shelf, tmp_path / f"spill{run}", engine__threads=1 + run % 4)
        params = {"limit": 1e9} if "$limit" in sql else {}
        [prepared] = engine.prepare(sql, params)
        plain, kept = prepared.run().table(), prepared.run_ordered().table()
        assert [(f.name, f.type) for f in kept.schema] == [(f.name, f.type) for f in plain.schema]
        for left, right in zip(
            sorted(map(repr, _rounded(plain))), sorted(map(repr, _rounded(kept))), strict=True
        ):
            assert left == right
        found.append(bits(kept))
        engine.close()
    assert all(each == found[0] for each in found)


@pytest.mark.parametrize(
    ("sql", "rounds"),
    [
        ("SELECT max(p) OVER (PARTITION BY g) AS m FROM t", False),
        ("SELECT sum(p) OVER (PARTITION BY g) AS m FROM t", True),
        ("SELECT max(p) AS m, stddev(p) AS s FROM t", True),
        ("SELECT entropy(g) AS e FROM t", True),
        ("SELECT max(p) AS m, sum(p) AS s FROM t", False),
    ],
)
def test_only_what_rounds_runs_on_one_thread(engine, numbers, sql, rounds):
    numbers([1.0, 2.0])
    [prepared] = engine.prepare(sql)
    assert prepared._exact_form().rounds is rounds


def _rounded(table):
    return [
        [float(f"{v:.9g}") if isinstance(v, float) else v for v in row.values()]
        for row in table.to_pylist()
    ]


FLOATS = [0.0, -0.0, 1e16, -1e16, 1e-40, 5e-324, 1e300, -1e300, 3e38, INF, -INF, NAN, None]
AGGREGATES = [
    "sum(p)",
    "avg(p)",
    "min(p)",
    "max(p)",
    "sum(q)",
    "avg(q) FILTER (WHERE g > 0)",
    "min(q)",
    "max(q)",
    "sum(p * q)",
    "avg(p + g)",
]


def random_floats(rng):
    """A random table of numbers of one width, with some that are special."""
    count, width = rng.choice([1, 3, 40, 700]), rng.choice([0, 3, 30, 200])
    special = rng.choice([0, 0, 0.02, 0.5])

    def number():
        if rng.random() < special:
            return rng.choice(FLOATS)
        return rng.uniform(-1, 1) * 10.0 ** rng.uniform(-width, width)

    numbers = [number() for _ in range(2 * count)]
    return pa.table(
        {
            "g": [rng.randrange(3) for _ in range(count)],
            "p": pa.array(numbers[:count], pa.float64()),
            "q": pa.array(np.array(numbers[count:], float), pa.float32(), from_pandas=False),
        }
    )


@soak
@pytest.mark.timeout(0)
def test_random_tables_have_one_digest_on_any_threads_and_in_any_order(tmp_path):
    rng = random.Random(11)
    shelves = {threads: Shelf() for threads in (1, 2, 4)}
    engines = {
        threads: engine_of(shelf, tmp_path / f"spill{threads}", engine__threads=threads)
        for threads, shelf in shelves.items()
    }
    for number in range(sized(10, 1_000)):
        table = random_floats(rng)
        if number % 50 == 0:  # so many rows that several threads share them
            table = pa.concat_tables([table] * (300_000 // len(table)))
        chosen = ", ".join(rng.sample(AGGREGATES, 3))
        by = rng.choice([("g, ", " GROUP BY g"), ("", "")])
        digests = set()
        for threads, engine in engines.items():
            order = np.random.default_rng(number + threads).permutation(len(table))
            shelves[threads].frame("t", table=table.take(order), kind="source")
            rows = stored(engine, f"SELECT {by[0]}{chosen} FROM t{by[1]}")
            sink = pa.BufferOutputStream()
            pq.write_table(rows.combine_chunks(), sink)
            digests.add(hashlib.sha256(sink.getvalue()).hexdigest())
        assert len(digests) == 1, (number, chosen)
    for engine in engines.values():
        engine.close()


@pytest.mark.parametrize("kind", [pa.float32(), pa.float64()])
def test_what_is_computed_again_is_the_same_and_children_stay_fresh(tmp_path, kind):
    rng = random.Random(5)
    values = pa.array([rng.gauss(0, 1e4) for _ in range(200_000)], kind)
    (tmp_path / "rows").mkdir()
    for n in range(4):
        part = pa.table({"g": [i % 7 for i in range(50_000)], "p": values[n * 50_000 :][:50_000]})
        pq.write_table(part, tmp_path / "rows" / f"{n}.parquet", row_group_size=5_000)
    with jl.open(tmp_path / "lab", settings={"engine.threads": 4}) as ws:
        ws.sources.add("rows", tmp_path / "rows")
        ws.materialize("by_g", "SELECT g, sum(p) AS s, avg(p) AS m FROM rows GROUP BY g")
        ws.materialize("top", "SELECT max(s) AS s FROM jammi.by_g")
        for _ in range(sized(2, 6)):
            assert isinstance(ws.verify("by_g", recompute=True), jl.Match)
        ws.materialize(
            "by_g", "SELECT g, sum(p) AS s, avg(p) AS m FROM rows GROUP BY g", cache="bypass"
        )
        assert isinstance(ws.staleness("top"), jl.Fresh)


def test_the_sums_of_duckdb_are_taken_on_demand_and_then_part_of_the_definition(tmp_path):
    sql = "SELECT sum(p) AS s FROM (VALUES (1e16), (1.0), (-1e16)) AS t(p)"
    with jl.open(tmp_path / "exact") as ws:
        exact = ws.materialize("t", sql)
        assert exact.arrow()["s"].to_pylist() == [1.0]
        assert ws.sql(sql).fetchall() == [(0.0,)]
    with jl.open(tmp_path / "fast", settings={"engine.float_sums": "fast"}) as ws:
        fast = ws.materialize("t", sql)
        assert fast.arrow()["s"].to_pylist() == [0.0]
    assert fast.manifest.definition_hash != exact.manifest.definition_hash


def test_what_is_rounded_otherwise_is_equal_but_for_rounding(tmp_path):
    table = pa.table({"g": [n % 5 for n in range(1_000)], "p": [0.1 * n for n in range(1_000)]})
    pq.write_table(table, tmp_path / "rows.parquet")
    with jl.open(tmp_path / "lab", settings={"engine.float_sums": "fast"}) as ws:
        ws.sources.add("rows", tmp_path / "rows.parquet")
        ws.materialize("t", "SELECT g, sum(p) AS s, count(*) AS n FROM rows GROUP BY g")
        assert ws.verify("t", recompute=True) == jl.Match()
        services_of(ws).engine.has_fast_sums = False  # as another machine would add
        found = ws.verify("t", recompute=True)
    assert found == jl.Match(rounding=True)
    assert str(found) == "match, equal but for rounding (≤ 1e-12 relative)"


@pytest.fixture
def rounded(tmp_path):
    """A workspace with a table `t` whose second version is equal to the first but for rounding, and
    what was made of the first."""
    table = pa.table({"g": [n % 5 for n in range(1_000)], "p": [0.1 * n for n in range(1_000)]})
    pq.write_table(table, tmp_path / "rows.parquet")
    with jl.open(tmp_path / "lab", settings={"engine.float_sums": "fast"}) as ws:
        ws.sources.add("rows", tmp_path / "rows.parquet")
        sums = "SELECT g, sum(p) AS s, count(*) AS n FROM rows GROUP BY g"
        ws.materialize("t", sums, key="g")
        ws.materialize("top", "SELECT max(s) AS s, max(n) AS n FROM jammi.t")
        ws.materialize("above", "SELECT s FROM jammi.top")
        services_of(ws).engine.has_fast_sums = False  # as another machine would add
        ws.materialize("t", sums, key="g", cache="bypass")
        yield ws, sums, tmp_path / "rows.parquet"


def test_what_reads_a_table_that_is_equal_but_for_rounding_is_fresh_with_a_ground(rounded):
    ws, _, _ = rounded
    first, second = (ws.table("t", version=n).manifest for n in (1, 2))
    assert first.artifact != second.artifact
    assert str(ws.staleness("top")) == "fresh*, t is equal but for rounding (≤ 1e-12 relative)"
    assert "by way of" in str(ws.staleness("above")) and not ws.plan()
    ws.settings.set("recompute.cutoff", "bytes")
    assert [step.name for step in ws.plan().certain] == ["top"]


def test_a_run_stops_at_a_table_that_comes_out_equal_but_for_rounding(rounded):
    ws, _, file = rounded
    rows = pq.read_table(file)
    pq.write_table(rows.set_column(1, "p", pc.multiply(rows["p"], 1 + 4e-16)), file)
    assert {step.name: step.outcome for step in ws.recompute().steps} == {
        "t": "computed",
        "top": "cut_off",
        "above": "cut_off",
    }


def test_a_changed_number_is_not_called_rounding(rounded):
    ws, sums, _ = rounded
    ws.materialize("t", sums.replace("sum(p)", "sum(p) * (1 + 1e-11)"), key="g")
    assert isinstance(ws.staleness("top"), jl.Stale)
    ws.materialize("t", sums.replace("count(*)", "count(*) + 1"), key="g")
    assert isinstance(ws.staleness("top"), jl.Stale)


def test_a_diff_counts_numbers_that_are_equal_but_for_rounding_apart(rounded):
    ws, sums, _ = rounded
    diff = ws.table("t").diff(1)
    assert not diff and 0 < diff.rounded <= 5
    assert f"no row differs; {diff.rounded} numbers equal but for rounding" in str(diff)
    ws.materialize("t", sums.replace("sum(p)", "sum(p) + CAST(g = 1 AS DOUBLE)"), key="g")
    diff = ws.table("t").diff(1)
    assert diff.changed["g"].to_pylist() == [1] and 0 < diff.rounded < 5


@pytest.mark.parametrize(
    ("new", "old", "is_close"), cases("statements/rounded_alike", "new", "old", "close")
)
def test_what_is_equal_but_for_rounding(new, old, is_close):
    test = version_changes.are_close("n", "o")
    values = "SELECT $n::DOUBLE AS n, $o::DOUBLE AS o"
    for n, o in ((new, old), (old, new)):
        [row] = duckdb.execute(f"SELECT {test} FROM ({values})", {"n": n, "o": o}).fetchall()
        assert row == (is_close,)


@pytest.mark.parametrize(
    ("other", "is_rounded"),
    [
        ({"p": [1.0, None, NAN]}, True),
        ({"p": [1.0 + 2e-16, None, NAN]}, True),
        ({"p": [1.0, None, -NAN]}, True),
        ({"p": [1.0 + 1e-9, None, NAN]}, False),
        ({"p": [1.0, 2.0, NAN]}, False),
        ({"p": [1.0, None, 3.0]}, False),
        ({"p": [1.0, None, NAN], "n": [1, 2, 4]}, False),
        ({"p": [1.0, None]}, False),
        ({"q": [1.0, None, NAN]}, False),
        ({"p": [1.0, None, NAN], "z": [0.0, 0.0, -0.0]}, False),
    ],
)
def test_nothing_but_rounding_is_called_rounding(tmp_path, other, is_rounded):
    for name, columns in (("a", {"p": [1.0, None, NAN]}), ("b", other)):
        rows = len(next(iter(columns.values())))
        table = pa.table({"n": list(range(1, rows + 1)), "z": [0.0] * rows, **columns})
        sink = ParquetSink(tmp_path / f"{name}.parquet", table.schema)
        sink.write(table.to_batches()[0])
        sink.close()
    with jl.open(tmp_path / "lab") as ws:
        ws.sources.add("a", tmp_path / "a.parquet")
        made = record_of(ws.materialize("t", "SELECT * FROM a"))
        context = services_of(ws).build_context
        found = recompute_check._differs_by_rounding(context, made, tmp_path / "b.parquet")
    assert found is is_rounded

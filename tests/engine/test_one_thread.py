"""Statements that depend on the order of their inputs give the same rows each time, however many
threads and files there are."""

import threading

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import jammi_lab as jl
from tests.inside import services_of
from tests.sizes import sized


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "rows").mkdir()
    for number in range(24):
        values = range(100 * number, 100 * number + 100)
        table = pa.table({"n": pa.array(values, pa.int64()), "g": [each % 3 for each in values]})
        pq.write_table(table, tmp_path / "rows" / f"{number:02}.parquet")
    return tmp_path / "rows"


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT list(n) AS l FROM rows",
        "SELECT g, string_agg(n::VARCHAR, ',') AS s FROM rows GROUP BY g",
        "SELECT first(n) AS f, last(n) AS l, any_value(n) AS v FROM rows WHERE n % 7 = 3",
        "SELECT arg_min(n, g) AS a, mode(n) AS m FROM rows",
        "SELECT n, first(n) OVER (PARTITION BY g) AS f, row_number() OVER () AS r FROM rows",
        "SELECT list(n) AS l FROM (SELECT n, count(*) FROM rows GROUP BY n)",
        "SELECT max(to_days((30 * (n % 2))::INTEGER) + to_months((1 - n % 2)::INTEGER))::VARCHAR AS i FROM rows",
    ],
)
def test_what_depends_on_the_order_comes_out_the_same_each_time(tmp_path, folder, sql):
    with jl.open(tmp_path / "lab", settings={"engine.threads": 4}) as ws:
        ws.sources.add("rows", folder)
        made = [ws.materialize("t", sql, cache="bypass").manifest for _ in range(sized(3, 8))]
        assert made[0].order_sensitive
        assert len({manifest.artifact.digest for manifest in made}) == 1


def test_the_other_threads_come_back(tmp_path, folder):
    with jl.open(tmp_path / "lab", settings={"engine.threads": 3}) as ws:
        ws.sources.add("rows", folder)

        def threads():
            main = services_of(ws).engine.instances_of(None).main
            return main.cursor().execute("SELECT current_setting('threads')").fetchone()

        def make(name):
            ws.materialize(name, "SELECT list(n) AS l FROM rows", cache="bypass")

        started = [threading.Thread(target=make, args=(f"t{n}",)) for n in range(4)]
        for each in started:
            each.start()
        for each in started:
            each.join()
        with pytest.raises(jl.SqlError):
            ws.materialize(
                "failed", "SELECT list(CASE WHEN n > 5 THEN error('x') END) AS l FROM rows"
            )
        assert threads() == (3,)

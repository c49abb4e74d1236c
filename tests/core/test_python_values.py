"""Values that leave: what pandas, `fetchall` and JSON get for each SQL type, and that people can
compute with it."""

import datetime as dt
import json
import sys
import warnings
from decimal import Decimal

import duckdb
import numpy as np
import pandas as pd
import pytest

import jammi_lab as jl
from tests.cases import cases
from tests.shell import run_shell

TYPES = cases("results/python_values", "sql", "dtype", "value", "duckdb")
"""SQL, the dtype of `.pandas()`, the value of `fetchall`, and the dtype of duckdb's `.df()`."""


BY_DAY = (
    "SELECT DATE '2024-01-01' + CAST(i // 3 AS INTEGER) AS day, sum(i) AS total, count(*) AS n, "
    "sum(i * 1.25) AS amount, avg(i) AS mean, max(i) AS top, 'k' || (i // 3) % 2 AS shop "
    "FROM range(1, 90) t(i) GROUP BY ALL ORDER BY day"
)
EVERY_TYPE = "SELECT " + ", ".join(f'{sql} AS "c{n}"' for n, (sql, *_) in enumerate(TYPES))


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """What leaves: one row with every type, and an aggregate by day from a statement and from a
    stored table."""
    with jl.open(tmp_path_factory.mktemp("values") / "lab") as ws:
        every_type = ws.sql(EVERY_TYPE)
        return {
            "frame": every_type.pandas(),
            "rows": every_type.fetchall(),
            "a result": ws.sql(BY_DAY).pandas(),
            "a stored table": ws.materialize("by_day", BY_DAY).pandas(),
        }


def test_each_type_becomes_what_users_of_duckdb_compute_with(answers):
    ours = answers["frame"]
    with duckdb.connect() as connection, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pandas, for what duckdb calls
        connection.execute("SET TimeZone = 'UTC'")
        theirs = connection.sql(EVERY_TYPE).df()
    for n, (sql, dtype, _, duckdb_dtype) in enumerate(TYPES):
        assert str(ours[f"c{n}"].dtype) == dtype, sql
        assert str(theirs[f"c{n}"].dtype).replace("Etc/UTC", "UTC") == duckdb_dtype, sql
        mine, yours = ours[f"c{n}"][0], theirs[f"c{n}"][0]
        if "::BIT" not in sql:
            assert np.all(mine == yours) or str(mine) == str(yours) or mine != mine, sql


def test_each_type_leaves_fetchall_as_a_python_value(answers):
    [row] = answers["rows"]
    for value, (sql, _, expected, _) in zip(row, TYPES, strict=True):
        assert expected in (None, repr(value)), sql


def test_exact_frames_hold_decimals_dates_and_nullable_integers(ws):
    frame = ws.sql(
        "SELECT * FROM (VALUES (1, 1.5, DATE '2020-01-01', true), (NULL, NULL, NULL, NULL)) t(i, d, day, b)"
    ).pandas(exact=True)
    assert [str(t) for t in frame.dtypes] == ["Int32", "object", "object", "boolean"]
    assert frame["d"][0] == Decimal("1.5") and frame["day"][0] == dt.date(2020, 1, 1)


def test_nulls_become_nan_and_nat(ws):
    frame = ws.sql(
        "SELECT unnest([1, NULL]) AS i, unnest([1::HUGEINT, NULL]) AS h, unnest([1.5, NULL]) AS d, "
        "unnest([DATE '2020-01-01', NULL]) AS day, unnest([INTERVAL 1 DAY, NULL]) AS span"
    ).pandas()
    assert [str(t) for t in frame.dtypes] == ["float64"] * 3 + ["datetime64[us]", "timedelta64[us]"]
    assert frame.iloc[1].isna().all() and frame["span"][0] == pd.Timedelta(days=1)


def test_rows_none_and_names_twice(ws):
    empty = ws.sql("SELECT 1 AS a, INTERVAL 1 DAY AS b, 1::HUGEINT AS c WHERE false").pandas()
    assert [str(t) for t in empty.dtypes] == ["int64", "timedelta64[us]", "int64"] and empty.empty
    twice = ws.sql("SELECT 1 AS a, 2::HUGEINT AS a").pandas()
    assert list(twice.columns) == ["a", "a"] and twice.to_numpy().tolist() == [[1, 2]]


def test_a_stored_sum_is_still_an_integer(ws):
    table = ws.materialize("total", "SELECT sum(i) AS s FROM range(4) t(i)")
    assert table.read().fetchall() == [(6,)] and type(table.read().fetchall()[0][0]) is int
    assert table.pandas()["s"].dtype == "int64"


@pytest.fixture(params=["a result", "a stored table"])
def by_day(request, answers):
    """An aggregate by day, as an analyst has it."""
    return answers[request.param].copy()


NUMBERS = ["total", "n", "amount", "mean", "top"]
OPERATIONS = {
    "dt": lambda f, _: f["day"].dt.month.eq(1).any(),
    "resample": lambda f, _: f.set_index("day").resample("7D")[NUMBERS].sum().sum().all(),
    "times 1.1": lambda f, _: (f[NUMBERS] * 1.1).sum().all(),
    "log": lambda f, _: np.isfinite(np.log(f[NUMBERS])).all().all(),
    "lstsq": lambda f, _: np.linalg.lstsq(f[["n", "mean"]], f["amount"], rcond=None)[2] == 2,
    "merge": lambda f, _: (
        len(f.merge(pd.DataFrame({"day": pd.date_range("2024-01-01", periods=9)}), on="day")) > 5
    ),
    "groupby": lambda f, _: list(f.groupby("shop")["amount"].mean().index) == ["k0", "k1"],
    "select_dtypes": lambda f, _: list(f.select_dtypes("number")) == NUMBERS,
    "to_parquet": lambda f, folder: (
        f.to_parquet(folder / "f.parquet") or pd.read_parquet(folder / "f.parquet").equals(f)
    ),
    "describe": lambda f, _: set(NUMBERS) <= set(f.describe()),
    "correlate": lambda f, _: f[NUMBERS].corr().shape == (5, 5),
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_ordinary_analysis_works_on_an_aggregate_by_day(by_day, operation, tmp_path):
    assert OPERATIONS[operation](by_day, tmp_path)


def test_an_aggregate_by_day_is_charted(by_day):
    """pandas draws with matplotlib, which is no dependency; altair takes the same numpy types."""
    altair = pytest.importorskip("altair")
    chart = altair.Chart(by_day).mark_line().encode(x="day", y="amount").to_dict()
    assert (
        chart["encoding"]["x"]["type"] == "temporal"
        and chart["encoding"]["y"]["type"] == "quantitative"
    )


def test_json_has_numbers_where_sql_has_numbers(tmp_path):
    jl.open(tmp_path / "lab").close()
    statement = "SELECT sum(i) AS s, sum(i * 1.5) AS d, 0.1::FLOAT AS f, 3::DECIMAL(9,2) AS w FROM range(3) t(i)"
    told = run_shell("sql", str(tmp_path / "lab"), statement, "--json").output
    assert json.loads(told) == [{"s": 3, "d": 4.5, "f": 0.1, "w": 3}]


def test_without_pandas_the_error_is_the_pip_line(ws, monkeypatch):
    result = ws.sql("SELECT 1 AS a")
    result.arrow()
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(jl.ExtensionMissing, match="pip install pandas"):
        result.pandas()

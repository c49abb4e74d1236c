"""Frames as people have them: read as they are, or refused by name."""

import datetime as dt
from decimal import Decimal

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import jammi_lab as jl
from tests.verdicts import is_fresh, is_stale


def objects(*values):
    return pd.DataFrame({"s": pd.Series(values, dtype=object)})


def with_name(name):
    frame = pd.DataFrame([[1]])
    frame.columns = pd.Index([name], dtype=object)
    return frame


def test_what_sql_cannot_hold_is_a_schema_mismatch(ws):
    for frame in (
        objects("a\ud83d"),
        with_name("s\ud83d"),
        objects("a", b"b"),
        objects(1, "b"),
        objects(True, 5),
        objects(2**60 + 1, 2.5),
        objects(dt.date(2020, 1, 1), dt.datetime(2020, 1, 1, 13)),
        objects(dt.datetime(2020, 1, 1, 13), dt.date(2020, 1, 1)),
        objects(Decimal("1.1"), 2.5),
        objects(2**70, 1),
        pd.DataFrame([[1, 2]], columns=["a", "a"]),
        pd.DataFrame([[1, 2]], columns=[1, "1"]),
        pd.DataFrame({"a": [1 + 2j]}),
        pd.DataFrame({"a": pd.period_range("2020-01", periods=2, freq="M")}),
        pd.DataFrame({"a": pd.to_timedelta([1], unit="ns")}),
        pl.DataFrame({"a": pl.Series([1], dtype=pl.Duration("ns"))}),
        pl.DataFrame({"a": pl.Series([2**100], dtype=pl.Int128)}),
        pa.table({"a": pa.array([[1]], pa.list_(pa.timestamp("ns", "UTC")))}),
        pa.table({"a": pa.array([86_400_001], pa.date64())}),
        pa.table({"a": pa.array([Decimal("1" * 50)], pa.decimal256(60, 0))}),
    ):
        with pytest.raises(jl.SchemaMismatch):
            ws.sources.add("a", frame)


@pytest.mark.parametrize(
    ("frame", "rows"),
    [
        (objects(None, float("nan"), "x"), [(None,), (None,), ("x",)]),
        (objects(1, 2.5), [(1,), (2.5,)]),
        (pd.DataFrame({"v": [1]}, index=pd.Index([7], name="k")), [(7, 1)]),
        (
            pd.DataFrame(
                {"v": [1, 2]},
                index=pd.MultiIndex.from_tuples([(1, "a"), (2, "b")], names=["i", "j"]),
            ),
            [(1, "a", 1), (2, "b", 2)],
        ),
        (
            pd.DataFrame(
                {
                    "a": pd.array([2**53 + 1, None], "Int64"),
                    "b": pd.array([True, None], "boolean"),
                    "c": pd.Categorical(["x", None]),
                    "d": pd.array([Decimal("1.5"), None], pd.ArrowDtype(pa.decimal128(5, 1))),
                }
            ),
            [(2**53 + 1, True, "x", Decimal("1.5")), (None, None, None, None)],
        ),
        (pd.DataFrame({"a": pd.arrays.SparseArray([0, 1])}), [(0,), (1,)]),
        (pd.DataFrame({"a": pd.to_timedelta([1], unit="us")}), [(dt.timedelta(microseconds=1),)]),
        (pl.DataFrame({"a": [dt.time(1, 2, 3, 4)]}), [(dt.time(1, 2, 3, 4),)]),
        (pa.table({"a": pa.array([86_400_000], pa.date64())}), [(dt.date(1970, 1, 2),)]),
        ({"a": [1, 2], "b": ["x", None]}, [(1, "x"), (2, None)]),
        ([{"a": 1}, {"a": 2, "b": 2.5}], [(1, None), (2, 2.5)]),
    ],
    ids=str,
)
def test_values_are_read_as_they_are(ws, frame, rows):
    ws.sources.add("a", frame)
    assert ws.sql("SELECT * FROM a").fetchall() == rows


def test_a_dict_or_list_that_is_no_table_is_refused(ws):
    for values in (
        {"a": 1},
        {"a": "text"},
        {1: [2]},
        {"a": [1], "b": [1, 2]},
        {"a": [1, "x"]},
        {"a": [dt.date(2020, 1, 1), dt.datetime(2020, 1, 1, 13)]},
        {},
        [],
        [1, 2],
        [{"a": 1}, 2],
    ):
        with pytest.raises((jl.InvalidArgument, jl.SchemaMismatch)):
            ws.sources.add("a", values)


def test_tables_of_a_dict_are_fresh_until_another_is_added(ws):
    ws.sources.add("a", {"v": [1, 2]})
    ws.materialize("m", "SELECT sum(v) AS s FROM a")
    ws.sources.add("a", {"v": [1, 2]}, replace=True)
    assert is_fresh(ws, "m")
    ws.sources.add("a", {"v": [1, 3]}, replace=True)
    assert is_stale(ws, "m")

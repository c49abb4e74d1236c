"""Results and tables where other libraries expect rows, arrays or columns."""

import contextlib
import datetime as dt
import logging

import numpy as np
import pandas as pd
import pytest

import jammi_lab as jl

NUMBERS = "SELECT range::INTEGER AS n, range * 0.5::DOUBLE AS x FROM range(1, 4)"
MIXED = "SELECT 1 AS n, 'a' AS s, DATE '2020-02-03' AS d UNION ALL SELECT 2, NULL, NULL ORDER BY n"


@pytest.fixture(params=["rows", "table"])
def given(request, ws):
    def make(sql):
        return ws.sql(sql) if request.param == "rows" else ws.materialize("t", sql)

    return make


def test_a_table_shows_its_first_rows_its_schema_and_its_columns(ws):
    table = ws.materialize("t", MIXED)
    assert table.head(1).fetchall() == [(1, "a", dt.date(2020, 2, 3))]
    assert table.head().arrow() == table.arrow() and len(table.head(0)) == 0
    assert table.schema == table.arrow().schema and table.columns == table.schema.names
    assert [one.name for one in table.head(1).inputs] == [one.name for one in table.read().inputs]
    with pytest.raises(jl.InvalidArgument, match="n must be an integer of at least 0"):
        table.head("5 OFFSET 1")
    table.path.write_bytes(b"")
    with pytest.raises(jl.TableDamaged):
        table.head()


def test_a_script_logs_what_came_of_its_tables(ws, caplog):
    caplog.set_level(logging.INFO, "jammi_lab")
    for _ in range(2):
        ws.materialize("t", NUMBERS)
    ws.materialize("one", "SELECT 1 AS n")
    with pytest.raises(jl.SqlError):
        ws.materialize("u", "SELECT error('no') AS a")
    assert caplog.messages == [
        "t version 1 computed, rows: 3",
        "t version 1 reused, rows: 3",
        "one version 1 computed, rows: 1",
        "u failed: SqlError: No.",
    ]


def test_pandas_has_the_columns_by_name(given):
    frame = pd.DataFrame(given(MIXED))
    assert list(frame.columns) == ["n", "s", "d"]
    assert frame["n"].tolist() == [1, 2] and frame["n"].dtype == np.int64
    assert frame["s"][0] == "a" and frame["s"].isna().tolist() == [False, True]
    assert frame["d"][0] == dt.datetime(2020, 2, 3) and frame["d"].isna().tolist() == [False, True]


@pytest.mark.parametrize(
    "sql",
    ["SELECT 1 AS n WHERE false", "SELECT 9007199254740993 AS n UNION ALL SELECT NULL"],
    ids=["no rows", "digits"],
)
def test_what_rows_would_lose_is_refused(given, sql):
    with pytest.raises(TypeError, match=r"Use \.pandas\(\)\.$"):
        pd.DataFrame(given(sql))


def test_two_columns_of_one_name_are_refused(ws):
    rows = ws.sql("SELECT 1 AS a, 2 AS b")
    twice = ws.sql("SELECT 1 AS a, 2 AS a")
    if twice.arrow().column_names == ["a", "a"]:
        with pytest.raises(TypeError, match=r"Use \.pandas\(\)\.$"):
            pd.DataFrame(twice)
        with pytest.raises(jl.InvalidArgument, match="named 'a'"):
            twice["a"]
    assert rows["b"].tolist() == [2]


def test_values_that_a_library_cannot_hold_are_refused_by_column(ws):
    for value, refusing in (
        ("INTERVAL 1 MONTH", {"polars"}),
        ("{'a': INTERVAL 1 DAY}", {"polars"}),
        ("[MAP {1: INTERVAL 1 DAY}]", {"polars"}),
        ("union_value(a := 1)", {"polars"}),
        ("MAP {{'a': 1}: 2}", {"pandas"}),
        ("TIME_NS '10:11:12.123456789'", {"pandas", "fetchall"}),
        ("list_zip([1], [2])", {"polars", "fetchall"}),
    ):
        rows = ws.sql(f"SELECT 1 AS n, {value} AS v")
        assert rows.arrow().num_rows == 1 and "v" in str(rows)
        for name in ("polars", "pandas", "fetchall"):
            with contextlib.ExitStack() as stack:
                if name in refusing:
                    refused = stack.enter_context(pytest.raises(jl.JammiError))
                getattr(rows, name)()
            if name in refusing:
                assert "VARCHAR" in refused.value.hint
                assert name == "fetchall" or refused.value.column == "v"


def test_numpy_has_numbers_in_two_dimensions_that_outlive_the_table(given):
    values = np.asarray(given(NUMBERS))
    assert values.tolist() == [[1.0, 0.5], [2.0, 1.0], [3.0, 1.5]]
    assert np.asarray(given("SELECT 7::INTEGER AS n")).dtype == np.int64
    assert np.asarray(given(NUMBERS), dtype="float32").dtype == np.float32


def test_numpy_is_refused_texts_with_one_sentence(given):
    with pytest.raises(TypeError, match=r"^The column 's' is not numeric\. Use \.pandas\(\)\["):
        np.asarray(given(MIXED))


def test_sklearn_fits_a_table(given):
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    assert preprocessing.StandardScaler().fit(given(NUMBERS)).mean_.tolist() == [2.0, 1.0]


def test_seaborn_is_given_a_frame_of_pandas(given):
    """It asks pandas for one by the interchange protocol, and for nothing else."""
    frame = pd.api.interchange.from_dataframe(given(NUMBERS))
    assert frame.to_dict("list") == {"n": [1, 2, 3], "x": [0.5, 1.0, 1.5]}


def test_seaborn_draws_a_table(given):
    seaborn = pytest.importorskip("seaborn")
    axes = seaborn.scatterplot(data=given(NUMBERS), x="n", y="x")
    assert axes.collections[0].get_offsets().tolist() == [[1, 0.5], [2, 1.0], [3, 1.5]]


def test_a_column_is_found_by_its_name_as_matplotlib_does(given):
    rows = given(NUMBERS)
    assert rows["x"].tolist() == [0.5, 1.0, 1.5]
    with pytest.raises(jl.InvalidArgument, match=r"named 'y', there are \['n', 'x'\]"):
        rows["y"]

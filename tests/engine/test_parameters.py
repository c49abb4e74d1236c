"""Bound values: which are needed, which are not, what they become."""

import datetime
import decimal
import uuid

import numpy as np
import pandas as pd
import polars as pl
import pytest

from jammi_lab.core.errors import InvalidArgument, ParameterMissing, StatementNotAllowed

pytestmark = pytest.mark.one_engine


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (1, "INTEGER", "1"),
        (2**40, "BIGINT", str(2**40)),
        (2**100, "HUGEINT", str(2**100)),
        (1.0, "DOUBLE", "1.0"),
        (True, "BOOLEAN", "true"),
        ("1", "VARCHAR", "1"),
        ("it's; DROP TABLE x --", "VARCHAR", "it's; DROP TABLE x --"),
        (None, '"NULL"', None),
        (b"\xff", "BLOB", "\\xFF"),
        (decimal.Decimal("1.50"), "DECIMAL(3,2)", "1.50"),
        (datetime.date(2020, 1, 2), "DATE", "2020-01-02"),
        (datetime.time(1, 2), "TIME", "01:02:00"),
        (datetime.datetime(2020, 1, 2, 3), "TIMESTAMP", "2020-01-02 03:00:00"),
        (
            datetime.datetime(2020, 1, 2, 3, tzinfo=datetime.UTC),
            "TIMESTAMP WITH TIME ZONE",
            "2020-01-02 03:00:00+00",
        ),
        (datetime.timedelta(days=1), "INTERVAL", "1 day"),
        (uuid.UUID(int=1), "UUID", "00000000-0000-0000-0000-000000000001"),
        ([1, 2], "INTEGER[]", "[1, 2]"),
        ([], None, "[]"),
        ({"a": 1}, "STRUCT(a INTEGER)", "{'a': 1}"),
        (np.int64(1), "INTEGER", "1"),
        (np.float64(1.0), "DOUBLE", "1.0"),
        (np.float32(0.5), "DOUBLE", "0.5"),
        (np.bool_(True), "BOOLEAN", "true"),
        (np.str_("x"), "VARCHAR", "x"),
        (np.datetime64("2020-01-02T03:00:00", "ns"), "TIMESTAMP", "2020-01-02 03:00:00"),
        (np.timedelta64(1, "D"), "INTERVAL", "1 day"),
        (pd.Timestamp("2020-01-02 03:00:00"), "TIMESTAMP", "2020-01-02 03:00:00"),
        (pd.NaT, '"NULL"', None),
        (pd.NA, '"NULL"', None),
        ([np.int64(1)], "INTEGER[]", "[1]"),
        (pl.Series(["a", None]), "VARCHAR[]", "[a, NULL]"),
        (pd.Series([1, 2]), "INTEGER[]", "[1, 2]"),
        (np.array(["2020-01-02T03:00:00"], "M8[ns]"), "TIMESTAMP[]", "['2020-01-02 03:00:00']"),
        (np.array(["2020-01-02"], "M8[D]"), "DATE[]", "[2020-01-02]"),
        (np.array([1, 2], "m8[s]"), "INTERVAL[]", "['00:00:01', '00:00:02']"),
        (np.array(["NaT"], "M8[ns]"), None, "[NULL]"),
    ],
    ids=repr,
)
def test_a_value_is_bound_with_its_own_type(rows, value, kind, text):
    [row] = rows("SELECT typeof($x) AS kind, $x::VARCHAR AS text", x=value)
    assert row["text"] == text
    assert kind is None or row["kind"] == kind


def test_only_the_parameters_that_a_statement_names_are_its_own(engine):
    one, other = engine.prepare("SELECT $a AS x; SELECT $b + $a AS x", {"a": 1, "b": 2})
    assert (one.params, other.params) == ({"a": 1}, {"a": 1, "b": 2})
    assert other.run().table().to_pylist() == [{"x": 3}]


def test_a_missing_value_is_named_with_its_place(engine):
    sql = "SELECT 'é $x' AS a; SELECT $known AS b, $x AS c -- $y"
    with pytest.raises(ParameterMissing, match=r"\$x has no value") as error:
        engine.prepare(sql, {"known": 1})
    assert error.value.parameter == "x"
    assert error.value.position == sql.index("$x AS")


def test_an_unused_value_is_named_over_all_statements(engine):
    engine.prepare("SELECT 1; SELECT $year", {"year": 1})
    with pytest.raises(InvalidArgument, match="yaer") as error:
        engine.prepare("SELECT 1; SELECT $year", {"year": 1, "yaer": 2})
    assert error.value.near == ("year",)


def test_a_dollar_in_text_or_comment_is_no_parameter(engine):
    [prepared] = engine.prepare("SELECT '$x' AS a -- $y\n, $$z $q$$ AS b")
    assert prepared.params == {}


@pytest.mark.parametrize(
    "sql", ["SELECT ?", "SELECT $1", "SELECT ?, $a", "SELECT id FROM papers WHERE id = ?1"]
)
def test_parameters_without_a_name_are_refused_with_a_word(engine, sql):
    with pytest.raises(StatementNotAllowed, match="Positional parameters") as error:
        engine.prepare(sql, {})
    assert "$name" in error.value.hint


@pytest.mark.parametrize(
    "value", ["\ud800", ["a\udfff"], {"\udc00": 1}], ids=["text", "list", "key"]
)
def test_half_a_character_is_refused_before_it_is_bound(engine, value):
    with pytest.raises(InvalidArgument, match="unpaired surrogate"):
        engine.prepare("SELECT $x", {"x": value})


@pytest.mark.parametrize(
    "value", [object(), {1, 2}, pd.DataFrame({"a": [1]}), pl.DataFrame({"a": [1]}), lambda: 1, 1j]
)
def test_what_cannot_be_bound_is_refused(engine, value):
    with pytest.raises(InvalidArgument, match="cannot be bound"):
        engine.prepare("SELECT $x", {"x": value})


@pytest.mark.parametrize(
    "value",
    [
        np.datetime64("2020-01-01T00:00:00.123456789"),
        np.timedelta64(1, "ns"),
        np.array(["2020-01-01T00:00:00.000000001"], "M8[ns]"),
        pd.Timestamp("2020-01-01 00:00:00.123456789"),
        pd.Timedelta(1),
        [pd.Timedelta(1)],
    ],
    ids=repr,
)
def test_a_time_that_would_lose_a_part_is_refused(engine, value):
    with pytest.raises(InvalidArgument, match="finer than a microsecond") as refused:
        engine.prepare("SELECT $x", {"x": value})
    assert refused.value.hint


def test_a_length_in_months_is_refused(engine):
    with pytest.raises(InvalidArgument, match="months or years"):
        engine.prepare("SELECT $x", {"x": np.timedelta64(1, "M")})


class _Count(int):
    """As an enumeration's member is one."""


class _Word(str):
    """As above."""


@pytest.mark.parametrize(
    ("value", "same"), [(_Count(3), 3), (_Word("x"), "x"), ([_Word("x")], ["x"])]
)
def test_a_number_or_text_of_a_class_of_its_own_is_one_in_a_definition_too(ws, value, same):
    first = ws.materialize("t", "SELECT $x AS x", params={"x": value})
    assert first.read().fetchall() == [(same,)]
    assert ws.materialize("t", "SELECT $x AS x", params={"x": same}).outcome == "reused"


def test_an_array_is_bound_as_a_list(engine):
    [prepared] = engine.prepare("SELECT $x AS x", {"x": np.array([[1, 2], [3, 4]])})
    assert prepared.run().table().to_pylist() == [{"x": [[1, 2], [3, 4]]}]


def test_parameters_differ_by_more_than_case(engine):
    [prepared] = engine.prepare("SELECT $Year AS y", {"year": 3})
    assert prepared.run().table().to_pylist() == [{"y": 3}]
    with pytest.raises(InvalidArgument, match="case"):
        engine.prepare("SELECT $Year", {"year": 3, "YEAR": 4})


def test_a_value_is_never_pasted(rows):
    assert rows("SELECT count(*) AS n FROM papers WHERE venue = $v", v="' OR 1=1 --") == [{"n": 0}]


def test_parameters_work_in_every_place(prepare):
    sql = "WITH q AS (SELECT id + $a AS k FROM papers) SELECT k FROM q WHERE k > $b ORDER BY k DESC LIMIT $c"
    assert prepare(sql, a=1, b=2, c=2).run_ordered([]).table()["k"].to_pylist() == [5, 4]
    assert prepare("DESCRIBE SELECT $a AS x", a=1).run().table().num_rows == 1
    assert prepare("EXPLAIN SELECT $a AS x", a=1).run().table().num_rows >= 1

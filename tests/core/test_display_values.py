"""Values of Arrow columns as people look at them, beside what the engine itself writes of them."""

import datetime as dt
from decimal import Decimal

import duckdb
import pyarrow as pa
import pytest

from jammi_lab.core.display_values import to_display, to_rows_display
from jammi_lab.core.html import to_text
from tests.cases import lines


def column(sql):
    with duckdb.connect() as db:
        table = db.execute(f"SELECT {sql} AS v").to_arrow_table()
        return table.column("v"), db.execute(f"SELECT ({sql})::VARCHAR").fetchone()[0]


@pytest.mark.parametrize(
    "sql",
    lines("results/display_values.sql"),
)
def test_what_python_has_no_object_for_is_written_as_the_engine_does(sql):
    values, written = column(sql)
    assert [to_text(v) for v in to_display(values)] == [written]


def test_dates_around_every_turn_of_the_calendar_are_those_of_the_engine():
    sql = "SELECT d, d::VARCHAR AS s FROM (SELECT DATE '0001-01-01' + 731 * range::INT AS d FROM range(12000)) UNION ALL "
    sql += (
        "SELECT d, d::VARCHAR FROM (SELECT DATE '9990-01-01' + range::INT AS d FROM range(15000))"
    )
    with duckdb.connect() as db:
        table = db.execute(sql).to_arrow_table()
    assert [to_text(v) for v in to_display(table.column("d"))] == table.column("s").to_pylist()


@pytest.mark.parametrize(
    ("sql", "text"),
    [
        ("DATE '0001-12-31 (BC)'", "0000-12-31"),
        ("DATE '0044-03-15 (BC)'", "-0043-03-15"),
        ("TIMESTAMP '4713-11-24 (BC) 23:59:59.99'", "-4712-11-24 23:59:59.99"),
        ("'-infinity'::TIMESTAMP", "-infinity"),
        ("MAP {'k': 1, 'l': NULL}", "{k: 1, l: NULL}"),
        ("MAP {[1, 2]: {'a': 2}}", "{[1, 2]: {a: 2}}"),
        (
            "{'m': MAP {1: 2}, 'd': [DATE 'infinity', NULL, DATE '2024-02-29']}",
            "{m: {1: 2}, d: ['infinity', NULL, 2024-02-29]}",
        ),
        ("NULL::DATE", "None"),
    ],
)
def test_years_before_1_are_those_of_iso_8601_and_nested_values_keep_their_shape(sql, text):
    assert [to_text(v) for v in to_display(column(sql)[0])] == [text]


def test_floats_have_the_digits_that_tell_them_apart_or_as_many_as_asked_for():
    assert to_display(pa.chunked_array([pa.array([0.1, None], pa.float32())])) == ["0.1", None]
    assert to_display(pa.chunked_array([pa.array([0.12345, None])]), 2) == ["0.12", None]


def test_of_a_list_of_millions_the_beginning_is_taken_and_its_length_said():
    lists = pa.ListArray.from_arrays(
        pa.array([0, 3_000_000, 3_000_001], pa.int32()), pa.array([*range(3_000_000), 1])
    )
    for values in (lists, pa.StructArray.from_arrays([lists], ["l"])):
        long, short = to_display(pa.chunked_array([values]))
        assert to_text(long).endswith(
            ", 62, 63] (3,000,000)" + "}" * isinstance(long, dict)
        ) and to_text(short) in ("[1]", "{l: [1]}")
        assert len(long["l"] if isinstance(long, dict) else long) == 100


WRITTEN = [
    ([2 / 3, 1.0, 0.1 + 0.2, 1e-9 / 3], ["0.6666666667", "1.0", "0.3", "3.333333333e-10"]),
    ([12345678.912345678, -1e22 / 3], ["12345678.91", "-3.3333333333333335e+21"]),
    ([100000000000.5, float("nan"), float("inf")], ["100000000000.5", "NaN", "Infinity"]),
    ([dt.datetime(2024, 1, 2), None], ["2024-01-02", ""]),
    ([dt.datetime(2024, 1, 2), dt.datetime(2024, 1, 2, 9)], ["2024-01-02 00:00:00", "2024-01-02 09:00:00"]),
    ([dt.datetime(2024, 1, 2, tzinfo=dt.UTC)], ["2024-01-02 00:00:00+00:00"]),
    ([Decimal("0.66666666666666666")], ["0.66666666666666666"]),
]  # fmt: skip


@pytest.mark.parametrize(("values", "texts"), WRITTEN)
def test_numbers_and_dates_are_shown_as_people_write_them(values, texts):
    rows = to_rows_display(pa.table({"v": values}), {}, 10)
    assert ["" if value is None else to_text(value) for [value] in rows] == texts
    exact = to_rows_display(pa.table({"v": values}), {}, 17)
    if isinstance(values[0], float):
        assert [to_text(value) for [value] in exact] == [to_text(value) for value in values]


def test_a_timestamp_with_nanoseconds_is_no_date():
    one = pa.table({"v": pa.array([86_400_000_000_001], pa.timestamp("ns"))})
    [[value]] = to_rows_display(one, {}, 10)
    assert to_text(value) != "1970-01-02"

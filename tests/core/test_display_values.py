"""Values of Arrow columns as people look at them, beside what the engine itself writes of them."""

import duckdb
import pyarrow as pa
import pytest

from jammi_lab.core.display_values import to_display
from jammi_lab.core.html import to_text


def column(sql):
    with duckdb.connect() as db:
        table = db.execute(f"SELECT {sql} AS v").to_arrow_table()
        return table.column("v"), db.execute(f"SELECT ({sql})::VARCHAR").fetchone()[0]


@pytest.mark.parametrize(
    "sql",
    [
        "DATE 'infinity'",
        "DATE '-infinity'",
        "'infinity'::TIMESTAMP",
        "'-infinity'::TIMESTAMPTZ",
        "DATE '290000-01-10'",
        "DATE '12024-02-29'",
        "DATE '10000-01-01'",
        "DATE '9999-12-31'",
        "DATE '0001-01-01'",
        "DATE '0001-12-31 (BC)'",
        "DATE '0044-03-15 (BC)'",
        "DATE '4713-11-24 (BC)'",
        "TIMESTAMP '99999-01-02 03:04:05.25'",
        "TIMESTAMP '0044-03-15 (BC) 23:59:59.999999'",
        "'99999-01-01 00:00:00'::TIMESTAMP_S",
        "'99999-01-01 00:00:00.5'::TIMESTAMP_MS",
        "'2024-01-01 00:00:00.123456789'::TIMESTAMP_NS",
        "INTERVAL '14 months 1 day 3.5 seconds'",
        "INTERVAL '-14 months -1 day'",
        "INTERVAL '0 days'",
        "INTERVAL '-3.5 seconds'",
        "INTERVAL '100 hours'",
    ],
)
def test_what_python_has_no_object_for_is_written_as_the_engine_does(sql):
    values, written = column(sql)
    assert [to_text(v) for v in to_display(values)] == [written]


def test_dates_around_every_turn_of_the_calendar_are_those_of_the_engine():
    sql = "SELECT d, d::VARCHAR AS s FROM (SELECT DATE '0001-01-01 (BC)' + 73 * range::INT AS d FROM range(-60000, 60000)) UNION ALL "
    sql += (
        "SELECT d, d::VARCHAR FROM (SELECT DATE '9990-01-01' + range::INT AS d FROM range(150000))"
    )
    with duckdb.connect() as db:
        table = db.execute(sql).to_arrow_table()
    assert [to_text(v) for v in to_display(table.column("d"))] == table.column("s").to_pylist()


@pytest.mark.parametrize(
    ("sql", "text"),
    [
        ("MAP {'k': 1, 'l': NULL}", "{k: 1, l: NULL}"),
        ("MAP {[1, 2]: {'a': 2}}", "{[1, 2]: {a: 2}}"),
        (
            "{'m': MAP {1: 2}, 'd': [DATE 'infinity', NULL, DATE '2024-02-29']}",
            "{m: {1: 2}, d: ['infinity', NULL, 2024-02-29]}",
        ),
        ("NULL::DATE", "None"),
    ],
)
def test_nested_values_keep_their_shape(sql, text):
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

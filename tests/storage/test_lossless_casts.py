"""Casts of Arrow columns: the values stay what they are, or the cast is refused."""

import datetime as dt
import decimal

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jammi_lab.storage.arrow_values import cast_losslessly, common_type
from tests.sizes import examples

D = decimal.Decimal
UTC = dt.UTC

COLUMNS = {
    "null": pa.nulls(2),
    "bool": pa.array([True, None]),
    "int8": pa.array([-1, 5], pa.int8()),
    "int64": pa.array([2**53 + 1, None]),
    "small int64": pa.array([3, -3]),
    "uint64": pa.array([2**64 - 1, 0], pa.uint64()),
    "float": pa.array([2.5, float("nan")]),
    "whole float": pa.array([2.0, None]),
    "minus zero": pa.array([-0.0]),
    "float32": pa.array([0.1], pa.float32()),
    "tenth": pa.array([0.1]),
    "decimal": pa.array([D("1.25")], pa.decimal128(10, 2)),
    "large decimal": pa.array([D("1E+37")], pa.decimal128(38, 0)),
    "fine decimal": pa.array([D("1.2567")], pa.decimal128(12, 4)),
    "text": pa.array(["7.5", "x", None]),
    "large text": pa.array(["5"], pa.large_string()),
    "dictionary": pa.array(["a", "b"]).dictionary_encode(),
    "bytes": pa.array([b"ab", b"\xff"]),
    "fixed bytes": pa.array([b"ab"], pa.binary(2)),
    "date": pa.array([dt.date(2024, 1, 2)]),
    "seconds": pa.array([2**32], pa.timestamp("s")),
    "midnight": pa.array([dt.datetime(2024, 1, 2)]),
    "timestamp": pa.array([dt.datetime(2024, 1, 2, 13, 30)]),
    "nanoseconds": pa.array([1], pa.timestamp("ns")),
    "moment": pa.array([dt.datetime(2024, 1, 2, 13, tzinfo=UTC)]),
    "time": pa.array([dt.time(1, 2, 3, 4)]),
    "nanoseconds of a day": pa.array([1], pa.time64("ns")),
    "seconds of a day": pa.array([5], pa.time32("s")),
    "duration": pa.array([dt.timedelta(microseconds=1)]),
    "list": pa.array([[1, 2], None]),
    "pair": pa.array([[1, 2]], pa.list_(pa.int64(), 2)),
    "list of floats": pa.array([[1.5]]),
    "struct": pa.array([{"a": 1, "b": 2}]),
    "less": pa.array([{"a": 1}]),
    "map": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())),
}


def python_values(column):
    """The values with their kinds, so that 1, 1.0 and True differ where SQL says so."""

    def plain(value):
        match value:
            case bool() | None | str() | bytes():
                return value
            case int() | float() | D():
                return (
                    "NaN" if value != value else D(value) if value or str(value)[0] != "-" else "-0"
                )
            case dict():
                return {name: plain(each) for name, each in value.items()}
            case list() | tuple():
                return [plain(each) for each in value]
        return value

    if pa.types.is_temporal(column.type):
        return [
            str(value)
            for value in column.cast(pa.int64() if column.type.bit_width == 64 else pa.int32())
        ]
    return plain(column.to_pylist())


def is_exact(source, target):
    """Whether the values of a column stay what they are in the type of another, or are refused."""
    column, kind = pa.chunked_array([COLUMNS[source]]), COLUMNS[target].type
    try:
        converted = cast_losslessly(column, kind)
    except pa.ArrowInvalid:
        return True
    if converted.type != kind:
        return False
    if source == "null":
        return converted.null_count == 2
    if not pa.types.is_temporal(kind):
        return python_values(converted) == python_values(column)
    is_one_kind = type(column[0].as_py()) is type(converted[0].as_py())
    is_equal = converted.cast(column.type).equals(column)
    return is_equal and (is_one_kind or "nano" in source + target)


@pytest.mark.parametrize("source", COLUMNS, ids=lambda name: name.replace(" ", "_"))
def test_a_cast_is_exact_or_refused(source):
    assert [target for target in COLUMNS if not is_exact(source, target)] == []


def test_a_moment_is_no_time_of_a_wall_clock():
    for zones in (("UTC", None), (None, "UTC")):
        source, target = (pa.timestamp("us", zone) for zone in zones)
        with pytest.raises(pa.ArrowInvalid):
            cast_losslessly(pa.chunked_array([pa.array([1], source)]), target)


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([2.0, None]), pa.array([2, None])),
        (pa.array([1, 2], pa.int8()), pa.array([1.0, 2.0])),
        (pa.array([2**60]), pa.array([D(2**60)], pa.decimal128(38, 0))),
        (pa.array([float("nan"), 0.5], pa.float32()), pa.array([float("nan"), 0.5])),
        (pa.array([D("1.5")], pa.decimal128(5, 1)), pa.array([D("1.50")], pa.decimal128(10, 2))),
        (pa.array(["a", None]).dictionary_encode(), pa.array(["a", None], pa.large_string())),
        (pa.array([[1], None]), pa.array([[1.0], None])),
        (pa.array([1], pa.timestamp("s")), pa.array([1_000_000], pa.timestamp("us"))),
        (pa.array([1000], pa.timestamp("ms")), pa.array([1], pa.timestamp("s"))),
        (pa.nulls(1), pa.array([None], pa.date32())),
    ],
    ids=lambda each: str(each.type),
)
def test_a_value_that_fits_is_taken(column, expected):
    converted = cast_losslessly(pa.chunked_array([column]), expected.type)
    assert str(converted.combine_chunks()) == str(expected) and converted.type == expected.type


def test_the_error_names_the_first_value_and_its_row():
    column = pa.chunked_array([pa.array([1.0, 2.0]), pa.array([3.0, 2.5, 7.25])])
    with pytest.raises(pa.ArrowInvalid, match=r"^2\.5 in row 4 is not a valid int64$"):
        cast_losslessly(column, pa.int64())


@settings(max_examples=examples(300))
@given(
    st.lists(st.integers(-(2**63), 2**63 - 1) | st.none(), min_size=1, max_size=5),
    st.sampled_from([pa.int8(), pa.uint32(), pa.uint64(), pa.float32(), pa.float64(),
                     pa.decimal128(38, 0), pa.decimal128(38, 19), pa.decimal128(5, 2)]),
)  # fmt: skip
def test_integers_are_the_same_integers_in_any_type(values, kind):
    column = pa.chunked_array([pa.array(values, pa.int64())])
    try:
        converted = cast_losslessly(column, kind).to_pylist()
    except pa.ArrowInvalid:
        return
    assert [None if value is None else int(value) for value in converted] == values


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        (pa.null(), pa.string(), pa.string()),
        (pa.int32(), pa.int64(), pa.int64()),
        (pa.uint32(), pa.int32(), pa.int64()),
        (pa.uint64(), pa.int64(), None),
        (pa.int64(), pa.float64(), None),
        (pa.int32(), pa.float64(), pa.float64()),
        (pa.int32(), pa.float32(), None),
        (pa.float32(), pa.float64(), pa.float64()),
        (pa.bool_(), pa.int64(), None),
        (pa.string(), pa.int64(), None),
        (pa.decimal128(10, 2), pa.decimal128(12, 6), pa.decimal128(14, 6)),
        (pa.decimal128(38, 0), pa.decimal128(38, 2), None),
        (pa.timestamp("ms"), pa.timestamp("us"), pa.timestamp("us")),
        (pa.timestamp("us"), pa.timestamp("us", "UTC"), None),
        (pa.date32(), pa.timestamp("us"), None),
        (pa.list_(pa.null()), pa.list_(pa.string()), pa.list_(pa.string())),
        (pa.list_(pa.int64()), pa.list_(pa.float64()), None),
        (pa.struct([("a", pa.int8())]), pa.struct([("a", pa.int16())]),
         pa.struct([("a", pa.int16())])),
        (pa.struct([("a", pa.int8())]), pa.struct([("b", pa.int8())]), None),
    ],
    ids=str,
)  # fmt: skip
def test_the_common_type_holds_all_values_of_both(left, right, expected):
    assert common_type(left, right) == expected == common_type(right, left)

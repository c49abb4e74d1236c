"""Python values become Arrow's, and none of them another value."""

import datetime
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jammi_lab.storage.arrow_values import to_arrow_array

NOON = datetime.datetime(2020, 1, 1, 12)
EAST = datetime.timezone(datetime.timedelta(hours=2))
DAY = datetime.date(2020, 1, 1)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (3.5, pa.int64()),
        (Decimal("3.7"), pa.int32()),
        (NOON, pa.date32()),
        (NOON.replace(microsecond=5), pa.timestamp("s")),
        (NOON.replace(microsecond=5), pa.timestamp("ms")),
        (NOON.replace(tzinfo=EAST), pa.timestamp("us")),
        (datetime.time(1, 2, 3, 4), pa.time32("ms")),
        (datetime.timedelta(microseconds=5), pa.duration("ms")),
        (1e300, pa.float32()),
        ([1, 2.5], pa.list_(pa.int64())),
        ({"a": NOON}, pa.struct([("a", pa.date32())])),
        ({"k": 2.5}, pa.map_(pa.string(), pa.int64())),
        ([("k", 2.5)], pa.map_(pa.string(), pa.int64())),
    ],
)
def test_what_would_come_out_as_another_value_is_refused(value, kind):
    with pytest.raises(pa.ArrowInvalid, match="is no"):
        to_arrow_array([None, value], kind)


@pytest.mark.parametrize(
    ("value", "kind", "kept"),
    [
        (3.0, pa.int64(), 3),
        (Decimal(4), pa.int8(), 4),
        (2, pa.float64(), 2.0),
        (0.1, pa.float32(), pytest.approx(0.1)),
        (float("inf"), pa.float32(), float("inf")),
        (datetime.datetime(2020, 1, 1), pa.date32(), DAY),
        (NOON, pa.timestamp("s"), NOON),
        (NOON, pa.timestamp("us", "UTC"), NOON.replace(tzinfo=datetime.UTC)),
        (NOON.replace(tzinfo=EAST), pa.timestamp("us", "Europe/Berlin"), NOON.replace(tzinfo=EAST)),
        (5, pa.timestamp("s"), datetime.datetime(1970, 1, 1, 0, 0, 5)),
        (1, pa.decimal128(5, 2), Decimal("1.00")),
        ((1, 2.0), pa.list_(pa.int64()), [1, 2]),
        ({"k": 2.0}, pa.map_(pa.string(), pa.int64()), [("k", 2)]),
        ({}, pa.struct([("a", pa.int64())]), {"a": None}),
    ],
)
def test_what_is_the_same_value_in_another_type_is_taken(value, kind, kept):
    assert to_arrow_array([None, value], kind).to_pylist() == [None, kept]


@pytest.mark.parametrize("values", [[DAY, NOON], [NOON, NOON.replace(tzinfo=EAST)]])
def test_values_without_a_type_in_common_are_refused(values):
    with pytest.raises(pa.ArrowInvalid, match="is no"):
        to_arrow_array(values)


def test_a_number_that_is_none_and_nanoseconds_are_taken_as_arrow_takes_them():
    assert str(to_arrow_array([float("nan"), None], pa.float32()).to_pylist()) == "[nan, None]"
    numpy = pytest.importorskip("numpy")
    assert to_arrow_array(
        [numpy.datetime64("2020-01-01T00:00:00.000000001")], pa.timestamp("ns")
    ).cast(pa.int64()).to_pylist() == [1577836800000000001]


@given(
    st.lists(
        st.none()
        | st.integers(-(2**63), 2**63 - 1)
        | st.floats()
        | st.decimals(allow_nan=False, allow_infinity=False)
    )
)
def test_a_whole_number_is_what_was_given_or_refused(values):
    try:
        array = to_arrow_array(values, pa.int64())
    except (pa.ArrowException, OverflowError):
        return
    assert array.to_pylist() == values

"""Rows in another type than the schema's: taken when no value of the one could be lost in the
other, else refused, whatever the values are."""

import decimal
import itertools

import pyarrow as pa
import pytest

import jammi_lab as jl
from jammi_lab.inputs.row_input import to_arrow_rows

LEAST = decimal.Decimal("0.01")
EXTREMES = {
    pa.int8(): (-(2**7), 2**7 - 1),
    pa.int16(): (-(2**15), 2**15 - 1),
    pa.int32(): (-(2**31), 2**31 - 1),
    pa.int64(): (-(2**63), 2**63 - 1),
    pa.uint8(): (0, 2**8 - 1),
    pa.uint16(): (0, 2**16 - 1),
    pa.uint32(): (0, 2**32 - 1),
    pa.uint64(): (0, 2**64 - 1),
    pa.float32(): (1.5, float("inf")),
    pa.float64(): (0.1, 1e300),
    pa.decimal128(5, 2): (decimal.Decimal("-999.99"), LEAST),
    pa.decimal128(9, 4): (decimal.Decimal("-99999.9999"), LEAST),
    pa.decimal128(9, 2): (decimal.Decimal("-9999999.99"), LEAST),
}
ALSO_REFUSED = {
    (pa.bool_(), pa.int64()),
    (pa.string(), pa.int64()),
    (pa.int64(), pa.string()),
    (pa.date32(), pa.timestamp("us")),
    (pa.timestamp("us"), pa.timestamp("us", "UTC")),
    (pa.timestamp("ns"), pa.timestamp("us")),
    (pa.int64(), pa.timestamp("us")),
    (pa.list_(pa.int32()), pa.list_(pa.int64())),
}


def taken(found, wanted, values=(None,)):
    """The rows in the schema, None when their type is refused."""
    try:
        return to_arrow_rows(
            pa.table({"x": pa.array(values, found)}), pa.schema([("x", wanted)]), "The table"
        )["x"]
    except jl.SchemaMismatch as refused:
        return (
            None
            if (refused.column, refused.expected, refused.actual) == ("x", str(wanted), str(found))
            else refused
        )


def exact(found, wanted, value):
    """Whether a value is one of the other type, too."""
    if pa.types.is_decimal(wanted) != pa.types.is_decimal(found) or (
        pa.types.is_floating(found) and not pa.types.is_floating(wanted)
    ):
        return False
    try:
        return pa.array([value], wanted)[0].as_py() == value and (
            not pa.types.is_float32(wanted) or pa.types.is_floating(found) or abs(value) <= 2**24
        )
    except (pa.ArrowInvalid, OverflowError):
        return False


@pytest.mark.parametrize(
    ("found", "wanted"),
    [pair for pair in itertools.product(EXTREMES, EXTREMES) if pair[0] != pair[1]],
    ids=str,
)
def test_a_number_is_taken_exactly_where_no_value_of_its_type_could_be_lost(found, wanted):
    fits = all(exact(found, wanted, value) for value in EXTREMES[found])
    assert (taken(found, wanted) is not None) == fits
    if fits:
        assert taken(found, wanted, EXTREMES[found]).to_pylist() == [*EXTREMES[found]]


@pytest.mark.parametrize(("found", "wanted"), sorted(ALSO_REFUSED, key=str), ids=str)
def test_what_is_no_wider_number_is_refused_also_where_its_values_would_fit(found, wanted):
    assert taken(found, wanted) is None


def test_a_moment_is_taken_in_a_finer_unit_and_refused_where_that_does_not_reach():
    assert taken(pa.timestamp("ms", "UTC"), pa.timestamp("us", "UTC"), [1_700_000_000_123]).cast(
        pa.int64()
    ).to_pylist() == [1_700_000_000_123_000]
    assert taken(pa.time32("s"), pa.time64("us"), [3600]).cast(pa.int64()).to_pylist() == [
        3_600_000_000
    ]
    assert taken(pa.timestamp("s"), pa.timestamp("ns"), [2**62]) is None


def test_narrower_rows_go_into_a_mutable_table_and_a_topic_and_wider_ones_change_nothing(ws):
    table = ws.mutable.create("labels", {"id": "int64", "score": "float64"}, primary_key=["id"])
    narrow = pa.table(
        {"id": pa.array([1, 2], pa.int32()), "score": pa.array([0.5, None], pa.float32())}
    )
    assert table.insert(narrow) == 2 and table.upsert(narrow) == 2 and table.version == 1
    assert (
        table.read().schema == table.schema
        and table.read().arrow().to_pylist() == narrow.to_pylist()
    )
    with pytest.raises(jl.SchemaMismatch):
        table.insert(pa.table({"id": pa.array([3], pa.uint64()), "score": [1.0]}))
    ws.topics.register("events", table.schema)
    assert ws.topics.publish("events", narrow) == 0
    assert next(ws.topics.replay("events")).batch.schema == table.schema and table.version == 1

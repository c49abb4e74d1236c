"""What goes into a mutable table comes out as it was, and keys sort as their values do: for any
rows of any type that one holds."""

import decimal
import math
import struct

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jammi_lab.core.errors import InvalidArgument, SchemaMismatch, TableDamaged
from jammi_lab.features.live.row_codec import Layout

I64 = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
DECIMAL = st.integers(-(10**20) + 1, 10**20 - 1).map(
    lambda n: decimal.Decimal(n).scaleb(-4, decimal.Context(prec=40))
)
TYPES = {
    pa.bool_(): st.booleans(),
    pa.int8(): st.integers(-128, 127),
    pa.int64(): I64,
    pa.uint64(): st.integers(0, 2**64 - 1),
    pa.float64(): st.floats(),
    pa.float32(): st.floats(width=32),
    pa.string(): TEXT,
    pa.large_string(): TEXT,
    pa.binary(): st.binary(max_size=8),
    pa.binary(3): st.binary(min_size=3, max_size=3),
    pa.date32(): st.integers(-(2**31), 2**31 - 1),
    pa.time64("us"): st.integers(0, 86_399_999_999),
    pa.timestamp("us", tz="Europe/Berlin"): I64,
    pa.timestamp("ns"): I64,
    pa.timestamp("s"): I64,
    pa.decimal128(20, 4): DECIMAL,
}
IN_KEYS = [kind for kind in TYPES if not pa.types.is_floating(kind)]


def array(values, kind):
    if pa.types.is_temporal(kind):
        return pa.array(values, pa.int32() if pa.types.is_date32(kind) else pa.int64()).cast(kind)
    return pa.array(values, kind)


def exactly(table):
    """Every value with its bits."""
    bits = lambda v: struct.pack("<d", v) if isinstance(v, float) else v  # noqa: E731
    plain = [
        c.cast(pa.int32() if pa.types.is_date32(c.type) else pa.int64())
        if pa.types.is_temporal(c.type)
        else c
        for c in table.columns
    ]
    return table.schema, [[bits(v) for v in c.to_pylist()] for c in plain]


@st.composite
def tables(draw):
    kinds = draw(st.lists(st.sampled_from(list(TYPES)), min_size=1, max_size=4))
    rows = draw(st.integers(0, 6))
    columns = [
        array(draw(st.lists(st.none() | TYPES[k], min_size=rows, max_size=rows)), k) for k in kinds
    ]
    return pa.table(columns, names=[f"c{i}" for i in range(len(kinds))])


@given(tables())
def test_rows_come_back_bit_for_bit(table):
    shape = Layout(table.schema, [])
    assert exactly(shape.table(shape.bodies(table))) == exactly(table)


@given(st.data(), st.lists(st.sampled_from(IN_KEYS), min_size=1, max_size=3))
def test_keys_sort_as_their_values_do_and_only_equal_values_share_one(data, kinds):
    one, other = (tuple(data.draw(TYPES[k]) for k in kinds) for _ in range(2))
    table = pa.table(
        [array([a, b], k) for a, b, k in zip(one, other, kinds, strict=True)],
        names=[f"c{i}" for i in range(len(kinds))],
    )
    first, second = Layout(table.schema, table.schema.names).keys(table)
    plain = [tuple(v.encode() if isinstance(v, str) else v for v in row) for row in (one, other)]
    assert (first < second, first == second) == (plain[0] < plain[1], plain[0] == plain[1])
    if (shape := Layout(table.schema, table.schema.names)).numbered:
        low, high = sorted(shape.integer_keys(table))
        assert (low == high, low >= -(2**63), high < 2**63) == (first == second, True, True)
        assert (shape.integer_keys(table)[0] < shape.integer_keys(table)[1]) == (first < second)


def test_a_not_a_number_and_a_negative_zero_keep_their_bits():
    table = pa.table({"x": pa.array([math.nan, -0.0, 0.0])})
    shape = Layout(table.schema, [])
    assert (
        exactly(shape.table(shape.bodies(table))) == exactly(table)
        and len(set(shape.bodies(table))) == 3
    )


@pytest.mark.parametrize(
    "kind",
    [pa.list_(pa.int64()), pa.struct([("a", pa.int64())]), pa.map_(pa.string(), pa.int64()), pa.float16(), pa.null(), pa.duration("us"),
     pa.timestamp("ns", "UTC"), pa.timestamp("s", "UTC"), pa.time64("ns"), pa.time32("s"), pa.date64(), pa.decimal256(50, 2)],
)  # fmt: skip
def test_a_type_that_would_not_come_back_exactly_is_refused_and_the_others_are_named(kind):
    with pytest.raises(SchemaMismatch) as refused:
        Layout(pa.schema([("x", kind)]), [], "t")
    assert (refused.value.table, refused.value.column, refused.value.actual) == (
        "t",
        "x",
        str(kind),
    ) and "decimal128" in refused.value.expected


def test_a_key_that_no_index_takes_is_refused():
    shape = Layout(pa.schema([("x", pa.string())]), ["x"])
    with pytest.raises(InvalidArgument, match="1000 bytes"):
        shape.keys(pa.table({"x": ["a" * 1001]}))


@pytest.mark.parametrize(
    "body", [b"", b"\xc1", b"\x91\xa1x\xa1y", b"\x92\x01\x02", b"\x91\x92\x01\x02"]
)
def test_a_row_that_nothing_here_wrote_is_damage(body):
    with pytest.raises(TableDamaged):
        Layout(pa.schema([("x", pa.int64())]), ["x"]).table([body])

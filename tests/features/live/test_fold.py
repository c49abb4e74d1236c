"""The rows of a mutable table are its log folded by key: for any rows of any type that one holds,
bit for bit, and in the order of the keys."""

import decimal
import math
import struct

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jammi_lab as jl
from jammi_lab.catalog.logs import Entry, LogRecord
from jammi_lab.features.live.fold import Fold, body_of, differ

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
    """The rows, with the bits of every value."""

    def plain(column):
        if pa.types.is_temporal(column.type):
            column = column.cast(pa.int32() if pa.types.is_date32(column.type) else pa.int64())
        return [struct.pack("<d", v) if isinstance(v, float) else v for v in column.to_pylist()]

    return list(zip(*map(plain, table.columns), strict=True))


def folded(schema, key, commits):
    """The rows after commits, each of rows that are put and rows that are removed."""
    record = LogRecord(kind="mutable", name="t", schema=schema.serialize().to_pybytes(), key=key)
    fold = Fold(record)
    for position, (put, removed) in enumerate(commits):
        fold.apply(Entry(position, "", put.num_rows, "", "", body_of(put, removed.select(key))))
    return fold.rows()


@st.composite
def histories(draw):
    key_kinds = draw(st.lists(st.sampled_from(IN_KEYS), min_size=1, max_size=2))
    kinds = [*key_kinds, *draw(st.lists(st.sampled_from(list(TYPES)), max_size=2))]
    schema = pa.schema([(f"c{at}", kind) for at, kind in enumerate(kinds)])
    keys = draw(
        st.lists(
            st.tuples(*(TYPES[kind] for kind in key_kinds)), min_size=1, max_size=5, unique=True
        )
    )
    values = [st.none() | TYPES[kind] for kind in kinds[len(key_kinds) :]]
    commits = []
    for _ in range(draw(st.integers(1, 5))):
        touched = draw(st.lists(st.sampled_from(keys), unique=True, max_size=5))
        rows = [(*key, *draw(st.tuples(*values))) for key in touched]
        cut = draw(st.integers(0, len(rows)))
        commits.append((rows[:cut], rows[cut:]))
    return schema, [f"c{at}" for at in range(len(key_kinds))], commits


def table_of(schema, rows):
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    return pa.table([array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema=schema)


@given(histories())
def test_the_rows_are_those_put_last_in_the_order_of_their_keys(history):
    schema, key, commits = history
    model = {}
    for put, removed in commits:
        model.update((row[: len(key)], row) for row in put)
        for row in removed:
            model.pop(row[: len(key)], None)
    plain = lambda k: tuple(v.encode() if isinstance(v, str) else v for v in k)  # noqa: E731
    expected = table_of(schema, [model[k] for k in sorted(model, key=plain)])
    tables = [(table_of(schema, put), table_of(schema, removed)) for put, removed in commits]
    found = folded(schema, key, tables)
    assert found.schema == schema and exactly(found) == exactly(expected)


def test_a_not_a_number_is_itself_and_a_negative_zero_is_no_zero():
    [other_nan] = struct.unpack("<d", struct.pack("<Q", 0x7FF8000000000001))
    one = pa.table({"x": pa.array([math.nan, math.nan, -0.0, 0.0, None, 0.0, None])})
    two = pa.table({"x": pa.array([math.nan, other_nan, 0.0, 0.0, None, None, 0.0])})
    assert differ(one, two).to_pylist() == [False, True, True, False, False, True, True]


def test_a_type_that_would_not_come_back_exactly_is_refused_and_the_others_are_named(ws):
    for kind in (
        pa.list_(pa.int64()),
        pa.struct([("a", pa.int64())]),
        pa.map_(pa.string(), pa.int64()),
        pa.duration("us"),
        pa.timestamp("ns", "UTC"),
        pa.timestamp("s", "UTC"),
        pa.time64("ns"),
        pa.time32("s"),
        pa.date64(),
        pa.decimal256(50, 2),
    ):
        with pytest.raises(jl.SchemaMismatch) as refused:
            ws.mutable.create("t", pa.schema([("k", pa.int64()), ("x", kind)]), primary_key=["k"])
        said = refused.value
        assert (said.column, said.actual) == ("x", str(kind))
        assert "SQL" in str(said) or (said.table == "t" and "decimal128" in said.expected)

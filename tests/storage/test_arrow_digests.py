import itertools

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jammi_lab.core.errors import SchemaMismatch
from jammi_lab.storage import arrow_digests as arrow
from jammi_lab.storage.arrow_digests import arrow_digests, table_digest
from tests.sizes import examples

KINDS = {
    "integers": pa.array([1, None, 3, 4] * 5),
    "texts": pa.array(["a", None, "ccc", ""] * 5),
    "views": pa.array(["a", None, "a text that is longer than a view", ""] * 5, pa.string_view()),
    "bytes": pa.array([b"a", None, b"ccc", b""] * 5),
    "booleans": pa.array([True, None, False, True] * 5),
    "structs": pa.array([{"x": 1, "y": "q"}, None, {"x": None, "y": "z"}, {"x": 2, "y": None}] * 5),
    "lists": pa.array([[1, 2], None, [], [None, 3]] * 5),
    "lists of lists": pa.array([[["a"], []], None, [], [None, ["b", "c"]]] * 5),
    "vectors": pa.array([[1.0, 2.0], None, [3.0, 4.0], [None, 5.0]] * 5, pa.list_(pa.float32(), 2)),
    "maps": pa.array(
        [[("k", 1)], None, [], [("a", None), ("b", 2)]] * 5, pa.map_(pa.string(), pa.int32())
    ),
    "dictionaries": pa.array(["a", None, "b", "a"] * 5).dictionary_encode(),
    "nothing": pa.nulls(20),
    "uuids": pa.array([b"0" * 16, None, b"1" * 16, b"2" * 16] * 5, pa.uuid()),
    "intervals": pa.array(
        [(1, 2, 3), None, (4, 5, 6), (0, 0, 1)] * 5, pa.month_day_nano_interval()
    ),
    "deep": pa.array([{"x": [{"q": 1}]}, None, {"x": None}, {"x": [None, {"q": 2}]}] * 5),
    "decimals": pa.array([1, None, 2, 3] * 5).cast(pa.decimal128(30, 2)),
}


def digest(values) -> str:
    return arrow_digests(pa.table({"c": values}))["c"]


@settings(max_examples=examples(60))
@given(kind=st.sampled_from(sorted(KINDS)), cuts=st.lists(st.integers(0, 20), max_size=6))
def test_chunks_and_offsets_do_not_matter(kind, cuts):
    values = KINDS[kind]
    bounds = [0, *sorted(cuts), 20]
    chunks = [values.slice(a, b - a) for a, b in itertools.pairwise(bounds)]
    assert digest(pa.chunked_array(chunks, values.type)) == digest(values)


@pytest.mark.parametrize("kind", list(KINDS))
def test_every_row_counts(kind):
    values = KINDS[kind]
    assert len({digest(values.slice(0, n)) for n in range(21)}) == 21


@pytest.mark.parametrize("kind", [k for k in KINDS if k not in ("nothing", "views")])
def test_order_and_nulls_count(kind):
    values = KINDS[kind]
    assert digest(values.take(pa.array(range(19, -1, -1)))) != digest(values)
    assert digest(values.take(pa.array([None, *range(1, 20)]))) != digest(values)


def test_what_lies_under_a_null_does_not_matter():
    valid = pa.py_buffer(bytes([0b101]))
    one, two = (
        pa.Array.from_buffers(pa.int64(), 3, [valid, pa.array([1, x, 3]).buffers()[1]])
        for x in (7, 8)
    )
    assert digest(one) == digest(two)


def test_a_text_is_a_text_in_every_library():
    texts = ["a", None, "b"]
    assert (
        len(
            {
                digest(pa.array(texts, kind))
                for kind in (pa.string(), pa.large_string(), pa.string_view())
            }
        )
        == 1
    )
    assert digest(pa.array(texts).dictionary_encode()) == digest(pa.array(texts))


def test_types_count():
    assert (
        len(
            {
                digest(pa.array([1, 2], kind))
                for kind in (
                    pa.int32(),
                    pa.int64(),
                    pa.float64(),
                    pa.timestamp("us"),
                    pa.timestamp("us", "UTC"),
                )
            }
        )
        == 5
    )


def test_a_border_between_values_counts():
    assert digest(pa.array(["ab", "c"])) != digest(pa.array(["a", "bc"]))
    assert digest(pa.array([[1, 2], [3]])) != digest(pa.array([[1], [2, 3]]))
    assert digest(pa.array([""])) != digest(pa.array([None], pa.string()))
    assert digest(pa.array([[]], pa.list_(pa.int8()))) != digest(
        pa.array([None], pa.list_(pa.int8()))
    )


def test_slices_and_the_whole_agree(monkeypatch):
    table = pa.table(KINDS)
    one = arrow_digests(table)
    monkeypatch.setattr(arrow, "SLICE_ROWS", 3)
    assert arrow_digests(table) == one


def test_the_digest_of_a_table_covers_names_order_and_rows():
    tables = [
        pa.table({"a": [1], "b": [2]}),
        pa.table({"b": [2], "a": [1]}),
        pa.table({"a": [1], "c": [2]}),
        pa.table({"a": [1, 1], "b": [2, 2]}),
    ]
    assert len({table_digest(t) for t in tables}) == 4


def test_two_columns_of_one_name_and_unions_are_refused():
    with pytest.raises(SchemaMismatch):
        arrow_digests(pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"]))
    with pytest.raises(SchemaMismatch):
        digest(pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])]))

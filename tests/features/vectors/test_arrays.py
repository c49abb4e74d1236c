import datetime
import decimal
import uuid
from datetime import date
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from jammi_lab.core.errors import DuplicateKey, InvalidArgument, SchemaMismatch
from jammi_lab.storage.vector_arrays import (
    boolean_array,
    check_k,
    check_queries,
    key_ranks,
    to_key,
    to_keys,
    to_matrix,
)


def fixed(rows, width=2, kind=None):
    return pa.array(rows, pa.list_(kind or pa.float32(), width))


@pytest.mark.parametrize("kind", [pa.float16(), pa.float64(), pa.int8(), pa.int64()])
def test_lists_of_other_numbers_become_float32(kind):
    values = np.array([[1, 2], [3, 4]], np.float16).astype(kind.to_pandas_dtype())
    column = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel(), kind), 2)
    assert to_matrix(column).dtype == np.float32 and to_matrix(column).tolist() == [[1, 2], [3, 4]]


def test_no_rows_of_a_fixed_width_are_an_empty_matrix():
    assert to_matrix(fixed([], 7)).shape == (0, 7)
    with pytest.raises(SchemaMismatch, match="no fixed width"):
        to_matrix(pa.array([], pa.list_(pa.float32())))


def test_another_width_than_the_one_wanted_is_refused():
    with pytest.raises(SchemaMismatch, match="width 2, not 3"):
        to_matrix(fixed([[1, 2]]), dimensions=3)


KEYS = [
    (pa.int64(), [3, -1, 2]),
    (pa.uint8(), [200, 3, 7]),
    (pa.string(), ["b", "a", "é"]),
    (pa.large_string(), ["b", "", "ba"]),
    (pa.float64(), [1.5, -0.5, float("nan")]),
    (pa.bool_(), [True, False]),
    (pa.date32(), [datetime.date(2024, 1, 2), datetime.date(1969, 1, 1)]),
    (
        pa.timestamp("us", "UTC"),
        [
            datetime.datetime(2024, 1, 2, tzinfo=datetime.UTC),
            datetime.datetime(1960, 1, 1, tzinfo=datetime.UTC),
        ],
    ),
    (pa.decimal128(5, 2), [decimal.Decimal("1.50"), decimal.Decimal("-2.00")]),
    (pa.binary(), [b"\xff", b"a"]),
    (pa.binary(2), [b"\xff\x00", b"aa"]),
]


@pytest.mark.parametrize(("kind", "values"), KEYS, ids=str)
def test_keys_of_every_type_are_put_in_their_own_order(kind, values):
    keys = pa.array(values, kind)
    place = key_ranks(keys)
    assert place is not None
    sorted_keys = keys.take(pa.array(np.argsort(place)))
    assert key_ranks(sorted_keys) is None or key_ranks(sorted_keys).tolist() == list(
        range(len(values))
    )
    assert (
        sorted(range(len(values)), key=lambda i: (values[i] != values[i], values[i]))
        == np.argsort(place).tolist()
    )


def test_uuids_have_an_order():
    ids = sorted(uuid.UUID(int=i) for i in (1 << 127, 5, 1 << 64))
    keys = pa.ExtensionArray.from_storage(
        pa.uuid(), pa.array([i.bytes for i in ids[::-1]], pa.binary(16))
    )
    assert key_ranks(keys).tolist() == [2, 1, 0]


@pytest.mark.parametrize("values", [[1, 1], [3, 1, 3], [1, 2, 2]])
def test_a_key_in_two_rows_is_named(values):
    with pytest.raises(DuplicateKey) as caught:
        key_ranks(pa.array(values))
    assert caught.value.keys == [max(set(values), key=values.count)]


def test_a_missing_key_is_refused():
    with pytest.raises(SchemaMismatch, match="Row 1 has no key"):
        to_keys(pa.chunked_array([["a"], [None]]))


def test_a_type_without_an_order_is_refused():
    with pytest.raises(SchemaMismatch, match="have no order"):
        key_ranks(pa.array([{"a": 1}, {"a": 2}]))


@pytest.mark.parametrize(
    "query",
    [
        *(
            [1, 2, 3],
            np.ones((2, 3)),
            np.ones((1, 2, 1)),
            [],
            [np.nan, 1],
            [1, np.inf],
            [1e300, 1],
            [0, 0],
            [1e-60, 0],
            "ab",
            None,
            [["a", "b"]],
            3,
        ),
        *(
            [1 + 1j, 2],
            [["1", "2"]],
            np.array([1, 2], "m8[s]"),
            b"ab",
            bytearray(b"ab"),
            {1, 2},
            {1: 0, 2: 0},
        ),
    ],
)
def test_a_query_that_is_no_vector_of_the_width_is_refused(query):
    with pytest.raises(SchemaMismatch):
        check_queries(query, 2)


@pytest.mark.parametrize(
    ("value", "kind", "key"),
    [
        *[
            ("17", pa.int64(), 17),
            (17.0, pa.int64(), 17),
            (Decimal("17.0"), pa.int64(), 17),
            (17.5, pa.int64(), None),
            ("17.5", pa.int64(), None),
        ],
        *[
            (0.29, pa.decimal128(10, 2), Decimal("0.29")),
            (1.505, pa.decimal128(10, 2), None),
            (Decimal("1.505"), pa.decimal128(10, 2), None),
        ],
        *[
            (datetime.datetime(2020, 1, 2), pa.date32(), date(2020, 1, 2)),
            (datetime.datetime(2020, 1, 2, 5), pa.date32(), None),
            ("2020-01-02", pa.date32(), date(2020, 1, 2)),
        ],
        *[
            (date(2020, 1, 2), pa.timestamp("us"), datetime.datetime(2020, 1, 2)),
            (0.5, pa.float32(), 0.5),
            (2, pa.string(), "2"),
            (True, pa.int64(), None),
        ],
    ],
)
def test_a_literal_is_the_key_that_it_equals_and_none_that_is_less(value, kind, key):
    assert to_key(value, kind) == key


@pytest.mark.parametrize(
    "query",
    [[1, 2], (1, 2), np.array([1, 2], np.float16), pa.array([1.0, 2.0]), iter([1, 2]), [[1, 2]]],
)
def test_a_query_may_come_as_any_sequence_of_numbers(query):
    assert check_queries(query, 2).tolist() == [[1, 2]]


@pytest.mark.parametrize("k", [-1, 1.0, True, None, "3"])
def test_k_is_a_whole_number_from_0_on(k):
    with pytest.raises(InvalidArgument):
        check_k(k)


@pytest.mark.parametrize("count", [0, 1, 8, 13])
def test_one_boolean_stands_in_every_row(count):
    for flag in (False, True):
        assert boolean_array(flag, count).equals(pa.array([flag] * count, pa.bool_()))

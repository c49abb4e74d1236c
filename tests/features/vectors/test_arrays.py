import datetime
from datetime import date
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from jammi_lab.core.errors import SchemaMismatch
from jammi_lab.storage.vector_arrays import (
    boolean_array,
    check_queries,
    chunk_matrices,
    to_key,
    to_keys,
)


def fixed(rows, width=2, kind=None):
    return pa.array(rows, pa.list_(kind or pa.float32(), width))


def test_no_rows_of_a_fixed_width_are_an_empty_matrix():
    assert [part.shape for part in chunk_matrices(pa.chunked_array([fixed([], 7)]))] == [(0, 7)]
    with pytest.raises(SchemaMismatch, match="no fixed width"):
        chunk_matrices(pa.chunked_array([], pa.list_(pa.float32())))


def test_another_width_than_the_one_wanted_is_refused():
    with pytest.raises(SchemaMismatch, match="width 2, not 3"):
        chunk_matrices(pa.chunked_array([fixed([[1, 2]])]), dimensions=3)


def test_a_missing_key_is_refused():
    with pytest.raises(SchemaMismatch, match="Row 1 has no key"):
        to_keys(pa.chunked_array([["a"], [None]]))


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


@pytest.mark.parametrize("count", [0, 1, 8, 13])
def test_one_boolean_stands_in_every_row(count):
    for flag in (False, True):
        assert boolean_array(flag, count).equals(pa.array([flag] * count, pa.bool_()))

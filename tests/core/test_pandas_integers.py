"""`.pandas()` makes no two integers equal that differ."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jammi_lab.core.dataframes import to_pandas
from tests.sizes import examples  # noqa: F401  the profile of generated tests

A, B = 6844033375485878447, 6844033375485878272


@pytest.mark.parametrize(
    ("values", "kind", "dtype"),
    [
        ([1, None], pa.int64(), "float64"),
        ([2**53, None], pa.int64(), "float64"),
        ([A, B, None], pa.int64(), "Int64"),
        ([-A, None], pa.int64(), "Int64"),
        ([A, B], pa.int64(), "int64"),
        ([2**64 - 1, 2**64 - 2], pa.uint64(), "uint64"),
        ([2**64 - 1, None], pa.uint64(), "UInt64"),
        ([5, None], pa.uint8(), "float64"),
        ([1, None], pa.decimal128(38, 0), "float64"),
        ([A, None], pa.decimal128(38, 0), "Int64"),
        ([2**64 - 1, 2], pa.decimal128(38, 0), "uint64"),
        ([2**70, 2**70 + 1, None], pa.decimal128(38, 0), "object"),
        ([-(2**70), 5], pa.decimal128(38, 0), "object"),
        ([None, None], pa.int64(), "float64"),
    ],
    ids=str,
)
def test_integers_keep_their_values(values, kind, dtype):
    frame = to_pandas(pa.table({"x": pa.array(values, kind), "y": pa.array(values, kind)}))
    assert [str(each) for each in frame.dtypes] == [dtype, dtype]
    kept = frame["x"].dropna().tolist()
    assert [int(value) for value in kept] == [value for value in values if value is not None]
    assert frame["x"].isna().tolist() == [value is None for value in values]


def test_integers_beyond_64_bits_are_ints_of_python():
    [value] = to_pandas(pa.table({"x": pa.array([2**70], pa.decimal128(38, 0))}))["x"]
    assert type(value) is int and value == 2**70


def test_integers_inside_of_lists_and_structs_keep_their_values():
    huge = pa.decimal128(38, 0)
    table = pa.table(
        {
            "list": [[A, None], [B]],
            "struct": [{"x": [A, None]}, {"x": [B]}],
            "huge": pa.array([[2**70], [2**70 + 1]], pa.list_(huge)),
            "small": [[1, 2], [3]],
        }
    )
    frame = to_pandas(table)
    assert frame["list"].tolist() == [[A, None], [B]]
    assert frame["struct"].tolist() == [{"x": [A, None]}, {"x": [B]}]
    assert frame["huge"].tolist() == [[2**70], [2**70 + 1]]
    assert isinstance(frame["small"][0], np.ndarray)


@given(st.lists(st.integers(-(2**120), 2**120) | st.none(), min_size=1, max_size=6))
def test_equal_in_pandas_is_equal_in_sql(values):
    column = to_pandas(pa.table({"x": pa.array(values, pa.decimal128(38, 0))}))["x"]
    assert [int(value) for value in column.dropna()] == [v for v in values if v is not None]

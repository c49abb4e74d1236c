"""Rows with equal bits are found."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from jammi_lab.features.vectors import equal_rows as entries
from jammi_lab.features.vectors.equal_rows import first_equal_rows


@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(1, 30))
def test_each_row_names_the_first_one_with_its_bits(seed, rows, different):
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((different, 3)).astype(np.float32)[
        rng.integers(0, different, rows)
    ]
    wanted = [
        min(other for other in range(rows) if (vectors[other] == vectors[row]).all())
        for row in range(rows)
    ]
    found = first_equal_rows(vectors)
    assert (wanted == [*range(rows)]) == (found is None)
    assert found is None or found.tolist() == wanted


def test_rows_that_differ_in_one_bit_or_only_in_length_are_others():
    one = np.array(
        [[1, 0.0], [1, -0.0], [2, 0], [np.nextafter(np.float32(1), np.float32(2)), 0]], np.float32
    )
    assert first_equal_rows(one) is None
    assert first_equal_rows(np.concatenate([one, one[2:3]])).tolist() == [
        0,
        1,
        2,
        3,
        2,
    ]


def test_rows_whose_sums_are_equal_by_chance_count_as_unlike_all_others(monkeypatch):
    class Same(np.random.Generator):
        def integers(self, *_, **__):
            return np.zeros(2, np.uint64)

    monkeypatch.setattr(entries.np.random, "default_rng", lambda _: Same(np.random.PCG64(0)))
    found = first_equal_rows(np.array([[1, 2], [3, 4], [3, 4], [5, 6]], np.float32))
    assert found.tolist() == [0, 1, 2, 3]

"""The quotient of a sum and a count is, bit for bit, DuckDB's `avg`; where it is not, that is
noticed."""

import random
from decimal import Decimal
from fractions import Fraction

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from jammi_lab.engine import averages
from jammi_lab.engine.averages import AveragedType, is_reproduced
from tests.sizes import sized

INTEGERS = [AveragedType.of_integer(n) for n in ("SMALLINT", "INTEGER", "BIGINT", "HUGEINT")]
DECIMALS = [
    AveragedType.of_decimal(width, scale) for width in (4, 9, 18, 38) for scale in range(width + 1)
]


@pytest.fixture
def connection():
    with duckdb.connect() as connection:
        yield connection


@pytest.fixture
def untried(monkeypatch):
    monkeypatch.setattr(averages, "TRIED", {})


def test_every_type_is_reproduced_here(connection, untried):
    assert all(is_reproduced(connection, kind) for kind in [*INTEGERS, *DECIMALS])


@pytest.mark.parametrize("kind", [*INTEGERS, *DECIMALS[::3]], ids=str)
def test_another_precision_is_noticed(connection, untried, monkeypatch, kind):
    """A division in another type than DuckDB's, which a platform may have, refuses the type."""
    if kind.digits == 4:
        monkeypatch.setattr(averages, "DECIMAL_DIGITS", (0, 4, 9, 18, 38))
    else:
        monkeypatch.setattr(np, "longdouble", np.float64)
    assert not is_reproduced(connection, kind)


def rounded(value, bits):
    """A fraction rounded to so many bits, half to even."""
    if not value:
        return value
    shift = bits - (abs(value.numerator).bit_length() - value.denominator.bit_length())
    scaled = value * Fraction(2) ** shift
    while abs(scaled) >= 2**bits:
        scaled, shift = scaled / 2, shift - 1
    return Fraction(round(scaled)) / Fraction(2) ** shift


def quotient(total, count, bits):
    return rounded(rounded(rounded(Fraction(total), bits) / count, bits), 53)


@pytest.mark.parametrize(("one", "other"), [(53, 64), (64, 113)])
def test_the_cases_tell_precisions_apart_with_sums_that_every_type_holds(one, other):
    differing = [c for c in averages.CASES if quotient(*c, one) != quotient(*c, other)]
    assert len(differing) >= 6 and max(total for total, _ in averages.CASES) < 10**4


@pytest.mark.parametrize("digits", [18, 38])
def test_large_sums_tell_double_from_all_others(digits):
    cases = AveragedType(digits).cases()[len(averages.CASES) * 2 :]
    for other in (64, 113):
        assert sum(quotient(*c, 53) != quotient(*c, other) for c in cases) > len(cases) / 10


def test_quotients_of_a_slice_with_a_group_without_values():
    kind = AveragedType.of_decimal(8, 2)
    sums = pa.array([Decimal(9), Decimal("-2.50"), None, Decimal("0.01")], pa.decimal128(38, 2))
    counts = pa.array([1, 4, 0, 3])
    assert kind.quotients(sums.slice(1), counts.slice(1)).to_pylist() == [-0.625, None, 0.01 / 3]
    assert kind.quotients(sums.slice(4), counts.slice(4)).to_pylist() == []


def test_types_that_are_not_averaged_exactly_have_no_division():
    assert AveragedType.of_integer("DOUBLE") is None


@pytest.mark.parametrize(
    ("kind", "bound"),
    [("SMALLINT", 2**15), ("INTEGER", 2**31), ("BIGINT", 2**63), ("BIGINT", 2**50)],
)
def test_averages_of_large_groups(connection, kind, bound):
    """Groups of up to 200 000 rows, in some of which a quotient of doubles is another number."""
    draw, groups = random.Random(bound), sized(60, 2_000)
    values = pa.table(
        {
            "g": range(groups),
            "v": pa.array([str(draw.randrange(-bound, bound)) for _ in range(groups)]),
            "n": [draw.choice([1, draw.randrange(1, 200_000)]) for _ in range(groups)],
        }
    )
    connection.register("groups", values)
    rows = connection.execute(
        "SELECT avg(x) AS a, sum(x)::DECIMAL(38,0) AS s, count(x) AS n FROM ("
        f"SELECT g, CASE WHEN i = 0 THEN v::{kind} WHEN i % 3 = 0 THEN 7 WHEN i % 3 = 1 THEN 0 END "
        "AS x FROM (SELECT g, v, unnest(range(n)) AS i FROM groups)) GROUP BY g"
    ).to_arrow_table()
    average, total, count = (column.combine_chunks() for column in rows.columns)
    assert AveragedType.of_integer(kind).quotients(total, count).equals(average)

"""The quotient of a sum and a count, bit for bit as DuckDB's `avg` computes it.

DuckDB divides SMALLINT and decimals of up to 4 digits as double, all other exact numbers as the
`long double` of its compiler, and rounds the quotient to a double. numpy's `longdouble` is the same
type of the platform's ABI. Whether it is the same here is tried once per process and type, with
quotients that come out differently in double, in 64 and in 113 bits.
"""

import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_INTEGER_DIGITS = {"SMALLINT": 4, "INTEGER": 9, "BIGINT": 18, "HUGEINT": 27}
DECIMAL_DIGITS = (4, 9, 18, 38)
"""Digits of the decimals of one physical type."""
CASES = (
    (2894, 8006),
    (979, 3579),
    (7513, 4182),
    (4538, 9121),
    (6646, 9180),
    (5614, 9775),
    (7503, 7163),
    (3987, 9551),
    (4627, 9899),
    (7990, 5699),
    (7600, 4651),
    (1442, 6166),
)
"""Sums and counts whose quotient is another double when it is first rounded to 64 bits than when it
is rounded at once, or from 113 bits."""
LARGE_CASE_COUNT = 40
"""Quotients of sums of all digits, which tell also the precision of sums and scales apart."""


@dataclass(frozen=True)
class AveragedType:
    """The type of what is averaged, as far as the division depends on it."""

    digits: int
    scale: int = 0
    integer: str = ""
    """The name of an integer type; empty for a decimal."""

    @classmethod
    def of_integer(cls, name: str) -> "AveragedType | None":
        """None for a type that is not averaged as an exact number."""
        digits = _INTEGER_DIGITS.get(name)
        return None if digits is None else cls(digits, integer=name)

    @classmethod
    def of_decimal(cls, width: int, scale: int) -> "AveragedType":
        """The type of a decimal, by its physical type."""
        return cls(next(digits for digits in DECIMAL_DIGITS if width <= digits), scale)

    @property
    def sum_type(self) -> str:
        """The SQL type that holds every sum."""
        return f"DECIMAL(38,{self.scale})"

    @property
    def _sql(self) -> str:
        return self.integer or f"DECIMAL({self.digits},{self.scale})"

    def cases(self) -> list[tuple[int, int]]:
        """The sums, in units of the last digit, and counts that are tried."""
        large = [
            (pow(7, 30 + k, 10**self.digits), 3 + 2 * (k % 9)) for k in range(LARGE_CASE_COUNT)
        ]
        return [(sign * value, count) for value, count in (*CASES, *large) for sign in (1, -1)]

    def quotients(self, sums: pa.Array, counts: pa.Array) -> pa.Array:
        """The averages of groups with these sums (decimal128 with the scale of the type) and counts
        (int64); null for a count of 0."""
        import numpy as np

        words = np.frombuffer(sums.buffers()[1], "<u8").reshape(-1, 2)
        low, high = words[sums.offset : sums.offset + len(sums)].T
        count = counts.to_numpy(zero_copy_only=False)
        values = self._divide(low, high.view("<i8"), count, np.float64(10**self.scale))
        return pa.array(values, pa.float64(), mask=count == 0)

    def _divide(
        self, low: "NDArray[Any]", high: "NDArray[Any]", count: "NDArray[Any]", scale: "np.float64"
    ) -> "NDArray[Any]":
        import numpy as np

        number: Any = np.float64 if self.digits == DECIMAL_DIGITS[0] else np.longdouble
        # As DuckDB converts a HUGEINT: one of its words is -1 for small negative numbers.
        total: NDArray[Any] = np.where(
            high == -1,
            -((~low).astype(number)) - number(1),
            low.astype(number) + high.astype(number) * number(2) ** 64,
        )
        with np.errstate(all="ignore"):  # a group without values has the count 0
            quotients: NDArray[Any] = total / (count.astype(number) * number(scale))
            return quotients.astype(np.float64)


TRIED: dict[AveragedType, bool] = {}
"""Whether the quotients of a type are those of `avg`, of the types that were tried."""
_lock = threading.Lock()


def is_reproduced(connection: duckdb.DuckDBPyConnection, kind: AveragedType) -> bool:
    """Whether `kind.quotients` gives the bits of DuckDB's `avg` in this process, by trial."""
    # Of numbers with few digits, only those without a scale tell the precisions apart.
    kinds = {kind, replace(kind, scale=0)}
    with _lock:
        for untried in kinds - TRIED.keys():
            TRIED[untried] = try_cases(connection, untried)
        return all(TRIED[tried] for tried in kinds)


def try_cases(connection: duckdb.DuckDBPyConnection, kind: AveragedType) -> bool:
    """Whether all cases of a type are averaged as its quotients."""
    values = ", ".join(
        f"({number}, '{_digits(value, kind.scale)}'::{kind._sql}, {count})"
        for number, (value, count) in enumerate(kind.cases())
    )
    rows = connection.execute(
        f"SELECT avg(x) AS average, CAST(sum(x) AS {kind.sum_type}) AS total, count(x) AS n FROM ("
        f"SELECT number, CASE WHEN i = 0 THEN first ELSE 0::{kind._sql} END AS x FROM ("
        f"SELECT number, first, unnest(range(n)) AS i FROM (VALUES {values}) v(number, first, n))) "
        "GROUP BY number ORDER BY number"
    ).to_arrow_table()
    average, total, count = (column.combine_chunks() for column in rows.columns)
    return bool(kind.quotients(total, count).equals(average))


def _digits(value: int, scale: int) -> str:
    text = f"{abs(value):0{scale + 1}}"
    point = len(text) - scale
    return f"{'-' if value < 0 else ''}{text[:point]}.{text[point:] or '0'}"

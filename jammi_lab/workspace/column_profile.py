"""The profile of one column of a result: NULLs, distinct values, and a histogram or the most
frequent values. Aggregates are computed in DuckDB, so that memory does not grow with the rows."""

from typing import TYPE_CHECKING, Any, Protocol

from jammi_lab.core.anchors import Input, InputKind
from jammi_lab.core.display_values import to_display
from jammi_lab.core.html import is_numeric_type, to_text
from jammi_lab.core.value import Value
from jammi_lab.sources import scratch_duckdb
from jammi_lab.sources.base import ReadPlan, Relation

if TYPE_CHECKING:
    import pyarrow as pa

BINS = 24
"""Number of bars of a histogram."""
MAX_VALUES = 6
"""Maximum number of frequent values listed."""
MAX_GROUPED_VALUES = 100_000
"""Values are counted only in columns with about this many distinct ones or fewer."""

_ROWS = Input(kind=InputKind.FRAME, name="rows")


class ColumnQuery(Protocol):
    """Runs a SELECT over the rows, whose columns are called c0, c1, …"""

    def __call__(self, select: str, clauses: str = "") -> "pa.Table":
        """The rows of the SELECT."""
        ...


class ColumnProfile(Value, frozen=True):
    """What a column contains, over all rows."""

    rows: int
    """Number of rows."""
    nulls: int
    """Number of rows with NULL."""
    distinct: int
    """Number of distinct values."""
    is_estimate: bool
    """Whether `distinct` is an estimate, right to within a few percent."""
    lowest: str = ""
    """The lowest value of a number, date or timestamp, as text."""
    highest: str = ""
    """The highest one."""
    bins: list[int] = []
    """Rows in equal intervals from the lowest to the highest value."""
    values: list[tuple[str, int]] = []
    """The most frequent values, with the number of their rows."""


def query_rows(rows: "pa.Table", select: str, clauses: str = "") -> "pa.Table":
    """Runs a SELECT over rows in memory, whose columns are called c0, c1, …"""
    renamed = rows.rename_columns([f"c{i}" for i in range(rows.num_columns)])
    with scratch_duckdb.connect(Relation(_ROWS, ReadPlan(frame=renamed))) as connection:
        return connection.execute(f"SELECT {select} FROM it {clauses}").to_arrow_table()


def profile_column(column: int, sql_type: str, query: ColumnQuery) -> ColumnProfile:
    """The profile of one column. Raises the errors of reading the rows."""
    name, number = f"c{column}", _number_expression(f"c{column}", sql_type)
    bounds = f", min({number}), max({number}), min({name})::VARCHAR, max({name})::VARCHAR"
    first = query(
        f"count(*), count({name}), approx_count_distinct({name}){bounds if number else ''}"
    )
    rows, known, distinct, *limits = (values[0].as_py() for values in first.columns)
    distinct = min(distinct, known)
    is_estimate = bool(known)
    bins: list[int] = []
    values: list[tuple[str, int]] = []
    if number and known and limits[0] is not None and limits[0] < limits[1]:
        bins = _histogram(number, limits[0], limits[1], query)
    elif known and distinct <= MAX_GROUPED_VALUES:
        values, distinct = _frequent_values(name, query)
        is_estimate = False
    lowest, highest = (to_text(text) for text in limits[2:]) if bins else ("", "")
    nulls = rows - known
    return ColumnProfile(rows, nulls, distinct, is_estimate, lowest, highest, bins, values)


def _number_expression(name: str, sql_type: str) -> str:
    """The value as a finite DOUBLE; empty for types without a scale."""
    if is_numeric_type(sql_type):
        return f"CASE WHEN isfinite({name}::DOUBLE) THEN {name}::DOUBLE END"
    if sql_type == "DATE" or sql_type.startswith("TIMESTAMP"):
        return f"CASE WHEN isfinite({name}) THEN epoch({name})::DOUBLE END"
    return ""


def _histogram(number: str, lowest: float, highest: float, query: ColumnQuery) -> list[int]:
    """Rows in equal intervals. Both sides of the quotient are divided first, so that it is finite
    for any bounds."""
    position = (
        f"({number} / {BINS} - {lowest!r}::DOUBLE / {BINS}) / "
        f"({highest!r}::DOUBLE / {BINS} - {lowest!r}::DOUBLE / {BINS})"
    )
    rows = query(
        f"least({BINS - 1}, floor({position} * {BINS}))::INTEGER AS bin, count(*)",
        f"WHERE ({number}) IS NOT NULL GROUP BY bin",
    )
    counts: dict[Any, int] = dict(zip(*(c.to_pylist() for c in rows.columns), strict=True))
    return [counts.get(i, 0) for i in range(BINS)]


def _frequent_values(name: str, query: ColumnQuery) -> tuple[list[tuple[str, int]], int]:
    """The most frequent values, and the number of distinct ones."""
    rows = query(
        f"{name}::VARCHAR AS value, count(*) AS n, count(*) OVER () AS total",
        f"WHERE {name} IS NOT NULL GROUP BY value ORDER BY n DESC, value LIMIT {MAX_VALUES}",
    )
    texts = [to_text(value) for value in to_display(rows.column(0))]
    return list(zip(texts, rows.column(1).to_pylist(), strict=True)), rows.column(2)[0].as_py()

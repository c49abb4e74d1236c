"""Profiles of the columns of a result: NULLs, distinct values, and a histogram or the most frequent
values.

NULLs, lowest and highest values are those of all rows, computed by one statement in DuckDB. The
distribution is that of all rows if they are in memory or few, else of a random sample that the same
statement returns."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from jammi_lab.core.anchors import frame_input
from jammi_lab.core.forms import is_numeric_type
from jammi_lab.core.value import Value
from jammi_lab.sources import scratch_duckdb
from jammi_lab.sources.base import ReadPlan, Relation
from jammi_lab.workspace.column_filters import condition, is_time_type
from jammi_lab.workspace.histogram_edges import number_edges, time_edges

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

MAX_VALUES = 6
"""Maximum number of frequent values listed."""
MAX_EXACT_VALUES = 5_000_000
"""Up to this many values in all columns together are profiled without sampling."""
MAX_SAMPLED_VALUES = 1_000_000
"""About how many values a sample of more has in all columns together."""
MAX_SAMPLED_BYTES = 64 * 1024 * 1024

_ROWS = frame_input("rows")
_FLOAT_TYPES = ("DOUBLE", "FLOAT", "REAL")
_WHOLE_TYPES = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")


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
    sampled: int
    """Number of rows from which `distinct`, `bins` and `values` are estimated; `rows` when they are
    exact."""
    lowest: str = ""
    """The lowest value of a number, date or timestamp, as text."""
    highest: str = ""
    """The highest one."""
    edges: list[str] = []
    """Bounds of the intervals of the histogram. A value is at or above the lower bound of its
    interval and below the upper one."""
    bins: list[int] = []
    """Number of rows in each interval."""
    values: list[tuple[str, int]] = []
    """The most frequent values of a column without histogram, with the number of their rows."""


class _Counts(NamedTuple):
    """The counts over all rows of one column."""

    known: int
    lowest: str
    highest: str
    edges: list[str]


def query_rows(rows: "pa.Table", select: str, clauses: str = "") -> "pa.Table":
    """Runs a SELECT over rows in memory, whose columns are called c0, c1, …"""
    renamed = rows.rename_columns([f"c{i}" for i in range(rows.num_columns)])
    with scratch_duckdb.connect(Relation(_ROWS, ReadPlan(frame=renamed))) as connection:
        return connection.execute(f"SELECT {select} FROM it {clauses}").to_arrow_table()


class ProfiledRows:
    """The rows whose columns are profiled, in memory or as a sample."""

    def __init__(
        self,
        types: Mapping[int, str],
        query: ColumnQuery,
        rows: "pa.Table | None",
        row_bytes: float,
    ) -> None:
        """`types` are the SQL types of the profiled columns by their number in the result. `rows`
        are all rows if they are in memory; otherwise a row has about `row_bytes`. Raises the errors
        of reading the rows."""
        self._types = types
        limits_of = {i: _limit_expressions(f"c{i}", sql_type) for i, sql_type in types.items()}
        [self.total_rows] = _values(query("count(*)").columns)
        share = 1.0 if rows is not None else self._sampled_share(row_bytes)
        fields = ", ".join(f"'c{i}': c{i}" for i in types)
        sample = "NULL" if rows is not None else f"list({{{fields}}}) FILTER (random() < {share!r})"
        counts = [f"count(c{i})" for i in types]
        found = query(", ".join([sample, *counts, *limits_of.values()]))
        known = dict(zip(types, _values(found.columns[1:]), strict=False))
        limits = _values(found.columns[1 + len(types) :])
        self._counts = {}
        for n, i in enumerate(types):
            column_limits = limits[4 * n : 4 * n + 4]
            if column_limits[2] is not None and not all(map(_is_finite, column_limits)):
                column_limits = _values(query(limits_of[i], f"WHERE isfinite(c{i})").columns)
            self._counts[i] = _column_counts(types[i], known[i], *column_limits)
        self._rows = (
            rows.rename_columns([f"c{i}" for i in range(rows.num_columns)])
            if rows is not None
            else _listed_rows(found.column(0))
        )
        self._relation = Relation(_ROWS, ReadPlan(frame=self._rows))
        with scratch_duckdb.connect(self._relation) as connection:
            self._profiles = {i: self._profile(connection, i) for i in types}
        self._matching: tuple[str, dict[int, list[int]]] = "", {}

    def _sampled_share(self, row_bytes: float) -> float:
        values, size = self.total_rows * len(self._types), self.total_rows * row_bytes
        wanted = 1.0 if values <= MAX_EXACT_VALUES else MAX_SAMPLED_VALUES / values
        return float(min(wanted, MAX_SAMPLED_BYTES / max(1.0, size)))

    def profile(self, column: int) -> ColumnProfile:
        """The profile of one of the columns."""
        return self._profiles[column]

    def _profile(self, connection: "DuckDBPyConnection", column: int) -> ColumnProfile:
        known, lowest, highest, edges = self._counts[column]
        name = f"c{column}" if edges else f"c{column}::VARCHAR"
        values = [] if edges else _frequent_values(connection, name)
        return ColumnProfile(
            rows=self.total_rows,
            nulls=self.total_rows - known,
            distinct=_distinct_count(connection, name, known),
            sampled=self._rows.num_rows,
            lowest=lowest if edges else "",
            highest=highest if edges else "",
            edges=edges,
            bins=self._scaled(self._bin_counts(connection, column, "true") if edges else []),
            values=list(
                zip((v for v, _ in values), self._scaled(n for _, n in values), strict=True)
            ),
        )

    def covers(self, columns: Iterable[int]) -> bool:
        """Whether the rows have all these columns."""
        return all(f"c{column}" in self._rows.column_names for column in columns)

    def matching(self, column: int, where: str) -> list[int]:
        """How many of the rows in each interval, or with each listed value, meet a condition. Those
        of all columns are counted together, once."""
        if self._matching[0] != where:
            with scratch_duckdb.connect(self._relation) as connection:
                counts = {i: self._matching_counts(connection, i, where) for i in self._types}
            self._matching = where, counts
        return self._matching[1][column]

    def _matching_counts(
        self, connection: "DuckDBPyConnection", column: int, where: str
    ) -> list[int]:
        profile = self._profiles[column]
        if profile.edges:
            return self._scaled(self._bin_counts(connection, column, where))
        tests = [condition(f"c{column}", "", [value]) for value, _ in profile.values]
        if not tests:
            return []
        select = ", ".join(f"count(*) FILTER ({test})" for test in tests)
        [counts] = connection.execute(f"SELECT {select} FROM it WHERE {where}").fetchall()
        return self._scaled(counts)

    def _scaled(self, counts: Iterable[int]) -> list[int]:
        """The number of all rows for each number of profiled rows."""
        scale = self.total_rows / max(1, self._rows.num_rows)
        return [round(n * scale) for n in counts]

    def _bin_counts(self, connection: "DuckDBPyConnection", column: int, where: str) -> list[int]:
        """How many rows that meet a condition are in each interval: a value is in the interval of
        the last edge that it reaches."""
        edges = self._counts[column].edges
        reached = _reached_edges(f"c{column}", self._types[column], edges)
        counts = dict(
            connection.execute(
                f"SELECT {reached} AS n, count(*) FROM it WHERE {where} GROUP BY n"
            ).fetchall()
        )
        return [counts.get(n, 0) for n in range(1, len(edges))]


def _values(columns: "Sequence[pa.ChunkedArray]") -> list[Any]:
    """The values of the first row."""
    return [column[0].as_py() for column in columns]


def _limit_expressions(name: str, sql_type: str) -> str:
    """Four aggregates: the lowest and highest value as numbers and as text; NULL for other
    types."""
    if not is_time_type(sql_type) and not is_numeric_type(sql_type):
        return "NULL, NULL, NULL, NULL"
    number = "epoch({}({}))" if is_time_type(sql_type) else "{}({})::DOUBLE"
    low, high = (number.format(function, name) for function in ("min", "max"))
    return f"{low}, {high}, min({name})::VARCHAR, max({name})::VARCHAR"


def _is_finite(value: float | str | None) -> bool:
    """Whether it is neither NaN nor infinite. Infinite dates have no number, or text only."""
    if isinstance(value, str):
        return value not in ("infinity", "-infinity")
    return value is not None and math.isfinite(value)


def _column_counts(
    sql_type: str, known: int, low: float, high: float, lowest: str | None, highest: str | None
) -> _Counts:
    edges: list[str] = []
    if low is not None and math.isfinite(low) and math.isfinite(high - low) and low < high:
        is_whole = sql_type.removeprefix("U") in _WHOLE_TYPES
        edges = (
            time_edges(low, high, dates=sql_type == "DATE")
            if is_time_type(sql_type)
            else number_edges(low, high, whole=is_whole)
        )
    return _Counts(known, lowest or "", highest or "", edges)


def _reached_edges(name: str, sql_type: str, edges: Sequence[str], below: int = 0) -> str:
    """SQL of the number of edges that a value reaches, by binary search; all for NULL and NaN.
    `below`: how many it reaches before these."""
    if not edges:
        return str(below)
    middle = len(edges) // 2
    return (
        f"CASE WHEN {condition(name, sql_type, (None, edges[middle]))} "
        f"THEN {_reached_edges(name, sql_type, edges[:middle], below)} "
        f"ELSE {_reached_edges(name, sql_type, edges[middle + 1 :], below + middle + 1)} END"
    )


def _listed_rows(rows: "pa.ChunkedArray") -> "pa.Table":
    """The rows that an aggregate `list` returned, which is NULL for none."""
    import pyarrow as pa

    return pa.Table.from_struct_array(pa.chunked_array([rows.combine_chunks().flatten()]))


def _frequent_values(connection: "DuckDBPyConnection", name: str) -> list[tuple[str, int]]:
    """The most frequent values of a text, with the number of their rows."""
    return connection.execute(
        f"SELECT {name} AS value, count(*) AS n FROM it WHERE value IS NOT NULL "
        f"GROUP BY value ORDER BY n DESC, value LIMIT {MAX_VALUES}"
    ).fetchall()


def _distinct_count(connection: "DuckDBPyConnection", name: str, known: int) -> int:
    """The number of distinct values among `known` non-NULL rows.

    From a sample that number is estimated as PostgreSQL's ANALYZE does: Haas and Stokes, Estimating
    the number of classes in a finite population, 1998 (estimator Duj1)."""
    [(distinct, sampled, single)] = connection.execute(
        "SELECT count(*), sum(n)::BIGINT, count(*) FILTER (n = 1) FROM (SELECT count(*) AS n "
        f"FROM it WHERE {name} IS NOT NULL GROUP BY {name})"
    ).fetchall()
    if distinct and sampled < known:
        distinct = round(sampled * distinct / (sampled - single + single * sampled / known))
    return int(distinct)

"""The rows of a result with filters on their columns: pages, profiles, and the SQL of both."""

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from jammi_lab.core.errors import InvalidArgument, SourceUnavailable
from jammi_lab.core.identifiers import near_names, quoted_name, unique_names
from jammi_lab.workspace.column_filters import (
    ColumnFilter,
    check_filter,
    condition,
    contains_text,
    filtered_statement,
)
from jammi_lab.workspace.column_profile import ColumnProfile, ProfiledRows, query_rows
from jammi_widgets import result_pages
from jammi_widgets.result_pages import ResultPage

if TYPE_CHECKING:
    import pyarrow as pa

    from jammi_lab.workspace.column_profile import ColumnQuery
    from jammi_lab.workspace.result import Result

PROFILED_COLUMNS = 30
"""Maximum number of columns profiled together."""
_MEASURED_ROWS = 1_000
"""Number of rows of which the size is measured."""


class FilteredRows:
    """The rows of a result, all or those that meet the filters."""

    def __init__(self, result: "Result", table_name: str | None) -> None:
        """`table_name` is the name of the table whose rows these are, if it is a table."""
        self._result, self._table_name = result, table_name
        self.all_rows = ResultPage(result.preview, result._types)
        self.page = self.all_rows
        """The rows that meet the filters."""
        self.total_rows: int | None = None
        """Number of rows that meet the filters; None without filters."""
        self._filters: dict[int, ColumnFilter] = {}
        self._profiled: dict[int, ProfiledRows] = {}

    def column_index(self, name: str) -> int:
        """The number of a column. InvalidArgument for an unknown name."""
        if name not in self._result.columns:
            raise InvalidArgument(
                f"The result has no column {name!r}.", near=near_names(name, self._result.columns)
            )
        return self._result.columns.index(name)

    def apply(self, filters: Mapping[str, Any]) -> None:
        """Read the rows that meet the filters, by column name. After an error, the former ones
        remain. InvalidArgument; SourceUnavailable; errors of reading the rows."""
        chosen = {self.column_index(name): check_filter(wanted) for name, wanted in filters.items()}
        if chosen:
            self.page, self.total_rows = self._read_matching(chosen)
        else:
            self.page, self.total_rows = self.all_rows, None
        self._filters = chosen

    def _read_matching(self, filters: Mapping[int, ColumnFilter]) -> tuple[ResultPage, int]:
        """The rows that meet the filters, up to the limits of a page, and how many there are."""
        where = self._engine_condition(filters)
        held, query = self._source()
        if held is not None:
            rows, total = held.filter(query(f"({where}) AS matches").column(0)), None
        else:
            total = query("count(*)", f"WHERE {where}").column(0)[0].as_py()
            max_rows = int(result_pages.MAX_HELD_BYTES / self._row_bytes())
            limit = min(total, max_rows, result_pages.MAX_HELD_ROWS)
            rows = query("*", f"WHERE {where} LIMIT {limit}").rename_columns(self._result.columns)
        total = rows.num_rows if total is None else total
        page = ResultPage(
            lambda n: rows.slice(0, n), self._result._types, has_more=rows.num_rows < total
        )
        page.load_rows(rows.num_rows)
        return page, total

    def _source(self) -> "tuple[pa.Table | None, ColumnQuery]":
        """All rows if they are in memory, and how to query all rows. SourceUnavailable."""
        held = self._result._cached
        if held is None and not self.all_rows.complete:
            query = self._result._column_query()
            if query is not None:
                return None, query
            self.all_rows.load_rows(result_pages.MAX_HELD_ROWS)
            if not self.all_rows.complete:
                raise SourceUnavailable(
                    "The result is too large for a profile or a filter in memory, and its source "
                    "could have changed since it was read.",
                    hint="Keep the rows with ws.materialize(…) and view the table.",
                )
        rows = self.all_rows.rows if held is None else held
        return rows, functools.partial(query_rows, rows)

    def _row_bytes(self) -> float:
        """About how many bytes a row has in memory."""
        self.all_rows.load_rows(_MEASURED_ROWS)
        return float(self.all_rows.rows.nbytes / max(1, self.all_rows.rows.num_rows)) + 1

    def profile(self, column: int) -> ColumnProfile:
        """The profile of a column over all rows. Those of the columns shown together are computed
        together, once."""
        return self._profiled_rows(column).profile(column)

    def matching_counts(self, column: int) -> list[int] | None:
        """How many rows of each bar or listed value of a profile meet the filters. None without
        filters, and if a filtered column is not in the sample of the profile."""
        profiled = self._profiled_rows(column)
        if not self._filters or not profiled.covers(self._filters):
            return None
        return profiled.matching(column, self._engine_condition(self._filters))

    def _profiled_rows(self, column: int) -> ProfiledRows:
        first = column - column % PROFILED_COLUMNS
        if first not in self._profiled:
            held, query = self._source()
            shown = range(first, min(first + PROFILED_COLUMNS, self._width))
            types = {i: self._result._types[i] for i in shown}
            row_bytes = self._row_bytes() * len(types) / self._width
            self._profiled[first] = ProfiledRows(types, query, held, row_bytes)
        return self._profiled[first]

    def bar_filter(self, column: int, bins: tuple[int, int]) -> ColumnFilter:
        """The filter for the bars from the first to the last. InvalidArgument."""
        edges = self.profile(column).edges
        first, last = sorted(bins)
        if last + 1 >= len(edges):
            raise InvalidArgument(f"The profile has no bar {last + 1:,}.")
        return (edges[first], edges[last + 1])

    def value_filter(self, column: int, values: list[int], *, null: bool) -> ColumnFilter:
        """The filter for listed values, by their index, and for NULL. InvalidArgument."""
        listed = [text for text, _ in self.profile(column).values]
        if any(i >= len(listed) for i in values):
            raise InvalidArgument("The profile does not list that value.")
        return [*(listed[i] for i in values), *([None] if null else [])]

    def statement(self, text: str, column: int | None, *, descending: bool) -> str:
        """The SQL of the rows that meet the filters and have the text in one of their columns,
        sorted by a column; empty for rows that no statement gave."""
        source = self._result._statement()
        if source is None:
            return ""
        names = [quoted_name(name) for name in unique_names(self._result.columns)]
        conditions = self._conditions(self._filters, names)
        if text:
            conditions.append(
                contains_text(dict(zip(names, self._result._types, strict=True)), text)
            )
        order = "" if column is None else f"{names[column]}{' DESC' * descending} NULLS LAST"
        base = f"SELECT * FROM {self._table_name}" if self._table_name else source[0]
        return filtered_statement(base, conditions, order)

    def python_code(self, statement: str) -> str:
        """A call in Python that runs the statement with its parameters."""
        source = self._result._statement()
        if not statement or source is None:
            return ""
        is_plain = '"""' not in statement and "\\" not in statement and statement[-1] != '"'
        quoted = f'"""\n{statement}\n"""' if is_plain else repr(statement)
        return f"ws.sql({quoted}{f', {source[1]!r}' if source[1] else ''})"

    @property
    def _width(self) -> int:
        return len(self._result.columns)

    def _engine_condition(self, filters: Mapping[int, ColumnFilter]) -> str:
        return " AND ".join(self._conditions(filters, [f"c{i}" for i in range(self._width)]))

    def _conditions(self, filters: Mapping[int, ColumnFilter], names: list[str]) -> list[str]:
        return [condition(names[i], self._result._types[i], f) for i, f in filters.items()]

"""The result viewer: paging, sorting and searching, all done in the kernel."""

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import traitlets

from jammi_lab.core.display_values import to_display, to_rows_display
from jammi_lab.core.errors import InvalidArgument, JammiError, RowNotFound, SourceUnavailable
from jammi_lab.core.forms import is_numeric_type, shown_type
from jammi_lab.core.html import (
    MAX_HTML_CHARS,
    Rendered,
    count_noun,
    escape_invisible,
    round_float,
    to_text,
    tooltip,
    truncate,
)
from jammi_lab.core.identifiers import copyable_name, near_names, quoted_name, unique_names
from jammi_lab.workspace.column_filters import (
    ColumnFilter,
    check_filter,
    condition,
    contains_text,
    describe,
    filtered_statement,
)
from jammi_lab.workspace.column_profile import ColumnProfile, ProfiledRows, query_rows
from jammi_lab.workspace.result import Result
from jammi_lab.workspace.result_table import ResultTable
from jammi_lab.workspace.workspace import Workspace, workspace_of
from jammi_widgets import assets, protocol, result_pages
from jammi_widgets.panel import Panel
from jammi_widgets.result_pages import MAX_HELD_ROWS, ResultPage

if TYPE_CHECKING:
    import pyarrow as pa

    from jammi_lab.features.outputs.stamps import Stamp
    from jammi_lab.workspace.column_profile import ColumnQuery

# --------------------------------------------------------------------------------------------------
# The rows of a result with filters on their columns: pages, profiles, and the SQL of both.

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


# --------------------------------------------------------------------------------------------------
# The panel.

MAX_SHOWN_COLUMNS = 30
"""Maximum number of columns shown side by side; the panel scrolls to the others."""
MAX_VALUE_CHARS = 100_000
"""Maximum number of characters of an opened value sent to the page."""

Cell = str | dict[str, Any] | None
"""A text; a dict for a text with attributes; None for NULL."""


class ResultView(Panel):
    """A viewer for the rows of a Result or ResultTable: paging, sorting by a column, and text
    search.

    The kernel holds up to a million rows or 64 MiB, and reads no more than is viewed; beyond the
    limit the panel reports that there are more rows. `selection` holds the numbers of selected rows
    as text, counted from 1 in the order of the result; `selected()` returns these rows as an
    Arrow table. `filter` is a text that rows must contain in one of their columns. Raises
    InvalidArgument for a value without rows, and the errors of the statement when its rows are
    read.
    """

    _esm = assets.module("results")
    filters = traitlets.Dict()
    """Filters by column name: a tuple (low, high) keeps values from `low` up to but not including
    `high`, where None leaves a side open; a list keeps the values in it, where None stands for
    NULL."""

    def __init__(self, rows: Result | ResultTable) -> None:
        result = rows.read() if isinstance(rows, ResultTable) else rows
        if not isinstance(result, Result):
            raise InvalidArgument(
                f"A {type(rows).__name__} is neither a Result nor a ResultTable.",
                hint="ws.sql(…) returns a Result.",
            )
        ws = workspace_of(result)
        name = _name_of(ws, rows) if isinstance(rows, ResultTable) else None
        self._result, self._rows = result, FilteredRows(result, name)
        self._page_request = protocol.Page(v=1, ask=0)
        self._result_page.load_rows(self._page_request.limit)
        self._saved_form, self._pending_badge = result._rendered(), result._badge()
        super().__init__(ws)
        self.observe(lambda _: self.refresh(), names=["filter", "filters"])
        if self._pending_badge is not None:
            self._pending_badge.add_done_callback(
                lambda: self._send_message(
                    {"kind": "badge", "body": {"badge": self._badge_lines()}}
                )
            )

    @property
    def _result_page(self) -> ResultPage:
        return self._rows.page

    @property
    def sql(self) -> str:
        """The SQL of the rows shown: the statement with the filters, the text and the sort order.
        Empty for rows that no statement gave, such as those of a search."""
        request = self._page_request
        return self._rows.statement(
            self.filter.strip(), request.column, descending=request.descending
        )

    def _reload(self) -> bool:
        """Turn to the first page; the sort order and the filter stay."""
        self._page_request = msgspec.structs.replace(self._page_request, offset=0)
        return True

    def selected(self) -> "pa.Table":
        """The selected rows in order of selection."""
        return self._result_page.take_rows([int(number) - 1 for number in self.selection])

    @traitlets.validate("filters")
    def _validate_filters(self, proposal: dict[str, Any]) -> dict[str, Any]:
        with self._tenant_context():
            self._rows.apply(proposal["value"])
        self.selection = []  # rows are numbered in the order of those that meet the filters
        return dict(proposal["value"])

    @traitlets.validate("selection")
    def _validate_selection(self, proposal: dict[str, Any]) -> list[str]:
        for number in proposal["value"]:
            if not (number.isascii() and number.isdigit() and 1 <= int(number) <= MAX_HELD_ROWS):
                raise RowNotFound(
                    f"There is no row {escape_invisible(number)!r}.",
                    hint="Rows are numbered from 1 in the order of the result.",
                )
            self._require_row(int(number) - 1)
        return list(proposal["value"])

    def _require_row(self, row: int) -> None:
        """Read the rows up to this one. RowNotFound."""
        self._result_page.load_rows(row + 1)
        if row >= self._result_page.rows.num_rows:
            raise RowNotFound(
                f"There is no row {row + 1:,}: this view contains "
                f"{count_noun(self._result_page.rows.num_rows, 'row')}."
            )

    # -- messages
    # ----------------------------------------------------------------------------------------------

    def _answer(self, message: Any) -> dict[str, Any] | None:
        try:
            match message:
                case protocol.Page():
                    if message.column is not None:
                        self._require_column(message.column)
                    self._page_request = message
                case protocol.ReadValue(row=row, column=column):
                    return self._full_value(row, column)
                case protocol.ProfileColumns(left=left):
                    return self._profiles_message(left)
                case protocol.FilterColumn():
                    self._filter_column(message)
                    return {}
            return self._body()
        except KeyboardInterrupt:
            raise SourceUnavailable(
                "Reading more rows was cancelled.",
                hint="The rows read before remain available.",
            ) from None

    def profile(self, column: str) -> ColumnProfile:
        """The profile of a column over all rows: NULLs, distinct values, and a histogram or the
        most frequent values. It is computed once. InvalidArgument for an unknown column;
        SourceUnavailable when the rows exceed the view and could be others if read again."""
        with self._tenant_context():
            return self._rows.profile(self._rows.column_index(column))

    def _profiles_message(self, left: int) -> dict[str, Any]:
        self._require_column(left)
        shown = range(left, min(left + MAX_SHOWN_COLUMNS, len(self._result.columns)))
        return {"profiles": [self._profile_message(column) for column in shown]}

    def _profile_message(self, column: int) -> dict[str, Any]:
        profile = self._rows.profile(column)
        name = self._result.columns[column]
        chosen = self.filters.get(name)
        return {
            **profile.to_dict(),
            "at": column,
            "name": escape_invisible(name),
            "values": [[display_cell(text), n] for text, n in profile.values],
            "chosen": [text in chosen for text, _ in profile.values]
            if isinstance(chosen, list)
            else [],
            "null": isinstance(chosen, list) and None in chosen,
            "range": [profile.edges.index(chosen[0]), profile.edges.index(chosen[1]) - 1]
            if isinstance(chosen, tuple) and set(chosen) <= set(profile.edges)
            else None,
            "matching": self._rows.matching_counts(column),
        }

    def _filter_column(self, message: protocol.FilterColumn) -> None:
        """Set or remove the filter of a column that was chosen in its profile."""
        self._require_column(message.column)
        name = self._result.columns[message.column]
        filters = {other: wanted for other, wanted in self.filters.items() if other != name}
        if message.bins is not None:
            filters[name] = self._rows.bar_filter(message.column, message.bins)
        elif message.values or message.null:
            filters[name] = self._rows.value_filter(
                message.column, message.values, null=message.null
            )
        self.filters = filters

    def _body(self) -> dict[str, Any]:
        """A page of rows as a message, with row counts and notes."""
        page, needle, request = self._result_page, self.filter.strip(), self._page_request
        first, limit = request.offset, request.offset + request.limit
        row_numbers: Sequence[int]
        if needle or request.column is not None:
            order = page.sorted_rows(needle, request.column, descending=request.descending)
            matches, row_numbers = len(order), order[first:limit].tolist()
        else:
            page.load_rows(limit + 1)
            matches = page.rows.num_rows
            row_numbers = range(min(first, matches), min(limit, matches))
        further = limit < matches
        first_column = min(request.left, max(0, page.rows.num_columns - 1))
        return {
            "columns": [
                self._column_message(i)
                for i in range(
                    first_column, min(first_column + MAX_SHOWN_COLUMNS, page.rows.num_columns)
                )
            ],
            "left": first_column,
            "wide": page.rows.num_columns,
            "rows": self._row_cells(row_numbers, first_column),
            "numbers": [i + 1 for i in row_numbers],
            "offset": request.offset,
            "further": further,
            "sorted": request.column,
            "descending": request.descending,
            "counted": self._row_count_text(request, len(row_numbers), matches if needle else None),
            "said": self._limit_note(needle, request, further=further),
            "badge": self._badge_lines(),
            "filters": [
                [self._rows.column_index(name), escape_invisible(name), escape_invisible(text)]
                for name, text in ((n, describe(f)) for n, f in self.filters.items())
            ],
            "sql": (sql := self.sql),
            "code": self._rows.python_code(sql),
        }

    def _row_count_text(self, request: protocol.Page, row_count: int, matches: int | None) -> str:
        """The range of the rows shown and the total; `matches`: how many rows have the text."""
        noun = "filtered row" if self.filters else "row"
        total = count_noun(self._total, noun) if self._total is not None else ""
        within = f" in {total}" if total else ""
        if not row_count:
            return f"no {noun}s" if matches is None else f"No matches{within}."
        if row_count == self._total and matches is None:
            return total
        span = f"{request.offset + 1:,} to {request.offset + row_count:,}"
        if matches is not None:
            return f"{span} of {matches:,} matches{within}"
        return f"{span} of {total}" if total else f"{span}; there are more"

    @property
    def _total(self) -> int | None:
        if self._rows.total_rows is not None:
            return self._rows.total_rows
        return (
            self._result._rows
            if self._result._rows is not None
            else self._result_page.rows.num_rows
            if self._result_page.complete
            else None
        )

    def _limit_note(self, needle: str, request: protocol.Page, *, further: bool) -> str:
        """A note that the result has rows beyond the limit, if that affects the rows shown."""
        if not self._result_page.is_full:
            return ""
        operations = [
            word
            for word, applied in (
                ("sorted", request.column is not None),
                ("searched", bool(needle)),
            )
            if applied
        ]
        if not operations and further:
            return ""
        first = f"the first {count_noun(self._result_page.rows.num_rows, 'row')}"
        note = (
            f"Only {first} of the result are {' and '.join(operations)} here."
            if operations
            else f"These are {first}; the result has more."
        )
        return f"{note} ORDER BY and WHERE in the statement apply to all of them."

    def _badge_lines(self) -> list[str]:
        """The lines of the freshness badge of the tables that were read, as in the static form."""
        rendered = None if self._pending_badge is None else self._pending_badge.rendering()
        return [] if rendered is None else rendered.text.split("\n")

    def _require_column(self, column: int) -> None:
        if column >= self._result_page.rows.num_columns:
            raise InvalidArgument(f"There is no column {column + 1:,}.")

    def _column_message(self, i: int) -> dict[str, Any]:
        sql_type = self._result._types[i]
        return {
            "at": i,
            "name": escape_invisible(self._result.columns[i]),
            "type": shown_type(sql_type),
            "number": is_numeric_type(sql_type),
        }

    def _row_cells(self, row_numbers: Sequence[int], first_column: int) -> list[list[Cell]]:
        table = self._result_page.take_rows(
            row_numbers,
            range(
                first_column,
                min(first_column + MAX_SHOWN_COLUMNS, self._result_page.rows.num_columns),
            ),
        )
        rows = to_rows_display(table, self._result.decimals, self._result.digits)
        return [[display_cell(value) for value in row] for row in rows]

    def _full_value(self, row: int, column: int) -> dict[str, Any]:
        """One value, up to the limit for a page."""
        self._require_column(column)
        self._require_row(row)
        value = to_display(self._result_page.rows.column(column).slice(row, 1))[0]
        text = "NULL" if value is None else to_text(value, None)
        lines = [escape_invisible(line) for line in text[:MAX_VALUE_CHARS].split("\n")]
        truncation_note = (
            f"the first {MAX_VALUE_CHARS:,} of {len(text):,} characters"
            if len(text) > MAX_VALUE_CHARS
            else ""
        )
        return {
            "name": escape_invisible(self._result.columns[column]),
            "number": row + 1,
            "lines": lines,
            "cut": truncation_note,
            "tie": self._tie_text(row, column),
        }

    def _tie_text(self, row: int, column: int) -> str:
        """A number of a table's newest version with its tie; empty for any other value."""
        tables = self._result._tables()
        if len(tables) != 1 or not is_numeric_type(self._result._types[column]):
            return ""
        [values] = self._result_page.take_rows([row]).to_pylist()
        try:
            prose = self._ws._services.prose
            return prose.tie_of(tables[0], values, self._result.columns[column])
        except (JammiError, OSError, ValueError):  # the file of the table is gone, for one
            return ""

    def _stamp(self) -> "Stamp | None":
        with self._tenant_context():
            return self._result._stamp()

    def _rendered(self) -> Rendered:
        return self._saved_form


def _name_of(ws: Workspace, table: ResultTable) -> str:
    """The name that a statement gives these rows: the recipe if they are its newest version."""
    is_newest = ws.table(table.name).version == table.version
    return copyable_name(f"jammi.{table.name if is_newest else table.table_name}")


def display_cell(value: Any) -> Cell:
    """A value for the page, as in the static table: NULL is distinct from an empty text and from
    the text 'NULL'; shortened texts and rounded numbers have a tooltip."""
    if value is None:
        return None
    text = to_text(value)
    if isinstance(value, float) and (rounded := round_float(value)) != text:
        return {"text": rounded, "whole": text}
    if isinstance(value, str) and (not text.strip() or text == "NULL"):
        return {"text": escape_invisible(f"'{text[:MAX_HTML_CHARS]}'"), "quiet": True}
    shown = truncate(text, MAX_HTML_CHARS)
    if len(text) <= MAX_HTML_CHARS:
        return shown
    return {"text": shown, "whole": escape_invisible(tooltip(text))}

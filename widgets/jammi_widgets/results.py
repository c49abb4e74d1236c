"""The viewer of a result: its rows page by page, in another order, and those with a text in them; all of it decided in the kernel."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import traitlets

from jammi_lab.errors import InvalidArgument, RowNotFound, SourceUnavailable
from jammi_lab.handles import ResultTable
from jammi_lab.markup import HTML_CUT, TITLE_CUT, Form, as_text, count, numeric, visible
from jammi_lab.people import Begun, for_people
from jammi_lab.result import Result
from jammi_widgets import assets, protocol
from jammi_widgets.held import MOST_ROWS, Held
from jammi_widgets.panel import Panel

if TYPE_CHECKING:
    import pyarrow as pa

    from jammi_lab.workspace import Workspace

MOST_COLUMNS = 30
"""Columns that a page shows side by side; the others are stepped to."""
MOST_WHOLE = 100_000
"""Characters of one value that the page gets when it is opened."""

Cell = str | dict[str, Any] | None
"""A text; with more to say about it, that; None is NULL."""


class ResultView(Panel):
    """The rows of a Result (or ResultTable) to look through: pages, an order by a click on a column, a text to find.

    Up to a million rows, or 64 MiB, are held for that in the kernel, and no more than is looked at; beyond it the panel says that there are more.
    `selection` holds the numbers of chosen rows as text, from 1 in the order of the result; `selected()` gives them as an Arrow table. `filter` is
    the text that rows must have in one of their columns. InvalidArgument for what has no rows; what the statement raises when its rows are read.
    """

    _esm = assets.module("results")
    _css = assets.style()
    _kinds: ClassVar[Any] = protocol.Open | protocol.Page | protocol.Value
    _shared = (protocol.Page,)

    def __init__(self, ws: "Workspace", rows: Result | ResultTable) -> None:
        result = rows.read() if isinstance(rows, ResultTable) else rows
        if not isinstance(result, Result):
            raise InvalidArgument(f"A {type(rows).__name__} is neither a Result nor a ResultTable.", hint="ws.sql(…) gives a Result.")
        self._result, self._held = result, Held(result)
        self._asked = protocol.Page(v=1, ask=0)
        self._held.upto(self._asked.limit)
        self._saved, self._notice = result._form(), result._notice()
        super().__init__(ws)
        self.observe(lambda _: self.refresh(), names="filter")
        if self._notice is not None:
            self._notice.then(lambda: self._tell({"kind": "badge", "body": {"badge": self._badge()}}))

    def refresh(self) -> None:
        """Show the first page of the order and the text that are asked for."""
        self._asked = protocol.Page(v=1, ask=0, column=self._asked.column, descending=self._asked.descending, left=self._asked.left)
        with self._as_bound():
            self._tell({"kind": "changed", "body": self._page(self._asked)})

    def selected(self) -> "pa.Table":
        """The chosen rows, in the order in which they were chosen."""
        return self._held.taken([int(number) - 1 for number in self.selection])

    @traitlets.validate("selection")
    def _chosen(self, proposal: dict[str, Any]) -> list[str]:
        for number in proposal["value"]:
            if not (number.isascii() and number.isdigit() and 1 <= int(number) <= MOST_ROWS):
                raise RowNotFound(
                    f"There is no row {visible(number)!r}.", hint="Rows are chosen by their numbers, from 1 in the order of the result."
                )
            self._row(int(number) - 1)
        return list(proposal["value"])

    def _row(self, at: int) -> None:
        """Hold the rows up to this one. RowNotFound."""
        self._held.upto(at + 1)
        if at >= self._held.rows.num_rows:
            raise RowNotFound(f"There is no row {at + 1:,}: {count(self._held.rows.num_rows, 'row')} can be looked at here.")

    # -- messages ------------------------------------------------------------------------------------------------------------------

    def _answer(self, message: Any) -> dict[str, Any]:
        try:
            match message:
                case protocol.Page():
                    self._asked = message
                case protocol.Value(row=row, column=column):
                    return self._whole(row, column)
            return self._page(self._asked)
        except KeyboardInterrupt:
            raise SourceUnavailable("Reading further rows was stopped.", hint="What was read before can be looked at as it was.") from None

    def _page(self, asked: protocol.Page) -> dict[str, Any]:
        """The rows of a page, and what is to be said about the others."""
        held, wanted = self._held, self.filter.strip()
        if asked.column is not None:
            self._column(asked.column)
            if not held.sorts(asked.column):
                raise InvalidArgument(
                    f"The values of {self._result.columns[asked.column]!r} have no order here.", hint="ORDER BY an expression of them."
                )
        if wanted or asked.column is not None:
            at: Sequence[int] = held.ordered(wanted, asked.column, descending=asked.descending)
            further = asked.offset + asked.limit < len(at)
            at = at[asked.offset : asked.offset + asked.limit]
        else:
            held.upto(asked.offset + asked.limit + 1)
            at = range(min(asked.offset, held.rows.num_rows), min(asked.offset + asked.limit, held.rows.num_rows))
            further = held.rows.num_rows > asked.offset + asked.limit
        left = min(asked.left, max(0, held.rows.num_columns - 1))
        return {
            "columns": [self._told_column(i) for i in range(left, min(left + MOST_COLUMNS, held.rows.num_columns))],
            "left": left,
            "wide": held.rows.num_columns,
            "rows": self._told_rows(at, left),
            "numbers": [i + 1 for i in at],
            "offset": asked.offset,
            "further": further,
            "sorted": asked.column,
            "descending": asked.descending,
            "counted": self._counted(asked, len(at), wanted),
            "said": self._bounds(wanted, asked, further=further),
            "badge": self._badge(),
        }

    def _counted(self, asked: protocol.Page, shown: int, wanted: str) -> str:
        """Which rows of how many these are."""
        total = count(self._total, "row") if self._total is not None else ""
        if not shown:
            return f"Nothing is found{f' in {total}' if total else ''}." if wanted else "no rows"
        if shown == self._total and not wanted:
            return total
        part = f"{asked.offset + 1:,} to {asked.offset + shown:,}"
        if wanted:
            return f"{part} of {self._held.found:,} found{f' in {total}' if total else ''}"
        return f"{part} of {total}" if total else f"{part}; there are more"

    @property
    def _total(self) -> int | None:
        return self._result._rows if self._result._rows is not None else self._held.rows.num_rows if self._held.whole else None

    def _bounds(self, wanted: str, asked: protocol.Page, *, further: bool) -> str:
        """That there are rows which this panel does not reach, when that matters for what it shows."""
        if not self._held.full:
            return ""
        deeds = [word for word, does in (("sorted", asked.column is not None), ("searched", bool(wanted))) if does]
        if not deeds and further:
            return ""
        first = f"the first {count(self._held.rows.num_rows, 'row')}"
        said = f"Only {first} of the result are {' and '.join(deeds)} here." if deeds else f"These are {first}; the result has more."
        return f"{said} ORDER BY and WHERE in the statement reach all of them."

    def _badge(self) -> list[str]:
        """What is to be said about the tables that were read, as the saved form has it."""
        form = None if self._notice is None else self._notice.form()
        return [] if form is None else form.text.split("\n")

    def _column(self, column: int) -> None:
        if column >= self._held.rows.num_columns:
            raise InvalidArgument(f"There is no column {column + 1:,}.")

    def _told_column(self, i: int) -> dict[str, Any]:
        kind = self._result._types[i]
        return {"at": i, "name": visible(self._result.columns[i]), "type": kind.lower(), "number": numeric(kind), "sorts": self._held.sorts(i)}

    def _told_rows(self, at: Sequence[int], left: int) -> list[list[Cell]]:
        some = self._held.taken(at, range(left, min(left + MOST_COLUMNS, self._held.rows.num_columns)))
        decimals = self._result.decimals
        columns = [for_people(c, decimals.get(n)) for n, c in zip(some.column_names, some.columns, strict=True)]
        return [[_cell(value) for value in row] for row in zip(*columns, strict=True)]

    def _whole(self, row: int, column: int) -> dict[str, Any]:
        """One value as far as a page can take it."""
        self._column(column)
        self._row(row)
        value = for_people(self._held.rows.column(column).slice(row, 1))[0]
        text = value if isinstance(value, str) else _full(value)
        lines = [visible(line) for line in text[:MOST_WHOLE].split("\n")]
        cut = f"the first {MOST_WHOLE:,} of {len(text):,} characters" if len(text) > MOST_WHOLE else ""
        return {"name": visible(self._result.columns[column]), "number": row + 1, "lines": lines, "cut": cut}

    def _form(self) -> Form:
        return self._saved


def _full(value: Any) -> str:
    """A value as `as_text` has it, but whole; of a very long list its beginning, and how long it is."""
    match value:
        case None:
            return "NULL"
        case str():
            return repr(value)
        case bytes():
            return "\\x" + value.hex()
        case Mapping():
            return "{" + ", ".join(f"{as_text(key)}: {_full(each)}" for key, each in value.items()) + "}"
        case list() | tuple():
            more = [f"… ({value.whole:,})"] if isinstance(value, Begun) and value.whole > len(value) else []
            return "[" + ", ".join([*map(_full, value), *more]) + "]"
        case _:
            return as_text(value)


def _cell(value: Any) -> Cell:
    """A value for the page, as the static table has it: NULL is told from an empty text and from the text NULL, what is cut can be pointed at."""
    if value is None:
        return None
    text = as_text(value)
    if isinstance(value, str) and (not text.strip() or text == "NULL"):
        return {"text": visible(f"'{text[:HTML_CUT]}'"), "quiet": True}
    if len(text) <= HTML_CUT:
        return visible(text)
    whole = text if len(text) <= TITLE_CUT else f"{text[:TITLE_CUT]}… ({len(text):,} characters)"
    return {"text": visible(text[: HTML_CUT - 1]) + "…", "whole": visible(whole)}

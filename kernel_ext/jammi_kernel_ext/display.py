"""Displayable return values of the magics that no other module renders: lists, settings,
notes."""

from collections.abc import Iterable, Sequence
from typing import Any

from jammi_lab.core.command_hints import cell_or_python, command_line
from jammi_lab.core.errors import JammiError
from jammi_lab.core.forms import listing_table, shown_type
from jammi_lab.core.html import (
    Rendered,
    ReprMixin,
    count_noun,
    plain_text,
    vstack,
)
from jammi_lab.core.panel_selection import PanelSelection
from jammi_lab.core.surfaces import load_surface

_MAX_LISTED_TABLES = 200
"""Tables listed of a source."""


class Note(ReprMixin):
    """A one-sentence report of what was done."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def _rendered(self) -> Rendered:
        return plain_text(self.text)


def columns_form(name: str, columns: Iterable[tuple[str, str]]) -> Rendered:
    """Names and SQL types of the columns of one relation."""
    lines = [(column, shown_type(sql_type)) for column, sql_type in columns]
    note = count_noun(len(lines), "column")
    return listing_table(["column", "type"], lines, aligned="ll", caption=name, note=note)


def source_tables_form(name: str, tables: Sequence[str]) -> Rendered:
    """The tables of a source, one line each, with the command that shows the columns of one."""
    hidden = len(tables) - _MAX_LISTED_TABLES
    columns = cell_or_python(
        f"%jammi {command_line('schema', f'{name}.{tables[0]}')}",
        f"ws.sources[{name!r}].columns({tables[0]!r})",
    )
    notes = [
        count_noun(len(tables), "table"),
        *([f"{hidden:,} more are not shown"] if hidden > 0 else []),
        f"{columns} shows the columns of one",
    ]
    lines = [[table] for table in tables[:_MAX_LISTED_TABLES]]
    return listing_table(["table"], lines, aligned="l", caption=name, note="; ".join(notes))


class CatalogListing(PanelSelection, ReprMixin):
    """The sources and tables of a workspace, for front ends without widgets."""

    def __init__(self, ws: Any) -> None:
        self._ws = ws

    def _rendered(self) -> Rendered:
        return vstack(self._ws.sources._rendered(), self._ws.tables()._rendered())


def with_panel(shell: Any, value: Any, panel: str, *args: Any, **kwargs: Any) -> Any:
    """Return the value so that displaying it in a kernel shows a widget; a terminal shows the value
    itself.

    The saved notebook contains the value's own repr.
    """
    if not hasattr(shell, "kernel"):
        return value
    try:
        widget = getattr(load_surface("widgets"), panel)(*args, **kwargs)
    except (
        ImportError,
        JammiError,
    ):  # without widgets, or for data a panel cannot show, display the value itself
        return value
    widget.saved_as = value._rendered
    value._ipython_display_, value._widget = widget._ipython_display_, widget
    return value


def has_rows(value: Any) -> bool:
    """Whether it is a Result or ResultTable."""
    from jammi_lab.workspace.result import Result
    from jammi_lab.workspace.result_table import ResultTable

    return isinstance(value, Result | ResultTable)


def view(shell: Any, rows: Any) -> Any:
    """The rows as a ResultView widget; in a terminal as a Result."""
    result = rows.read() if hasattr(rows, "read") else rows
    if not hasattr(shell, "kernel"):
        return result
    try:
        return load_surface("widgets").ResultView(result)
    except ImportError:
        return result

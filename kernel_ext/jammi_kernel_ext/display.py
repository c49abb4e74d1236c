"""Displayable return values of the magics that no other module renders: lists, settings,
notes."""

import time
import weakref
from collections.abc import Iterable, Mapping
from typing import Any

from jammi_lab.core import reprs
from jammi_lab.core.errors import JammiError
from jammi_lab.core.html import (
    Rendered,
    ReprMixin,
    count_noun,
    dim_text,
    plain_text,
    verdict_icon,
    vstack,
)
from jammi_lab.core.panel_selection import PanelSelection
from jammi_lab.core.surfaces import load_surface


class Note(ReprMixin):
    """A one-sentence report of what was done."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def _rendered(self) -> Rendered:
        return plain_text(self.text)


class ColumnListing(dict[str, str], ReprMixin):
    """The columns of a relation and their SQL types."""

    __repr__ = ReprMixin.__repr__

    def __init__(self, name: str, columns: Mapping[str, str]) -> None:
        super().__init__(columns)
        self.name = name

    def _rendered(self) -> Rendered:
        return reprs.columns(self.name, self.items())


class SourceTableNames(list[str], ReprMixin):
    """The table names of a source."""

    __repr__ = ReprMixin.__repr__

    def __init__(self, name: str, tables: Iterable[str]) -> None:
        super().__init__(tables)
        self.name = name

    def _rendered(self) -> Rendered:
        return reprs.source_tables(self.name, self)


class NotFreshRecipes(list[Any], ReprMixin):
    """The rows of the staleness board that are not fresh."""

    __repr__ = ReprMixin.__repr__

    def __init__(self, rows: Iterable[Any], total: int) -> None:
        super().__init__(rows)
        self.total = total

    def _rendered(self) -> Rendered:
        if self:
            return reprs.status(self)
        return (
            verdict_icon(
                "fresh", f"Nothing is stale: {self.total} of {self.total} recipes are fresh."
            )
            if self.total
            else plain_text("No recipes yet.")
        )


class ExpiredTables(list[str], ReprMixin):
    """The physical names of the removed tables."""

    __repr__ = ReprMixin.__repr__

    def __init__(self, recipe: str, tables: Iterable[str]) -> None:
        super().__init__(tables)
        self.recipe = recipe

    def _rendered(self) -> Rendered:
        return plain_text(
            f"{self.recipe}: {count_noun(len(self), 'table')} removed."
            if self
            else f"{self.recipe}: there are no versions to remove."
        )


class Config(dict[str, Any], ReprMixin):
    """Settings and their values."""

    __repr__ = ReprMixin.__repr__

    def _rendered(self) -> Rendered:
        rows = [
            (
                k,
                v
                if v not in ("", 0)
                else dim_text("engine default" if k.startswith("engine.") else v),
            )
            for k, v in self.items()
        ]
        return reprs.listing_table(["setting", "value"], rows, aligned="ll")


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


_DISPLAY_SECONDS = 1.0
_pending_forms: weakref.WeakKeyDictionary[Any, tuple[float, str, Rendered]] = (
    weakref.WeakKeyDictionary()
)


def workspace_form(ws: Any, kind: str) -> str:
    """One format of a workspace's repr, `html` or `text`. IPython requests both in a row, so the
    second request reuses the rendering of the first."""
    rendered_at, pending_kind, form = _pending_forms.pop(ws, (0.0, "", plain_text("")))
    if pending_kind != kind or time.monotonic() - rendered_at > _DISPLAY_SECONDS:
        form = ws._form()
        _pending_forms[ws] = (time.monotonic(), "text" if kind == "html" else "html", form)
    return str(getattr(form, kind))

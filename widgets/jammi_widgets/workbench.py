"""The workbench: board, lineage, rows and differences of a workspace, with one selection."""

from typing import TYPE_CHECKING, Any

import anywidget
import ipywidgets
import traitlets

from jammi_lab.core.clock import utc_now
from jammi_lab.core.errors import JammiError
from jammi_lab.core.html import Rendered, count_noun, plain_text, vstack
from jammi_widgets import assets
from jammi_widgets.diff import DiffView
from jammi_widgets.lineage import LineageGraph
from jammi_widgets.panel import Panel
from jammi_widgets.results import ResultView
from jammi_widgets.saved_form import SavedForm, close_with_parts, running_cell
from jammi_widgets.staleness import StalenessBoard

if TYPE_CHECKING:
    from jammi_lab.features.outputs.stamps import Stamp
    from jammi_lab.workspace.workspace import Workspace

_TABS = _ROWS, _CHANGES = "Rows", "What changed"


class _Heading(anywidget.AnyWidget):
    """The line above the panels: how many tables there are by verdict."""

    _esm = assets.module("workbench")
    _css = assets.style()
    summary = traitlets.Unicode("").tag(sync=True)
    counts = traitlets.Dict().tag(sync=True)
    """The number of tables by verdict, the most severe first."""


class Workbench(SavedForm, ipywidgets.VBox):  # type: ignore[misc]  # no types
    """Board, lineage, rows and differences of a workspace side by side.

    `selection` holds the names selected in the board and the lineage; a name selected in one is
    selected in the other as far as it is there. The rows, and what changed between the two newest
    versions, are those of the first name. `board` and `lineage` are the panels, `details` is what
    the open tab shows.
    """

    _shows_verdicts = True

    tab = traitlets.Enum(_TABS, default_value=_ROWS)
    """The open tab: "Rows" or "What changed"."""
    selection = traitlets.List(traitlets.Unicode())
    """The selected names."""

    def __init__(self, ws: "Workspace") -> None:
        self._ws, self._looked_at = ws, utc_now()
        self._made_in = running_cell()
        self.board, self.lineage = StalenessBoard(ws), LineageGraph(ws)
        self._heading = _Heading()
        self._tabs = ipywidgets.Tab()
        self._is_selecting = False
        self.saved_as = self._rendered
        for panel in (self.board, self.lineage):
            layout = panel.layout
            layout.flex, layout.min_width, layout.width = "1 1 480px", "0", "auto"
            panel._container = self
        panels = ipywidgets.Box(
            [self.lineage, self.board], layout=ipywidgets.Layout(flex_flow="row wrap")
        )
        super().__init__([self._heading, panels, self._tabs])
        self.add_class("jammi-workbench")
        self._show_details()
        self._show_summary()
        for panel in (self.board, self.lineage):
            panel.observe(self._on_selection_change, names="selection")
        self.observe(self._on_selection_change, names="selection")
        self._tabs.observe(lambda _: self._on_tab_click(), names="selected_index")
        self.observe(lambda _: self._show_details(), names="tab")
        self.board.observe(lambda _: self._show_changes(), names="shown_changes")

    def refresh(self) -> None:
        """Reload all panels."""
        for panel in (self.board, self.lineage):
            panel.refresh()

    def _renew_saved_form(self) -> None:
        self._looked_at = utc_now()
        super()._renew_saved_form()

    def _show_changes(self) -> None:
        self._show_details()
        self._show_summary()

    def _stamp(self) -> "Stamp | None":
        return self.board._stamp()

    def close(self) -> None:
        """Close all panels."""
        for panel in (self.board, self.lineage, *self._tabs.children):
            panel.close()
        super().close()

    def _on_selection_change(self, change: dict[str, Any]) -> None:
        """Select names in all panels, as far as they are there. The board turns to a name that was
        selected elsewhere."""
        if self._is_selecting:
            return
        names = change["new"]
        self._is_selecting = True
        try:
            self.selection = names
            for panel in (self.board, self.lineage):
                panel.selection = panel._selectable_names(names)
            if self.board.selection and change["owner"] is not self.board:
                self.board.reveal(self.board.selection[0])
            self._show_details()
        finally:
            self._is_selecting = False

    def _show_details(self) -> None:
        """Show rows or differences of the first selected name; only the open tab is computed."""
        index, former = _TABS.index(self.tab), self._tabs.children
        self.details = self._make_details()
        children = [self.details if tab == self.tab else ipywidgets.HTML() for tab in _TABS]
        self._tabs.children, self._tabs.titles = children, _TABS
        self._tabs.selected_index = index
        for widget in former:
            close_with_parts(widget)

    def _on_tab_click(self) -> None:
        if self._tabs.selected_index is not None:
            self.tab = _TABS[self._tabs.selected_index]

    def _make_details(self) -> ipywidgets.Widget:
        if not self.selection:
            return ipywidgets.HTML("Select a table in the lineage or on the board.")
        try:
            name = self.selection[0]
            if self.tab == _CHANGES:
                return DiffView(self._ws, name)
            return ResultView(self._ws.sql(f"SELECT * FROM {self.lineage.relation_of(name)}"))
        except JammiError as error:
            return ipywidgets.HTML(plain_text(error).html)

    @property
    def summary(self) -> str:
        """The line above the panels: how many tables there are by verdict."""
        return str(self._heading.summary)

    def _show_summary(self) -> None:
        counts = self.board.counts
        tables = count_noun(sum(counts.values()), "table")
        words = ", ".join(f"{number:,} {word}" for word, number in counts.items())
        self._heading.counts = counts
        self._heading.summary = f"{tables}: {words}" if words else "No tables yet"

    def _rendered(self) -> Rendered:
        panels: tuple[Panel, ...] = (self.lineage, self.board)
        return vstack(*(panel.saved_as() for panel in panels))

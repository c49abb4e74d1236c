"""The messages that a page may send to the kernel. They have fixed types and typed fields, and
never contain SQL, paths or code.

Each message has the protocol version and a number that the answer repeats. Other messages are
rejected.
"""

import functools
import operator
from typing import Annotated, Any, ClassVar, Literal

import msgspec

VERSION = 1
"""Incremented when a message type changes its meaning; pages of another version are told to
reload."""

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=2_000)]
Count = Annotated[int, msgspec.Meta(ge=0, le=10_000_000)]


class PanelMessage(msgspec.Struct, tag_field="kind", forbid_unknown_fields=True, kw_only=True):
    """Base class of all messages."""

    v: Literal[1]
    ask: Count
    """The number that the answer repeats."""
    is_shared: ClassVar[bool] = False
    """Whether the answer updates every view of the panel, not only the one that asks."""


class Open(PanelMessage, tag="open"):
    """Request everything the page needs to draw the panel."""


class Refresh(PanelMessage, tag="refresh"):
    """Reload the panel."""

    is_shared = True


class Wake(PanelMessage, tag="wake"):
    """Refresh all visible panels soon: the server has seen a change of the workspace."""


class ViewOpened(PanelMessage, tag="here"):
    """A view of the panel was opened. Views are numbered, because a panel may be shown in several
    places."""

    view: Count


class ViewClosed(PanelMessage, tag="gone"):
    """A view of the panel was closed."""

    view: Count


class Show(PanelMessage, tag="show"):
    """Show the graph around a node, within `hops` in one or both directions; without a node, the
    whole graph."""

    is_shared = True
    node: Name | None = None
    hops: Annotated[int, msgspec.Meta(ge=1, le=1_000)] | None = None
    direction: Literal["both", "up", "down"] = "both"


class Export(PanelMessage, tag="export"):
    """Request the drawing as a file's text."""

    form: Literal["svg", "mermaid"]


class ShowColumns(PanelMessage, tag="columns"):
    """Show or hide the columns in the nodes."""

    is_shared = True
    on: bool


class Details(PanelMessage, tag="details"):
    """Request the details of a node, or the checks of a row of the board."""

    node: Name


class TraceColumn(PanelMessage, tag="column"):
    """Trace one column of a node upstream and downstream."""

    node: Name
    column: Name


class Explore(PanelMessage, tag="explore"):
    """Open a neighbour explorer of a table with vectors inside the panel."""

    node: Name


class ShowDifference(PanelMessage, tag="difference"):
    """Open the differences between the two newest versions of a table inside the panel."""

    node: Name


class ChooseAll(PanelMessage, tag="choose-all"):
    """Select every row that matches the filter and is not fresh, on all pages."""


class Act(PanelMessage, tag="act"):
    """Run an action on tables. The answer reports whether it was started; progress and outcome
    follow as messages."""

    action: Literal["recompute", "verify", "what-if", "preview", "plan", "project", "keep"]
    names: Annotated[list[Name], msgspec.Meta(min_length=1, max_length=100_000)]


class Cancel(PanelMessage, tag="cancel"):
    """Stop the running action."""


class Rows(PanelMessage, tag="rows"):
    """Request some rows of a list; the kernel sorts and slices them."""

    is_shared = True
    sort: Annotated[str, msgspec.Meta(max_length=40)] = ""
    descending: bool = False
    group: Annotated[str, msgspec.Meta(max_length=2_000)] = ""
    at_selection: bool = False
    """Request the page with the first selected row, instead of that at the offset."""
    offset: Count = 0
    limit: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 200


class Page(PanelMessage, tag="page"):
    """Request some rows of a result; the kernel sorts and slices them."""

    is_shared = True
    column: Count | None = None
    """Index of the sort column; None keeps the order of the result."""
    descending: bool = False
    offset: Count = 0
    limit: Annotated[int, msgspec.Meta(ge=1, le=100)] = 50
    left: Count = 0
    """Index of the first column shown."""


class ReadValue(PanelMessage, tag="value"):
    """Request one value of a result in full."""

    row: Count
    column: Count


class ProfileColumns(PanelMessage, tag="profile"):
    """Request the profiles of the shown columns of a result."""

    left: Count = 0
    """Index of the first of them."""


class FilterColumn(PanelMessage, tag="filter"):
    """Keep the rows within some bars of the profile of a column, or with some of its listed values
    or NULL. Nothing chosen removes the filter."""

    column: Count
    bins: tuple[Count, Count] | None = None
    """The first and the last bar."""
    values: Annotated[list[Count], msgspec.Meta(max_length=100)] = []
    """Indexes of listed values."""
    null: bool = False


class DiffRows(PanelMessage, tag="diff-rows"):
    """Request some rows that two versions of a table differ in."""

    part: Literal["changed", "added", "removed"]
    column: Count | None = None
    """Index of a changed column: only rows that differ in it."""
    offset: Count = 0
    limit: Annotated[int, msgspec.Meta(ge=1, le=200)] = 50


class CompareVersions(PanelMessage, tag="versions"):
    """Compare two versions of the table."""

    is_shared = True
    old: Count
    new: Count


class FindNeighbors(PanelMessage, tag="near"):
    """Request the rows nearest to a text or to a displayed row."""

    is_shared = True
    text: Annotated[str, msgspec.Meta(max_length=20_000)] | None = None
    row: Name | None = None
    k: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 10


class Children(PanelMessage, tag="children"):
    """Request the children of a catalog node by its id."""

    part: Name


class Points(PanelMessage, tag="points"):
    """Request the points of a map; the answer carries them as a binary buffer."""


class Colour(PanelMessage, tag="colour"):
    """Request a colour index for each point by the values of a column."""

    column: Name


class Hover(PanelMessage, tag="hover"):
    """Request the details of a point."""

    point: Count


class SelectedRows(PanelMessage, tag="selected-rows"):
    """Request the first selected rows of a map with the columns of their source."""


class Lasso(PanelMessage, tag="lasso"):
    """Select the points inside an outline, given in the coordinates of the points."""

    outline: Annotated[list[tuple[float, float]], msgspec.Meta(min_length=3, max_length=2_000)]


_MESSAGES: Any = functools.reduce(operator.or_, PanelMessage.__subclasses__())


def parse(content: Any) -> Any:
    """The content as a message. Raises ValueError, also for a text that is not Unicode, and
    RecursionError."""
    return msgspec.json.decode(msgspec.json.encode(content), type=_MESSAGES)

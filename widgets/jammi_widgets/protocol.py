"""What a page may ask of the kernel: messages of fixed kinds with typed fields, never SQL, never a path, never code.

Each carries the protocol's number and one of its own, which the answer repeats. What is not one of these is refused.
"""

from typing import Annotated, Any, Literal

import msgspec

VERSION = 1
"""Raised when a kind changes its meaning; a page of another release is told to reload."""

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=2_000)]
Count = Annotated[int, msgspec.Meta(ge=0, le=10_000_000)]


class Ask(msgspec.Struct, tag_field="kind", forbid_unknown_fields=True, kw_only=True):
    """What every message has."""

    v: Literal[1]
    ask: Count
    """The number that the answer repeats."""


class Open(Ask, tag="open"):
    """Everything that a page needs to draw the panel as it stands."""


class Refresh(Ask, tag="refresh"):
    """Look again."""


class Here(Ask, tag="here"):
    """A view of the panel is on a page. It has a number of its own: one panel may be shown in several places."""

    view: Count


class Gone(Ask, tag="gone"):
    """That view is on the page no more."""

    view: Count


class Show(Ask, tag="show"):
    """The graph around a node, so many hops to either side or to one; without a node all of it."""

    node: Name | None = None
    hops: Annotated[int, msgspec.Meta(ge=1, le=1_000)] | None = None
    direction: Literal["both", "up", "down"] = "both"


class Unfold(Ask, tag="unfold"):
    """Show or hide what is directly before or after a node."""

    node: Name
    side: Literal["up", "down"]
    open: bool


class Columns(Ask, tag="columns"):
    """Show the columns in the nodes, or take them away."""

    on: bool


class Details(Ask, tag="details"):
    """What there is to say about a node or a row."""

    node: Name


class Column(Ask, tag="column"):
    """The way of one column of a node through the graph, up and down."""

    node: Name
    column: Name


class Explore(Ask, tag="explore"):
    """An explorer of a table with vectors, to be shown inside the panel."""

    node: Name


class ChooseAll(Ask, tag="choose-all"):
    """Choose every row that was found and is not fresh, also those on other pages."""


class Act(Ask, tag="act"):
    """Do something with tables: the answer says that it was begun; how it goes and how it ended is told by messages."""

    action: Literal["recompute", "verify", "what-if", "preview", "plan", "project"]
    names: Annotated[list[Name], msgspec.Meta(min_length=1, max_length=100_000)]


class Cancel(Ask, tag="cancel"):
    """Stop what was begun."""


class Rows(Ask, tag="rows"):
    """Some rows of a list, sorted and cut in the kernel."""

    sort: Annotated[str, msgspec.Meta(max_length=40)] = ""
    descending: bool = False
    group: Annotated[str, msgspec.Meta(max_length=2_000)] = ""
    offset: Count = 0
    limit: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 200


class Page(Ask, tag="page"):
    """Some rows of a result, ordered and cut in the kernel."""

    column: Count | None = None
    """The place of the column that orders them; none is the order in which they came."""
    descending: bool = False
    offset: Count = 0
    limit: Annotated[int, msgspec.Meta(ge=1, le=100)] = 50
    left: Count = 0
    """The place of the first column that is shown."""


class Value(Ask, tag="value"):
    """One value of a result, whole."""

    row: Count
    column: Count


class Near(Ask, tag="near"):
    """The rows nearest to a text or to a row that was shown before."""

    text: Annotated[str, msgspec.Meta(max_length=20_000)] | None = None
    row: Name | None = None
    k: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 10


class Compare(Ask, tag="compare"):
    """Two rows that were shown, side by side."""

    rows: Annotated[list[Name], msgspec.Meta(min_length=2, max_length=2)]


class Children(Ask, tag="children"):
    """What is below a part of the catalog, by the id that the part came with."""

    part: Name


class Points(Ask, tag="points"):
    """The points of a map, as bytes beside the answer."""


class Colour(Ask, tag="colour"):
    """A number for each point, by the values of a column."""

    column: Name


class Hover(Ask, tag="hover"):
    """What there is to say about a point."""

    point: Count


class Lasso(Ask, tag="lasso"):
    """Choose the points inside an outline, in the coordinates of the points."""

    outline: Annotated[list[tuple[float, float]], msgspec.Meta(min_length=3, max_length=2_000)]


def parse(content: Any, kinds: Any) -> Any:
    """The message, one of `kinds`. Raises msgspec.ValidationError."""
    return msgspec.convert(content, kinds)

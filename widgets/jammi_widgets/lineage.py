"""The lineage graph: tables and their inputs, with verdicts and the reasons for them."""

import contextlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

import traitlets

from jammi_lab.core.errors import InvalidArgument, JammiError, TableNotFound
from jammi_lab.core.html import (
    VERDICT_ICONS,
    VERDICT_MEANINGS,
    Rendered,
    escape_invisible,
    unmarked_word,
)
from jammi_lab.core.identifiers import check_choice, find_name, near_names
from jammi_lab.core.input_kinds import MODEL_KIND
from jammi_lab.core.verdicts import Fresh, Verdict, count_by_label, marked_label
from jammi_lab.features.pictures.column_svg import ends_between, index_edges
from jammi_lab.features.pictures.lineage import Lineage
from jammi_lab.features.pictures.lineage_svg import (
    CHANGE_SIGN,
    HELD_SIGN,
    Drawing,
    End,
    draw,
    render_lineage,
    swatch_svg,
)
from jammi_lab.features.pictures.mermaid import mermaid_text
from jammi_lab.freshness.lineage import Node
from jammi_lab.freshness.node_states import is_derived
from jammi_lab.workspace.result_table import ResultTable
from jammi_widgets import assets, protocol
from jammi_widgets.action_runner import ProgressCallback
from jammi_widgets.cell_texts import first_rows
from jammi_widgets.diff import DiffView
from jammi_widgets.graph_view import Direction, LineageSnapshot, View, take_snapshot
from jammi_widgets.neighbors import NeighborExplorer
from jammi_widgets.node_details import describe_node, node_relation, step_lines
from jammi_widgets.panel import Panel

if TYPE_CHECKING:
    from jammi_lab.workspace.workspace import Workspace

# --------------------------------------------------------------------------------------------------
# Column lineage: the path of one column, upstream and downstream.

MAX_TABLES = 120
"""Maximum number of nodes drawn with columns; larger drawings show none."""
MAX_LINEAGE_NODES = 1_000
"""Largest lineage whose columns are computed as a whole; in a larger one only those around a
node."""

ColumnKey = tuple[int, str]
"""A node, by its index in the snapshot, and one of its columns."""
ColumnStep = tuple[ColumnKey, ColumnKey]
"""Two columns, the second of which is derived from the first."""


def snapshot_edges(snapshot: LineageSnapshot, lineage: Lineage) -> list[End]:
    """The edges between columns, with tables given by their indexes in the snapshot."""
    tables = [n for n in lineage.nodes if n.kind != MODEL_KIND]
    index_by_table = {
        (is_derived(n), n.name): index
        for index, n in enumerate(snapshot.nodes)
        if n.kind != MODEL_KIND
    }
    indexes = [index_by_table.get((is_derived(n), n.name), -1) for n in tables]
    edges = (
        (indexes[a], x, indexes[b], y, direct)
        for a, x, b, y, direct in index_edges(tables, lineage.column_edges)
    )
    return [edge for edge in edges if edge[0] >= 0 and edge[2] >= 0]


def trace_column(edges: Sequence[End], start: ColumnKey) -> dict[ColumnStep, bool]:
    """The steps between the columns upstream and downstream of `start`; a step maps to whether it
    carries values (True) or only selects rows."""
    upstream: dict[ColumnKey, list[tuple[ColumnKey, bool]]] = defaultdict(list)
    downstream: dict[ColumnKey, list[tuple[ColumnKey, bool]]] = defaultdict(list)
    for table, column, child, child_column, direct in edges:
        upstream[child, child_column].append(((table, column), direct))
        downstream[table, column].append(((child, child_column), direct))
    steps: dict[ColumnStep, bool] = {}
    for adjacency, upwards in ((upstream, True), (downstream, False)):
        todo, visited = [start], {start}
        while todo:
            current = todo.pop()
            for neighbor, direct in adjacency[current]:
                step = (neighbor, current) if upwards else (current, neighbor)
                steps[step] = steps.get(step, False) or direct
                if neighbor not in visited:
                    visited.add(neighbor)
                    todo.append(neighbor)
    return steps


# --------------------------------------------------------------------------------------------------
# The graph.

DEFAULT_HOPS = 2
"""Hops shown around a named node."""
DEFAULT_ASPECT = 2.2
"""Width by height of the area in which a whole lineage is to be seen: between a panel beside other
cells (about 3), one in full screen (about 1.7), and a narrow one."""
_MARKS: Mapping[str, tuple[str, str]] = {
    "changed": (CHANGE_SIGN, "Here something changed, which made other tables stale"),
    "held": (HELD_SIGN, "A recompute of everything skips these tables"),
    "checked": ("", "There are checks of the rows: ✓ all pass, ✕ one fails, ? they are due"),
}
"""Sign and meaning of the marks on nodes."""
PREVIEW_ROWS = 20
"""Maximum number of rows in a table preview."""


class _Shown(NamedTuple):
    """What is drawn now."""

    visible: Sequence[int]
    nodes: Sequence[Node]
    ids: Sequence[str]
    pairs: Sequence[tuple[int, int]]
    """The edges between them, as indices."""


class LineageGraph(Panel):
    """An interactive graph of the lineage, of the whole workspace or around `name`, a table or a
    source.

    With a name, the graph starts with two hops in both directions; direction "up" shows everything
    upstream, "down" everything downstream. `columns`: whether nodes list their columns. `selection`
    holds the selected node; `filter` is searched in names, kinds and verdicts. Both bring matching
    nodes into view. Raises TableNotFound for an unknown name, InvalidArgument for an unknown
    direction.
    """

    _shows_verdicts = True
    _esm = assets.module("lineage")
    _follows_changes = True

    focus = traitlets.Unicode(None, allow_none=True).tag(sync=True)
    """The node at the centre of the view; None for the whole lineage."""

    def __init__(
        self,
        ws: "Workspace",
        name: str | ResultTable | None = None,
        *,
        direction: Direction = "both",
        columns: bool = False,
    ) -> None:
        check_choice("direction", direction, get_args(Direction))
        self._ws = ws
        self._view = View(columns=columns)
        self._snapshot = take_snapshot(ws)
        self._column_edges: tuple[object, list[End]] = None, []
        self._drawn: tuple[object, ...] = ()
        if name is not None:
            self._view = self._focused_view(
                name if isinstance(name, str) else ws.table(name).name,
                DEFAULT_HOPS if direction == "both" else None,
                direction,
            )
        super().__init__(ws)
        self.set_trait("focus", self._view.focus)
        self.observe(self._on_view_change, names=["selection", "filter", "focus"])

    def to_svg(self) -> str:
        """The drawing as an SVG document: what the panel shows now."""
        return self._draw(self._shown_part()).svg

    def to_mermaid(self) -> str:
        """The drawing as a Mermaid flowchart in the colours of the verdicts, with checks, holds and
        root causes."""
        shown = self._shown_part()
        return mermaid_text(shown.nodes, shown.pairs, self._snapshot.node_states)

    def relation_of(self, name: str) -> str:
        """The quoted name of a node for a FROM clause. TableNotFound for a node without rows."""
        if not (relation := node_relation(self._node(name))):
            raise TableNotFound(f"{name!r} has no rows of its own.")
        return relation

    def _reload(self) -> bool:
        """Take a new snapshot; removed nodes leave the selection and the focus."""
        previous = self._snapshot
        if not (snapshot := take_snapshot(self._ws)).equals(self._snapshot):
            self._snapshot = snapshot
        self.selection = self._selectable_names(self.selection)
        if self._view.focus is not None and not self._snapshot.find_nodes(self._view.focus):
            self._view = View(columns=self._view.columns)
            self.set_trait("focus", None)
        return self._snapshot is not previous

    def _body(self) -> dict[str, Any]:
        return self._graph(self._shown_part())

    def _shown_verdicts(self) -> list[tuple[str, int, Verdict]]:
        known = self._snapshot.verdicts
        return [
            (node.name, node.version, known[node.name])
            for node in self._snapshot.nodes
            if is_derived(node) and node.version is not None and node.name in known
        ]

    def _node_id(self, name: str) -> str:
        match = find_name(name, self._snapshot.ids)
        if match is None:
            raise TableNotFound(
                f"There is no {name!r} in the lineage.",
                near=near_names(name, self._snapshot.ids),
                hint="It has all tables, and the inputs that they read.",
            )
        return match

    def _resolve_focus(self, name: str) -> str:
        """The id of the node to focus on: a node, also by the physical name of its table; or a
        source whose tables are nodes. TableNotFound."""
        try:
            return self._node_id(name)
        except TableNotFound:
            if (source := self._snapshot.find_source(name)) is not None:
                return source
            if self._ws._services.catalog.result_tables.get(name) is not None:
                return self._node_id(self._ws.table(name).name)
            raise

    @traitlets.validate("selection")
    def _validate_selection(self, proposal: dict[str, Any]) -> list[str]:
        return [self._node_id(name) for name in proposal["value"]]

    def _selectable_names(self, names: list[str]) -> list[str]:
        return [name for name in names if name in self._snapshot.index_by_id]

    @traitlets.validate("focus")
    def _validate_focus(self, proposal: dict[str, Any]) -> str | None:
        with self._tenant_context():
            return None if proposal["value"] is None else self._resolve_focus(proposal["value"])

    def _on_view_change(self, change: dict[str, Any]) -> None:
        if change["name"] == "focus" and change["new"] != self._view.focus:
            direction = self._view.direction
            self._view = self._focused_view(
                change["new"], DEFAULT_HOPS if direction == "both" else None, direction
            )
        self._run_or_queue(lambda: self._send_graph(change))

    def _send_graph(self, change: dict[str, Any]) -> None:
        with self._tenant_context():
            shown = self._shown_part()
            if change["name"] == "selection" and self._drawn == self._drawing_key(shown):
                self._send_message({"kind": "lit", "body": {"lit": self._lit_pairs()}})
            else:
                self._send_message({"kind": "changed", "body": self._graph(shown)})

    # -- messages
    # ----------------------------------------------------------------------------------------------

    def _answer(self, message: Any) -> dict[str, Any] | None:
        match message:
            case protocol.Show(node=node, hops=hops, direction=direction):
                self._view = self._focused_view(node, hops, direction)
                with self.hold_trait_notifications():
                    self.set_trait("focus", self._view.focus)
            case protocol.Export(form=form):
                return {"text": self.to_svg() if form == "svg" else self.to_mermaid()}
            case protocol.ShowColumns(on=on):
                self._view.columns = on
            case protocol.Details(node=node):
                return describe_node(self._ws, self._snapshot, self._node_id(node), self._looked_at)
            case protocol.TraceColumn(node=node, column=column):
                return self._trace_column(self._node_id(node), column)
            case protocol.Explore(node=node):
                return self._open_inner(NeighborExplorer(self._ws, self._node(node).name))
            case protocol.ShowDifference(node=node):
                return self._open_inner(DiffView(self._ws, self._node(node).name))
        return None

    def _focused_view(
        self, node: str | None, hops: int | None, direction: Direction = "both"
    ) -> View:
        """The view around a node. TableNotFound."""
        return View(
            None if node is None else self._resolve_focus(node), hops, direction, self._view.columns
        )

    def _shown_part(self) -> _Shown:
        """What is drawn now."""
        snapshot, selected, focus = self._snapshot, list(self.selection), self._view.focus
        visible = snapshot.visible_nodes(self._view, self.filter, selected)
        focus_nodes = snapshot.find_nodes(focus) if focus is not None else ()
        chosen = {snapshot.index_by_id[i] for i in selected if i in snapshot.index_by_id}
        chosen.update(focus_nodes)
        lit = {end for index in chosen for pair in snapshot.cause_edges(index) for end in pair}
        drawn = snapshot.drawn_nodes(visible, chosen | lit)
        place = {index: at for at, index in enumerate(drawn)}
        pairs = [(place[a], place[b]) for a, b in snapshot.pairs if a in place and b in place]
        ids = [snapshot.ids[index] for index in drawn]
        return _Shown(visible, [snapshot.nodes[index] for index in drawn], ids, pairs)

    def _draw(self, shown: _Shown) -> Drawing:
        indexes = [self._snapshot.index_by_id.get(i, -1) for i in shown.ids]
        return draw(
            shown.nodes,
            shown.pairs,
            self._snapshot.node_states,
            self._view.focus,
            DEFAULT_ASPECT,
            ends_between(indexes, self._column_ends(shown) or []),
        )

    def _drawing_key(self, shown: _Shown) -> tuple[object, ...]:
        """What decides how the drawing looks, besides the selection."""
        return self._snapshot, shown.ids, shown.pairs, self._view.focus, self._view.columns

    def _graph(self, shown: _Shown) -> dict[str, Any]:
        """The drawing as a message: the SVG, what its nodes and edges are, and which edges lie on
        the path from a root cause to a selected node."""
        snapshot, view = self._snapshot, self._view
        drawing = self._draw(shown)
        self._drawn = self._drawing_key(shown)
        return {
            "svg": drawing.svg,
            "nodes": self._node_messages(shown, drawing),
            "edges": drawing.edges,
            "lit": self._lit_pairs(),
            "total": len(snapshot.nodes),
            "shown": len(shown.visible),
            "columns": view.columns,
            "tooMany": view.columns and self._column_ends(shown) is None,
            "focus": view.focus,
            "hops": view.hops,
            "direction": view.direction,
            "filter": self.filter,
            "legend": [*self._legend()],
        }

    def _legend(self) -> Iterator[tuple[str, int, str, str, str]]:
        """The verdicts and marks that there are: word, number of nodes, sign, meaning, and a sample
        of the drawing. The sign of checks is what they found."""
        snapshot = self._snapshot
        for word, number in count_by_label(snapshot.verdicts.values()).items():
            plain = unmarked_word(word)
            sign = VERDICT_ICONS[plain][0]
            yield word, number, sign, VERDICT_MEANINGS[plain], swatch_svg(plain)
        found = {VERDICT_ICONS[mark.verdict][0] for mark in snapshot.checks.values()}
        for word, (sign, meaning) in _MARKS.items():
            if nodes := snapshot.marked[word]:
                shown = sign or " ".join(sorted(found))
                yield word, len(nodes), shown, meaning, swatch_svg(word)

    def _lit_pairs(self) -> list[tuple[str, str]]:
        """The edges on the paths from root causes to the selected nodes, as pairs of ids."""
        snapshot = self._snapshot
        indexes = [snapshot.index_by_id[i] for i in self.selection if i in snapshot.index_by_id]
        edges = {edge for index in indexes for edge in snapshot.cause_edges(index)}
        return sorted((snapshot.ids[a], snapshot.ids[b]) for a, b in edges)

    def _node_messages(self, shown: _Shown, drawing: Drawing) -> list[dict[str, Any]]:
        """The drawn nodes with their boxes."""
        return [
            {"id": node_id, "name": node.name, "kind": node.kind, "box": box, "columns": columns}
            for node, node_id, box, columns in zip(
                shown.nodes, shown.ids, drawing.boxes, drawing.rows, strict=True
            )
        ]

    def _column_ends(self, shown: _Shown) -> list[End] | None:
        """The edges between columns to draw; None where there are too many."""
        if not self._view.columns:
            return []
        focus = self._snapshot.index_by_id.get(self._view.focus or "")
        is_large = focus is None and len(self._snapshot.nodes) > MAX_LINEAGE_NODES
        if is_large or len(shown.nodes) > MAX_TABLES:
            return None
        return self._column_edges_around(focus)

    def _column_edges_around(self, index: int | None) -> list[End]:
        """The edges between columns around a node, or of the whole lineage."""
        snapshot = self._snapshot
        if index is not None and not (snapshot.upstream[index] or snapshot.downstream[index]):
            return []
        if self._column_edges[0] != (key := (snapshot, index)):
            name = None if index is None else snapshot.nodes[index].name
            lineage = self._ws.lineage(name, columns=True)
            self._column_edges = key, snapshot_edges(snapshot, lineage)
        return self._column_edges[1]

    def _node(self, name: str) -> Node:
        """The node of that name or id. TableNotFound."""
        return self._snapshot.nodes[self._snapshot.index_by_id[self._node_id(name)]]

    def _trace_column(self, name: str, column: str) -> dict[str, Any]:
        """The upstream and downstream path of a column, as edges between columns with whether they
        carry values."""
        ids, index = self._snapshot.ids, self._snapshot.index_by_id[name]
        steps = trace_column(self._column_edges_around(index), (index, column))
        return {
            "node": name,
            "column": column,
            "lines": [
                [ids[a], x, ids[b], y, direct] for ((a, x), (b, y)), direct in sorted(steps.items())
            ],
        }

    # -- actions
    # ----------------------------------------------------------------------------------------------

    def _act(self, action: str, names: list[str], report: ProgressCallback) -> dict[str, Any]:
        node_id = self._node_id(names[0])
        return {"node": node_id, **self._run_action(action, self._node(node_id), report)}

    def _run_action(self, action: str, node: Node, report: ProgressCallback) -> dict[str, Any]:
        name = node.name
        match action:
            case "recompute":
                try:
                    run = self._ws.recompute(name, progress=report)
                finally:
                    self.refresh()
                return {"lines": step_lines(run)}
            case "verify":
                return {"lines": [escape_invisible(str(self._ws.verify(name, progress=report)))]}
            case "what-if":
                rows = [
                    r for r in self._ws.what_if(changed=[name]) if not isinstance(r.verdict, Fresh)
                ]
                return {
                    "lines": [f"{r.name} would be {marked_label(r.verdict)}" for r in rows]
                    or ["Nothing would change."],
                    "names": [r.name for r in rows],
                }
            case "preview":
                if not (relation := node_relation(node)):
                    raise InvalidArgument(f"{name!r} has no rows to preview.")
                return first_rows(self._ws, relation, PREVIEW_ROWS)
        return super()._act(action, [name], report)

    def _rendered(self) -> Rendered:
        snapshot = self._snapshot
        if self._view.columns:
            with (
                contextlib.suppress(JammiError),
                self._tenant_context(),
            ):  # without columns if they cannot be determined
                return self._ws.lineage(
                    self._view.focus, direction=self._view.direction, columns=True
                )._rendered()
        visible = snapshot.visible_nodes(self._view, "", [])
        nodes = [snapshot.nodes[index] for index in visible]
        return render_lineage(nodes, snapshot.edges, snapshot.node_states, self._view.focus)

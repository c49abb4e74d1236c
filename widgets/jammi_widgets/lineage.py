"""The lineage graph: tables and their inputs, with verdicts and the reasons for them."""

import contextlib
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, get_args

import traitlets

from jammi_lab.core.errors import InvalidArgument, JammiError, TableNotFound
from jammi_lab.core.html import Rendered, escape_invisible
from jammi_lab.core.identifiers import near_names
from jammi_lab.core.verdicts import Fresh, Verdict, marked_label
from jammi_lab.features.pictures.column_svg import End
from jammi_lab.features.pictures.lineage_svg import (
    GraphLayout,
    layout_graph,
    render_lineage,
    second_line,
    subtitle,
    svg,
)
from jammi_lab.features.pictures.mermaid import mermaid_text
from jammi_lab.freshness.lineage import Node
from jammi_lab.freshness.node_states import is_derived
from jammi_lab.workspace.result_table import ResultTable
from jammi_widgets import assets, protocol
from jammi_widgets.action_runner import ProgressCallback
from jammi_widgets.cell_texts import first_rows
from jammi_widgets.column_paths import (
    MAX_LINEAGE_NODES,
    MAX_TABLES,
    NodeColumns,
    drawn_columns,
    snapshot_edges,
    table_pairs,
    trace_column,
)
from jammi_widgets.diff import DiffView
from jammi_widgets.graph_view import Direction, Group, View, take_snapshot
from jammi_widgets.inner_panel import InnerPanel
from jammi_widgets.neighbors import NeighborExplorer
from jammi_widgets.node_details import describe_node, find_unread_node, is_registered, node_relation
from jammi_widgets.panel import Panel

if TYPE_CHECKING:
    from jammi_lab.workspace.workspace import Workspace

DEFAULT_HOPS = 2
"""Hops shown around a named node."""
MAX_CACHED_LAYOUTS = 4
"""Number of recent layouts that are cached."""
DEFAULT_ASPECT = 2.2
"""Width by height of the area in which a whole lineage is to be seen: between a panel beside other
cells (about 3), one in full screen (about 1.7), and a narrow one."""
PREVIEW_ROWS = 20
"""Maximum number of rows in a table preview."""


class _ArrangedDrawing(NamedTuple):
    """Nodes and groups that are drawn, and where."""

    visible: Sequence[int]
    nodes: Sequence[Node | Group]
    ids: Sequence[str]
    pairs: Sequence[tuple[int, int]]
    """The edges between them, as indices."""
    verdict_words: Mapping[Any, str]
    columns: NodeColumns | None
    layout: GraphLayout


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
    _css = assets.style()
    _kinds: ClassVar[Any] = (
        protocol.Open
        | protocol.Refresh
        | protocol.Show
        | protocol.Unfold
        | protocol.OpenGroup
        | protocol.Export
        | protocol.ShowColumns
        | protocol.Details
        | protocol.TraceColumn
        | protocol.Explore
        | protocol.ShowDifference
        | protocol.Act
        | protocol.Cancel
    )
    _shared_messages = (
        protocol.Refresh,
        protocol.Show,
        protocol.Unfold,
        protocol.OpenGroup,
        protocol.ShowColumns,
    )
    _threaded_triggers = (
        protocol.Refresh,
        protocol.Details,
        protocol.TraceColumn,
        protocol.ShowColumns,
        protocol.Explore,
        protocol.ShowDifference,
    )

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
        if direction not in get_args(Direction):
            raise InvalidArgument(f'direction must be "both", "up" or "down", got {direction!r}.')
        self._ws = ws
        self._view = View(columns=columns)
        self._extra_node: Node | None = None
        self._snapshot = take_snapshot(ws)
        self._column_edges: tuple[object, list[End]] = None, []
        self._cached_layout: _CachedLayout | None = None
        self._cached_layouts: deque[_CachedLayout] = deque(maxlen=MAX_CACHED_LAYOUTS)
        self.inner = InnerPanel()
        if name is not None:
            focus = self._resolve_focus(name if isinstance(name, str) else ws.table(name).name)
            self._view = View(
                focus, DEFAULT_HOPS if direction == "both" else None, direction, columns
            )
        super().__init__(ws)
        self.set_trait("focus", self._view.focus)
        self.observe(self._on_view_change, names=["selection", "filter", "focus"])

    def to_svg(self) -> str:
        """The drawing as an SVG document: what the panel shows now, groups folded as there."""
        drawn, _, pairs, verdict_words = self._drawing()
        states = self._snapshot.states(drawn, verdict_words)
        return svg(drawn, pairs, states, self._view.focus, DEFAULT_ASPECT)

    def to_mermaid(self) -> str:
        """The drawing as a Mermaid flowchart in the colours of the verdicts, with checks, holds and
        root causes."""
        drawn, _, pairs, verdict_words = self._drawing()
        return mermaid_text(drawn, pairs, self._snapshot.states(drawn, verdict_words))

    def relation_of(self, name: str) -> str:
        """The quoted name of a node for a FROM clause. TableNotFound for a node without rows."""
        node = self._snapshot.nodes[self._snapshot.index_by_id[self._node_id(name)]]
        if not (relation := node_relation(self._ws, node)):
            raise TableNotFound(f"{name!r} has no rows of its own.")
        return relation

    def refresh(self) -> None:
        """Reload the lineage and the verdicts."""
        with self._tenant_context():
            self._refresh_snapshot()
        self._send_message({"kind": "changed", "body": self._graph()})

    def _refresh_snapshot(self) -> None:
        """Take a new snapshot; removed nodes leave the selection and the focus."""
        if self._extra_node is not None and not is_registered(self._ws, self._extra_node):
            self._extra_node = None
        if not (snapshot := take_snapshot(self._ws, self._extra_node)).equals(self._snapshot):
            self._snapshot = snapshot
        if missing := set(self.selection) - self._snapshot.index_by_id.keys():
            self.selection = [name for name in self.selection if name not in missing]
        if self._view.focus is not None and not self._snapshot.find_nodes(self._view.focus):
            self._view = View(columns=self._view.columns)
            self.set_trait("focus", None)

    def _refresh_if_changed(self) -> None:
        previous = self._snapshot
        self._refresh_snapshot()
        if self._snapshot is not previous:
            self._send_message({"kind": "changed", "body": self._graph(), "looked": True})

    def _shown_verdicts(self) -> list[tuple[str, int, Verdict]]:
        known = self._snapshot.verdicts
        return [
            (node.name, node.version, known[node.name])
            for node in self._snapshot.nodes
            if is_derived(node) and node.version is not None and node.name in known
        ]

    def _on_close(self) -> None:
        self.inner.close()

    def _node_id(self, name: str) -> str:
        matches = [i for i in self._snapshot.ids if i == name] or [
            i for i in self._snapshot.ids if i.casefold() == name.casefold()
        ]
        if not matches:
            raise TableNotFound(
                f"There is no {name!r} in the lineage.",
                near=near_names(name, self._snapshot.ids),
            )
        return matches[0]

    def _resolve_focus(self, name: str) -> str:
        """The id of the node to focus on: a node, also by the physical name of its table; a source
        whose tables are nodes; or an input that nothing reads, which is added as a node.
        TableNotFound."""
        try:
            return self._node_id(name)
        except TableNotFound:
            if (source := self._snapshot.find_source(name)) is not None:
                return source
            if self._ws._services.catalog.result_tables.get(name) is not None:
                return self._node_id(self._ws.table(name).name)
            if (node := find_unread_node(self._ws, name)) is None:
                raise
        self._extra_node = node
        self._snapshot = take_snapshot(self._ws, node)
        return self._node_id(node.name)

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
        if change["name"] == "selection":
            self._view.hidden.clear()
        if change["name"] == "focus" and change["new"] != self._view.focus:
            direction = self._view.direction
            self._view = self._focused_view(
                change["new"], DEFAULT_HOPS if direction == "both" else None, direction
            )
        self._run_or_queue(change["name"], lambda: self._send_graph(change))

    def _send_graph(self, change: dict[str, Any]) -> None:
        previous = self._cached_layout
        with self._tenant_context():
            drawing = self._arranged_drawing()
            if change["name"] == "selection" and self._cached_layout is previous:
                lit = [index for index, edge in enumerate(self._lit_edges(drawing)) if edge]
                self._send_message({"kind": "lit", "body": {"lit": lit}})
            else:
                self._send_message({"kind": "changed", "body": self._drawing_message(drawing)})

    # -- messages
    # ----------------------------------------------------------------------------------------------

    def _answer(self, message: Any) -> dict[str, Any]:
        match message:
            case protocol.Refresh():
                self._refresh_snapshot()
            case protocol.Show(node=node, hops=hops, direction=direction):
                self._view = self._focused_view(node, hops, direction)
                with self.hold_trait_notifications():
                    self.set_trait("focus", self._view.focus)
            case protocol.OpenGroup(group=group):
                self._view.open_groups = (
                    set() if group is None else self._view.open_groups | {group}
                )
            case protocol.Export(form=form):
                return {"text": self.to_svg() if form == "svg" else self.to_mermaid()}
            case protocol.Unfold(node=node, side=side, open=unfolded):
                key = (self._node_id(node), side)
                for folds, included in (
                    (self._view.unfolded, unfolded),
                    (self._view.folded, not unfolded),
                ):
                    folds.add(key) if included else folds.discard(key)
                if not unfolded:  # folding wins over showing the path to a selected node
                    index_by_id = self._snapshot.index_by_id
                    cause_nodes = {
                        selected: {
                            index_by_id[selected],
                            *chain.from_iterable(self._snapshot.cause_edges(index_by_id[selected])),
                        }
                        for selected in self.selection
                    }
                    self._view.hidden |= {
                        selected
                        for selected, path_nodes in cause_nodes.items()
                        if index_by_id[key[0]] in path_nodes
                    }
            case protocol.ShowColumns(on=on):
                self._view.columns = on
            case protocol.Details(node=node):
                return describe_node(self._ws, self._snapshot, self._node_id(node), self._looked_at)
            case protocol.TraceColumn(node=node, column=column):
                return self._trace_column(self._node_id(node), column)
            case protocol.Explore(node=node):
                return self.inner.open(NeighborExplorer(self._ws, self._name_of(node)))
            case protocol.ShowDifference(node=node):
                return self.inner.open(DiffView(self._ws, self._name_of(node)))
        return self._graph()

    def _focused_view(
        self, node: str | None, hops: int | None, direction: Direction = "both"
    ) -> View:
        """The view around a node with nothing folded or unfolded. TableNotFound."""
        return View(
            None if node is None else self._resolve_focus(node), hops, direction, self._view.columns
        )

    def _graph(self) -> dict[str, Any]:
        """The drawing as a message: nodes with positions, edges as SVG paths, and which edges lie
        on the path from a root cause to a selected node."""
        return self._drawing_message(self._arranged_drawing())

    def _arranged_drawing(self) -> _ArrangedDrawing:
        """What is drawn now, and where."""
        visible = self._snapshot.visible_nodes(self._view, self.filter, list(self.selection))
        drawn, ids, pairs, verdict_words = self._drawing(visible)
        columns = (
            self._drawn_columns(ids, pairs)
            if self._view.columns and len(drawn) <= MAX_TABLES
            else None
        )
        layout = self._arrange(drawn, ids, pairs, verdict_words, columns)
        return _ArrangedDrawing(visible, drawn, ids, pairs, verdict_words, columns, layout)

    def _lit_edges(self, drawing: _ArrangedDrawing) -> list[bool]:
        """Whether each drawn edge lies on the path from a root cause to a selected node."""
        lit, ids = self._cause_edges(list(self.selection)), drawing.ids
        return [bool(lit) and (ids[a], ids[b]) in lit for a, b in drawing.pairs]

    def _drawing_message(self, drawing: _ArrangedDrawing) -> dict[str, Any]:
        snapshot, columns, layout = self._snapshot, drawing.columns, drawing.layout
        return {
            "nodes": self._node_messages(drawing),
            "edges": [
                {"from": a, "to": b, "path": line, "lit": lit}
                for (a, b), line, lit in zip(
                    drawing.pairs, layout.lines, self._lit_edges(drawing), strict=True
                )
            ],
            "size": [layout.width, layout.height],
            "total": len(snapshot.nodes),
            "shown": len(drawing.visible),
            "grouped": sum(isinstance(n, Group) for n in drawing.nodes),
            "lines": columns.line_messages(layout, drawing.pairs) if columns is not None else [],
            "columns": self._view.columns,
            "tooMany": self._view.columns and columns is None,
            "focus": self._view.focus,
            "hops": self._view.hops,
            "direction": self._view.direction,
            "filter": self.filter,
            "counts": snapshot.verdict_counts,
            "marks": {word: len(nodes) for word, nodes in snapshot.marked.items()},
            "open": len(self._view.open_groups),
        }

    def _drawing(
        self, visible: Sequence[int] | None = None
    ) -> tuple[list[Node | Group], list[str], list[tuple[int, int]], dict[Any, str]]:
        """The drawn nodes and groups with their ids, the edges between them, and the verdict words
        of those that have one."""
        snapshot, selected = self._snapshot, list(self.selection)
        if visible is None:
            visible = snapshot.visible_nodes(self._view, self.filter, selected)
        focus = self._view.focus
        focus_nodes = snapshot.find_nodes(focus) if focus is not None else ()
        keep_ids = [*selected, *(snapshot.ids[index] for index in focus_nodes)]
        drawn, ids, pairs = snapshot.group_nodes(visible, keep_ids, self._view.open_groups)
        words, index_by_id = snapshot.verdict_words, snapshot.index_by_id
        verdict_words = {
            n: word
            for n, i in zip(drawn, ids, strict=True)
            if (word := n.verdict if isinstance(n, Group) else words[index_by_id[i]])
        }
        return drawn, ids, pairs, verdict_words

    def _cause_edges(self, selected: Sequence[str]) -> set[tuple[str, str]]:
        """The edges on the paths from root causes to the selected nodes, as pairs of ids."""
        snapshot = self._snapshot
        return {
            (snapshot.ids[a], snapshot.ids[b])
            for node_id in selected
            if node_id in snapshot.index_by_id
            for a, b in snapshot.cause_edges(snapshot.index_by_id[node_id])
        }

    def _node_messages(self, drawing: _ArrangedDrawing) -> list[dict[str, Any]]:
        """The drawn nodes with their boxes: a group with its members, a node with the number of its
        neighbours and how many of them are not visible."""
        snapshot, visible, messages = self._snapshot, set(drawing.visible), []
        rows = [[]] * len(drawing.nodes) if drawing.columns is None else drawing.columns.rows
        for node, node_id, box, columns in zip(
            drawing.nodes, drawing.ids, drawing.layout.boxes, rows, strict=True
        ):
            message: dict[str, Any] = {
                "id": node_id,
                "name": node.name,
                "kind": node.kind,
                "said": subtitle(node),
                "held": snapshot.hold_text(node),
                "checks": None if (mark := snapshot.check_mark(node)) is None else vars(mark),
                "verdict": drawing.verdict_words.get(node, ""),
                "box": list(map(round, box)),
                "columns": columns,
            }
            if isinstance(node, Group):
                change = node.changes
                message["members"] = [[name, snapshot.marks_text(name)] for name in node.members]
            else:
                index = snapshot.index_by_id[node_id]
                change = snapshot.change_text(index)
                upstream, downstream = snapshot.upstream[index], snapshot.downstream[index]
                message["above"] = len(set(upstream) - visible)
                message["below"] = len(set(downstream) - visible)
                message["ups"], message["downs"] = len(upstream), len(downstream)
            if change:
                message["said"], message["changed"] = second_line(node, {node: change}), change
            messages.append(message)
        return messages

    def _drawn_columns(
        self, ids: Sequence[str], pairs: Sequence[tuple[int, int]]
    ) -> NodeColumns | None:
        """The columns of the drawn nodes; None if the lineage is too large."""
        snapshot, focus = self._snapshot, self._view.focus
        name = (
            None
            if focus is None or focus not in snapshot.index_by_id
            else snapshot.nodes[snapshot.index_by_id[focus]].name
        )
        if name is None and len(snapshot.nodes) > MAX_LINEAGE_NODES:
            return None
        if self._column_edges[0] != (key := (snapshot, name)):
            isolated = name is not None and not (
                snapshot.upstream[snapshot.index_by_id[focus or name]]
                or snapshot.downstream[snapshot.index_by_id[focus or name]]
            )
            self._column_edges = (
                key,
                [] if isolated else snapshot_edges(snapshot, self._ws.lineage(name, columns=True)),
            )
        return drawn_columns(
            [snapshot.index_by_id.get(i, -1) for i in ids], pairs, self._column_edges[1]
        )

    def _arrange(
        self,
        drawn: Sequence[Node | Group],
        ids: Sequence[str],
        pairs: Sequence[tuple[int, int]],
        verdict_words: Mapping[Any, str],
        columns: NodeColumns | None,
    ) -> GraphLayout:
        """The layout of the drawing. Recent layouts are cached, so that selecting one of a thousand
        nodes or clearing the filter is fast."""
        rows = None if columns is None else columns.rows
        changes = self._snapshot.change_texts(drawn)
        key = list(drawn), ids, pairs, verdict_words, rows, changes
        cached = next((layout for layout in self._cached_layouts if layout.key == key), None)
        if cached is None:
            cached = _CachedLayout(
                key,
                layout_graph(
                    drawn,
                    pairs,
                    verdict_words,
                    rows,
                    changes=changes,
                    aspect=DEFAULT_ASPECT,
                ),
            )
            self._cached_layouts.append(cached)
        self._cached_layout = cached
        return cached.layout

    def _name_of(self, node: str) -> str:
        return self._snapshot.nodes[self._snapshot.index_by_id[self._node_id(node)]].name

    def _trace_column(self, name: str, column: str) -> dict[str, Any]:
        """The upstream and downstream path of a column: columns by node, edges between nodes, and
        edges between columns."""
        snapshot = self._snapshot
        index = snapshot.index_by_id[name]
        connected = snapshot.upstream[index] or snapshot.downstream[index]
        edges = (
            snapshot_edges(snapshot, self._ws.lineage(snapshot.nodes[index].name, columns=True))
            if connected
            else []
        )
        columns, steps = trace_column(edges, (index, column))
        return {
            "node": name,
            "column": column,
            "columns": [
                [snapshot.ids[node_index], column_names]
                for node_index, column_names in columns.items()
            ],
            "edges": [
                [snapshot.ids[a], snapshot.ids[b], direct]
                for (a, b), direct in table_pairs(steps).items()
            ],
            "lines": [[snapshot.ids[a], x, snapshot.ids[b], y] for (a, x), (b, y) in steps],
        }

    # -- actions
    # ----------------------------------------------------------------------------------------------

    def _act(self, action: str, names: list[str], report: ProgressCallback) -> dict[str, Any]:
        node_id = self._node_id(names[0])
        return {
            "node": node_id,
            **self._run_action(
                action, self._snapshot.nodes[self._snapshot.index_by_id[node_id]], report
            ),
        }

    def _run_action(self, action: str, node: Node, report: ProgressCallback) -> dict[str, Any]:
        name = node.name
        match action:
            case "recompute":
                try:
                    run = self._ws.recompute(name, progress=report)
                finally:
                    self.refresh()
                return {
                    "lines": [
                        f"{s.name}: {s.outcome.replace('_', ' ')}"
                        + (f", {s.error}" if s.error else "")
                        for s in run.steps
                    ]
                    or ["Nothing to do."]
                }
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
                if not (relation := node_relation(self._ws, node)):
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
        words = {
            snapshot.nodes[index]: word
            for index in visible
            if (word := snapshot.verdict_words[index])
        }
        states = snapshot.states(nodes, words)
        return render_lineage(nodes, snapshot.edges, states, self._view.focus)


@dataclass(frozen=True)
class _CachedLayout:
    """A cached layout and the input that it was computed from."""

    key: tuple[Any, ...]
    layout: GraphLayout

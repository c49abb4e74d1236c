"""The lineage graph: what derives from what, whether it is still true, and why not."""

import contextlib
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar, get_args

import traitlets

from jammi_lab.errors import InvalidArgument, JammiError, TableNotFound
from jammi_lab.handles import ResultTable
from jammi_lab.markup import Form, visible
from jammi_lab.names import near
from jammi_lab.sensing.column_picture import End
from jammi_lab.sensing.lineage import Node
from jammi_lab.sensing.picture import Arranged, arranged, is_derived, subtitle
from jammi_lab.sensing.picture import lineage as picture
from jammi_lab.values.verdicts import Fresh, word
from jammi_widgets import assets, protocol
from jammi_widgets.columns import MOST_KNOWN, MOST_TABLES, InNodes, by_pair, ends_in, in_nodes, way_of
from jammi_widgets.graph import Direction, Group, Snapshot, View
from jammi_widgets.neighbors import NeighborExplorer
from jammi_widgets.nodes import details, relation_of, still_there, unread
from jammi_widgets.panel import Panel
from jammi_widgets.rows import first_rows
from jammi_widgets.work import Report

if TYPE_CHECKING:
    from jammi_lab.values.verdicts import Verdict
    from jammi_lab.workspace import Workspace

HOPS = 2
"""How far around a node that was named."""
DRAWINGS = 4
"""Of the last ones it is known where everything stands."""
PREVIEW_ROWS = 20
"""Rows that a look into a table shows."""


class LineageGraph(Panel):
    """A picture of the lineage that one can walk in: all of it, or what is around `name`, a table or a source.

    Around a name it begins with two hops to either side; with the direction "up" all that it is made from, with "down" all that it goes into.
    `columns`: whether the columns stand in the nodes. `selection` holds the chosen node, `filter` what names, kinds and verdicts are searched for;
    both bring what they find into view. Raises TableNotFound for a name that is nothing here; InvalidArgument.
    """

    _esm = assets.module("lineage")
    _css = assets.style()
    _kinds: ClassVar[Any] = (
        protocol.Open
        | protocol.Refresh
        | protocol.Show
        | protocol.Unfold
        | protocol.Columns
        | protocol.Details
        | protocol.Column
        | protocol.Explore
        | protocol.Act
        | protocol.Cancel
    )
    _shared = (protocol.Refresh, protocol.Show, protocol.Unfold, protocol.Columns)
    _aside = (protocol.Refresh, protocol.Details, protocol.Column, protocol.Columns, protocol.Explore)

    focus = traitlets.Unicode(None, allow_none=True).tag(sync=True)
    """The node around which is drawn; None for everything."""

    def __init__(self, ws: "Workspace", name: str | ResultTable | None = None, *, direction: Direction = "both", columns: bool = False) -> None:
        if direction not in get_args(Direction):
            raise InvalidArgument(f'direction is "both", "up" or "down", not {direction!r}.')
        self._ws = ws
        self._view = View(columns=columns)
        self._unread: Node | None = None
        self._snapshot = _taken(ws)
        self._ends: tuple[object, list[End]] = None, []
        self._drawing: _Drawing | None = None
        self._drawings: deque[_Drawing] = deque(maxlen=DRAWINGS)
        self._explorer: NeighborExplorer | None = None
        if name is not None:
            middle = self._middle(name if isinstance(name, str) else ws.table(name).name)
            self._view = View(middle, HOPS if direction == "both" else None, direction, columns)
        super().__init__(ws)
        self.set_trait("focus", self._view.focus)
        self.observe(self._moved, names=["selection", "filter", "focus"])

    def refresh(self) -> None:
        """Look again: at the tables there are, and at their verdicts."""
        with self._as_bound():
            self._look()
        self._tell({"kind": "changed", "body": self._graph()})

    def _look(self) -> None:
        """See what there is; what is gone is chosen no more, and no more in the middle."""
        if self._unread is not None and not still_there(self._ws, self._unread):
            self._unread = None
        if not (now := _taken(self._ws, self._unread)).same(self._snapshot):
            self._snapshot = now
        if gone := set(self.selection) - self._snapshot.place.keys():
            self.selection = [name for name in self.selection if name not in gone]
        if self._view.focus is not None and not self._snapshot.inside(self._view.focus):
            self._view = View(columns=self._view.columns)
            self.set_trait("focus", None)

    def _look_quietly(self) -> None:
        before = self._snapshot
        self._look()
        if self._snapshot is not before:
            self._tell({"kind": "changed", "body": self._graph(), "looked": True})

    def _end(self) -> None:
        if self._explorer is not None:
            self._explorer.close()

    def _known(self, name: str) -> str:
        wanted = [i for i in self._snapshot.ids if i == name] or [i for i in self._snapshot.ids if i.casefold() == name.casefold()]
        if not wanted:
            raise TableNotFound(f"There is nothing called {name!r} in the lineage.", near=near(name, self._snapshot.ids))
        return wanted[0]

    def _middle(self, name: str) -> str:
        """What can be in the middle: a node, also by a table's physical name; a source whose tables are nodes; what nothing reads, which becomes a
        node. TableNotFound."""
        try:
            return self._known(name)
        except TableNotFound:
            if (source := self._snapshot.holder(name)) is not None:
                return source
            if self._ws._rooms.catalog.tables.get(name) is not None:
                return self._known(self._ws.table(name).name)
            if (found := unread(self._ws, name)) is None:
                raise
        self._unread = found
        self._snapshot = _taken(self._ws, found)
        return self._known(found.name)

    @traitlets.validate("selection")
    def _chosen(self, proposal: dict[str, Any]) -> list[str]:
        return [self._known(name) for name in proposal["value"]]

    def _there(self, names: list[str]) -> list[str]:
        return [name for name in names if name in self._snapshot.place]

    @traitlets.validate("focus")
    def _middle_of(self, proposal: dict[str, Any]) -> str | None:
        with self._as_bound():
            return None if proposal["value"] is None else self._middle(proposal["value"])

    def _moved(self, change: dict[str, Any]) -> None:
        if change["name"] == "selection":
            self._view.hidden.clear()
        if change["name"] == "focus" and change["new"] != self._view.focus:
            direction = self._view.direction
            self._view = self._around(change["new"], HOPS if direction == "both" else None, direction)
        self._do(change["name"], lambda: self._drawn_again(change))

    def _drawn_again(self, change: dict[str, Any]) -> None:
        before = self._drawing
        with self._as_bound():
            body = self._graph()
        if change["name"] == "selection" and self._drawing is before:
            self._tell({"kind": "lit", "body": {"lit": [at for at, edge in enumerate(body["edges"]) if edge["lit"]]}})
        else:
            self._tell({"kind": "changed", "body": body})

    # -- messages ------------------------------------------------------------------------------------------------------------------

    def _answer(self, message: Any) -> dict[str, Any]:
        match message:
            case protocol.Refresh():
                self._look()
            case protocol.Show(node=node, hops=hops, direction=direction):
                self._view = self._around(node, hops, direction)
                with self.hold_trait_notifications():
                    self.set_trait("focus", self._view.focus)
            case protocol.Unfold(node=node, side=side, open=opened):
                key = (self._known(node), side)
                for kept, there in ((self._view.opened, opened), (self._view.closed, not opened)):
                    kept.add(key) if there else kept.discard(key)
                if not opened:  # what one folds is folded, also where it is on the way to what is chosen
                    place = self._snapshot.place
                    ways = {each: {place[each], *chain.from_iterable(self._snapshot.way(place[each]))} for each in self.selection}
                    self._view.hidden |= {each for each, way in ways.items() if place[key[0]] in way}
            case protocol.Columns(on=on):
                self._view.columns = on
            case protocol.Details(node=node):
                return details(self._ws, self._snapshot, self._known(node))
            case protocol.Column(node=node, column=column):
                return self._traced(self._known(node), column)
            case protocol.Explore(node=node):
                return self._explored(self._known(node))
        return self._graph()

    def _around(self, node: str | None, hops: int | None, direction: Direction = "both") -> View:
        """The view around a node, nothing folded or unfolded yet. TableNotFound."""
        return View(None if node is None else self._middle(node), hops, direction, self._view.columns)

    def _graph(self) -> dict[str, Any]:
        """Nodes with places, edges as paths, and which edges lie on the way from a root cause to what is chosen."""
        snapshot, chosen = self._snapshot, list(self.selection)
        shown = snapshot.shown(self._view, self.filter, chosen)
        focus = self._view.focus
        keep = [*chosen, *(snapshot.ids[at] for at in (snapshot.inside(focus) if focus is not None else ()))]
        drawn, ids, pairs = snapshot.grouped(shown, keep)
        words = {n.name: n.verdict if isinstance(n, Group) else snapshot.word(snapshot.place[i]) for n, i in zip(drawn, ids, strict=True)}
        columns = self._columns(ids, pairs) if self._view.columns and len(drawn) <= MOST_TABLES else None
        placed = self._arranged(drawn, ids, pairs, words, columns)
        there = set(shown)
        lit = {(snapshot.ids[a], snapshot.ids[b]) for name in chosen if name in snapshot.place for a, b in snapshot.way(snapshot.place[name])}
        nodes = []
        for node, i, box, rows in zip(drawn, ids, placed.boxes, [[]] * len(drawn) if columns is None else columns.rows, strict=True):
            known: dict[str, Any] = {
                "id": i,
                "name": node.name,
                "kind": node.kind,
                "said": subtitle(node),
                "verdict": words[node.name],
                "box": [round(v) for v in box],
                "columns": rows,
            }
            if isinstance(node, Group):
                known["members"] = node.members
            else:
                at = snapshot.place[i]
                known["above"] = len(set(snapshot.above[at]) - there)
                known["below"] = len(set(snapshot.below[at]) - there)
                known["ups"], known["downs"] = len(snapshot.above[at]), len(snapshot.below[at])
            nodes.append(known)
        return {
            "nodes": nodes,
            "edges": [{"from": a, "to": b, "path": line, "lit": (ids[a], ids[b]) in lit} for (a, b), line in zip(pairs, placed.lines, strict=True)],
            "size": [placed.wide, placed.high],
            "total": len(snapshot.nodes),
            "shown": len(shown),
            "grouped": sum(isinstance(n, Group) for n in drawn),
            "lines": columns.told(placed, pairs) if columns is not None else [],
            "columns": self._view.columns,
            "tooMany": self._view.columns and columns is None,
            "focus": self._view.focus,
            "hops": self._view.hops,
            "direction": self._view.direction,
            "filter": self.filter,
            "counts": _counted(snapshot),
        }

    def _columns(self, ids: Sequence[str], pairs: Sequence[tuple[int, int]]) -> InNodes | None:
        """The columns of what is drawn; None when there are too many tables to look them all up."""
        snapshot, focus = self._snapshot, self._view.focus
        name = None if focus is None or focus not in snapshot.place else snapshot.nodes[snapshot.place[focus]].name
        if name is None and len(snapshot.nodes) > MOST_KNOWN:
            return None
        if self._ends[0] != (key := (snapshot, name)):
            alone = name is not None and not (snapshot.above[snapshot.place[focus or name]] or snapshot.below[snapshot.place[focus or name]])
            self._ends = key, [] if alone else ends_in(snapshot, self._ws.lineage(name, columns=True))
        return in_nodes([snapshot.place.get(i, -1) for i in ids], pairs, self._ends[1])

    def _arranged(
        self,
        drawn: Sequence[Node | Group],
        ids: Sequence[str],
        pairs: Sequence[tuple[int, int]],
        words: Mapping[str, str],
        columns: InNodes | None,
    ) -> Arranged:
        """Where everything stands: as before when the same is drawn, so that a click in a thousand nodes, or taking a filter away, is answered at
        once."""
        rows = None if columns is None else columns.rows
        key = list(drawn), ids, pairs, words, rows
        drawing = next((each for each in self._drawings if each.key == key), None)
        if drawing is None:
            drawing = _Drawing(key, arranged(drawn, pairs, {name: said for name, said in words.items() if said}, rows))
            self._drawings.append(drawing)
        self._drawing = drawing
        return drawing.placed

    def _explored(self, name: str) -> dict[str, Any]:
        """An explorer of the table, for the page to show below the picture."""
        if self._explorer is not None:
            self._explorer.close()
        self._explorer = NeighborExplorer(self._ws, self._snapshot.nodes[self._snapshot.place[name]].name)
        return {"widget": self._explorer.model_id}

    def _traced(self, name: str, column: str) -> dict[str, Any]:
        """What a column rests on and what rests on it: columns by node, the edges between the nodes, and those between the columns."""
        snapshot = self._snapshot
        at = snapshot.place[name]
        read = snapshot.above[at] or snapshot.below[at]
        ends = ends_in(snapshot, self._ws.lineage(snapshot.nodes[at].name, columns=True)) if read else []
        columns, steps = way_of(ends, (at, column))
        return {
            "node": name,
            "column": column,
            "columns": [[snapshot.ids[place], some] for place, some in columns.items()],
            "edges": [[snapshot.ids[a], snapshot.ids[b], direct] for (a, b), direct in by_pair(steps).items()],
            "lines": [[snapshot.ids[a], x, snapshot.ids[b], y] for (a, x), (b, y) in steps],
        }

    # -- actions -------------------------------------------------------------------------------------------------------------------

    def _act(self, action: str, names: list[str], report: Report) -> dict[str, Any]:
        known = self._known(names[0])
        return {"node": known, **self._done(action, self._snapshot.nodes[self._snapshot.place[known]], report)}

    def _done(self, action: str, node: Node, report: Report) -> dict[str, Any]:
        name = node.name
        match action:
            case "recompute":
                try:
                    run = self._ws.recompute(name, progress=report)
                finally:
                    self.refresh()
                return {
                    "lines": [f"{s.name}: {s.outcome.replace('_', ' ')}" + (f", {s.error}" if s.error else "") for s in run.steps]
                    or ["Nothing had to be done."]
                }
            case "verify":
                return {"lines": [visible(str(self._ws.verify(name, progress=report)))]}
            case "what-if":
                rows = [r for r in self._ws.what_if(changed=[name]) if not isinstance(r.verdict, Fresh)]
                return {"lines": [f"{r.name} would be {word(r.verdict)}" for r in rows] or ["Nothing would change."], "names": [r.name for r in rows]}
            case "preview":
                if not (relation := relation_of(self._ws, node)):
                    raise InvalidArgument(f"{name!r} has no rows to look at.")
                return first_rows(self._ws, relation, PREVIEW_ROWS)
        return super()._act(action, [name], report)

    def _form(self) -> Form:
        snapshot = self._snapshot
        if self._view.columns:
            with contextlib.suppress(JammiError), self._as_bound():  # what cannot be looked up is drawn without columns
                return self._ws.lineage(self._view.focus, direction=self._view.direction, columns=True)._form()
        shown = set(snapshot.shown(self._view, "", []))
        words = {node.name: snapshot.word(at) for at, node in enumerate(snapshot.nodes) if snapshot.word(at)}
        kept = [node for at, node in enumerate(snapshot.nodes) if at in shown]
        return picture(kept, snapshot.edges, words, self._view.focus)


@dataclass(frozen=True)
class _Drawing:
    """What was drawn, and where it stands."""

    key: tuple[Any, ...]
    placed: Arranged


def _taken(ws: "Workspace", alone: Node | None = None) -> Snapshot:
    """The whole lineage and the verdicts as they are now; with what is looked at though nothing reads it."""
    lineage = ws.lineage()
    verdicts: dict[str, Verdict] = {row.name: row.verdict for row in ws.status()}
    there = {n.name for n in lineage.nodes if is_derived(n)}
    made = [Node(r.kind, r.name, r.newest_version) for r in ws.recipes() if r.name not in there]  # never computed, or made from nothing
    if alone is not None and not any((n.name, is_derived(n)) == (alone.name, False) for n in lineage.nodes):
        made.append(alone)
    return Snapshot([*lineage.nodes, *made], lineage.edges, verdicts)


def _counted(snapshot: Snapshot) -> dict[str, int]:
    """How many recipes have which verdict."""
    counts: dict[str, int] = {}
    for verdict in snapshot.verdicts.values():
        counts[word(verdict)] = counts.get(word(verdict), 0) + 1
    return counts

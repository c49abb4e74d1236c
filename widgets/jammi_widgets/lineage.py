"""The lineage graph: what derives from what, whether it is still true, and why not."""

import contextlib
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import traitlets

from jammi_lab.errors import InvalidArgument, JammiError, TableNotFound
from jammi_lab.handles import ResultTable
from jammi_lab.markup import Form, visible
from jammi_lab.names import near, written
from jammi_lab.sensing.column_picture import ends_of
from jammi_lab.sensing.lineage import Node
from jammi_lab.sensing.models import MODEL
from jammi_lab.sensing.picture import Arranged, arranged, is_derived, subtitle
from jammi_lab.sensing.picture import lineage as picture
from jammi_lab.values.base import short
from jammi_lab.values.verdicts import Fresh, reasons_of, word
from jammi_widgets import assets, protocol
from jammi_widgets.columns import way_of
from jammi_widgets.graph import Group, Snapshot, View
from jammi_widgets.neighbors import NeighborExplorer
from jammi_widgets.panel import Panel
from jammi_widgets.rows import columns_of, first_rows
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

    `selection` holds the chosen node, `filter` what names, kinds and verdicts are searched for; both bring what they find into view.
    Raises TableNotFound for a name that is nothing here.
    """

    _esm = assets.module("lineage")
    _css = assets.style()
    _kinds: ClassVar[Any] = (
        protocol.Open
        | protocol.Refresh
        | protocol.Show
        | protocol.Unfold
        | protocol.Details
        | protocol.Column
        | protocol.Explore
        | protocol.Act
        | protocol.Cancel
    )
    _shared = (protocol.Refresh, protocol.Show, protocol.Unfold)

    focus = traitlets.Unicode(None, allow_none=True).tag(sync=True)
    """The node around which is drawn; None for everything."""

    def __init__(self, ws: "Workspace", name: str | ResultTable | None = None) -> None:
        self._view = View(focus=None, hops=None)
        self._snapshot = _taken(ws)
        self._drawing: _Drawing | None = None
        self._drawings: deque[_Drawing] = deque(maxlen=DRAWINGS)
        self._explorer: NeighborExplorer | None = None
        if name is not None:
            self._view = View(focus=self._middle(name if isinstance(name, str) else ws.table(name).name), hops=HOPS)
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
        self._snapshot = _taken(self._ws)
        if gone := set(self.selection) - self._snapshot.place.keys():
            self.selection = [name for name in self.selection if name not in gone]
        if self._view.focus is not None and not self._snapshot.inside(self._view.focus):
            self._view = View()
            self.set_trait("focus", None)

    def _look_quietly(self) -> None:
        before = self._snapshot
        self._look()
        if not self._snapshot.same(before):
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
        """What can be in the middle: a node, or a source whose tables are nodes. TableNotFound."""
        try:
            return self._known(name)
        except TableNotFound:
            if (source := self._snapshot.holder(name)) is None:
                raise
            return source

    @traitlets.validate("selection")
    def _chosen(self, proposal: dict[str, Any]) -> list[str]:
        return [self._known(name) for name in proposal["value"]]

    def _moved(self, change: dict[str, Any]) -> None:
        if change["name"] == "focus" and change["new"] != self._view.focus:
            self._view = View(focus=None if change["new"] is None else self._middle(change["new"]), hops=HOPS)
        before, body = self._drawing, self._graph()
        if change["name"] == "selection" and self._drawing is before:
            self._tell({"kind": "lit", "body": {"lit": [at for at, edge in enumerate(body["edges"]) if edge["lit"]]}})
        else:
            self._tell({"kind": "changed", "body": body})

    # -- messages ------------------------------------------------------------------------------------------------------------------

    def _answer(self, message: Any) -> dict[str, Any]:
        match message:
            case protocol.Refresh():
                self._look()
            case protocol.Show(node=node, hops=hops):
                self._view = View(focus=None if node is None else self._middle(node), hops=hops)
                with self.hold_trait_notifications():
                    self.set_trait("focus", self._view.focus)
            case protocol.Unfold(node=node, side=side, open=opened):
                key = (self._known(node), side)
                for kept, there in ((self._view.opened, opened), (self._view.closed, not opened)):
                    kept.add(key) if there else kept.discard(key)
            case protocol.Details(node=node):
                return self._details(self._known(node))
            case protocol.Column(node=node, column=column):
                return self._traced(self._known(node), column)
            case protocol.Explore(node=node):
                return self._explored(self._known(node))
        return self._graph()

    def _graph(self) -> dict[str, Any]:
        """Nodes with places, edges as paths, and which edges lie on the way from a root cause to what is chosen."""
        snapshot, chosen = self._snapshot, list(self.selection)
        shown = snapshot.shown(self._view, self.filter, chosen)
        focus = self._view.focus
        keep = [*chosen, *(snapshot.ids[at] for at in (snapshot.inside(focus) if focus is not None else ()))]
        drawn, ids, pairs = snapshot.grouped(shown, keep)
        words = {n.name: n.verdict if isinstance(n, Group) else snapshot.word(snapshot.place[i]) for n, i in zip(drawn, ids, strict=True)}
        placed = self._arranged(drawn, ids, pairs, words)
        there = set(shown)
        lit = {(snapshot.ids[a], snapshot.ids[b]) for name in chosen if name in snapshot.place for a, b in snapshot.way(snapshot.place[name])}
        nodes = []
        for node, i, box in zip(drawn, ids, placed.boxes, strict=True):
            known: dict[str, Any] = {
                "id": i,
                "name": node.name,
                "kind": node.kind,
                "said": subtitle(node),
                "verdict": words[node.name],
                "box": [round(v) for v in box],
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
            "focus": self._view.focus,
            "hops": self._view.hops,
            "counts": _counted(snapshot),
        }

    def _arranged(self, drawn: Sequence[Node | Group], ids: Sequence[str], pairs: Sequence[tuple[int, int]], words: Mapping[str, str]) -> Arranged:
        """Where everything stands: as before when the same is drawn, so that a click in a thousand nodes, or taking a filter away, is answered at
        once."""
        key = list(drawn), ids, pairs, words
        drawing = next((each for each in self._drawings if each.key == key), None)
        if drawing is None:
            drawing = _Drawing(key, arranged(drawn, pairs, {name: said for name, said in words.items() if said}))
            self._drawings.append(drawing)
        self._drawing = drawing
        return drawing.placed

    def _explored(self, name: str) -> dict[str, Any]:
        """An explorer of the table, for the page to show below the picture."""
        if self._explorer is not None:
            self._explorer.close()
        self._explorer = NeighborExplorer(self._ws, self._snapshot.nodes[self._snapshot.place[name]].name)
        return {"widget": self._explorer.model_id}

    def _details(self, name: str) -> dict[str, Any]:
        snapshot = self._snapshot
        at = snapshot.place[name]
        node = snapshot.nodes[at]
        verdict = snapshot.verdicts.get(node.name) if is_derived(node) else None
        known: dict[str, Any] = {
            "id": name,
            "name": node.name,
            "said": subtitle(node),
            "verdict": word(verdict) if verdict is not None else "",
            "reasons": [visible(r) for r in reasons_of(verdict)] if verdict is not None else [],
            "reads": [snapshot.ids[p] for p in snapshot.above[at]],
            "readBy": [snapshot.ids[p] for p in snapshot.below[at]],
            "facts": [],
            "columns": [],
            "anchors": [],
            "definition": "",
            "actions": ["what-if", *(["preview"] if _relation(node) else [])],
        }
        if is_derived(node):
            known["actions"] = ["recompute", "verify", "what-if", "preview"] if node.version is not None else ["recompute"]
            known["definition"] = next((r.definition for r in self._ws.recipes() if r.name == node.name), "")
            if node.version is not None:
                self._of_table(node.name, known)
        elif node.kind == MODEL:
            known["actions"] = ["what-if"]
            versions = [model for model in self._ws.models.list() if model.name == node.name]
            known["facts"] = [[f"version {m.version}", f"{m.dimensions or '?'} dimensions, {short(m.digest)}"] for m in versions]
        elif node.kind == "source" and node.name.partition(".")[0] in self._ws.sources:
            source = self._ws.sources[node.name.partition(".")[0]]
            known["facts"] = [["kind", source.kind], ["location", visible(source.location)]]
            inner = node.name.partition(".")[2]
            with contextlib.suppress(JammiError):  # what cannot be reached now says so elsewhere
                known["columns"] = [[c.name, c.type] for c in (source.columns(inner) if inner else source.columns())]
        elif relation := _relation(node):
            with contextlib.suppress(JammiError):
                known["columns"] = columns_of(self._ws, relation)
        return known

    def _traced(self, name: str, column: str) -> dict[str, Any]:
        """What a column rests on and what rests on it: columns by node, and the edges between them."""
        node = self._snapshot.nodes[self._snapshot.place[name]]
        found = self._ws.lineage(node.name, columns=True)
        tables = [n for n in found.nodes if n.kind != MODEL]
        ids = {(is_derived(n), n.name): i for n, i in zip(self._snapshot.nodes, self._snapshot.ids, strict=True) if n.kind != MODEL}
        named = {at: ids[key] for at, n in enumerate(tables) if (key := (is_derived(n), n.name)) in ids}
        start = next((at for at, known in named.items() if known == name), -1)
        columns, pairs = way_of(ends_of(tables, found.column_edges), (start, column))
        return {
            "node": name,
            "column": column,
            "columns": [[named[at], [visible(c) for c in some]] for at, some in columns.items() if at in named],
            "edges": [[named[a], named[b], direct] for (a, b), direct in pairs.items() if a in named and b in named],
        }

    def _of_table(self, name: str, known: dict[str, Any]) -> None:
        table = self._ws.table(name)
        known["facts"] = [
            ["rows", "" if table.row_count is None else f"{table.row_count:,}"],
            ["size", "" if table.bytes is None else f"{table.bytes:,} B"],
            ["completed", (table.completed_at or "")[:19].replace("T", " ") + " UTC"],
            ["physical name", table.table_name],
        ]
        if table.dimensions:
            known["facts"].insert(1, ["dimensions", f"{table.dimensions:,}"])
            known["search"] = f"jl.widgets.NeighborExplorer(ws, {name!r})"
        if (manifest := table.manifest) is not None:
            known["facts"] += [
                ["definition", short(manifest.definition_hash)],
                ["artifact", f"{manifest.artifact.algorithm} {short(manifest.artifact.digest)}"],
                ["made by", f"jammi_lab {manifest.engine_version}, run {short(manifest.produced_by)}"],
                ["made at", f"{manifest.produced_at[:19].replace('T', ' ')} UTC"],
            ]
            known["columns"] = [[c.name, c.type] for c in manifest.columns]
            known["anchors"] = [[a.input.label, str(a.kind), a.method, short(a.value), ", ".join(map(visible, a.columns))] for a in manifest.anchors]

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
                if not (relation := _relation(node)):
                    raise InvalidArgument(f"{name!r} has no rows to look at.")
                return first_rows(self._ws, relation, PREVIEW_ROWS)
        return super()._act(action, [name], report)

    def _form(self) -> Form:
        snapshot = self._snapshot
        shown = set(snapshot.shown(self._view, "", []))
        words = {node.name: snapshot.word(at) for at, node in enumerate(snapshot.nodes) if snapshot.word(at)}
        kept = [node for at, node in enumerate(snapshot.nodes) if at in shown]
        return picture(kept, snapshot.edges, words, self._view.focus)


@dataclass(frozen=True)
class _Drawing:
    """What was drawn, and where it stands."""

    key: tuple[Any, ...]
    placed: Arranged


def _relation(node: Node) -> str:
    """What FROM says for a node; empty for one without rows."""
    if is_derived(node):
        return written("jammi", node.name)
    source, dot, inner = node.name.partition(".")
    match node.kind:
        case "mutable":
            return written("mutable", node.name)
        case "topic":
            return written("topics", node.name)
        case "source" | "frame":
            return written(source, inner) if dot else written(source)
    return ""


def _taken(ws: "Workspace") -> Snapshot:
    """The whole lineage and the verdicts as they are now."""
    lineage = ws.lineage()
    verdicts: dict[str, Verdict] = {row.name: row.verdict for row in ws.status()}
    there = {n.name for n in lineage.nodes if is_derived(n)}
    alone = [Node(r.kind, r.name, r.newest_version) for r in ws.recipes() if r.name not in there]  # never computed, or made from nothing
    return Snapshot([*lineage.nodes, *alone], lineage.edges, verdicts)


def _counted(snapshot: Snapshot) -> dict[str, int]:
    """How many recipes have which verdict."""
    counts: dict[str, int] = {}
    for verdict in snapshot.verdicts.values():
        counts[word(verdict)] = counts.get(word(verdict), 0) + 1
    return counts

"""Lineage: what derives from what, from the anchors of the newest ready versions."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from jammi_lab.catalog.closure import Direction
from jammi_lab.catalog.closure import Node as Point
from jammi_lab.catalog.lineage import Link
from jammi_lab.errors import DependencyCycle, ExtensionMissing
from jammi_lab.markup import Form, Shown
from jammi_lab.sensing import picture
from jammi_lab.sensing.column_picture import column_lineage
from jammi_lab.sensing.columns import ColumnEdge
from jammi_lab.sensing.graph import Place
from jammi_lab.sensing.models import MODEL
from jammi_lab.values.anchors import Input, InputKind
from jammi_lab.values.base import Value
from jammi_lab.values.records import Edge

if TYPE_CHECKING:
    import networkx
    from openlineage.client.event_v2 import RunEvent


class Node(Value, frozen=True):
    """A thing in the graph."""

    kind: str
    """source, frame, mutable, topic, clock, model, or the kind of the result table: sql, external …"""
    name: str
    """Its name; `source.table` when a source has several."""
    version: int | None = None
    """Newest ready version of a recipe."""


_MERMAID = {"source": ("[(", ")]"), "frame": ("[(", ")]"), MODEL: ("{{", "}}")}
"""The brackets that make a shape."""


class Lineage(Shown):
    """A part of the graph: `.nodes`, `.edges`, `.closure()`; with columns asked for also `.column_edges`."""

    def __init__(
        self,
        nodes: Sequence[Node],
        edges: Sequence[Edge],
        focus: str | None,
        verdicts: Callable[[], Mapping[str, str]],
        column_edges: Sequence[ColumnEdge] | None = None,
        events: "Callable[[], list[RunEvent]]" = list,
    ) -> None:
        self.nodes, self.edges, self._focus, self._verdicts = list(nodes), list(edges), focus, verdicts
        self._events = events
        self.column_edges, self._by_column = list(column_edges or ()), column_edges is not None

    def closure(self) -> list[str]:
        """Every name in it, parents before children."""
        return [n.name for n in self.nodes]

    def to_mermaid(self) -> str:
        """A Mermaid flowchart; names are quoted, so that none can act in it."""
        lines = ["flowchart LR"]
        for at, node in enumerate(self.nodes):
            label = node.name.replace('"', "#quot;").replace("\n", " ")
            left, right = _MERMAID.get(node.kind, ("[", "]"))
            lines.append(f'  n{at}{left}"{label}"{right}')
        lines += [f"  n{a} --> n{b}" for a, b in picture.pairs_of(self.nodes, self.edges)]
        return "\n".join(lines)

    def to_networkx(self) -> "networkx.DiGraph[str]":
        """A directed graph from inputs to what is derived: nodes by name, with `kind` and `version`; edges with `kind`.

        What is called like a recipe, or a model like a source, is `<kind>:<name>`. ExtensionMissing when networkx is not installed.
        """
        try:
            import networkx
        except ImportError:
            raise ExtensionMissing("networkx is not installed.", hint="pip install 'jammi-lab[networkx]'; to_mermaid() needs nothing.") from None
        names = picture.ids_of(self.nodes)
        graph: networkx.DiGraph[str] = networkx.DiGraph()
        for name, node in zip(names, self.nodes, strict=True):
            graph.add_node(name, kind=node.kind, version=node.version)
        kinds = {(e.kind == MODEL, e.input, e.derived): e.kind for e in self.edges}
        for a, b in picture.pairs_of(self.nodes, self.edges):
            graph.add_edge(names[a], names[b], kind=kinds[self.nodes[a].kind == MODEL, self.nodes[a].name, self.nodes[b].name])
        return graph

    def to_openlineage(self) -> "list[RunEvent]":
        """The runs that made the newest versions in it, as events of the OpenLineage client, by time. ExtensionMissing when that is not installed."""
        return self._events()

    def _form(self) -> Form:
        if self._by_column:
            return column_lineage([n for n in self.nodes if n.kind != MODEL], self.column_edges, self._verdicts())
        return picture.lineage(self.nodes, self.edges, self._verdicts(), self._focus)


def in_order(
    links: Sequence[Link], of_models: Sequence[Edge], kinds: Mapping[str, tuple[str, int | None]], start: str | None, alone: str
) -> list[Node]:
    """The nodes of the links and of the edges from models, parents before children; `kinds` gives kind and version of recipes. What was asked about
    is among them, as something of kind `alone` when nothing leads to it. DependencyCycle when they lie on a circle."""
    above: dict[_Key, set[_Key]] = {}
    for link in links:
        above.setdefault(_key(link.input), set())
        above.setdefault(("result", link.derived), set()).add(_key(link.input))
    for edge in of_models:
        above.setdefault((MODEL, edge.input), set())
        above.setdefault(("result", edge.derived), set()).add((MODEL, edge.input))
    if start is not None and not any(name == start for _, name in above):
        above[alone, start] = set()
    below: dict[_Key, list[_Key]] = {}
    for key, parents in above.items():
        for parent in parents:
            below.setdefault(parent, []).append(key)
    waiting = {key: len(parents) for key, parents in above.items()}
    ready = sorted((key for key, number in waiting.items() if not number), key=lambda key: (key[0] == MODEL, key))
    for key in ready:  # grows while it is walked: Kahn's order
        for child in sorted(below.get(key, ())):
            waiting[child] -= 1
            if not waiting[child]:
                ready.append(child)
    if len(ready) < len(above):
        raise _circle({key: above[key] for key, number in waiting.items() if number})
    return [_node(key, kinds) for key in ready]


def still_met(links: Sequence[Link], direction: Direction, left_out: Collection[tuple[Place, Place]]) -> list[Link]:
    """The links that a walk in one direction meets when some edges between recipes, as input and reader, are left out."""
    if not left_out:
        return list(links)
    leaving: dict[Point, list[Link]] = {}
    for link in links:
        if not (link.source[0] == InputKind.RESULT and (_place(link.source), _place(link.target)) in left_out):
            leaving.setdefault(link.source if direction == "down" else link.target, []).append(link)
    met = dict.fromkeys(link.source if direction == "down" else link.target for link in links if link.depth == 1)
    waiting = list(met)
    for point in waiting:  # grows while it is walked
        further = [link.target if direction == "down" else link.source for link in leaving.get(point, ())]
        waiting += [each for each in dict.fromkeys(further) if each not in met]
        met |= dict.fromkeys(further)
    return [link for point in waiting for link in leaving.get(point, ())]


def _place(point: Point) -> Place:
    return point[3] or None, point[1]


def _node(key: "_Key", kinds: Mapping[str, tuple[str, int | None]]) -> Node:
    kind, version = kinds.get(key[1], (key[0], None)) if key[0] == "result" else (key[0], None)
    return Node(kind, key[1], version)


_Key = tuple[str, str]
"""Whether a name is a result table's or what else, and the name: a recipe may be called like the source that it reads."""


def _key(input: Input) -> _Key:
    return input.kind.value, input.label


def _circle(above: Mapping[_Key, set[_Key]]) -> DependencyCycle:
    """The error for nodes that each have a parent among them."""
    path = [min(above)]
    while (parent := min(p for p in above[path[-1]] if p in above)) not in path:
        path.append(parent)
    names = [name for _, name in [*path[path.index(parent) :], parent]]
    return DependencyCycle(
        "Tables derive from each other in a circle: " + " ← ".join(names) + ".", path=names, hint=f"ws.recompute({names[0]!r}) makes it anew."
    )

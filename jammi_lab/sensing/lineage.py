"""Lineage: what derives from what, from the anchors of the newest ready versions."""

from collections.abc import Callable, Mapping, Sequence

from jammi_lab.catalog.lineage import Link
from jammi_lab.errors import DependencyCycle
from jammi_lab.markup import Form, Shown
from jammi_lab.sensing import picture
from jammi_lab.values.anchors import Input
from jammi_lab.values.base import Value
from jammi_lab.values.records import Edge


class Node(Value, frozen=True):
    """A thing in the graph."""

    kind: str
    """source, frame, clock, or the kind of the result table: sql, external …"""
    name: str
    """Its name; `source.table` when a source has several."""
    version: int | None = None
    """Newest ready version of a recipe."""


class Lineage(Shown):
    """A part of the graph: `.nodes`, `.edges`, `.closure()`."""

    def __init__(self, nodes: Sequence[Node], edges: Sequence[Edge], focus: str | None, verdicts: Callable[[], Mapping[str, str]]) -> None:
        self.nodes, self.edges, self._focus, self._verdicts = list(nodes), list(edges), focus, verdicts

    def closure(self) -> list[str]:
        """Every name in it, parents before children."""
        return [n.name for n in self.nodes]

    def to_mermaid(self) -> str:
        """A Mermaid flowchart; names are quoted, so that none can act in it."""
        at = {n.name: f"n{i}" for i, n in enumerate(self.nodes)}
        lines = ["flowchart LR"]
        for node in self.nodes:
            label = node.name.replace('"', "#quot;").replace("\n", " ")
            lines.append(f'  {at[node.name]}["{label}"]' if node.kind not in ("source", "frame") else f'  {at[node.name]}[("{label}")]')
        drawn = sorted(
            {(at[e.input], at[e.derived]) for e in self.edges if e.input in at and e.derived in at}, key=lambda pair: [int(n[1:]) for n in pair]
        )
        lines += [f"  {a} --> {b}" for a, b in drawn]
        return "\n".join(lines)

    def _form(self) -> Form:
        return picture.lineage(self.nodes, self.edges, self._verdicts(), self._focus)


def in_order(links: Sequence[Link], kinds: Mapping[str, tuple[str, int | None]], start: str | None) -> list[Node]:
    """The nodes of the links, parents before children; `kinds` gives kind and version of recipes. DependencyCycle when they lie on a circle."""
    above: dict[_Key, set[_Key]] = {}
    for link in links:
        above.setdefault(_key(link.input), set())
        above.setdefault(("result", link.derived), set()).add(_key(link.input))
    if start is not None and not any(name == start for _, name in above):
        above["result" if start in kinds else "source", start] = set()
    below: dict[_Key, list[_Key]] = {}
    for key, parents in above.items():
        for parent in parents:
            below.setdefault(parent, []).append(key)
    waiting = {key: len(parents) for key, parents in above.items()}
    ready = sorted(key for key, number in waiting.items() if not number)
    for key in ready:  # grows while it is walked: Kahn's order
        for child in sorted(below.get(key, ())):
            waiting[child] -= 1
            if not waiting[child]:
                ready.append(child)
    if len(ready) < len(above):
        raise _circle({key: above[key] for key, number in waiting.items() if number})
    return [_node(key, kinds) for key in ready]


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

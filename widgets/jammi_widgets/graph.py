"""Which part of a lineage is shown: around a node, what was unfolded, what the filter finds; of too much, groups."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from jammi_lab.sensing.layout import layered
from jammi_lab.sensing.lineage import Node
from jammi_lab.sensing.picture import ids_of, is_derived, pairs_of
from jammi_lab.values.anchors import InputKind
from jammi_lab.values.records import Edge
from jammi_lab.values.verdicts import Damaged, InputAdvanced, InputVanished, PossiblyStale, Stale, Undecidable, Verdict, word

MOST_DRAWN = 1_000
"""Nodes on a page; of more, those nobody asked for are put into groups."""
MOST_LISTED = 500
"""Members of a group that are named."""
SOURCE = InputKind.SOURCE.value
"""The kind of a node that is a source, or a table inside one."""
Direction = Literal["both", "up", "down"]


@dataclass
class View:
    """What somebody looks at."""

    focus: str | None = None
    hops: int | None = None
    direction: Direction = "both"
    """Whether what is around it is what it is made from, what it goes into, or both."""
    columns: bool = False
    """Whether the columns stand in the nodes."""
    opened: set[tuple[str, str]] = field(default_factory=set)
    closed: set[tuple[str, str]] = field(default_factory=set)
    hidden: set[str] = field(default_factory=set)
    """Nodes that are chosen, and whose way from a root cause was folded since."""


@dataclass(frozen=True)
class Group:
    """Nodes that are drawn as one; like a node to whoever draws it."""

    kind: str
    name: str
    members: list[str]
    verdict: str
    version: None = None


class Snapshot:
    """A lineage with its verdicts as one look saw them. Every node has an id: its name, or `source:<name>` where a recipe has the same."""

    def __init__(self, nodes: Sequence[Node], edges: Sequence[Edge], verdicts: Mapping[str, Verdict]) -> None:
        self.nodes, self.edges, self.verdicts = list(nodes), list(edges), dict(verdicts)
        self.ids = ids_of(nodes)
        self.place = {i: at for at, i in enumerate(self.ids)}
        self.pairs = pairs_of(nodes, edges)
        self.above: list[list[int]] = [[] for _ in nodes]
        self.below: list[list[int]] = [[] for _ in nodes]
        for a, b in self.pairs:
            self.above[b].append(a)
            self.below[a].append(b)
        self._columns: list[int] | None = None

    def same(self, other: "Snapshot") -> bool:
        """Whether both saw the same nodes, edges and verdicts."""
        return (self.nodes, self.edges, self.verdicts) == (other.nodes, other.edges, other.verdicts)

    def word(self, at: int) -> str:
        """The verdict's word, empty for what has none."""
        verdict = self.verdicts.get(self.nodes[at].name) if is_derived(self.nodes[at]) else None
        return "" if verdict is None else word(verdict)

    def shown(self, view: View, text: str, chosen: Iterable[str]) -> list[int]:
        """The places of the nodes to be drawn, in order."""
        wanted = text.strip().casefold()
        if wanted:
            found = {
                at for at in range(len(self.nodes)) if wanted in self.nodes[at].name.casefold() or wanted in (self.word(at), self.nodes[at].kind)
            }
            kept = found | {near for at in found for near in (*self.above[at], *self.below[at])}
        elif view.focus is not None and (starts := self.inside(view.focus)):
            kept = {near for start in starts for near in self._around(start, view.hops, view.direction)}
        else:
            kept = set(range(len(self.nodes)))
        for name, side in view.opened:
            if (at := self.place.get(name)) is not None:
                kept |= {at, *(self.above if side == "up" else self.below)[at]}
        for name, side in view.closed:
            if (at := self.place.get(name)) is not None:
                kept -= self._behind(at, side, kept)
        for name in chosen:
            if (at := self.place.get(name)) is not None:
                kept |= {at, *(() if name in view.hidden else (p for pair in self.way(at) for p in pair))}
        return sorted(kept)

    def inside(self, name: str) -> list[int]:
        """The node of that id; of a source with several tables, which is no node, those of its tables."""
        if name in self.place:
            return [self.place[name]]
        return [at for at, node in enumerate(self.nodes) if node.kind == SOURCE and node.name.startswith(f"{name}.")]

    def holder(self, name: str) -> str | None:
        """The source with several tables that is called so, whatever the case, when some of them are nodes."""
        sources = (node.name.partition(".") for node in self.nodes if node.kind == SOURCE)
        return next((source for source, dot, _ in sources if dot and source.casefold() == name.casefold()), None)

    def _around(self, start: int, hops: int | None, direction: Direction) -> set[int]:
        """What is within so many hops against the arrows, and along them."""
        seen = {start}
        for near in {"up": (self.above,), "down": (self.below,)}.get(direction, (self.above, self.below)):
            edge, left = {start}, hops
            reached = {start}
            while edge and left != 0:
                edge = {n for at in edge for n in near[at]} - reached
                reached |= edge
                left = None if left is None else left - 1
            seen |= reached
        return seen

    def _behind(self, start: int, side: str, kept: set[int]) -> set[int]:
        """What is on that side of a node and, of what is shown, hangs on it alone."""
        along, against = (self.above, self.below) if side == "up" else (self.below, self.above)
        gone: set[int] = set()
        waiting = list(along[start])
        while waiting:
            at = waiting.pop()
            if at not in gone and at != start and all(n in gone or n == start or n not in kept for n in against[at]):
                gone.add(at)
                waiting.extend(along[at])
        return gone

    def way(self, at: int) -> list[tuple[int, int]]:
        """The edges from the root causes of a node's verdict down to it."""
        found: list[tuple[int, int]] = []
        verdict = self.verdicts.get(self.nodes[at].name) if is_derived(self.nodes[at]) else None
        ways: list[tuple[Sequence[str], str | None]]
        match verdict:
            case Stale(reasons):
                ways = [([], _input(reason)) for reason in reasons]
            case PossiblyStale(causes):
                ways = [(cause.path, _input(cause.reason)) for cause in causes]
            case Undecidable(doubts, reasons):
                ways = [(doubt.path, doubt.input.label) for doubt in doubts] + [([], _input(reason)) for reason in reasons]
            case _:
                return []
        for path, last in ways:
            here = at
            for name in [*path, *([last] if last else [])]:
                step = next((p for p in self.above[here] if self.nodes[p].name == name), None)
                if step is None:
                    break
                found.append((step, here))
                here = step
        return sorted(set(found))

    def column(self) -> list[int]:
        """The column of each node, by the longest way to it."""
        if self._columns is None:
            self._columns = layered(len(self.nodes), self.pairs, sweeps=0)[0]
        return self._columns

    def grouped(self, shown: Sequence[int], keep: Iterable[str]) -> tuple[list[Node | Group], list[str], list[tuple[int, int]]]:
        """What is drawn, with ids and edges between it: nodes, and groups when there are too many of them.

        A group holds nodes of one column, one kind and one verdict, so that an edge still goes to a later column.
        """
        apart = {self.place[k] for k in keep if k in self.place} if len(shown) > MOST_DRAWN else set(shown)
        apart |= {near for at in list(apart) for near in (*self.above[at], *self.below[at])} & set(shown) if len(apart) <= 20 else set()
        sets: dict[tuple[int, str, str], list[int]] = defaultdict(list)
        for at in shown:
            if at not in apart:
                sets[self.column()[at], self.nodes[at].kind, self.word(at)].append(at)
        drawn: list[Node | Group] = []
        ids: list[str] = []
        where: dict[int, int] = {}
        for at in shown:
            if at in apart:
                where[at] = len(drawn)
                drawn.append(self.nodes[at])
                ids.append(self.ids[at])
        for (column, kind, said), members in sets.items():
            for at in members:
                where[at] = len(drawn)
            if len(members) == 1:
                drawn.append(self.nodes[members[0]])
                ids.append(self.ids[members[0]])
            else:
                drawn.append(Group(kind, f"{len(members):,} × {_plural(kind)}", [self.ids[m] for m in members[:MOST_LISTED]], said))
                ids.append(f"group:{column}:{kind}:{said}")
        pairs = sorted({(where[a], where[b]) for a, b in self.pairs if a in where and b in where and where[a] != where[b]})
        return drawn, ids, pairs


def _plural(kind: str) -> str:
    return {"frame": "frame", "source": "source", "mutable": "mutable table", "topic": "topic", "clock": "clock"}.get(
        kind, f"{kind.replace('_', ' ')} table"
    )


def _input(reason: object) -> str | None:
    match reason:
        case InputAdvanced(given) | InputVanished(given):
            return given.label
        case Damaged():
            return None
        case _:
            return None

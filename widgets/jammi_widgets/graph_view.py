"""Selection of the visible part of a lineage: the neighbourhood of a node, and filter matches; of
too many nodes, those that matter."""

import functools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from jammi_lab.core.checks import CheckMark
from jammi_lab.core.html import unmarked_word
from jammi_lab.core.identifiers import fold
from jammi_lab.core.input_kinds import input_kind
from jammi_lab.core.records import Edge
from jammi_lab.core.verdicts import (
    InputAdvanced,
    InputVanished,
    Reason,
    Undecidable,
    Verdict,
    causes_of,
    marked_label,
)
from jammi_lab.features.pictures.lineage_svg import index_pairs, nearest_nodes, unique_ids
from jammi_lab.freshness.lineage import Node
from jammi_lab.freshness.node_states import (
    NodeStates,
    change_text,
    is_derived,
    root_causes,
)
from jammi_widgets.verdict_notes import held_recipes

if TYPE_CHECKING:
    from jammi_lab.workspace.workspace import Workspace

MAX_DRAWN_NODES = 300
"""Maximum number of nodes that are drawn without being chosen."""
Direction = Literal["both", "up", "down"]


@dataclass
class View:
    """The view settings of a lineage graph."""

    focus: str | None = None
    hops: int | None = None
    direction: Direction = "both"
    """Whether the view shows upstream nodes, downstream nodes or both."""
    columns: bool = False
    """Whether nodes list their columns."""


class LineageSnapshot:
    """A lineage with its verdicts at one point in time. The id of a node is its name, or
    `source:<name>` if a recipe has the same name."""

    def __init__(
        self,
        nodes: Sequence[Node],
        edges: Sequence[Edge],
        verdicts: Mapping[str, Verdict],
        checks: Mapping[Node, CheckMark] | None = None,
        held: Mapping[str, str] | None = None,
    ) -> None:
        """`checks`: what the checks of a node found. `held`: by folded name,
        since when a recipe is held, by whom and why."""
        self.checks, self.held = dict(checks or {}), dict(held or {})
        self.nodes, self.edges, self.verdicts = list(nodes), list(edges), dict(verdicts)
        self._content = (self.nodes, self.edges, self.verdicts, self.checks, self.held)
        self.ids = unique_ids(nodes)
        self.index_by_id = {i: index for index, i in enumerate(self.ids)}
        self.pairs = index_pairs(nodes, edges)
        self.upstream: list[list[int]] = [[] for _ in nodes]
        self.downstream: list[list[int]] = [[] for _ in nodes]
        for a, b in self.pairs:
            self.upstream[b].append(a)
            self.downstream[a].append(b)

    @functools.cached_property
    def changes(self) -> dict[int, list[tuple[str, Reason]]]:
        """The root causes: the nodes in which something changed, with the tables that are stale for
        it and the reasons."""
        return root_causes(self.nodes, self.verdicts)

    @functools.cached_property
    def node_states(self) -> NodeStates:
        """The states of all nodes."""
        recipes = [node for node in self.nodes if is_derived(node)]
        labels = {name: marked_label(verdict) for name, verdict in self.verdicts.items()}
        return NodeStates(
            {node: labels[node.name] for node in recipes if node.name in labels},
            self.checks,
            {node: self.held[name] for node in recipes if (name := fold(node.name)) in self.held},
            {self.nodes[index]: change_text(causes) for index, causes in self.changes.items()},
        )

    @functools.cached_property
    def marked(self) -> dict[str, Collection[int]]:
        """The nodes with a mark, by its word in the legend."""
        return {
            "changed": self.changes,
            "held": {i for i, node in enumerate(self.nodes) if node in self.node_states.held},
            "checked": {i for i, node in enumerate(self.nodes) if node in self.checks},
        }

    @functools.cached_property
    def _neighbors(self) -> list[list[int]]:
        return [[*up, *down] for up, down in zip(self.upstream, self.downstream, strict=True)]

    def equals(self, other: "LineageSnapshot") -> bool:
        """Whether both have the same nodes, edges, verdicts, results of checks and holds."""
        return self._content == other._content

    @functools.cached_property
    def verdict_words(self) -> list[str]:
        """The marked label of each node's verdict; empty if it has none."""
        words = self.node_states.verdicts
        return [words.get(node, "") for node in self.nodes]

    def visible_nodes(self, view: View, text: str, selected: Iterable[str]) -> list[int]:
        """The indexes of the visible nodes, ascending."""
        needle = text.strip().casefold()
        if needle:
            matches = {
                index
                for index in range(len(self.nodes))
                if needle in self.nodes[index].name.casefold()
                or needle in (self.verdict_words[index], self.nodes[index].kind)
                or needle == unmarked_word(self.verdict_words[index])
                or index in self.marked.get(needle, ())
            }
            visible = matches | {n for index in matches for n in self._neighbors[index]}
        elif view.focus is not None and (starts := self.find_nodes(view.focus)):
            visible = {
                neighbor
                for start in starts
                for neighbor in self._neighborhood(start, view.hops, view.direction)
            }
        else:
            visible = set(range(len(self.nodes)))
        chosen = {self.index_by_id[name] for name in selected if name in self.index_by_id}
        visible |= {end for index in chosen for pair in self.cause_edges(index) for end in pair}
        return sorted(visible | chosen)

    def find_nodes(self, name: str) -> list[int]:
        """The node with this id. For a source with several tables, which is not a node itself, the
        nodes of its tables."""
        if name in self.index_by_id:
            return [self.index_by_id[name]]
        return [
            index
            for index, node in enumerate(self.nodes)
            if input_kind(node.kind).is_stored and node.name.startswith(f"{name}.")
        ]

    def find_source(self, name: str) -> str | None:
        """The source of this name, ignoring case, that has tables among the nodes."""
        stored = (node.name for node in self.nodes if input_kind(node.kind).is_stored)
        sources = (name.partition(".") for name in stored)
        return next(
            (source for source, dot, _ in sources if dot and source.casefold() == name.casefold()),
            None,
        )

    def _neighborhood(self, start: int, hops: int | None, direction: Direction) -> set[int]:
        """The nodes within `hops` upstream, downstream or both; all of them if `hops` is None."""
        nodes = {start}
        for adjacency in {"up": (self.upstream,), "down": (self.downstream,)}.get(
            direction, (self.upstream, self.downstream)
        ):
            frontier, remaining = {start}, hops
            reached = {start}
            while frontier and remaining != 0:
                frontier = {n for index in frontier for n in adjacency[index]} - reached
                reached |= frontier
                remaining = None if remaining is None else remaining - 1
            nodes |= reached
        return nodes

    def cause_edges(self, index: int) -> list[tuple[int, int]]:
        """The edges on the paths from the root causes of a node's verdict to the node."""
        edges: list[tuple[int, int]] = []
        node = self.nodes[index]
        if not is_derived(node) or node.name not in self.verdicts:
            return []
        verdict = self.verdicts[node.name]
        paths = [[*cause.path, _input_label(cause.reason)] for cause in causes_of(verdict)]
        if isinstance(verdict, Undecidable):
            paths += [[*doubt.path, doubt.input.label] for doubt in verdict.unpinned]
        for path in paths:
            current = index
            for name in path:
                step = next((p for p in self.upstream[current] if self.nodes[p].name == name), None)
                if step is not None:  # a frame is no node
                    edges.append((step, current))
                    current = step
        return sorted(set(edges))

    def drawn_nodes(self, visible: Sequence[int], chosen: Collection[int]) -> list[int]:
        """The nodes to draw of the visible ones, ascending: all of a few; of many those nearest to
        what changed and to tables that are not fresh, and the chosen ones with their neighbours."""
        if len(visible) <= MAX_DRAWN_NODES:
            return list(visible)
        is_fresh = [unmarked_word(word) in ("", "fresh") for word in self.verdict_words]
        starts = [*self.changes, *(index for index in visible if not is_fresh[index])]
        drawn = set(nearest_nodes(visible, self._neighbors, starts, MAX_DRAWN_NODES)) | set(chosen)
        if len(chosen) <= 20:
            drawn |= {neighbor for index in chosen for neighbor in self._neighbors[index]}
        return sorted(drawn.intersection(visible))


def _input_label(reason: object) -> str | None:
    match reason:
        case InputAdvanced(input_ref) | InputVanished(input_ref):
            return input_ref.label
        case _:
            return None


def take_snapshot(ws: "Workspace") -> LineageSnapshot:
    """A snapshot of the current lineage and verdicts."""
    lineage = ws.lineage()
    status = list(ws.status())
    verdicts: dict[str, Verdict] = {row.name: row.verdict for row in status}
    table_checks = {
        row.name: CheckMark(row.checks, row.check_status)
        for row in status
        if row.checks is not None and row.check_status is not None
    }
    checks = {
        node: mark
        for node in lineage.nodes
        if is_derived(node) and (mark := table_checks.get(node.name))
    }
    return LineageSnapshot(lineage.nodes, lineage.edges, verdicts, checks, held_recipes(ws))

"""Selection of the visible part of a lineage: the neighbourhood of a node, and filter matches. Too
many nodes are grouped."""

import functools
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from jammi_lab.core.checks import CheckMark, CheckStatus
from jammi_lab.core.html import unmarked_word
from jammi_lab.core.identifiers import fold
from jammi_lab.core.input_kinds import input_kind, leaf_kind
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
from jammi_lab.features.pictures.graph_layout import LayeredGraph
from jammi_lab.features.pictures.lineage_svg import Group, index_pairs, state_texts, unique_ids
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
"""Maximum number of nodes drawn individually; beyond it, nodes that are not selected are
grouped."""
MAX_SINGLE_CHANGES = 20
"""Up to this many root causes are drawn individually among groups."""
MAX_LISTED_MEMBERS = 500
"""Maximum number of group members listed by name."""
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
    open_groups: set[str] = field(default_factory=set)
    """Groups whose nodes are drawn individually."""


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

    def states(self, nodes: Iterable[Node | Group]) -> NodeStates:
        """What a drawing of nodes and groups shows of them."""
        own, groups = self.node_states, [node for node in nodes if isinstance(node, Group)]
        return NodeStates(
            {**own.verdicts, **{group: group.verdict for group in groups}},
            {**own.checks, **{group: group.checks for group in groups if group.checks}},
            {**own.held, **{group: group.held for group in groups if group.held}},
            {**own.changes, **{group: group.changes for group in groups if group.changes}},
        )

    @functools.cached_property
    def marked(self) -> dict[str, Collection[int]]:
        """The nodes with a mark, by its word in the legend."""
        return {
            "changed": self.changes,
            "held": {i for i, node in enumerate(self.nodes) if node in self.node_states.held},
            "checked": {i for i, node in enumerate(self.nodes) if node in self.checks},
        }

    def marks_text(self, node_id: str) -> str:
        """The marks of a node in words: what changed, what its checks found, and whether it is
        held; empty without any."""
        states = replace(self.node_states, verdicts={})
        return ", ".join(state_texts(self.nodes[self.index_by_id[node_id]], states))

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
            visible = matches | {
                neighbor
                for index in matches
                for neighbor in (*self.upstream[index], *self.downstream[index])
            }
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

    @functools.cached_property
    def layers(self) -> list[int]:
        """The layer of each node: the length of the longest path to it."""
        return LayeredGraph(len(self.nodes), self.pairs).layers

    def group_nodes(
        self,
        visible: Sequence[int],
        keep_ids: Iterable[str],
        open_groups: Collection[str] = (),
    ) -> tuple[list[Node | Group], list[str], list[tuple[int, int]]]:
        """The drawn nodes and groups with their ids, and the edges between them. Nodes are grouped
        only when there are too many; root causes, the nodes in `keep_ids` and those of
        `open_groups` stay single.
        """
        single = self._ungrouped_nodes(visible, keep_ids)
        groups = self._groups([index for index in visible if index not in single])
        drawn: list[Node | Group] = []
        ids: list[str] = []
        drawn_index: dict[int, int] = {}
        for key in [k for k, members in groups.items() if len(members) == 1 or k in open_groups]:
            single.update(groups.pop(key))
        for index in visible:
            if index in single:
                drawn_index[index] = len(drawn)
                drawn.append(self.nodes[index])
                ids.append(self.ids[index])
        for key, members in groups.items():
            drawn_index.update(dict.fromkeys(members, len(drawn)))
            drawn.append(self._group(members))
            ids.append(key)
        pairs = sorted(
            {
                (drawn_index[a], drawn_index[b])
                for a, b in self.pairs
                if a in drawn_index and b in drawn_index and drawn_index[a] != drawn_index[b]
            }
        )
        return drawn, ids, pairs

    def _group(self, members: Sequence[int]) -> Group:
        kind, word = self.nodes[members[0]].kind, self.verdict_words[members[0]]
        changed = sum(member in self.changes for member in members)
        held = sum(member in self.marked["held"] for member in members)
        return Group(
            kind,
            f"{len(members):,} × {_kind_label(kind)}",
            [self.ids[m] for m in sorted(members, key=self._is_plain)[:MAX_LISTED_MEMBERS]],
            word,
            f"{changed:,} of {len(members):,} changed" if changed else "",
            self._group_checks(members) if self.checks else None,
            f"{held:,} of {len(members):,} held" if held else "",
        )

    def _is_plain(self, index: int) -> bool:
        """Whether a node has no mark."""
        return not any(index in marked for marked in self.marked.values())

    def _group_checks(self, members: Sequence[int]) -> CheckMark | None:
        marks = (self.checks.get(self.nodes[member]) for member in members)
        counts = Counter(mark.status for mark in marks if mark is not None)
        worst = next((status for status in CheckStatus if counts[status]), None)
        if worst is None:
            return None
        return CheckMark(f"{worst} in {counts[worst]:,} of {len(members):,}", worst)

    def _groups(self, indexes: Sequence[int]) -> dict[str, list[int]]:
        """The nodes by group: those of one layer, kind and verdict."""
        groups: dict[str, list[int]] = defaultdict(list)
        for index in indexes:
            key = (self.layers[index], self.nodes[index].kind, self.verdict_words[index])
            groups[f"group:{':'.join(map(str, key))}"].append(index)
        return groups

    def _ungrouped_nodes(self, visible: Sequence[int], keep_ids: Iterable[str]) -> set[int]:
        """The nodes that stay single: all if there are few, else `keep_ids` and, around a few of
        them, their neighbours."""
        ungrouped = (
            {self.index_by_id[k] for k in keep_ids if k in self.index_by_id}
            if len(visible) > MAX_DRAWN_NODES
            else set(visible)
        )
        if len(ungrouped) <= 20:
            neighbors = {
                neighbor
                for index in ungrouped
                for neighbor in (*self.upstream[index], *self.downstream[index])
            }
            ungrouped |= neighbors & set(visible)
        if len(visible) > MAX_DRAWN_NODES and len(self.changes) <= MAX_SINGLE_CHANGES:
            ungrouped |= self.changes.keys() & set(visible)
        return ungrouped


def _kind_label(kind: str) -> str:
    leaf = leaf_kind(kind)
    return f"{kind.replace('_', ' ')} table" if leaf is None else leaf.word


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

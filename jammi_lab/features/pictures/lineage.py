"""A part of the lineage graph as a person has it: drawn, or converted."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from jammi_lab.core.errors import ExtensionMissing
from jammi_lab.core.html import Rendered, ReprMixin
from jammi_lab.core.input_kinds import MODEL_KIND
from jammi_lab.core.module_imports import import_modules
from jammi_lab.core.panel_selection import PanelSelection
from jammi_lab.features.pictures.column_svg import column_lineage_svg
from jammi_lab.features.pictures.lineage_svg import index_pairs, render_lineage, unique_ids
from jammi_lab.features.pictures.mermaid import mermaid_text
from jammi_lab.freshness.lineage import LineagePart

if TYPE_CHECKING:
    import networkx
    from openlineage.client.event_v2 import RunEvent


class Lineage(PanelSelection, ReprMixin):
    """A part of the lineage graph: `.nodes`, `.edges`, `.closure()`; with `columns=True` also
    `.column_edges`."""

    def __init__(self, graph: LineagePart, events: "Callable[[set[str]], list[RunEvent]]") -> None:
        """`events` returns the runs that computed the newest versions of recipes."""
        self.nodes, self.edges = graph.nodes, graph.edges
        self.column_edges = graph.column_edges or []
        self._graph, self._events = graph, events

    def closure(self) -> list[str]:
        """The names of all nodes, parents before children."""
        return [n.name for n in self.nodes]

    def to_mermaid(self) -> str:
        """A Mermaid flowchart in the colours of the verdicts, with checks, holds and root causes.
        Names are quoted, so that they cannot inject Mermaid syntax."""
        pairs = index_pairs(self.nodes, self.edges)
        return mermaid_text(self.nodes, pairs, self._graph.states())

    def to_networkx(self) -> "networkx.DiGraph[str]":
        """A directed graph from inputs to derived tables: nodes by name, with `kind` and `version`;
        edges with `kind`.

        A node that shares its name with a recipe, or a model that shares it with a source, is named
        `<kind>:<name>`. ExtensionMissing when networkx is not installed.
        """
        try:
            with import_modules():
                import networkx
        except ImportError:
            raise ExtensionMissing(
                "networkx is not installed.",
                hint="pip install 'jammi-lab[networkx]'; to_mermaid() works without it.",
            ) from None
        names = unique_ids(self.nodes)
        graph: networkx.DiGraph[str] = networkx.DiGraph()
        for name, node in zip(names, self.nodes, strict=True):
            graph.add_node(name, kind=node.kind, version=node.version)
        kinds = {(e.kind == MODEL_KIND, e.input, e.derived): e.kind for e in self.edges}
        for a, b in index_pairs(self.nodes, self.edges):
            graph.add_edge(
                names[a],
                names[b],
                kind=kinds[
                    self.nodes[a].kind == MODEL_KIND, self.nodes[a].name, self.nodes[b].name
                ],
            )
        return graph

    def to_openlineage(self) -> "list[RunEvent]":
        """The runs that computed its newest versions, as events of the OpenLineage client, by time.
        ExtensionMissing when the client is not installed."""
        return self._events({n.name for n in self.nodes if n.version is not None})

    def _rendered(self) -> Rendered:
        states = self._graph.states()
        if self._graph.column_edges is not None:
            tables = [n for n in self.nodes if n.kind != MODEL_KIND]
            return column_lineage_svg(tables, self._graph.column_edges, states, self._graph.focus)
        return render_lineage(self.nodes, self.edges, states, self._graph.focus)

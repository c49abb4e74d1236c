"""The catalog browser: the contents of a workspace as a tree, down to columns with their types."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import traitlets

from jammi_lab.core.errors import InvalidArgument, TableNotFound
from jammi_lab.core.forms import listing_table
from jammi_lab.core.html import (
    Rendered,
    count_noun,
    escape_invisible,
    format_bytes,
    unmarked_word,
    verdict_icon,
)
from jammi_lab.core.identifiers import quoted_name
from jammi_lab.core.verdicts import Verdict, marked_label
from jammi_lab.features.vectors.model_lookup import BUILT_IN_NAMES
from jammi_lab.freshness.reports import Status
from jammi_lab.inputs.observation_cache import KnownTables
from jammi_widgets import assets, protocol
from jammi_widgets.action_runner import ProgressCallback
from jammi_widgets.board_rows import name_order
from jammi_widgets.cell_texts import (
    DATABASE_KINDS,
    KINDS_WITH_SCHEMAS,
    column_types,
    first_rows,
)
from jammi_widgets.panel import Panel

if TYPE_CHECKING:
    from jammi_lab.workspace.sources import Source
    from jammi_lab.workspace.workspace import Workspace

MAX_LISTED_NODES = 1_000
"""Maximum number of children listed below a node; the filter finds the others."""
PREVIEW_ROWS = 10
"""Maximum number of rows in a preview."""


@dataclass(frozen=True)
class CatalogNode:
    """A node of the catalog tree."""

    name: str
    """The displayed name."""
    description: str
    """A short description."""
    snippet: str
    """The text inserted into a cell."""
    verdict: str = ""
    load_children: Callable[[], Sequence["CatalogNode"]] | None = field(default=None, compare=False)
    relation: str = ""
    """The name to use in a FROM clause; empty if the node has no rows."""
    members: tuple["CatalogNode", ...] = ()
    """The members of a group."""
    known_tables: Callable[[], Sequence["CatalogNode"]] | None = field(default=None, compare=False)
    """Lists the known tables of a database by full name for the filter, without querying the
    database."""


class CatalogBrowser(Panel):
    """Sources, result tables, mutable tables, topics, sessions and models as a tree. Names can be
    copied or dragged into a cell.

    `selection` holds the selected names as they are inserted into a cell, `filter` the text to
    search names for.
    """

    _shows_verdicts = True
    _esm = assets.module("catalog")
    _follows_changes = True

    def __init__(self, ws: "Workspace") -> None:
        self._nodes: dict[str, CatalogNode] = {}
        self._tables_by_source: dict[str, list[str]] = {}
        self._status = ws.status()
        self._groups = _build_groups(ws, self._status, self._tables_by_source)
        super().__init__(ws)
        self.observe(lambda _: self._run_or_queue(self._send_body), names="filter")

    def _reload(self) -> bool:
        """Load the catalog again."""
        previous, self._status = self._groups, self._ws.status()
        self._groups = _build_groups(self._ws, self._status, self._tables_by_source)
        return [group.members for group in previous] != [group.members for group in self._groups]

    def _shown_verdicts(self) -> list[tuple[str, int, Verdict]]:
        return [(r.name, r.version, r.verdict) for r in self._status if r.version is not None]

    @traitlets.validate("selection")
    def _validate_selection(self, proposal: dict[str, Any]) -> list[str]:
        return list(proposal["value"])[:1_000]

    # -- messages
    # ----------------------------------------------------------------------------------------------

    def _answer(self, message: Any) -> dict[str, Any] | None:
        match message:
            case protocol.Children(part=part):
                load_children = self._find_node(part).load_children
                return {
                    "parts": self._node_messages(part, load_children() if load_children else [])
                }
        return None

    def _find_node(self, node_id: str) -> CatalogNode:
        if (node := self._nodes.get(node_id)) is None:
            raise TableNotFound("This item no longer exists.", hint="Refresh the catalog.")
        return node

    def _body(self) -> dict[str, Any]:
        """The groups of the tree with their direct children; with a filter, the matching nodes."""
        self._nodes.clear()
        needle = self.filter.strip().casefold()

        def matching_nodes(node: CatalogNode) -> list[CatalogNode]:
            candidates = [node, *node.known_tables()] if node.known_tables is not None else [node]
            return [
                p
                for p in candidates
                if needle in p.name.casefold() or needle in (p.verdict, unmarked_word(p.verdict))
            ]

        groups = []
        for index, group in enumerate(self._groups):
            group_id = f"{index}"
            self._nodes[group_id] = group
            matches = (
                [node for member in group.members for node in matching_nodes(member)]
                if needle
                else list(group.members)
            )
            groups.append(
                {
                    "id": group_id,
                    "name": group.name,
                    "count": len(group.members),
                    "found": len(matches),
                    "parts": self._node_messages(group_id, matches),
                }
            )
        return {"groups": groups, "filtered": bool(needle)}

    def _node_messages(self, parent_id: str, nodes: Sequence[CatalogNode]) -> list[dict[str, Any]]:
        listed = list(nodes[:MAX_LISTED_NODES])
        if hidden := len(nodes) - len(listed):
            listed.append(CatalogNode(f"… and {hidden:,} more", "use the filter to find them", ""))
        messages = []
        for index, node in enumerate(listed):
            node_id = f"{parent_id}.{index}"
            self._nodes[node_id] = node
            messages.append(
                {
                    "id": node_id,
                    "name": node.name,
                    "said": node.description,
                    "insert": node.snippet,
                    "verdict": node.verdict,
                    "opens": node.load_children is not None,
                    "rows": bool(node.relation),
                }
            )
        return messages

    def _act(self, action: str, names: list[str], report: ProgressCallback) -> dict[str, Any]:
        if action != "preview":
            return super()._act(action, names, report)
        node = self._find_node(names[0])
        if not node.relation:
            raise InvalidArgument(f"{node.name!r} has no rows to preview.")
        return {"id": names[0], **first_rows(self._ws, node.relation, PREVIEW_ROWS)}

    def _rendered(self) -> Rendered:
        lines = [
            (g.name, p.name, p.description, verdict_icon(p.verdict) if p.verdict else "")
            for g in self._groups
            for p in g.members[:MAX_LISTED_NODES]
        ]
        return listing_table(
            ["", "name", "description", "verdict"],
            lines,
            aligned="llll",
            caption="Catalog",
            note=count_noun(len(lines), "item"),
        )


def _build_groups(
    ws: "Workspace", status: Status, tables_by_source: dict[str, list[str]]
) -> list[CatalogNode]:
    """The top-level groups with their current members. `tables_by_source` maps a database source to
    the tables listed in this session."""
    verdicts = {row.name: marked_label(row.verdict) for row in status}
    sources = [_source_node(ws, s.name, tables_by_source) for s in ws.sources.list()]
    tables: dict[str, CatalogNode] = {}
    for table in ws.tables():
        if table.name not in tables:
            description = (
                f"{table.kind.replace('_', ' ')}, version {table.version}, "
                f"{count_noun(table._record.row_count or 0, 'row')}, {format_bytes(table.bytes)}"
            )
            tables[table.name] = _relation_node(
                ws,
                table.name,
                description,
                quoted_name("jammi", table.name),
                verdicts.get(table.name, ""),
            )
    for recipe in ws.recipes():
        if recipe.name not in tables:
            tables[recipe.name] = CatalogNode(
                recipe.name,
                f"{recipe.kind}, never computed",
                quoted_name("jammi", recipe.name),
                verdicts.get(recipe.name, ""),
            )
    sorted_tables = sorted(tables.values(), key=lambda p: name_order(p.name))
    known = [(model, "") for model in ws.models.list()]
    known += [(ws.models.get(name), ", built in") for name in BUILT_IN_NAMES]
    models = [
        CatalogNode(m.key, f"{m.dimensions or '?'} dimensions{where}", repr(m.name))
        for m, where in known
    ]
    groups = [
        ("Sources", sources),
        ("Result tables", sorted_tables),
        *_live_groups(ws),
        ("Models", models),
    ]
    return [CatalogNode(name, "", "", members=tuple(parts)) for name, parts in groups]


def _live_groups(ws: "Workspace") -> list[tuple[str, list[CatalogNode]]]:
    """The groups of mutable tables, topics and sessions."""
    tables = [
        _relation_node(
            ws,
            table.name,
            f"version {table.version}, {count_noun(len(table), 'row')}",
            quoted_name("mutable", table.name),
        )
        for table in ws.mutable.list()
    ]
    topics = [
        _relation_node(
            ws,
            topic.name,
            count_noun(topic.next_offset, "event"),
            quoted_name("topics", topic.name),
        )
        for topic in ws.topics.list()
    ]
    sessions = [
        CatalogNode(each.id, f"until {each.deadline}", repr(each.id)) for each in ws.sessions()
    ]
    return [("Mutable tables", tables), ("Topics", topics), ("Sessions", sessions)]


def _relation_node(
    ws: "Workspace", name: str, description: str, relation: str, verdict: str = ""
) -> CatalogNode:
    def columns() -> list[CatalogNode]:
        return [
            CatalogNode(column, kind, quoted_name(column))
            for column, kind in column_types(ws, relation)
        ]

    return CatalogNode(name, description, relation, verdict, columns, relation)


def _source_node(ws: "Workspace", name: str, tables_by_source: dict[str, list[str]]) -> CatalogNode:
    source, known = ws.sources[name], KnownTables(ws._services.observation_cache)
    description = f"{source.kind}, {escape_invisible(source.location)}"
    if source.kind not in DATABASE_KINDS:  # nothing is opened: it may not be there
        return _relation_node(ws, name, description, quoted_name(name))

    def load_children() -> list[CatalogNode]:
        tables = source.tables()
        recorded = known.tables(source._record)
        tables_by_source[name] = tables if recorded is not None and recorded[1] else []
        nodes = [_table_node(ws, source, label, label) for label in tables_by_source[name]]
        return nodes or [CatalogNode("no tables", "", "")]

    def known_tables() -> list[CatalogNode]:
        labels = tables_by_source.get(name) or (known.tables(source._record) or ([], 0))[0]
        return [_table_node(ws, source, label, f"{name}.{label}") for label in labels]

    return CatalogNode(
        name, description, quoted_name(name), load_children=load_children, known_tables=known_tables
    )


def _table_node(ws: "Workspace", source: "Source", label: str, name: str) -> CatalogNode:
    """The node of a table inside a source; `label` is its name there, with the schema unless that
    is the default one."""
    parts = [label]
    if source.kind in KINDS_WITH_SCHEMAS:
        parts = label.split(".", 1)
    return _relation_node(ws, name, "table", quoted_name(source.name, *parts))

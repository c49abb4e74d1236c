"""What there is to say about one node of a lineage, and what FROM says for it."""

import contextlib
from typing import TYPE_CHECKING, Any

from jammi_lab.errors import JammiError
from jammi_lab.markup import visible
from jammi_lab.model_encoders import COME_ALONG
from jammi_lab.names import fold, written
from jammi_lab.recipes import Recipe
from jammi_lab.sensing.lineage import Node
from jammi_lab.sensing.models import MODEL
from jammi_lab.sensing.picture import is_derived, subtitle
from jammi_lab.values.base import short
from jammi_lab.values.verdicts import reasons_of, word
from jammi_widgets.graph import SOURCE, Snapshot
from jammi_widgets.rows import columns_of, holds_tables

if TYPE_CHECKING:
    from jammi_lab.workspace import Workspace


def relation_of(ws: "Workspace", node: Node) -> str:
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
            if dot:
                return written(source, inner)
            return "" if source in ws.sources and holds_tables(ws.sources[source]) else written(source)
    return ""


def unread(ws: "Workspace", name: str) -> Node | None:
    """What is called so, or a table inside a source, as a node: it need not be read by anything. SourceUnavailable."""
    head, _, inner = name.partition(".")
    if head in ws.sources:
        source = ws.sources[head]
        if not inner:
            return Node("frame" if source.kind == "frame" else SOURCE, source.name)
        inside = source.tables() if holds_tables(source) else []
        return next((Node(SOURCE, f"{source.name}.{table}") for table in inside if fold(table) == fold(inner)), None)
    if name in ws.mutable:
        return Node("mutable", ws.mutable[name].name)
    return Node("topic", ws.topics[name].name) if name in ws.topics else None


def still_there(ws: "Workspace", node: Node) -> bool:
    """Whether what `unread` gave is still registered; no source is asked for it."""
    return node.name.partition(".")[0] in ws.sources or (node.kind == "mutable" and node.name in ws.mutable) or node.name in ws.topics


def details(ws: "Workspace", snapshot: Snapshot, name: str) -> dict[str, Any]:
    """What stands beside the picture for the node of that id."""
    at = snapshot.place[name]
    node = snapshot.nodes[at]
    verdict = snapshot.verdicts.get(node.name) if is_derived(node) else None
    relation = relation_of(ws, node)
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
        "actions": ["what-if", *(["preview"] if relation else [])],
    }
    if is_derived(node):
        known["actions"] = ["recompute", "verify", "what-if", "preview"] if node.version is not None else ["recompute"]
        record = ws._rooms.catalog.recipes.get(node.name)
        known["definition"] = "" if record is None else Recipe(record, node.version).definition
        if node.version is not None:
            _of_table(ws, node.name, known)
    elif node.kind == MODEL:
        known["actions"] = ["what-if"]
        versions = [model for model in ws.models.list() if model.name == node.name] or [ws.models.get(n) for n in COME_ALONG if n == node.name]
        known["facts"] = [[f"version {m.version}", f"{m.dimensions or '?'} dimensions, {short(m.digest)}"] for m in versions]
    else:
        _of_what_is_read(ws, node, relation, known)
    return known


def _of_what_is_read(ws: "Workspace", node: Node, relation: str, known: dict[str, Any]) -> None:
    head, _, inner = node.name.partition(".")
    with contextlib.suppress(JammiError):  # what cannot be reached now says so elsewhere
        if node.kind == SOURCE and head in ws.sources:
            source = ws.sources[head]
            known["facts"] = [["kind", source.kind], ["location", visible(source.location)]]
            if inner or not holds_tables(source):
                known["columns"] = [[c.name, c.type] for c in (source.columns(inner) if inner else source.columns())]
        elif relation:
            known["columns"] = columns_of(ws, relation)


def _of_table(ws: "Workspace", name: str, known: dict[str, Any]) -> None:
    table = ws.table(name)
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

"""The details of a lineage node, and its name in a FROM clause."""

import contextlib
from typing import TYPE_CHECKING, Any

from jammi_lab.core.errors import JammiError
from jammi_lab.core.html import escape_invisible, format_bytes
from jammi_lab.core.identifiers import quoted_name
from jammi_lab.core.input_kinds import MODEL_KIND, input_kind, leaf_kind
from jammi_lab.core.value import short_digest
from jammi_lab.core.verdicts import marked_label, remarks_on
from jammi_lab.features.checks.results import CheckResults
from jammi_lab.features.pictures.lineage_svg import subtitle
from jammi_lab.features.vectors.model_lookup import BUILT_IN_NAMES
from jammi_lab.freshness.explain import reason_line
from jammi_lab.freshness.lineage import Node
from jammi_lab.freshness.node_states import is_derived
from jammi_lab.freshness.reports import RunReport, outcome_text
from jammi_lab.workspace.recipes import Recipe
from jammi_lab.workspace.result_table import completion_time, moment_text
from jammi_widgets.cell_texts import column_types, table_texts
from jammi_widgets.graph_view import LineageSnapshot

if TYPE_CHECKING:
    from jammi_lab.workspace.workspace import Workspace

MAX_FAILING_ROWS = 5
MAX_CHANGES = 1_000
"""Maximum number of tables for which what changed in one of their inputs is described."""
MAX_NAMED_READERS = 5
"""Maximum number of tables that are named as readers of a change."""


def node_relation(node: Node) -> str:
    """The quoted name of a node for a FROM clause; empty if it has no rows."""
    if is_derived(node):
        return quoted_name("jammi", node.name)
    leaf = leaf_kind(node.kind)
    if leaf is None or not leaf.has_rows:
        return ""
    return quoted_name(*leaf.name_parts(node.name))


def check_details(results: CheckResults) -> list[dict[str, Any]]:
    """What each check found, with the first failing rows."""
    details = []
    for row in results:
        rows: dict[str, list[Any]] = {"columns": [], "rows": []}
        with contextlib.suppress(JammiError):  # the rule is shown without rows then
            rows = table_texts(row.rows(MAX_FAILING_ROWS)) if row.failing else rows
        details.append(
            {
                "name": row.check,
                "outcome": row.status if row.passes else row.outcome,
                "status": row.status,
                "severity": row.severity,
                "said": escape_invisible(row.summary),
                "previous": escape_invisible(row.previous if row.error else row.note),
                **rows,
            }
        )
    return details


def step_lines(run: RunReport) -> list[str]:
    """A line for each step of a run."""
    lines = []
    for step in run.steps:
        line = f"{step.name}: {outcome_text(step).replace(': ', ', ')}"
        lines.append(f"{line}, {escape_invisible(step.error)}" if step.error else line)
    return lines or ["Nothing to do."]


def _change_lines(
    ws: "Workspace", snapshot: LineageSnapshot, index: int, observed_at: str
) -> list[str]:
    """What changed in a node, when and seen by which tables, one line for each change; with the
    time of the reader that is named first."""
    lines: dict[str, str] = {}
    readers: dict[str, list[str]] = {}
    for reader, reason in snapshot.changes.get(index, ())[:MAX_CHANGES]:
        change = reason_line(reason, None, observed_at)
        if change not in lines:
            completed_at = ws.table(reader).completed_at if reader in ws else None
            lines[change] = reason_line(reason, completed_at, observed_at)
        readers.setdefault(change, []).append(reader)
    own_name = snapshot.nodes[index].name
    return [
        line if readers[change] == [own_name] else f"{line}; read by {_some_of(readers[change])}"
        for change, line in lines.items()
    ]


def _some_of(names: list[str]) -> str:
    """The first names, and how many more there are."""
    more = len(names) - MAX_NAMED_READERS
    shown = ", ".join(map(escape_invisible, names[:MAX_NAMED_READERS]))
    return f"{shown} and {more:,} more" if more > 0 else shown


def describe_node(
    ws: "Workspace", snapshot: LineageSnapshot, name: str, observed_at: str
) -> dict[str, Any]:
    """The details panel of the node with this id, as a message. `observed_at`: when the snapshot
    was taken."""
    index = snapshot.index_by_id[name]
    node = snapshot.nodes[index]
    verdict = snapshot.verdicts.get(node.name) if is_derived(node) else None
    relation = node_relation(node)
    message: dict[str, Any] = {
        "id": name,
        "name": node.name,
        "said": subtitle(node),
        "verdict": "" if verdict is None else marked_label(verdict),
        "reasons": [] if verdict is None else list(map(escape_invisible, remarks_on(verdict))),
        "changes": _change_lines(ws, snapshot, index, observed_at),
        "reads": [snapshot.ids[p] for p in snapshot.upstream[index]],
        "readBy": [snapshot.ids[p] for p in snapshot.downstream[index]],
        "facts": [],
        "identifiers": [],
        "columns": [],
        "anchors": [],
        "definition": "",
        "checks": check_details(ws.table(node.name).checks) if snapshot.checks.get(node) else [],
        "actions": ["what-if", *(["preview"] if relation else [])],
    }
    if is_derived(node):
        message["actions"] = (
            ["recompute", "verify", "what-if", "preview"]
            if node.version is not None
            else ["recompute"]
        )
        record = ws._services.catalog.recipes.get(node.name)
        message["definition"] = "" if record is None else Recipe(record, node.version).definition
        if node.version is not None:
            _add_table_details(ws, node.name, message)
    elif node.kind == MODEL_KIND:
        message["actions"] = []
        versions = [model for model in ws.models.list() if model.name == node.name] or [
            ws.models.get(n) for n in BUILT_IN_NAMES if n == node.name
        ]
        message["facts"] = [
            [f"version {m.version}", f"{m.dimensions or '?'} dimensions, {short_digest(m.digest)}"]
            for m in versions
        ]
    else:
        _add_input_details(ws, node, relation, message)
    return message


def _add_input_details(ws: "Workspace", node: Node, relation: str, message: dict[str, Any]) -> None:
    source_name = node.name.partition(".")[0]
    with contextlib.suppress(JammiError):  # other parts of the panel report unreachable sources
        if input_kind(node.kind).is_stored and source_name in ws.sources:
            source = ws.sources[source_name]
            message["facts"] = [
                ["kind", source.kind],
                ["location", escape_invisible(source.location)],
            ]
        if relation:
            message["columns"] = [list(column) for column in column_types(ws, relation)]


def _add_table_details(ws: "Workspace", name: str, message: dict[str, Any]) -> None:
    table = ws.table(name)
    completed = completion_time(table)
    message["facts"] = [
        ["rows", "" if table._record.row_count is None else f"{table._record.row_count:,}"],
        ["dimensions", f"{table.dimensions:,}" if table.dimensions else ""],
        ["size", "" if table.bytes is None else format_bytes(table.bytes)],
        ["completed", f"{completed} UTC"],
    ]
    message["identifiers"] = [["physical name", table.table_name]]
    if table.dimensions:
        message["search"] = f"jl.widgets.NeighborExplorer(ws, {name!r})"
    if len(table.history()) > 1:
        message["difference"] = f"jl.widgets.DiffView(ws, {name!r})"
    if (manifest := table.manifest) is not None:
        if (produced := moment_text(manifest.produced_at)) != completed:
            message["facts"].append(["produced at", f"{produced} UTC"])
        message["identifiers"] += [
            ["definition", short_digest(manifest.definition_hash)],
            ["artifact", f"{manifest.artifact.algorithm} {short_digest(manifest.artifact.digest)}"],
            [
                "produced by",
                f"jammi_lab {manifest.engine_version}, run {short_digest(manifest.produced_by)}",
            ],
        ]
        if manifest.increment is not None:
            message["facts"].append(["increment", escape_invisible(manifest.increment.summary)])
        message["columns"] = [[c.name, c.type] for c in manifest.columns]
        message["anchors"] = [
            [
                a.input.label,
                str(a.kind),
                a.method,
                short_digest(a.value),
                ", ".join(map(escape_invisible, a.columns)),
            ]
            for a in manifest.anchors
        ]

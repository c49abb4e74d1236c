"""`why`: the tree of reasons for a verdict, one line per cause, from the table down to the changed
inputs."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from jammi_lab.core.anchors import Anchor, Identity, cell_names, compares_content
from jammi_lab.core.html import (
    Rendered,
    ReprMixin,
    escape_invisible,
    plain_text,
    preformatted,
    verdict_icon,
    vstack,
)
from jammi_lab.core.records import TableRecord
from jammi_lab.core.verdicts import (
    MOVED,
    Damaged,
    DefinitionChanged,
    Fresh,
    InputAdvanced,
    InputVanished,
    MissingManifest,
    Reason,
    Undecidable,
    Verdict,
    causes_of,
    marked_label,
)
from jammi_lab.freshness.evaluated_graph import EvaluatedGraph
from jammi_lab.freshness.plan import frame_origins
from jammi_lab.freshness.recipe_graph import RecipeNode
from jammi_lab.freshness.table_verdict import Evidence, State, evaluate_table

MAX_LINES = 200
"""Maximum number of lines of a tree."""


@dataclass
class ReasonNode:
    """A line of the tree and its children."""

    text: str
    children: dict[str, "ReasonNode"] = field(default_factory=dict)

    def child(self, text: str) -> "ReasonNode":
        """The child with this text; added if missing."""
        return self.children.setdefault(text, ReasonNode(text))


class Why(ReprMixin):
    """The verdict on a table with the tree of its reasons: `.verdict`, `.lines`."""

    def __init__(self, name: str, verdict: Verdict, root: ReasonNode) -> None:
        self.name, self.verdict, self._root = name, verdict, root

    @property
    def lines(self) -> list[str]:
        """The tree as text, one cause per line; the first line is the table and its verdict."""
        return [
            f"{escape_invisible(self.name)}: {marked_label(self.verdict)}",
            *self._tree_lines(),
        ]

    def _tree_lines(self) -> list[str]:
        lines: list[str] = []
        waiting: list[tuple[ReasonNode, str, str]] = _child_lines(self._root, "")
        while waiting:
            branch, lead, indent = waiting.pop()
            lines.append(lead + branch.text)
            waiting += _child_lines(branch, indent)
        return (
            lines
            if len(lines) <= MAX_LINES
            else [*lines[:MAX_LINES], f"… {len(lines) - MAX_LINES:,} more lines"]
        )

    def _rendered(self) -> Rendered:
        top = plain_text(f"{self.name}: ") + verdict_icon(marked_label(self.verdict))
        rendered = [plain_text(line) for line in self._tree_lines()]
        html = "\n".join(line.html for line in rendered)
        tree = Rendered(preformatted(html), "\n".join(line.text for line in rendered))
        return vstack(top, tree) if rendered else top


def _child_lines(branch: ReasonNode, indent: str) -> list[tuple[ReasonNode, str, str]]:
    """The children of a branch, last first, each with its own prefix and the prefix of its
    children."""
    children = list(branch.children.values())[::-1]
    return [
        (b, indent + ("└─ " if i == 0 else "├─ "), indent + ("   " if i == 0 else "│  "))
        for i, b in enumerate(children)
    ]


def verdict_on_former(old: TableRecord, new: TableRecord) -> Verdict:
    """The verdict that the former version of a table has over the definition and the inputs of the
    later one. Inputs that only one of them has follow from the definition, and are no reasons."""
    current_states: dict[Identity, State] = {a.input.identity: a for a in new.anchors}
    anchors = tuple(a for a in old.anchors if a.input.identity in current_states)
    return evaluate_table(
        Evidence(old.definition_hash, new.definition_hash, anchors, current_states)
    )


def explain(evaluated: EvaluatedGraph, node: RecipeNode, verdict: Verdict, title: str) -> Why:
    """The tree for the verdict on the version of a recipe that the node holds."""
    root = ReasonNode("")

    def branch_at(path: Sequence[str]) -> ReasonNode:
        """The branch at the end of a path of names. A frame is told with its cells."""
        branch, table = root, tables.get(())
        for name in path:
            origin = None if table is None else frame_origins(table).get(name)
            cells = f", made in {cell_names(origin.cells)}" if origin and origin.cells else ""
            branch = branch.child(escape_invisible(f"{name}{cells}"))
            table = evaluated.graph.find(name, node.tenant)
        return branch

    observed_at = evaluated.observation.started_at
    tables: dict[tuple[str, ...], RecipeNode | None] = {(): node}
    for cause in causes_of(verdict):
        path, reason = cause.path, cause.reason
        table = evaluated.graph.find(path[-1], node.tenant) if path else node
        tables[tuple(path)] = table
        completed_at = table.record.completed_at if table and table.record else None
        line = branch_at(path).child(reason_line(reason, completed_at, observed_at))
        if table is not None and isinstance(reason, DefinitionChanged):
            parts = evaluated.changed_parts(table)
            if parts:
                line.child(escape_invisible(f"what differs: {', '.join(parts)}"))
    for way, table in tables.items():
        failed_run = None if table is None else evaluated.failed_run(table)
        if failed_run is not None:
            branch_at(way).child(escape_invisible(failed_run))
    if isinstance(verdict, Undecidable):
        for doubt in verdict.unpinned:
            branch_at(doubt.path).child(escape_invisible(str(doubt)))
    elif isinstance(verdict, MissingManifest):
        root.child("it has no manifest, so its inputs are unknown")
    elif isinstance(verdict, Fresh):
        _add_unchanged(root, evaluated, node)
        for ground in verdict.grounds:
            root.child(escape_invisible(ground))
    increment = evaluated.increment(node.record) if node.record is not None else None
    if increment is not None:
        root.child(escape_invisible(f"it was {increment}"))
    return Why(title, verdict, root)


def _add_unchanged(root: ReasonNode, evaluated: EvaluatedGraph, node: RecipeNode) -> None:
    """A line for each input of a fresh table, with the verdict's notes."""
    if node.record is None:
        return
    states, observed_at = evaluated.states(node), evaluated.observation.started_at
    for anchor in node.record.anchors:
        state = states.get(anchor.input.identity)
        root.child(_unchanged_line(anchor, state, node.record.completed_at, observed_at))


def reason_line(reason: Reason | Damaged, recorded_at: str | None, observed_at: str) -> str:
    """One cause as a line: what changed, when it was read and seen to be different, and the columns
    that were read."""
    match reason:
        case DefinitionChanged(recorded):
            times = _times_suffix(("made", recorded_at), ("seen", observed_at))
            return "defined, not computed yet" if recorded is None else f"definition changed{times}"
        case InputAdvanced():
            old, new = reason.recorded, reason.current
            return (
                f"{escape_invisible(reason.sentence)}"
                f"{_times_suffix(('read', recorded_at), ('seen', observed_at))}"
                f"{_method_suffix(old, new)}{_columns_suffix(old)}"
            )
        case InputVanished():
            return (
                f"{escape_invisible(str(reason))}{_times_suffix(('read', recorded_at))}"
                f"{_method_suffix(reason.recorded, reason.recorded)}"
                f"{f'; {MOVED}' if reason.input.kind == 'source' else ''}"
            )
        case Damaged(what="manifest"):
            return f"its manifest was edited{_times_suffix(('seen', observed_at))}"
        case Damaged(digest):
            times = _times_suffix(("seen", observed_at))
            return (
                "its bytes are gone"
                if digest is None
                else f"its bytes are not the published ones{times}"
            )


def _method_suffix(old: Anchor, new: Anchor) -> str:
    """How a change was noticed, where that is not a comparison of all content."""
    if compares_content(old.method) and compares_content(new.method):
        return ""
    text = new.method if old.method == new.method else f"{old.method}, now {new.method}"
    return f", by {escape_invisible(text)}"


def _columns_suffix(anchor: Anchor) -> str:
    if not anchor.columns:
        return ""
    names = ", ".join(map(escape_invisible, anchor.columns[:8])) + (
        f" and {len(anchor.columns) - 8} more" if len(anchor.columns) > 8 else ""
    )
    return f", columns read: {names}"


def _unchanged_line(
    anchor: Anchor, state: State | None, recorded_at: str | None, observed_at: str
) -> str:
    sentence = f"{anchor.input.label} is unchanged"
    if isinstance(state, Anchor) and state.note:
        sentence = state.note
    times = _times_suffix(("read", recorded_at), ("seen", observed_at))
    suffixes = f"{times}{_method_suffix(anchor, anchor)}{_columns_suffix(anchor)}"
    return f"{escape_invisible(sentence)}{suffixes}"


def _times_suffix(*instants: tuple[str, str | None]) -> str:
    """` (read 2026-11-20 12:00:00 UTC, seen 2026-11-20 12:00:05 UTC)`."""
    times = [f"{word} {at[:10]} {at[11:19]} UTC" for word, at in instants if at]
    return f" ({', '.join(times)})" if times else ""

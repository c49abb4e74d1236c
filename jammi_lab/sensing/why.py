"""Why a table has its verdict: the tree of reasons, one line per cause, from the table down to what moved."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jammi_lab.markup import Form, Shown, lines, mark, plain, stack, visible
from jammi_lab.sensing.graph import Node, Sensed
from jammi_lab.sensing.verdict import State
from jammi_lab.values.anchors import Anchor
from jammi_lab.values.base import short
from jammi_lab.values.records import TableRecord
from jammi_lab.values.verdicts import (
    Damaged,
    DefinitionChanged,
    Fresh,
    InputAdvanced,
    InputVanished,
    MissingManifest,
    PossiblyStale,
    Reason,
    Stale,
    Undecidable,
    Verdict,
    word,
)

MOST_LINES = 200
"""Lines of a tree that are shown."""
WhenMade = Callable[[str], str | None]
"""When the newest version of a recipe was completed, RFC 3339; None when there is none."""
WhyFailed = Callable[[str, Reason | Damaged], str | None]
"""Why the last run of a recipe by the definition that is a reason failed; None when none did."""


@dataclass
class Branch:
    """A line of the tree, and what hangs below it."""

    text: str
    below: dict[str, "Branch"] = field(default_factory=dict)

    def under(self, text: str) -> "Branch":
        """The line of that text below this one; made if it is not there."""
        return self.below.setdefault(text, Branch(text))


class Why(Shown):
    """The verdict on one table with the tree of its reasons: `.verdict`, `.lines`."""

    def __init__(self, name: str, verdict: Verdict, root: Branch) -> None:
        self.name, self.verdict, self._root = name, verdict, root

    @property
    def lines(self) -> list[str]:
        """The tree as text, one cause a line; the first line names the table and its verdict."""
        return [f"{visible(self.name)}: {word(self.verdict)}", *self._drawn()]

    def _drawn(self) -> list[str]:
        lines: list[str] = []
        waiting: list[tuple[Branch, str, str]] = _children(self._root, "")
        while waiting:
            branch, lead, indent = waiting.pop()
            lines.append(lead + branch.text)
            waiting += _children(branch, indent)
        return lines if len(lines) <= MOST_LINES else [*lines[:MOST_LINES], f"… {len(lines) - MOST_LINES:,} more lines"]

    def _form(self) -> Form:
        top = plain(f"{self.name}: ") + mark(word(self.verdict))
        drawn = [plain(line) for line in self._drawn()]
        html = "\n".join(line.html for line in drawn)
        tree = Form(lines(html), "\n".join(line.text for line in drawn))
        return stack(top, tree) if drawn else top


def _children(branch: Branch, indent: str) -> list[tuple[Branch, str, str]]:
    """The lines below one, the last first, each with what is drawn before it and before those below it."""
    below = list(branch.below.values())[::-1]
    return [(b, indent + ("└─ " if i == 0 else "├─ "), indent + ("   " if i == 0 else "│  ")) for i, b in enumerate(below)]


def explained(
    name: str, recipe: str, verdict: Verdict, record: TableRecord | None, states: Mapping[Any, State], seen: str, made: WhenMade, failed: WhyFailed
) -> Why:
    """The tree for a verdict on a table of `recipe`. `states`: the inputs of the table as the look saw them; `seen`: when the look began; `made`:
    when a recipe's newest version was; `failed`: why a definition gave none."""
    root = Branch("")
    own = record.completed_at if record is not None else None
    match verdict:
        case Stale(reasons):
            for reason in reasons:
                _caused(root, reason, own, seen, failed(recipe, reason))
        case Undecidable(doubts, reasons):
            for reason in reasons:
                _caused(root, reason, own, seen, failed(recipe, reason))
            for doubt in doubts:
                _along(root, doubt.path).under(visible(str(doubt)))
        case PossiblyStale(causes):
            for cause in causes:
                by = cause.path[-1]
                _caused(_along(root, cause.path), cause.reason, made(by), seen, failed(by, cause.reason))
        case Damaged():
            root.under(reason_line(verdict, own, seen))
        case MissingManifest():
            root.under("nothing attests what it was made from")
        case Fresh(grounds):
            for anchor in record.anchors if record is not None else ():
                root.under(_unmoved(anchor, states.get(anchor.input.identity), own, seen))
            for ground in grounds:
                if not any(isinstance(s, Anchor) and s.note == ground for s in states.values()):
                    root.under(visible(ground))
    return Why(name, verdict, root)


def _caused(parent: Branch, reason: Reason | Damaged, recorded_at: str | None, seen: str, failed: str | None) -> None:
    line = parent.under(reason_line(reason, recorded_at, seen))
    if failed is not None:
        line.under(f"its last run failed: {visible(failed)}")


def why_now(sensed: Sensed, node: Node, name: str) -> Why:
    """The tree for the newest version of a recipe that was judged."""
    return _why(sensed, node, name, sensed.verdicts[node.place], node.record, sensed.states[node.place])


def why_version(sensed: Sensed, node: Node, record: TableRecord, verdict: Verdict) -> Why:
    """The tree for any version of a recipe, by its verdict."""
    return _why(sensed, node, f"{node.name}, version {record.version}", verdict, record, sensed.facts(node, record).now)


def _why(sensed: Sensed, node: Node, name: str, verdict: Verdict, record: TableRecord | None, states: Mapping[Any, State]) -> Why:
    def failed(recipe: str, reason: Reason | Damaged) -> str | None:
        return sensed.failure(recipe, reason.current) if isinstance(reason, DefinitionChanged) else None

    return explained(name, node.name, verdict, record, states, sensed.look.instant, _completed(sensed, node), failed)


def _completed(sensed: Sensed, node: Node) -> WhenMade:
    def made(recipe: str) -> str | None:
        found = sensed.graph.find(recipe, node.tenant)
        return found.record.completed_at if found is not None and found.record is not None else None

    return made


def reason_line(reason: Reason | Damaged, recorded_at: str | None, seen: str) -> str:
    """One cause: what it is, the old and the new mark in short, how it was told, and when each was seen."""
    match reason:
        case DefinitionChanged(recorded, current):
            if recorded is None:
                return "defined, never computed"
            return f"definition changed: {short(recorded)}{_at('made', recorded_at)} → {short(current)}{_at('seen', seen)}"
        case InputAdvanced():
            before, after = reason.recorded, reason.current
            told = str(reason).removesuffix(f" ({after.method})")
            marks = f"{short(before.value)}{_at('read', recorded_at)} → {short(after.value)}{_at('seen', seen)}"
            return f"{visible(told)}: {marks}, by {visible(_method(before, after))}{_columns(before)}"
        case InputVanished():
            before = reason.recorded
            return f"{visible(str(reason))}: it was {short(before.value)}{_at('read', recorded_at)}, by {visible(before.method)}"
        case Damaged(found):
            return "its bytes are gone" if found is None else f"its bytes have the digest {short(found)}{_at('seen', seen)}, not the published one"


def _method(before: Anchor, after: Anchor) -> str:
    return after.method if before.method == after.method else f"{before.method}, now {after.method}"


def _columns(anchor: Anchor) -> str:
    if not anchor.columns:
        return ""
    shown = ", ".join(map(visible, anchor.columns[:8])) + (f" and {len(anchor.columns) - 8} more" if len(anchor.columns) > 8 else "")
    return f" over {shown}"


def _unmoved(anchor: Anchor, state: State | None, recorded_at: str | None, seen: str) -> str:
    noted = isinstance(state, Anchor) and state.note
    said = visible(state.note) if noted and isinstance(state, Anchor) else f"{visible(anchor.input.label)} is as it was"
    moments = (_at("read", recorded_at) + _at("seen", seen)).replace(") (", ", ")
    return f"{said}: {short(anchor.value)}{moments}, by {visible(anchor.method)}{_columns(anchor)}"


def _at(word: str, instant: str | None) -> str:
    """` (seen 2026-11-20 12:00:05 UTC)`."""
    return f" ({word} {instant[:10]} {instant[11:19]} UTC)" if instant else ""


def _along(root: Branch, path: Sequence[str]) -> Branch:
    """The branch at the end of the way, `path[0]` directly below the root."""
    for name in path:
        root = root.under(visible(name))
    return root

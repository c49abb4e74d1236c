"""Table lineage as a Mermaid flowchart."""

import re
from collections.abc import Sequence

from jammi_lab.core.html import VERDICT_ICONS, escape_invisible, unmarked_word
from jammi_lab.core.input_kinds import MODEL_KIND, input_kind
from jammi_lab.features.pictures.lineage_svg import (
    CHANGE_COLOUR,
    HELD_SIGN,
    VERDICT_FILLS,
    second_line,
)
from jammi_lab.freshness.node_states import NodeLike, NodeStates

_ACTIVE = re.compile(r'["#$%&<>`{}\\]')
"""Characters that act inside of a quoted label: Mermaid takes entities, HTML, Markdown, formulas
and directives from it."""


def mermaid_text(
    nodes: Sequence[NodeLike], pairs: Sequence[tuple[int, int]], states: NodeStates
) -> str:
    """A Mermaid flowchart of nodes and (input, derived) indexes. Tables have the colours of their
    verdicts, root causes a border; what changed, failed or is held is a line of text. Names are
    text, whatever they contain."""
    lines = ["flowchart LR"]
    used_words: dict[str, None] = {}
    for index, node in enumerate(nodes):
        opening, closing = _brackets(node.kind)
        word = unmarked_word(states.verdicts.get(node, ""))
        style = f":::{word.replace(' ', '_')}" if word else ""
        used_words |= {word: None} if word else {}
        lines.append(f'  n{index}{opening}"{_label(node, states)}"{closing}{style}')
    lines += [f"  n{a} --> n{b}" for a, b in pairs]
    for word in used_words:
        fill, _, ink = VERDICT_FILLS[word]
        lines.append(f"  classDef {word.replace(' ', '_')} fill:{fill},color:{ink}")
    border = f"stroke:{CHANGE_COLOUR},stroke-width:5px"
    lines += [f"  style n{i} {border}" for i, node in enumerate(nodes) if node in states.changes]
    return "\n".join(lines)


def _brackets(kind: str) -> tuple[str, str]:
    """The brackets for the shape of a kind of node."""
    if kind == MODEL_KIND:
        return "{{", "}}"
    return ("[(", ")]") if input_kind(kind).is_external else ("[", "]")


def _label(node: NodeLike, states: NodeStates) -> str:
    word, checks, held = (
        states.verdicts.get(node, ""),
        states.checks.get(node),
        states.held.get(node),
    )
    plain_word = unmarked_word(word)
    mark = word.removeprefix(plain_word)
    lines = [f"{VERDICT_ICONS[plain_word][0]}{mark} {node.name}" if word else node.name]
    if node in states.changes:
        lines.append(second_line(node, states.changes))
    if checks is not None:
        lines.append(f"{VERDICT_ICONS[checks.verdict][0]} checks: {checks.text}")
    if held:
        lines.append(f"{HELD_SIGN} {held}")
    return "<br>".join(map(_text, lines))


def _text(line: str) -> str:
    return _ACTIVE.sub(lambda found: f"#{ord(found[0])};", escape_invisible(line))

"""Inspection (Shift+Tab) in `%jammi` lines and `%%jammi` cells: the columns and verdict of a
relation, the type of a column, the usage of a verb or of a cell magic."""

import re
from typing import TYPE_CHECKING, Any

from jammi_kernel_ext.cell_scope import (
    RelationColumnCache,
    aliased_relations,
    name_parts,
    relation_at,
    relation_sql,
    unquote,
)
from jammi_kernel_ext.verbs import VERBS
from jammi_lab.core import reprs
from jammi_lab.core.errors import JammiError
from jammi_lab.core.html import Rendered, plain_text, verdict_icon, vstack
from jammi_lab.core.identifiers import fold, quoted_name
from jammi_lab.core.verdicts import marked_label, remarks_on

if TYPE_CHECKING:
    from jammi_lab.workspace.workspace import Workspace

_LINE = re.compile(r"\s*(?:[\w.]+\s*=\s*)?%jammi\b")
_WORD = re.compile(r"[^\s'\"]+")


def inspect_statement(ws: "Workspace | None", code: str, position: int) -> Rendered | None:
    """Describe the relation or column at a position of a SQL cell; None if there is none."""
    first, newline, statement = code.partition("\n")
    offset = position - len(first) - len(newline)
    if ws is None or not first.lstrip().startswith("%%jammi") or offset < 0:
        return None
    relation = relation_at(ws, statement, offset)
    if relation is None:
        return _column_form(ws, statement, offset)
    return _relation_form(ws, relation)


def _relation_form(ws: "Workspace", relation: str) -> Rendered | None:
    columns = RelationColumnCache().relation_columns(ws, relation)
    return (
        vstack(
            _verdict_form(ws, name_parts(relation)),
            reprs.columns(quoted_name(*name_parts(relation)), columns),
        )
        if columns
        else None
    )


def _column_form(ws: "Workspace", statement: str, offset: int) -> Rendered | None:
    """The type of the column under the cursor, once for each relation that has such a column."""
    match = next(
        (
            m
            for m in re.finditer(r'"(?:[^"]|"")+"|\$?\w+', statement)
            if m.start() <= offset <= m.end()
        ),
        None,
    )
    if match is None or match[0].startswith("$"):
        return None
    columns = RelationColumnCache()
    matches = [
        (name, kind, relation)
        for relation in dict.fromkeys(relation for _, relation in aliased_relations(statement))
        for name, kind in columns.relation_columns(ws, relation)
        if fold(name) == fold(unquote(match[0]))
    ]
    return (
        vstack(
            *(
                plain_text(f"{name} {kind.lower()}, a column of {relation}")
                for name, kind, relation in matches
            )
        )
        if matches
        else None
    )


def _line_form(ws: "Workspace | None", line: str, offset: int) -> Rendered | None:
    """Describe the verb or the relation under the cursor of a `%jammi` line."""
    from jammi_kernel_ext.display import Help

    words = [(m[0], m.start() <= offset <= m.end()) for m in _WORD.finditer(line)][1:]
    if not words:
        return None
    verb, on_it = words[0]
    if on_it:
        return Help(verb)._rendered() if any(v.name == verb for v in VERBS) else None
    relation = (
        next((relation_sql(ws, word) for word, under_cursor in words[1:] if under_cursor), None)
        if ws is not None
        else None
    )
    return _relation_form(ws, relation) if ws is not None and relation is not None else None


def _verdict_form(ws: "Workspace", words: list[str]) -> Rendered | None:
    if words[0] != "jammi" or len(words) != 2:
        return None
    try:
        verdict = ws._services.freshness.current_verdicts([words[1]])[words[1]]
    except (JammiError, KeyError):
        return None
    reasons = "; ".join(remarks_on(verdict))
    return (
        plain_text(f"{words[1]}: ")
        + verdict_icon(marked_label(verdict))
        + plain_text(f": {reasons}" if reasons else "")
    )


def inspect_reply(ws: "Workspace | None", code: str, position: int) -> dict[str, Any] | None:
    """The reply to an inspect_request; None leaves it to Python's inspection. Errors give None: a
    key press must never show one."""
    try:
        form, is_final = _form_at(ws, code, position)
    except (JammiError, LookupError, ValueError):
        return None
    if form is None:
        return {"status": "ok", "found": False, "data": {}, "metadata": {}} if is_final else None
    return {
        "status": "ok",
        "found": True,
        "data": {"text/plain": form.text, "text/html": form.html},
        "metadata": {},
    }


def _form_at(ws: "Workspace | None", code: str, position: int) -> tuple[Rendered | None, bool]:
    """The description at a position, and whether it is final. In SQL it is, even when empty: a
    Python object of the same name is unrelated."""
    head = code[:position]
    if (cell := re.match(r"\s*%%(jammi(?:_py)?)\b", code)) is not None:
        if "\n" not in head[len(code) - len(code.lstrip()) :]:
            from jammi_kernel_ext.display import Help

            return Help(cell[1])._rendered(), True
        in_sql = cell[1] == "jammi"
        variable = re.search(r"\$\w*$", head) is not None
        return (inspect_statement(ws, code, position) if in_sql else None), in_sql and not variable
    start = head.rfind("\n") + 1
    line = code[start:].partition("\n")[0]
    if (match := _LINE.match(line)) is None or position - start <= match.end():
        return None, False
    indent = len(line) - len(line[line.index("%") :])
    return _line_form(ws, line[indent:], position - start - indent), True

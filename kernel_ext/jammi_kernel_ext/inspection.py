"""Inspection (Shift+Tab) in `%jammi` lines and `%%jammi` cells: the columns and verdict of a
relation, the type of a column, the usage of a verb or of a cell magic."""

import re
from typing import TYPE_CHECKING, Any

from jammi_kernel_ext.cell_scope import RelationColumnCache
from jammi_kernel_ext.display import columns_form
from jammi_lab.commands.help import Help, command_help
from jammi_lab.commands.table import LINE, find_command
from jammi_lab.core.errors import JammiError
from jammi_lab.core.html import Rendered, plain_text, verdict_icon, vstack
from jammi_lab.core.identifiers import fold
from jammi_lab.core.verdicts import marked_label, remarks_on

if TYPE_CHECKING:
    from jammi_kernel_ext.sql_scope import NameInStatement
    from jammi_lab.workspace.workspace import Workspace

_LINE = re.compile(r"\s*(?:[\w.]+\s*=\s*)?%jammi\b")
_WORD = re.compile(r"[^\s'\"]+")


def inspect_statement(ws: "Workspace | None", code: str, position: int) -> Rendered | None:
    """Describe the relation or column at a position of a SQL cell; None if there is none."""
    from sqlglot import exp

    from jammi_kernel_ext.sql_scope import NameInStatement, relation_of

    first, newline, statement = code.partition("\n")
    offset = position - len(first) - len(newline)
    if ws is None or offset < 0:
        return None
    place = NameInStatement(statement, offset)
    name, parent = place.name, place.parent
    if name is None or parent is None:
        return None
    if isinstance(parent, exp.Table):
        return _relation_form(ws, relation_of(parent))
    is_alias = isinstance(parent, exp.TableAlias) or parent.args.get("table") is name
    if is_alias:
        relation = place.relation(name.name)
        return None if relation is None else _relation_form(ws, relation)
    return _column_form(ws, name.name, place)


def _relation_form(ws: "Workspace", relation: str) -> Rendered | None:
    columns = RelationColumnCache().relation_columns(ws, relation)
    if not columns:
        return None
    return vstack(_verdict_form(ws, relation), columns_form(relation, columns))


def _column_form(ws: "Workspace", name: str, place: "NameInStatement") -> Rendered | None:
    """The type of the column, once for each relation that has such a column."""
    cache = RelationColumnCache()
    columns = place.columns(lambda relation: cache.relation_columns(ws, relation))
    lines = [
        plain_text(f"{column} {kind.lower()}, a column of {place.relation(alias) or alias}")
        for alias, known in columns.items()
        for column, kind in known
        if fold(column) == fold(name)
    ]
    return vstack(*lines) if lines else None


def _line_form(ws: "Workspace | None", line: str, offset: int) -> Rendered | None:
    """Describe the verb or the relation under the cursor behind `%jammi`."""
    words = [(m[0], m.start() <= offset <= m.end()) for m in _WORD.finditer(line)]
    if not words:
        return None
    name, on_it = words[0]
    if on_it:
        verb = find_command(LINE, name)
        return None if verb is None else command_help(verb)
    word = next((word for word, under_cursor in words[1:] if under_cursor), None)
    return None if ws is None or word is None else _relation_form(ws, word)


def _verdict_form(ws: "Workspace", relation: str) -> Rendered | None:
    """The verdict on a result table."""
    schema, dot, name = relation.replace('"', "").partition(".")
    if not dot and schema not in ws.sources:
        name = schema
    elif fold(schema) != "jammi":
        return None
    try:
        verdict = ws._services.freshness.current_verdicts([name])[name]
    except (JammiError, KeyError):
        return None
    reasons = "; ".join(remarks_on(verdict))
    return (
        plain_text(f"{name}: ")
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
        "data": form.data,
        "metadata": {},
    }


def _form_at(ws: "Workspace | None", code: str, position: int) -> tuple[Rendered | None, bool]:
    """The description at a position, and whether it is final. In SQL it is, even when empty: a
    Python object of the same name is unrelated."""
    head = code[:position]
    if (cell := re.match(r"\s*%%(jammi(?:_py)?|sql)\b", code)) is not None:
        if "\n" not in head[len(code) - len(code.lstrip()) :]:
            return Help(cell[1].replace("sql", "jammi"))._rendered(), True
        in_sql = cell[1] != "jammi_py"
        variable = re.search(r"\$\w*$", head) is not None
        return (inspect_statement(ws, code, position) if in_sql else None), in_sql and not variable
    start = head.rfind("\n") + 1
    line = code[start:].partition("\n")[0]
    if (match := _LINE.match(line)) is None or position - start <= match.end():
        return None, False
    return _line_form(ws, line[match.end() :], position - start - match.end()), True

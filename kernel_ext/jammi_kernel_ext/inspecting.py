"""Shift+Tab and `?` in our cells and lines: of the relation under the cursor its columns and, of a result table, its verdict; of a column its type;
of a verb and of the first line of a cell, how it is written."""

import re
from typing import TYPE_CHECKING, Any

from jammi_kernel_ext.arguments import VERBS
from jammi_kernel_ext.relations import Columns, bare, meant, named, parts, relation_at
from jammi_lab import forms
from jammi_lab.errors import JammiError
from jammi_lab.markup import Form, mark, plain, stack
from jammi_lab.names import fold, written
from jammi_lab.values.verdicts import reasons_of, word

if TYPE_CHECKING:
    from jammi_lab.workspace import Workspace

_LINE = re.compile(r"\s*(?:[\w.]+\s*=\s*)?%jammi\b")
_WORD = re.compile(r"[^\s'\"]+")


def inspected(ws: "Workspace | None", code: str, at: int) -> Form | None:
    """What there is to say about the name at a place of a cell; None where it is no relation of ours."""
    first, newline, statement = code.partition("\n")
    place = at - len(first) - len(newline)
    if ws is None or not first.lstrip().startswith("%%jammi") or place < 0:
        return None
    relation = relation_at(ws, statement, place)
    if relation is None:
        return _column(ws, statement, place)
    return _relation(ws, relation)


def _relation(ws: "Workspace", relation: str) -> Form | None:
    columns = Columns().of(ws, relation)
    return stack(_verdict(ws, parts(relation)), forms.columns(written(*parts(relation)), columns)) if columns else None


def _column(ws: "Workspace", statement: str, place: int) -> Form | None:
    """The type of the column under the cursor, for each relation that has one of the name."""
    found = next((m for m in re.finditer(r'"(?:[^"]|"")+"|\$?\w+', statement) if m.start() <= place <= m.end()), None)
    if found is None or found[0].startswith("$"):
        return None
    columns = Columns()
    told = [
        (name, kind, relation)
        for relation in dict.fromkeys(relation for _, relation in named(statement))
        for name, kind in columns.of(ws, relation)
        if fold(name) == fold(bare(found[0]))
    ]
    return stack(*(plain(f"{name} {kind.lower()}, a column of {relation}") for name, kind, relation in told)) if told else None


def _typed(ws: "Workspace | None", line: str, place: int) -> Form | None:
    """Of a `%jammi` line, the verb or the name under the cursor."""
    from jammi_kernel_ext.display import Help

    words = [(m[0], m.start() <= place <= m.end()) for m in _WORD.finditer(line)][1:]
    if not words:
        return None
    verb, on_it = words[0]
    if on_it:
        return Help(verb)._form() if any(v.name == verb for v in VERBS) else None
    relation = next((meant(ws, word) for word, here in words[1:] if here), None) if ws is not None else None
    return _relation(ws, relation) if ws is not None and relation is not None else None


def _verdict(ws: "Workspace", words: list[str]) -> Form | None:
    if words[0] != "jammi" or len(words) != 2:
        return None
    try:
        verdict = ws._questions.verdicts_now([words[1]])[words[1]]
    except (JammiError, KeyError):
        return None
    reasons = "; ".join(reasons_of(verdict))
    return plain(f"{words[1]}: ") + mark(word(verdict)) + plain(f": {reasons}" if reasons else "")


def answer(ws: "Workspace | None", code: str, at: int) -> dict[str, Any] | None:
    """The reply to an inspect_request; None where Python's own may answer. Whatever goes wrong is no answer: a key pressed shows no error."""
    try:
        form, ours = _answered(ws, code, at)
    except (JammiError, LookupError, ValueError):
        return None
    if form is None:
        return {"status": "ok", "found": False, "data": {}, "metadata": {}} if ours else None
    return {"status": "ok", "found": True, "data": {"text/plain": form.text, "text/html": form.html}, "metadata": {}}


def _answered(ws: "Workspace | None", code: str, at: int) -> tuple[Form | None, bool]:
    """What there is to say, and whether nobody else knows more: what a word of SQL is called in Python, too, is another thing."""
    head = code[:at]
    if (cell := re.match(r"\s*%%(jammi(?:_py)?)\b", code)) is not None:
        if "\n" not in head[len(code) - len(code.lstrip()) :]:
            from jammi_kernel_ext.display import Help

            return Help(cell[1])._form(), True
        in_sql = cell[1] == "jammi"
        variable = re.search(r"\$\w*$", head) is not None
        return (inspected(ws, code, at) if in_sql else None), in_sql and not variable
    start = head.rfind("\n") + 1
    line = code[start:].partition("\n")[0]
    if (ours := _LINE.match(line)) is None or at - start <= ours.end():
        return None, False
    skipped = len(line) - len(line[line.index("%") :])
    return _typed(ws, line[skipped:], at - start - skipped), True

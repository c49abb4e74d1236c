"""Shift+Tab and `?` in a `%%jammi` cell: the columns of the relation under the cursor and, of a result table, its verdict."""

from typing import TYPE_CHECKING, Any

from jammi_kernel_ext.relations import Columns, parts, relation_at
from jammi_lab import forms
from jammi_lab.errors import JammiError
from jammi_lab.markup import Form, mark, plain, stack
from jammi_lab.values.verdicts import reasons_of, word

if TYPE_CHECKING:
    from jammi_lab.workspace import Workspace


def inspected(ws: "Workspace | None", code: str, at: int) -> Form | None:
    """What there is to say about the name at a place of a cell; None where it is no relation of ours."""
    first, newline, statement = code.partition("\n")
    place = at - len(first) - len(newline)
    if ws is None or not first.lstrip().startswith("%%jammi") or place < 0:
        return None
    relation = relation_at(ws, statement, place)
    if relation is None:
        return None
    columns = Columns().of(ws, relation)
    if not columns:
        return None
    return stack(_verdict(ws, parts(relation)), forms.columns(relation, columns))


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
    """The reply to an inspect_request; None where the name is none of ours. Whatever goes wrong is no answer: a key pressed shows no error."""
    try:
        form = inspected(ws, code, at)
    except (JammiError, LookupError, ValueError):
        return None
    return None if form is None else {"status": "ok", "found": True, "data": {"text/plain": form.text, "text/html": form.html}, "metadata": {}}

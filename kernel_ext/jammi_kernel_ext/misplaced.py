"""What people type where it does not belong: statements on a line, verbs of other tools, names where a verb is expected; and where it does."""

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from jammi_lab.errors import InvalidArgument
from jammi_lab.names import fold, near

if TYPE_CHECKING:
    from jammi_lab.workspace import Workspace

SQL = frozenset("select with from values show describe explain insert update delete create drop alter pivot unpivot summarize attach".split())
"""Words that a statement begins with."""
# What people type here and only Python has; the nearest verb would be another deed (`export` is near `expire`).
IN_PYTHON = {
    "drop": "drop(name)",
    "rename": "rename(old, new)",
    "define": "define(name, sql)",
    "export": "table(name).export(path)",
    "history": "table(name).history()",
    "diff": "table(name).diff()",
    "pin": "table(name).pin()",
    "restore": "table(name).restore()",
    "backup": "backup(path)",
}
_CELL = "A statement stands in a cell of its own, below the line %%jammi."
_IN_CELLS = {
    "sql": _CELL,
    "query": _CELL,
    "materialize": "%%jammi -m NAME keeps the rows of the statement that stands below it.",
    "compute": "%%jammi_py NAME keeps the frame that the Python below it gives.",
}
_SAME = {
    "refresh": "recompute",
    "run": "recompute",
    "build": "recompute",
    "rm": "remove",
    "unregister": "remove",
    "register": "add",
    "ls": "tables",
    "list": "tables",
    "columns": "schema",
    "desc": "schema",
    "head": "preview",
    "use": "open",
    "connect": "open",
    "set": "config",
    "settings": "config",
    "explorer": "catalog",
    "dag": "lineage",
}


def no_verb(words: Sequence[str], verbs: Sequence[str]) -> InvalidArgument:
    """The error for a line that begins with none of the verbs."""
    name = words[0]
    said = f"%jammi has no verb {name!r}."
    if name in IN_PYTHON:
        return InvalidArgument(said, hint=f"Write it in Python: jammi_lab.get_workspace().{IN_PYTHON[name]}")
    if fold(name) in SQL or name in _IN_CELLS:
        return InvalidArgument(said, hint=_IN_CELLS.get(name, _CELL))
    meant = [_SAME[fold(name)]] if fold(name) in _SAME else near(name, verbs)
    return InvalidArgument(said, near=meant, hint="%jammi help lists what there is.")


def on_the_first_line(words: Sequence[str], verbs: Sequence[str]) -> InvalidArgument | None:
    """The error for a cell whose first line is a statement's, or begins with one of the verbs of lines; None for another."""
    if words and words[0] in verbs:
        return InvalidArgument(f"{words[0]} is no cell but a line.", hint=f"Write it with one %: %jammi {shlex.join(words)}")
    if not words or fold(words[0]) not in SQL:
        return None
    return InvalidArgument("The statement begins on the first line of the cell.", hint="Put it below: the first line is for a NAME and flags.")


def of_a_name(line: str, ws: "Workspace | None", error: InvalidArgument) -> InvalidArgument:
    """The error of a line that cannot be read; where it begins with the name of something that is here, with what can be typed about it."""
    word = line.split(maxsplit=1)[0] if line.strip() else ""
    if ws is None or not error.message.startswith("%jammi has no verb"):
        return error
    for kind, known in (("source", list(ws.sources)), ("table", [r.name for r in ws.recipes()])):
        if found := next((name for name in known if fold(name) == fold(word)), None):
            return InvalidArgument(error.message, hint=f"{found} is a {kind}: %jammi preview {shlex.quote(found)} shows its rows.")
    return error


def silenced(line: str) -> tuple[str, bool]:
    """The line, and whether a semicolon at its end asked, as anywhere in a notebook, that nothing is shown. `delimiter=;` is a value."""
    stripped = line.rstrip()
    last = stripped.rpartition(" ")[2]
    quiet = last.endswith(";") and "=" not in last
    return (stripped[:-1], True) if quiet else (line, False)

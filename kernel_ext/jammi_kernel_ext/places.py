"""What may be typed at places that are no names of ours: files, words of help, kinds; and whether the cursor stands in a text or a comment."""

import os
import re
import shlex
from collections.abc import Sequence

from jammi_kernel_ext.arguments import CELL, STEP, VERBS

PLOTS = ("bar", "line", "point", "area", "box", "hist")
"""Kinds of charts."""
ANCHORS = ("auto", "content", "none", "column:")
"""How a source's state may be told."""
_FILES = 2_000
"""Entries of a folder that are looked at."""
_TOKENS = re.compile(r"(?P<end>')(?:[^']|'')*(?:'|$)|\"(?:[^\"]|\"\")*(?:\"|$)|--[^\n]*(?:\n|$)|/\*.*?(?:\*/|$)|\$\$.*?(?:\$\$|$)", re.DOTALL)
_CLOSED = {"'": "'", "--": "\n", "/*": "*/", "$$": "$$"}


def unclosed(head: str) -> tuple[str, str] | None:
    """What the end of a statement stands in, a text or a comment: how it is opened, and what it holds so far. None where it stands in neither."""
    for token in _TOKENS.finditer(head):
        opened = next((o for o in _CLOSED if token[0].startswith(o)), None)
        if opened is not None and token.end() == len(head) and (len(token[0]) == len(opened) or not token[0].endswith(_CLOSED[opened])):
            return opened, token[0][len(opened) :]
    return None


def files(begun: str, *, folders: bool = False, quoted: bool = False) -> list[tuple[str, str]]:
    """Files and folders whose path begins so. `folders`: only these. `quoted`: between quotation marks, so that blanks do no harm."""
    begun = begun.strip("'\"")
    if "://" in begun:
        return []
    head = begun[: begun.rfind("/") + 1]
    try:
        with os.scandir(os.path.expanduser(head) or ".") as entries:
            found = sorted((entry.name, entry.is_dir()) for entry, _ in zip(entries, range(_FILES), strict=False))
    except OSError:
        return []
    hidden = begun[len(head) :].startswith(".")
    told = [(f"{head}{name}{'/' if is_folder else ''}", is_folder) for name, is_folder in found if hidden or not name.startswith(".")]
    return [(path if quoted else shlex.quote(path), "path") for path, is_folder in told if (is_folder or not folders) and "'" not in path]


def helped() -> list[str]:
    """What there is help about."""
    return [v.name for v in VERBS if v.name] + ["jammi", "jammi_py"] + [s for f in (*CELL.flags, *STEP.flags) for s in f.spelled]


def kinds() -> Sequence[str]:
    """The kinds of sources."""
    from jammi_lab.sources.registry import _ALL_KINDS

    return _ALL_KINDS

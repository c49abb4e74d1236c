"""Statements are kept as they were written, in the catalog and in manifests; so none may hold a credential, not even in a comment."""

import re
from collections.abc import Iterator

from jammi_lab import scrubbing
from jammi_lab.errors import StatementNotAllowed

_ADDRESS = re.compile(r"""[A-Za-z][A-Za-z0-9+.-]*://[^\s/'"@:]*:([^\s'"@]+)@""")
_CONNECTION = re.compile(r"""(?i:\b(?:password|passwd|pwd)\s*=\s*)["']*([^\s'";,)]+)""")
_TO_A_SERVER = re.compile(r"(?i:\b(?:host|hostaddr|server|dbname|database|port)\s*=)")
_PART = re.compile(r"""(?P<comment>--[^\n]*|/\*.*?\*/)|(?P<text>'(?:[^']|'')*')|"(?:[^"]|"")*"|(?P<open>\$\w*\$)""", re.S)
_HINT = (
    "Add the source with secret=, ws.sources.add('crm', 'postgresql://user@host/database', secret='NAME_OF_A_VARIABLE'), and read FROM crm.customers."
)


def refuse(text: str) -> None:
    """Nothing, when a statement holds no credential that can be told as one. StatementNotAllowed, which does not tell it."""
    if "://" not in text and "=" not in text and not scrubbing.anything():
        return
    for what, start, end in _found(text):
        starred = f"{text[:start]}{'*' * (end - start)}{text[end:]}"
        raise StatementNotAllowed(f"The statement holds {what}, and a statement is kept as it is written.", hint=_HINT).at(starred, start)


def refuse_value(name: str, value: object) -> None:
    """The same for a value that is kept with a definition: `$name`."""
    if isinstance(value, str) and next(_found(f"'{value}'"), None) is not None:
        raise StatementNotAllowed(f"The value of ${name} holds a password, and the values of a definition are kept.", hint=_HINT)


def _found(text: str) -> Iterator[tuple[str, int, int]]:
    """What is wrong, and from where to where the credential goes."""
    for said in _ADDRESS.finditer(text):
        yield "an address with a password", *said.span(1)
    if not scrubbing.anything() and not _CONNECTION.search(text):
        return
    for start, part in _unread(text):
        for said in _CONNECTION.finditer(part) if _TO_A_SERVER.search(part) else ():
            yield "a connection with a password", start + said.start(1), start + said.end(1)
        for at, to in scrubbing.spans(part):
            yield "the secret of a source", start + at, start + to


def _unread(text: str) -> Iterator[tuple[int, str]]:
    """The comments and texts of a statement, which nothing reads as SQL: where each begins, and what it says."""
    at = 0
    while (said := _PART.search(text, at)) is not None:
        at = said.end()
        if said["open"] is not None:
            close = text.find(said["open"], at)
            at = len(text) if close < 0 else close + len(said["open"])
        elif said["comment"] is None and said["text"] is None:
            continue
        yield said.start(), text[said.start() : at]

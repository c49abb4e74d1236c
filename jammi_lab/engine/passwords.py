"""Statements, steps and notes are kept as they were written, in the catalog and in manifests; so none may hold a credential."""

import io
import itertools
import re
import tokenize
from collections.abc import Iterable, Iterator

from jammi_lab import scrubbing
from jammi_lab.errors import InvalidArgument, StatementNotAllowed
from jammi_lab.names import has_half

_ADDRESS = re.compile(r"""[A-Za-z][A-Za-z0-9+.-]*://[^\s/'"@:]*:([^\s'"@]+)@""")
_CONNECTION = re.compile(r"""(?i:\b(?:password|passwd|pwd)\s*=\s*)["']*([^\s'";,)]+)""")
_TO_A_SERVER = re.compile(r"(?i:\b(?:host|hostaddr|server|dbname|database|port)\s*=)")
_PART = re.compile(r"""(?P<comment>--[^\n]*|/\*.*?\*/)|(?P<text>'(?:[^']|'')*')|"(?:[^"]|"")*"|(?P<open>\$\w*\$)""", re.S)
_HINT = (
    "Add the source with secret=, ws.sources.add('crm', 'postgresql://user@host/database', secret='NAME_OF_A_VARIABLE'), and read FROM crm.customers."
)


_PLACEHOLDER = re.compile(r"\{[^{}]*\}|%s|%\(\w+\)s|\$\w+|\$\{\w+\}|<\w+>|\*+|\.{3}|…")
"""What stands for a password in a text that is filled in later, or in an example."""
_CODE = (tokenize.NAME, tokenize.NUMBER, tokenize.OP, tokenize.NEWLINE, tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
_STEP_HINT = "Let the step read it where it runs, os.environ['NAME_OF_A_VARIABLE'], or give it what it reads as a source: inputs=['crm.customers']."


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


def refuse_text(what: str, text: object) -> None:
    """The same for a text that is kept as it is, and is no SQL: `what` begins the sentence. InvalidArgument for one that no file can hold."""
    if isinstance(text, str) and has_half(text):
        raise InvalidArgument(f"{what} holds half a character and could not be kept: {text[:40]!r}.")
    if isinstance(text, str) and next(_found(text, [(0, text)]), None) is not None:
        raise StatementNotAllowed(f"{what} holds a password, and is kept as it is.", hint="Leave the password out.")


def refuse_step(name: str, source: str) -> None:
    """The same for the source of a Python step, its texts and comments."""
    for what, start, end in _found(source, _unread_python(source)):
        if _PLACEHOLDER.fullmatch(source[start:end]):
            continue
        starred = f"{source[:start]}{'*' * (end - start)}{source[end:]}"
        raise StatementNotAllowed(f"The source of the Python step {name!r} holds {what}, and it is kept as it is written.", hint=_STEP_HINT).at(
            starred, start
        )


def _found(text: str, parts: Iterable[tuple[int, str]] | None = None) -> Iterator[tuple[str, int, int]]:
    """What is wrong, and from where to where the credential goes; `parts` are those of an SQL statement unless they are given."""
    for said in _ADDRESS.finditer(text):
        yield "an address with a password", *said.span(1)
    if not scrubbing.anything() and not _CONNECTION.search(text):
        return
    for start, part in _unread(text) if parts is None else parts:
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


def _unread_python(source: str) -> Iterator[tuple[int, str]]:
    """The comments and texts of Python source; all of it where it cannot be cut into tokens."""
    begins = [0, *itertools.accumulate(map(len, source.splitlines(keepends=True)))]
    try:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type not in _CODE:
                yield begins[token.start[0] - 1] + token.start[1], token.string
    except (tokenize.TokenError, SyntaxError):
        yield 0, source

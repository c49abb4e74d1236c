"""Rejects credentials in statements, steps and notes, because these are stored verbatim in the
catalog and in manifests."""

import io
import itertools
import re
import tokenize
from collections.abc import Iterable, Iterator

from jammi_lab.core import redaction
from jammi_lab.core.errors import StatementNotAllowed

_URL_PASSWORD = re.compile(r"""(?<=[\w+.-])://[^\s/'"@:]*:([^\s'"@]{1,4096})@""")
_PASSWORD_SETTING = re.compile(r"""(?i:\b(?:password|passwd|pwd)\s*=\s*)["']*([^\s'";,)]+)""")
_SERVER_SETTING = re.compile(r"(?i:\b(?:host|hostaddr|server|dbname|database|port)\s*=)")
_QUOTED_PART = re.compile(
    r"""(?P<comment>--[^\n]*|/\*.*?(?:\*/|\Z))|(?P<text>'(?:[^']|'')*')|"(?:[^"]|"")*"|(?P<open>\$\w*\$)""",
    re.S,
)
_HINT = (
    "Add the source with secret=, ws.sources.add('crm', 'postgresql://user@host/database', "
    "secret='NAME_OF_A_VARIABLE'), and read FROM crm.customers."
)

_PLACEHOLDER = re.compile(r"\{[^{}]*\}|%s|%\(\w+\)s|\$\w+|\$\{\w+\}|<\w+>|\*+|\.{3}|…")
"""Placeholders for a password in a template or an example."""
_CODE_TOKENS = (
    tokenize.NAME,
    tokenize.NUMBER,
    tokenize.OP,
    tokenize.NEWLINE,
    tokenize.NL,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
)
_STEP_HINT = (
    "Read it inside the step from os.environ['NAME_OF_A_VARIABLE'], or pass the data as a "
    "source: inputs=['crm.customers']."
)


def check_statement(text: str) -> None:
    """Reject a statement with a recognisable credential. Raises StatementNotAllowed, with the
    credential masked."""
    # The common case, without searching: a password needs an URL, a connection string or a
    # registered secret.
    if "://" not in text and "=" not in text and not redaction.has_credentials():
        return
    for kind, start, end in _find_credentials(text):
        masked = f"{text[:start]}{'*' * (end - start)}{text[end:]}"
        raise StatementNotAllowed(
            f"The statement contains {kind}, and statements are stored verbatim.", hint=_HINT
        ).with_position(masked, start)


def check_value(name: str, value: object) -> None:
    """Reject a parameter value with a credential; parameter values are stored with the
    definition."""
    if isinstance(value, str) and next(_find_credentials(f"'{value}'"), None) is not None:
        raise StatementNotAllowed(
            f"The value of ${name} contains a password, and parameter values are stored.",
            hint=_HINT,
        )


def check_text(subject: str, text: object) -> None:
    """Reject a stored text that is not SQL if it contains a credential. The message
    begins with `subject`."""
    if isinstance(text, str) and next(_find_credentials(text, [(0, text)]), None) is not None:
        raise StatementNotAllowed(
            f"{subject} contains a password and is stored verbatim.", hint="Remove the password."
        )


def check_step(name: str, source: str) -> None:
    """Reject the source of a Python step with a credential in a string or comment."""
    for kind, start, end in _find_credentials(source, _python_strings_and_comments(source)):
        if _PLACEHOLDER.fullmatch(source[start:end]):
            continue
        masked = f"{source[:start]}{'*' * (end - start)}{source[end:]}"
        raise StatementNotAllowed(
            f"The source of the Python step {name!r} contains {kind}, and it is stored verbatim.",
            hint=_STEP_HINT,
        ).with_position(masked, start)


def _find_credentials(
    text: str, parts: Iterable[tuple[int, str]] | None = None
) -> Iterator[tuple[str, int, int]]:
    """Each credential: its description, start and end. `parts` are the strings and comments to
    search; by default those of an SQL statement."""
    for match in _URL_PASSWORD.finditer(text):
        yield "a URL with a password", *match.span(1)
    if not redaction.has_credentials() and not _PASSWORD_SETTING.search(text):
        return
    for start, part in _quoted_parts(text) if parts is None else parts:
        for match in _PASSWORD_SETTING.finditer(part) if _SERVER_SETTING.search(part) else ():
            yield (
                "a connection string with a password",
                start + match.start(1),
                start + match.end(1),
            )
        for begin, end in redaction.credential_spans(part):
            yield "the secret of a source", start + begin, start + end


def _quoted_parts(text: str) -> Iterator[tuple[int, str]]:
    """The comments and string literals of a statement, each with its offset."""
    position = 0
    while (match := _QUOTED_PART.search(text, position)) is not None:
        position = match.end()
        if match["open"] is not None:
            close = text.find(match["open"], position)
            position = len(text) if close < 0 else close + len(match["open"])
        elif match["comment"] is None and match["text"] is None:
            continue
        yield match.start(), text[match.start() : position]


def _python_strings_and_comments(source: str) -> Iterator[tuple[int, str]]:
    """The comments and strings of Python source, each with its offset; the whole source if it
    cannot be tokenized."""
    line_offsets = [0, *itertools.accumulate(map(len, source.splitlines(keepends=True)))]
    try:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type not in _CODE_TOKENS:
                yield line_offsets[token.start[0] - 1] + token.start[1], token.string
    except (tokenize.TokenError, SyntaxError):
        yield 0, source

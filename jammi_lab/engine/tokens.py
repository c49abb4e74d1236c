"""The words of a statement, as DuckDB's tokenizer cuts them: byte offsets, comments left out, brackets counted."""

import itertools
import re
from dataclasses import dataclass

import duckdb

from jammi_lab.errors import InvalidArgument, StatementNotAllowed

_OPEN, _CLOSE = b"([{", b")]}"


@dataclass(frozen=True, slots=True)
class Token:
    """A token outside every bracket; a bracketed part is its opening and its closing one."""

    at: int
    """Byte offset."""
    word: str
    """Lower-case word, or the first character of anything else."""


def all_tokens(sql: str) -> list[tuple[int, bytes]]:
    """Byte offset and bytes up to the next token, of every token; of a text that begins with a comment or an unclosed quotation there may be none."""
    raw = sql.encode("utf-8", "replace")
    starts = [at for at, _ in duckdb.tokenize(sql)]
    return [(at, raw[at:end]) for at, end in itertools.pairwise([*starts, len(raw)])]


def top_level(sql: str) -> list[Token]:
    """The tokens outside brackets. The tokenizer leaves comments out."""
    depth, tokens = 0, []
    for at, body in all_tokens(sql):
        first = body[:1]
        if first and first in _CLOSE:
            depth -= 1
        if depth == 0:
            word = re.match(rb"\w+", body)
            tokens.append(Token(at, (word[0] if word else first).decode(errors="replace").lower()))
        if first and first in _OPEN:
            depth += 1
    return tokens


def parameter_at(sql: str, name: str) -> int | None:
    """Byte offset of the first `$name`."""
    tokens = all_tokens(sql)
    for (at, body), (after, follows) in itertools.pairwise(tokens):
        word = re.match(r"[\w$]+", follows.decode(errors="replace"))
        if body == b"$" and after == at + 1 and word and word[0].lower() == name.lower():
            return at
    return None


_QUERIES = ("select", "from", "with")


def one_expression(text: str) -> str:
    """A condition, when it stays within the brackets around it. StatementNotAllowed; InvalidArgument for what is no text."""
    if not isinstance(text, str) or not text.strip():
        raise InvalidArgument(f"A condition is an SQL expression, not {text!r}.", hint="For example where='year > 2020'.")
    depth = 0
    for _, body in all_tokens(text):
        depth += (body[:1] == b"(") - (body[:1] == b")")
        if depth < 0 or body[:1] == b";":
            break
    else:
        if depth == 0 and not any(t.word in _QUERIES for t in top_level(text)[:1]):
            return text
    raise StatementNotAllowed(f"A condition is one SQL expression with its brackets closed, not {text!r}.")

"""Tokens of a statement from DuckDB's tokenizer, with byte offsets and without comments."""

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

import duckdb

from jammi_lab.core.errors import InvalidArgument, ResourceExhausted, StatementNotAllowed
from jammi_lab.core.identifiers import has_surrogate

_OPEN, _CLOSE = b"([{", b")]}"
_EVALUATED = re.compile(r"\b(pragma|import)\b", re.I)


@dataclass(frozen=True, slots=True)
class Token:
    """A token outside brackets. Of a bracketed part only the opening and the closing bracket are
    tokens."""

    offset: int
    """Byte offset."""
    text: str
    """Lower-case word, or the first character of anything else."""


def tokenize(sql: str) -> list[tuple[int, duckdb.token_type]]:
    """The tokens of DuckDB: byte offset and kind. Raises ResourceExhausted without memory for
    them."""
    try:
        return duckdb.tokenize(sql)
    except (duckdb.Error, MemoryError, RuntimeError):  # the last is pybind11's
        raise ResourceExhausted("There is no memory for the text of the statement.") from None


def all_tokens(sql: str) -> list[tuple[int, bytes]]:
    """Every token: its byte offset and its bytes up to the next token. May be empty for a text that
    begins with a comment or an unclosed quote."""
    raw = sql.encode("utf-8", "replace")
    comment = duckdb.token_type.comment  # DuckDB 1.5 leaves comments out, 2 lists them
    starts = [offset for offset, kind in tokenize(sql) if kind != comment]
    return [(offset, raw[offset:end]) for offset, end in itertools.pairwise([*starts, len(raw)])]


def evaluated_verbs(sql: str) -> Iterator[tuple[int, str]]:
    """The offsets, in characters, and upper-case verbs of the statements of which DuckDB's parser
    computes the arguments."""
    tokens = all_tokens(sql) if _EVALUATED.search(sql) else []
    bodies = [b";", *(body for _, body in tokens), b""]
    for before, (offset, body), after in zip(bodies, tokens, bodies[2:], strict=False):
        verb = _EVALUATED.match(body.decode(errors="replace"))
        # the other statement that begins so is Python's
        is_other = body[:1] in b"iI" and not after.lower().startswith(b"database")
        if verb and before[:1] == b";" and not is_other:
            yield len(sql.encode("utf-8", "replace")[:offset].decode()), verb[0].upper()


def top_level_tokens(sql: str) -> list[Token]:
    """The tokens outside brackets."""
    depth, tokens = 0, []
    for offset, body in all_tokens(sql):
        first = body[:1]
        if first and first in _CLOSE:
            depth -= 1
        if depth == 0:
            match = re.match(rb"\w+", body)
            tokens.append(
                Token(offset, (match[0] if match else first).decode(errors="replace").lower())
            )
        if first and first in _OPEN:
            depth += 1
    return tokens


def parameter_offset(sql: str, name: str) -> int | None:
    """The byte offset of the first `$name`; None when there is none."""
    tokens = all_tokens(sql)
    for (offset, body), (next_offset, follows) in itertools.pairwise(tokens):
        match = re.match(r"[\w$]+", follows.decode(errors="replace"))
        if (
            body == b"$"
            and next_offset == offset + 1
            and match
            and match[0].lower() == name.lower()
        ):
            return offset
    return None


_QUERIES = ("select", "from", "with")


def check_expression(text: str) -> str:
    """Check that a condition is a single expression, so that it cannot close the parentheses put
    around it. Returns the text. StatementNotAllowed; InvalidArgument when it is not a string."""
    if not isinstance(text, str) or not text.strip() or has_surrogate(text):
        raise InvalidArgument(
            f"A condition must be an SQL expression, got {text!r}.",
            hint="For example where='year > 2020'.",
        )
    depth = 0
    for _, body in all_tokens(text):
        depth += (body[:1] == b"(") - (body[:1] == b")")
        if depth < 0 or body[:1] == b";":
            break
    else:
        if depth == 0 and not any(t.text in _QUERIES for t in top_level_tokens(text)[:1]):
            return text
    raise StatementNotAllowed(
        f"A condition must be one SQL expression with balanced parentheses, got {text!r}."
    )

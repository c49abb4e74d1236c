"""Hints for DuckDB's errors about a statement."""

import difflib
import re
from collections.abc import Iterable

import duckdb

from jammi_lab.core import foreign_errors, identifiers
from jammi_lab.engine.sql.tokens import tokenize

_CLAUSE_WORDS = frozenset(
    """
    select from where by group order having limit and or not in is like on using join left right
    full inner cross as with distinct case when then else end union all values set null true false
    between exists over partition asc desc qualify
    """.split()
)
"""Keywords behind which a sign is an error because something is missing."""
_NEAR_BYTES = 400
"""How much of a statement on each side of an error is looked at: patterns take the square of it."""
MAX_SIGNATURES = 3
"""Maximum number of signatures of a function in a hint."""
_PLACEHOLDER = re.compile(
    r"\{\{?\s*(?P<braces>[^\W\d]\w*)\s*\}|(?<![:\w]):(?P<colon>[^\W\d]\w*)|%\((?P<percent>\w+)\)s"
)
"""A placeholder for a value as other tools write it."""


def hint_for_syntax(message: str, position: int | None, statement: str) -> str:
    """The hint for a keyword used as a table or column name. `position` is its byte offset in the
    statement."""
    match = re.match(r'syntax error at or near "(\w+)"', message)
    preceding, following = _split_at(statement, position)
    for placeholder in _PLACEHOLDER.finditer(preceding + following):
        if placeholder.start() <= len(preceding) <= placeholder.end():
            name = placeholder[placeholder.lastindex or 1]
            return f"To use the value of a variable, write ${name}, and pass {name}={name}."
    if slip := foreign_errors.explain("slips", f"{preceding}\0{following}").hint:
        return slip
    if match is None:
        return _hint_for_keyword_as_column(preceding)
    keyword = match[1]
    if hint := _hint_for_misspelt_word(preceding, keyword):
        return hint
    if re.search(r"\b(from|join|into|update)\s+$", preceding, re.I):
        if (quoted := identifiers.quoted_name(keyword)) == keyword:
            return ""
        return f"If it is a table name, quote it: {quoted}."
    is_whole_item = re.match(rf"{keyword}\s*(,|\)|from\b)", following, re.I)
    if re.search(r"(\bselect\s|[,(])\s*$", preceding, re.I) and is_whole_item:
        return _hint_for_keyword_as_column(f" {keyword}", clause_words=frozenset())
    is_alias = re.search(r"""[\w)\]"']\s+$""", preceding) and is_whole_item
    if is_alias and tokenize(keyword) == [(0, duckdb.token_type.keyword)]:
        return f"To use it as a column name, write AS {keyword}."
    return _hint_for_keyword_as_column(preceding) or _hint_for_space(preceding, keyword)


def _hint_for_misspelt_word(preceding: str, word: str) -> str:
    """The hint for a word like a keyword, which is the first of the statement or stands before the
    error: `SELCT 1`, `SELECT 1 FORM papers`."""
    before = re.search(r"(\w+)\s+$|^\s*$", preceding)
    if before is None:
        return ""
    word = before[1] or word
    near = difflib.get_close_matches(word.casefold(), _CLAUSE_WORDS, 1, 0.75)
    if not near or near[0] == word.casefold():
        return ""
    return f"Did you mean {near[0].upper()} in place of {word}?"


def _hint_for_space(preceding: str, word: str) -> str:
    """The hint for a name with a space, such as `Unit price`, that is not quoted: two words that
    are not keywords."""
    first = re.search(r"(?<=[\s(,*/+.=-])(\w+) $", preceding)
    if first is None or any(
        tokenize(w) != [(0, duckdb.token_type.identifier)] for w in (first[1], word)
    ):
        return ""
    return _hint_to_quote(f"{first[1]} {word}")


def _hint_to_quote(name: str) -> str:
    return f"If {name} is one name, quote it: {identifiers.quoted_name(name)}."


def _hint_for_keyword_as_column(
    preceding: str, clause_words: frozenset[str] = _CLAUSE_WORDS
) -> str:
    """The hint for a keyword as a column name, such as `at`, behind which the rest of the
    statement is an error."""
    word = re.search(r"(?<=[\s(,])(\w+)\s*$", preceding)
    if word is None:
        return ""
    is_item = preceding[: word.start()].rstrip().endswith((",", "("))
    if not is_item and word[1].casefold() in clause_words:
        return ""
    quoted = identifiers.quoted_name(word[1])
    is_keyword = tokenize(word[1]) == [(0, duckdb.token_type.keyword)]
    if is_keyword and quoted != word[1]:
        return f"If {word[1]} is a column, quote it: {quoted}."
    return ""


def hint_for_column(name: str, columns: Iterable[str], position: int | None, statement: str) -> str:
    """The hint for a text literal in double quotes or without quotes, which SQL reads as a
    column, for a part of a date, and for one of the columns whose name needs quotes."""
    preceding, following = _split_at(statement, position)
    for column in columns:
        if len(column) > len(name) and following.casefold().startswith(column.casefold()):
            return _hint_to_quote(column)
    if slip := foreign_errors.explain("slips", f"{preceding}\0{following}").hint:
        return slip
    # What a column is compared with is seldom a column.
    if re.search(
        r"(=|<>|!=|[<>]=?|\bi?like|\bin\s*\(|\bthen|\belse)\s*$", preceding, re.I
    ) and following.startswith(('"', name)):
        return f"Text literals use single quotes: {identifiers.sql_literal(name)}."
    return ""


def hint_for_arguments(call: str, message: str) -> str:
    """The hint for wrong argument types: the signatures that exist. `call` is the name with the
    argument types, as DuckDB prints it."""
    signatures = re.findall(r"^\t(\S.*?) ->", message, re.M)
    has_other_types = not signatures or any(
        "..." in form or _count_arguments(form) == _count_arguments(call) for form in signatures
    )
    subject = "arguments" if has_other_types else "number"
    if hint := foreign_errors.explain("statement_hints", f"{subject} {call}").hint:
        return hint
    if has_other_types:
        return "Cast the arguments to a type that it takes."
    return (
        f"It takes {' or '.join(signatures[:MAX_SIGNATURES])}"
        f"{' or others' if len(signatures) > MAX_SIGNATURES else ''}."
    )


def _split_at(statement: str, position: int | None) -> tuple[str, str]:
    """What stands directly in front of a byte offset in the statement, and behind it."""
    if position is None:
        return "", ""
    text = statement.encode("utf-8", "replace")
    preceding, following = text[:position][-_NEAR_BYTES:], text[position:][:_NEAR_BYTES]
    return preceding.decode(errors="ignore"), following.decode(errors="ignore")


def _count_arguments(call: str) -> int:
    """The number of arguments in a call as DuckDB prints it."""
    arguments, depth, count = call.partition("(")[2].rpartition(")")[0], 0, 1
    for character in arguments:
        depth += (character in "([") - (character in ")]")
        count += character == "," and depth == 0
    return count if arguments else 0

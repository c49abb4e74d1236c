"""What to do about what DuckDB says of a statement."""

import re
from collections.abc import Iterable

import duckdb

from jammi_lab import names
from jammi_lab.sources.base import Relation

_MOST = 3
"""Forms of a function that are shown."""
_VALUE_BEFORE = re.compile(r"(=|<>|!=|[<>]=?|\blike|\bin\s*\(|\bthen|\belse)\s*$", re.I)
"""What stands before a value, seldom before a column."""
_AS_NUMBERS = r"No function matches .*\(.*VARCHAR|Cannot (compare|mix|combine) .*VARCHAR|Could not convert string ['\"]-?\d"
"""What begins what DuckDB says of a text that is taken for a number."""
_BY_WORDS = (
    (r"Cannot (compare|mix|combine) .*VARCHAR", "VARCHAR is text: cast it, for example x::DOUBLE."),
    (r"WHERE clause cannot contain aggregates", "A condition on groups stands in HAVING, behind GROUP BY."),
    (r"WHERE clause cannot contain window", "A condition on what a window function gives stands in QUALIFY, behind WHERE and GROUP BY."),
    (r"[Cc]olumn .* must appear in the GROUP BY clause", "Name it in GROUP BY (GROUP BY ALL does), or take one value of each group: any_value(…)."),
    (r"Could not convert string ", "TRY_CAST gives NULL where a text cannot be converted."),
)


def of_syntax(message: str, position: int | None, statement: str) -> str:
    """How a word of SQL is written where a table or column is named; `position`: its byte offset in the statement."""
    said = re.match(r'syntax error at or near "(\w+)"', message)
    before, behind = _around(statement, position)
    if said is None:
        return ""
    word = said[1]
    if re.search(r"\b(from|join|into|update)\s+$", before, re.I):
        return "" if (written := names.written(word)) == word else f"If it is the name of a table, write it in quotes: {written}."
    named = re.search(r"""[\w)\]"']\s+$""", before) and re.match(rf"{word}\s*(,|\)|from\b)", behind, re.I)
    if named and duckdb.tokenize(word) == [(0, duckdb.token_type.keyword)]:
        return f"If it is to be the name of a column, write AS {word}."
    return ""


def of_text(missing: str, position: int | None, statement: str) -> str:
    """How a text is written, where one may have been meant by what names no column."""
    before, behind = _around(statement, position)
    if _VALUE_BEFORE.search(before) and behind.startswith(('"', missing)):
        return f"Text stands between single quotation marks: {names.literal(missing)}."
    return ""


def of_arguments(call: str, message: str) -> str:
    """What a function that does not take its arguments does take; `call`: its name and their types, as DuckDB writes them."""
    forms = [form.strip() for form in re.findall(r"^\t(\S.*?) ->", message, re.M)]
    number = _arguments(call)
    if forms and not any("..." in form or _arguments(form) == number for form in forms):
        return f"It takes {' or '.join(forms[:_MOST])}{' or others' if len(forms) > _MOST else ''}."
    if "VARCHAR" in call:
        return "VARCHAR is text: cast it, for example x::DOUBLE. A CSV with a word for missing values is added with options={'null': 'NA'}."
    return "Cast the arguments to a type that it takes."


def of_worded(message: str, position: int | None, statement: str, relations: Iterable[Relation]) -> str:
    """What to do where a column of numbers that is text here, for no type here holds them all, is taken for numbers."""
    if not re.match(_AS_NUMBERS, message):
        return ""
    if position is not None and (call := re.match(r"\w+\s*\(", _around(statement, position)[1])):
        statement = _inside(_around(statement, position)[1][call.end() :])
    for relation in relations:
        for column, option in relation.worded:
            if re.search(rf"(?<!\w){re.escape(column)}(?!\w)", statement, re.I):
                as_number = f"{names.written(column)}::DOUBLE or, where they fit, ::DECIMAL(38, 9)"
                return f"The numbers of {column} in {relation.input.label} are text here: cast them, {as_number}, or add the source with {option}."
    return ""


def of_words(message: str) -> str:
    """What to do by how the message begins."""
    return next((hint for words, hint in _BY_WORDS if re.match(words, message)), "")


def _around(statement: str, position: int | None) -> tuple[str, str]:
    """The text before a byte offset, and from there on."""
    text = statement.encode("utf-8", "replace")
    return (text[:position].decode(errors="ignore"), text[position:].decode(errors="ignore")) if position is not None else ("", "")


def _inside(text: str) -> str:
    """What stands before the bracket that closes a call."""
    depth = 1
    for at, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            return text[:at]
    return text


def _arguments(call: str) -> int:
    """How many arguments a call has, as DuckDB writes it."""
    inside, depth, number = call.partition("(")[2].rpartition(")")[0], 0, 1
    for character in inside:
        depth += (character in "([") - (character in ")]")
        number += character == "," and depth == 0
    return number if inside else 0

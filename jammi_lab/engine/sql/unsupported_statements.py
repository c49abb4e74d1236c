"""Errors for statements that are not supported, with a hint what to do instead."""

import re

from jammi_lab.core.errors import StatementNotAllowed
from jammi_lab.engine.sql import tokens

_DEFAULT_HINT = "Only SELECT is supported here; tables are created through the API."
_HINTS = {
    "CREATE": "Create a table with ws.materialize('name', 'SELECT …').",
    "INSERT": "Result tables are immutable: create a new version with ws.materialize('name', "
    "'SELECT …').",
    "MERGE": "Use INSERT … ON CONFLICT (key) DO UPDATE SET …, or an UPDATE and a DELETE, on a "
    "table of ws.mutable.",
    "ATTACH": "Add files and databases with ws.sources.add('name', 'location').",
    "COPY": "Write a table to a file with ws.table('name').export('path').",
    "SET": "Change settings with ws.settings.set(key, value), or jl.open(…, settings={…}).",
    "LOAD": "Extensions come with the extras of jammi-lab and are loaded on first use.",
    "DROP": "Remove tables with ws.drop('name') and sources with ws.sources.remove('name').",
    "TRANSACTION": "Each statement is its own transaction; remove BEGIN and COMMIT.",
    "CALL": "Read sources by name, with SELECT.",
    "PREPARE": "Pass values as $name parameters.",
}
_HINT_SYNONYMS = {
    "UPDATE": "INSERT",
    "DELETE": "INSERT",
    "MERGE_INTO": "MERGE",
    "DETACH": "ATTACH",
    "COPY_DATABASE": "COPY",
    "EXPORT": "COPY",
    "VARIABLE_SET": "SET",
    "PRAGMA": "SET",
    "ALTER": "DROP",
    "EXECUTE": "PREPARE",
}


PIVOT_HINT = "List the values: PIVOT t ON column IN ('a', 'b') USING …"


def unsupported_statement_error(duckdb_type: str, text: str) -> StatementNotAllowed:
    """The error for a statement of a type that is not supported."""
    first_token = " ".join(token.text for token in tokens.top_level_tokens(text)[:1])
    verb = (re.search(r"[a-z]+", first_token) or ["statement"])[0].upper()
    hint = _HINTS.get(_HINT_SYNONYMS.get(duckdb_type, duckdb_type), _DEFAULT_HINT)
    return StatementNotAllowed(f"{verb} is not supported.", hint=hint)

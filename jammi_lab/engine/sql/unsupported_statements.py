"""Errors for statements that are not supported, with a hint what to do instead."""

import re

from jammi_lab.core import foreign_errors
from jammi_lab.core.errors import StatementNotAllowed
from jammi_lab.engine.sql import tokens

PIVOT_HINT = "List the values: PIVOT t ON column IN ('a', 'b') USING …"


def unsupported_statement_error(duckdb_type: str, text: str) -> StatementNotAllowed:
    """The error for a statement of a type that is not supported."""
    first_token = " ".join(token.text for token in tokens.top_level_tokens(text)[:1])
    verb = (re.search(r"[a-z]+", first_token) or ["statement"])[0].upper()
    hint = foreign_errors.explain("unsupported", duckdb_type).hint
    return StatementNotAllowed(f"{verb} is not supported.", hint=hint)

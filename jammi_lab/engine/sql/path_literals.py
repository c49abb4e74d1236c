"""Paths in FROM, replaced in the text of a statement."""

import re
from collections.abc import Mapping

from jammi_lab.core.errors import StatementNotAllowed
from jammi_lab.core.identifiers import ascii_lower, quote_identifier, sql_literal
from jammi_lab.engine.sql.allowlist import character_offset, walk_nodes
from jammi_lab.engine.sql.parse import ParsedStatement
from jammi_lab.engine.sql.tokens import all_tokens

_QUOTED = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"")


def replace_paths(parsed: ParsedStatement, paths: Mapping[tuple[str, ...], str]) -> str:
    """The statement as written, with the path of each of these names (as in `parsed.reads`)
    replaced. A table without an alias gets its old path as one, because columns may be qualified
    by it. StatementNotAllowed, with a position, when a path is not a quoted text."""
    text = parsed.original_text
    by_folded_name = {tuple(map(ascii_lower, parts)): path for parts, path in paths.items()}
    by_offset = {
        table.offset: by_folded_name[folded]
        for table in parsed.reads.tables
        if (folded := tuple(map(ascii_lower, table.parts))) in by_folded_name
    }
    nodes = [
        node
        for node in walk_nodes(parsed.tree)
        if node.get("type") == "BASE_TABLE" and node.get("query_location") in by_offset
    ]
    # from the end, so that the positions of the others stay valid
    for node in sorted(nodes, key=lambda node: node["query_location"], reverse=True):
        start = character_offset(parsed.text, node["query_location"])
        span = None if start is None else _quoted_span(text, start)
        if span is None:
            raise StatementNotAllowed(
                "This path cannot be recorded.", hint="Write it in single quotes."
            ).with_position(parsed.full_text, None if start is None else parsed.offset + start)
        is_named = node.get("alias") or node.get("schema_name")
        alias = "" if is_named else f" AS {quote_identifier(node['table_name'])}"
        literal = sql_literal(by_offset[node["query_location"]])
        text = text[: span[0]] + literal + alias + text[span[1] :]
    return text


def _quoted_span(text: str, start: int) -> tuple[int, int] | None:
    """The span of the first quoted token from a character on."""
    rest = text[start:]
    for offset, body in all_tokens(rest):
        if match := _QUOTED.match(body.decode(errors="replace")):
            begin = start + len(rest.encode("utf-8", "replace")[:offset].decode(errors="ignore"))
            return begin, begin + match.end()
        if body[:1] == b"$":
            return None
    return None

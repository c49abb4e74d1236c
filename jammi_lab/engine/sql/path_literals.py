"""Names in FROM, replaced in the text of a statement."""

import re
from collections.abc import Mapping

from jammi_lab.core.errors import StatementNotAllowed
from jammi_lab.core.identifiers import ascii_lower, quote_identifier, quoted_name
from jammi_lab.engine.sql.allowlist import character_offset, walk_nodes
from jammi_lab.engine.sql.parse import ParsedStatement
from jammi_lab.engine.sql.tokens import all_tokens

_QUOTED = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"")


def replace_names(
    parsed: ParsedStatement, names: Mapping[tuple[str, ...], str], *, quoted: bool
) -> str:
    """The statement as written, with each of these names (as in `parsed.reads`) replaced by SQL. A
    table without an alias gets its old name as one, because columns may be qualified by it.
    StatementNotAllowed, with a position, when it is not found in the text: `quoted` looks for a
    quoted text, as which paths are written."""
    text = parsed.original_text
    by_folded_name = {tuple(map(ascii_lower, parts)): new for parts, new in names.items()}
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
        name = node["table_name"]
        pattern = _QUOTED if quoted else _as_written(name)
        span = None if start is None else _span_of(pattern, text, start)
        if span is None:
            raise StatementNotAllowed(
                "This name cannot be recorded.", hint="Write a path in single quotes."
            ).with_position(parsed.full_text, None if start is None else parsed.offset + start)
        is_named = node.get("alias") or node.get("schema_name")
        alias = "" if is_named else f" AS {quoted_name(name)}"
        text = text[: span[0]] + by_offset[node["query_location"]] + alias + text[span[1] :]
    return text


def _as_written(name: str) -> re.Pattern[str]:
    return re.compile(rf"{re.escape(quote_identifier(name))}|{re.escape(name)}\b", re.IGNORECASE)


def _span_of(pattern: re.Pattern[str], text: str, start: int) -> tuple[int, int] | None:
    """The span of the first token from a character on that matches."""
    rest = text[start:]
    for offset, body in all_tokens(rest):
        if match := pattern.match(body.decode(errors="replace")):
            begin = start + len(rest.encode("utf-8", "replace")[:offset].decode(errors="ignore"))
            return begin, begin + match.end()
        if body[:1] == b"$":
            return None
    return None

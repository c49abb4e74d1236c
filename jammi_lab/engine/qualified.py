"""Names of three parts in FROM, `source.schema.table`: DuckDB would take the first for a database of the instance, which all statements share.

Each is put out of the text and a name of two parts put in, which is as long, so that every place in the text stays where it was. The last part stays,
by which columns are qualified.
"""

from typing import Any

from jammi_lab.engine.gate import nodes, offset_in
from jammi_lab.engine.tokens import all_tokens
from jammi_lab.errors import StatementNotAllowed
from jammi_lab.names import ascii_lower


def shortened(text: str, tree: dict[str, Any]) -> tuple[str, dict[tuple[str, str], tuple[str, ...]]]:
    """The text with short names, and what each (ASCII-lower) stands for. StatementNotAllowed, placed in the text, for one that cannot be replaced."""
    names: dict[tuple[str, str], tuple[str, ...]] = {}
    taken: dict[tuple[str, ...], str] = {}
    for node in nodes(tree):
        if node.get("type") != "BASE_TABLE" or not node.get("catalog_name") or not node.get("schema_name"):
            continue
        parts = (node["catalog_name"], node["schema_name"], node["table_name"])
        at = offset_in(text, node.get("query_location"))
        span = None if at is None else _span(text, at)
        same = tuple(ascii_lower(p) for p in parts)
        prefix = taken.setdefault(same, f"_{len(taken)}")
        if at is None or span is None or len(prefix) > span[0] - at:
            hint = 'Give the schema and table as one: source."schema.table".'
            raise StatementNotAllowed("This name of three parts cannot be read.", hint=hint).at(text, at)
        dot, end = span
        names[(prefix, same[-1])] = parts
        text = text[:at] + f"{prefix}{text[dot:end]}".ljust(end - at) + text[end:]
    return text, names


def _span(text: str, at: int) -> tuple[int, int] | None:
    """Where the second dot of a name of three parts is that begins at a character, and where the name ends."""
    raw, start = text.encode("utf-8", "replace"), len(text[:at].encode("utf-8", "replace"))
    tokens = [(place, body) for place, body in all_tokens(text) if place >= start]
    marks = [body.strip() for _, body in tokens[:5]]
    if len(marks) < 5 or marks[1] != b"." or marks[3] != b".":
        return None
    end = tokens[4][0] + len(tokens[4][1].rstrip())
    return len(raw[: tokens[3][0]].decode(errors="ignore")), len(raw[:end].decode(errors="ignore"))

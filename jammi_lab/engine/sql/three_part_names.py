"""Three-part names in a statement, which DuckDB would look up in another database."""

from typing import Any

from jammi_lab.core.errors import StatementNotAllowed
from jammi_lab.core.identifiers import ascii_lower
from jammi_lab.engine.sql.allowlist import character_offset, walk_nodes
from jammi_lab.engine.sql.tokens import all_tokens


def shorten_names(
    text: str, tree: dict[str, Any]
) -> tuple[str, dict[tuple[str, str], tuple[str, ...]]]:
    """The text with two-part names, and the three parts of each by its name in ASCII lower case.
    StatementNotAllowed, with a position, for a name that cannot be replaced.

    DuckDB would look up the first of three parts as a database of the instance, and all statements
    share the instance. Each name is padded to its length, so that positions in the text stay valid;
    the last part is kept because columns are qualified by it.
    """
    names: dict[tuple[str, str], tuple[str, ...]] = {}
    prefixes: dict[tuple[str, ...], str] = {}
    for node in walk_nodes(tree):
        if (
            node.get("type") != "BASE_TABLE"
            or not node.get("catalog_name")
            or not node.get("schema_name")
        ):
            continue
        parts = (node["catalog_name"], node["schema_name"], node["table_name"])
        position = character_offset(text, node.get("query_location"))
        span = None if position is None else _name_span(text, position)
        folded = tuple(ascii_lower(p) for p in parts)
        prefix = prefixes.setdefault(folded, f"_{len(prefixes)}")
        if position is None or span is None or len(prefix) > span[0] - position:
            hint = 'Write schema and table as one name: source."schema.table".'
            raise StatementNotAllowed(
                "This three-part name cannot be resolved.", hint=hint
            ).with_position(text, position)
        dot, end = span
        names[(prefix, folded[-1])] = parts
        text = text[:position] + f"{prefix}{text[dot:end]}".ljust(end - position) + text[end:]
    return text, names


def _name_span(text: str, position: int) -> tuple[int, int] | None:
    """The position of the second dot and the end of the three-part name that starts at a character;
    None when there is none."""
    raw, start = text.encode("utf-8", "replace"), len(text[:position].encode("utf-8", "replace"))
    following = [(offset, body) for offset, body in all_tokens(text) if offset >= start]
    marks = [body.strip() for _, body in following[:5]]
    if len(marks) < 5 or marks[1] != b"." or marks[3] != b".":
        return None
    end = following[4][0] + len(following[4][1].rstrip())
    return len(raw[: following[3][0]].decode(errors="ignore")), len(
        raw[:end].decode(errors="ignore")
    )

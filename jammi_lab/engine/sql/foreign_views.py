"""Views defined inside an attached source. Their SQL is untrusted and DuckDB would run it with the
workspace's rights, so it must pass the allowlist."""

from jammi_lab.core.errors import JammiError
from jammi_lab.core.identifiers import ascii_lower
from jammi_lab.engine.duckdb_instances import with_parser
from jammi_lab.engine.sql import allowlist, parse, tokens
from jammi_lab.sources.base import ViewReferences


def read_view(sql: str) -> ViewReferences | None:
    """The tables and functions of a `CREATE VIEW … AS SELECT …`. None when the allowlist rejects
    it, or when its rows could change while its tables do not, as with LIMIT: which rows of a join
    it leaves depends on the columns that a statement reads."""
    raw = sql.encode()
    as_offset = next(
        (token.offset for token in tokens.top_level_tokens(sql) if token.text == "as"), None
    )
    if as_offset is None:
        return None
    body = raw[as_offset + 2 :].decode(errors="replace")
    try:
        [parsed, *others] = with_parser(lambda parser: parse.parse(parser, body))
    except JammiError:
        return None
    reads = parsed.reads
    if (
        others
        or parsed.kind is not parse.StatementKind.SELECT
        or parsed.has_calls
        or reads.volatile
        or reads.reads_clock
        or reads.value_words
    ):
        return None
    nodes = list(allowlist.walk_nodes(parsed.tree))
    if any("LIMIT" in str(node.get("type")) for node in nodes):
        return None
    functions = {
        ascii_lower(str(node["function_name"])) for node in nodes if node.get("function_name")
    }
    return ViewReferences(frozenset(table.parts for table in reads.tables), frozenset(functions))

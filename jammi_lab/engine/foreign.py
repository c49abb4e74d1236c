"""Views that a source brings along: text of somebody else, which DuckDB would bind with our rights. It passes the gate, or is not run."""

from jammi_lab.engine import gate, statements, tokens
from jammi_lab.engine.parser import parsing
from jammi_lab.errors import JammiError
from jammi_lab.names import ascii_lower
from jammi_lab.sources.base import ViewReading


def view_reading(sql: str) -> ViewReading | None:
    """What `CREATE VIEW … AS SELECT …` reads and calls; None when the gate refuses it, or its rows could change while what it reads does not."""
    raw = sql.encode()
    at = next((token.at for token in tokens.top_level(sql) if token.word == "as"), None)
    if at is None:
        return None
    body = raw[at + 2 :].decode(errors="replace")
    try:
        [one, *more] = parsing(lambda parser: statements.parse(parser, body))
    except JammiError:
        return None
    reading = one.reading
    if more or one.form is not statements.Form.SELECT or one.calls or reading.volatile or reading.clock or reading.words:
        return None
    called = {ascii_lower(str(node["function_name"])) for node in gate.nodes(one.tree) if node.get("function_name")}
    return ViewReading(frozenset(named.parts for named in reading.tables), frozenset(called))

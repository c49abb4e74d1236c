"""From text to gated statements: what DuckDB's parser says it is, which of it a workspace runs, and what the tree of each one holds."""

import enum
import functools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import duckdb

from jammi_lab.engine import dml, gate, passwords, tokens
from jammi_lab.engine.calls import Call, Name, replaced
from jammi_lab.engine.faults import Fault, Place, translate
from jammi_lab.engine.gate import nodes
from jammi_lab.engine.qualified import shortened
from jammi_lab.errors import InvalidArgument, JammiError, SqlError, StatementNotAllowed
from jammi_lab.names import is_text, literal
from jammi_lab.sources.base import Relation

_WORKSPACE_SQL = "Statements here read; tables are made by other means."
_HINTS = {
    "CREATE": "Make a table with ws.materialize('name', 'SELECT …'), or %%jammi -m NAME in a cell.",
    "INSERT": "Result tables do not change: make a new version with ws.materialize('name', 'SELECT …').",
    "MERGE": "Write INSERT … ON CONFLICT (key) DO UPDATE SET …, or an UPDATE and a DELETE, on a table of ws.mutable.",
    "ATTACH": "Add files and databases with ws.sources.add('name', 'location').",
    "COPY": "Write a table to a file with ws.table('name').export('path').",
    "SET": "Settings are changed with %jammi config, or jl.open(…, settings={…}).",
    "LOAD": "Extensions come with the extras of jammi-lab and are loaded when a source needs them.",
    "DROP": "Remove tables with ws.drop('name') and sources with ws.sources.remove('name').",
    "TRANSACTION": "Each statement stands alone; leave BEGIN and COMMIT out.",
    "CALL": "Read from sources by their names, with SELECT.",
    "PREPARE": "Pass values as $name parameters.",
}
_LIKE = {
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
# DuckDB reads these as white space and answers with another text than it was given; what is quoted or a comment is matched whole and stays.
_SPACES = re.compile(
    r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|\$(\w*)\$.*?\$\1\$|--[^\n]*|/\*.*?\*/|[\u00a0\u2000-\u200d\u202f\u205f\u2060\u3000\ufeff]""", re.S
)
_NO_LIST = "Write the values out: PIVOT t ON column IN ('a', 'b') USING …"


class Form(enum.Enum):
    """How a statement is answered."""

    SELECT = "select"
    DESCRIBE = "describe"
    EXPLAIN = "explain"
    SHOW_TABLES = "show tables"
    PIVOT = "pivot without a list"
    CHANGE = "insert, update or delete"


@dataclass(frozen=True, slots=True)
class Parsed:
    """One statement that passed the gate."""

    text: str
    """The statement, without what separates it from others, as it runs: as written, but for calls of table functions of ours."""
    probe: str
    """What is bound in its place; the same, but for EXPLAIN and a PIVOT without a list."""
    tree: dict[str, Any]
    """The tree of `probe`."""
    reading: gate.Reading
    parameters: frozenset[str]
    form: Form
    whole: str
    """All the text that the person wrote."""
    offset: int
    """Where `text` begins in `whole`, in characters."""
    probe_offset: int = 0
    """Where `probe` begins in `text`, in characters."""
    calls: Mapping[Name, Call] = field(default_factory=dict)
    """The table functions of ours that it calls, by the names that stand for them in `text`."""

    addresses: Mapping[Name, tuple[str, ...]] = field(default_factory=dict)
    """The names of three parts in FROM, by the names of two that stand for them in `text`."""

    cut: dml.Cut | None = None
    """What a CHANGE changes; its target is the first table of `reading`."""

    bindings: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)
    """What the binder said of it, by the schemas of what it reads."""

    def again(self) -> "Parsed":
        """The same, for another reader: who binds it adds to what it is said to be."""
        return replace(self, reading=replace(self.reading, volatile=set(self.reading.volatile)))

    @property
    def written(self) -> str:
        """The statement as written, its calls and long names included."""
        return self.whole[self.offset : self.offset + len(self.text)] if self.calls or self.addresses else self.text

    def place(self, relations: Sequence[Relation] = (), columns: Sequence[str] = ()) -> Place:
        """Where the probe stands, and what it reads, for errors."""
        return Place(self.whole, self.offset + self.probe_offset, self.probe, relations, columns)


_MOST_TEXTS, _LONGEST_TEXT = 256, 16_384


class Texts:
    """Texts as `parse` reads them; short ones that were read lately are known. Safe from several threads."""

    def __init__(self, parsed: Callable[[str, bool], list[Parsed]]) -> None:
        self._parsed, self._known = parsed, functools.lru_cache(_MOST_TEXTS)(parsed)

    def read(self, sql: str, changing: bool) -> list[Parsed]:
        """All statements of a text, gated. Raises as parsing does."""
        if not isinstance(sql, str) or len(sql) > _LONGEST_TEXT:
            return self._parsed(sql, changing)
        return [each.again() for each in self._known(sql, changing)]


def parse(parser: duckdb.DuckDBPyConnection, sql: str, *, changing: bool = False) -> list[Parsed]:
    """All statements of a text, gated. SqlError for what does not parse, StatementNotAllowed for what a workspace does not run, InvalidArgument for
    what is no text.

    `changing` says that INSERT, UPDATE and DELETE may be among them."""
    if not isinstance(sql, str):
        raise InvalidArgument(f"A statement is a text, not a value of type {type(sql).__name__}.")
    if not sql.strip():
        raise SqlError("There is no statement to run.")
    if not is_text(sql):
        raise SqlError("The statement holds a character that SQL text cannot hold.")
    passwords.refuse(sql)
    text = _SPACES.sub(lambda m: m[0] if len(m[0]) > 1 else " ", sql)
    found = _extract(parser, text, sql)
    if not found:
        raise SqlError("There is no statement to run.")
    if len(found) > 1 and not found[-1].query and all(s.type == duckdb.StatementType.CREATE for s in found[:-1]):
        return [_pivot(parser, sql, text, frozenset(found[-1].named_parameters))]
    parsed, at = [], 0
    for statement in found:
        if not statement.query:
            raise StatementNotAllowed("A PIVOT without a list of values must be the only statement of its text.", hint=_NO_LIST).at(sql, None)
        at = text.find(statement.query, at)
        if at < 0:  # DuckDB writes a PRAGMA that reads anew, as a SELECT that nobody typed
            raise StatementNotAllowed("PRAGMA is not a statement that a workspace runs.", hint=_HINTS["SET"]).at(sql, None)
        parsed.append(_one(parser, sql, at, statement, changing))
        at += len(statement.query)
    return parsed


def _extract(parser: duckdb.DuckDBPyConnection, text: str, whole: str, offset: int = 0) -> list[Any]:
    try:
        return list(parser.cursor().extract_statements(text))
    except duckdb.Error as error:
        if "Mixing named and positional" in str(error):
            raise _positional(whole) from None
        raise translate(error, Place(whole, offset, text)) from None


def _one(parser: duckdb.DuckDBPyConnection, whole: str, at: int, statement: Any, changing: bool) -> Parsed:
    kind = statement.type.name
    text = _trimmed(statement.query)
    offset = at + statement.query.index(text)
    if kind == "EXPLAIN":
        return _explain(parser, whole, offset, text, frozenset(statement.named_parameters))
    if changing and kind.lower() in dml.VERBS:
        return _change(parser, whole, offset, text, _named(whole, statement.named_parameters))
    if kind != "SELECT":
        verb = (re.search(r"[a-z]+", " ".join(t.word for t in tokens.top_level(text)[:1])) or ["statement"])[0].upper()
        hint = _HINTS.get(_LIKE.get(kind, kind), _WORKSPACE_SQL)
        raise StatementNotAllowed(f"{verb} is not a statement that a workspace runs.", hint=hint).at(whole, offset)
    named = _named(whole, statement.named_parameters)
    tree = _tree(parser, whole, offset, text)
    if form := _own_answer(tree):
        return Parsed(text, text, tree, gate.Reading(), named, form, whole, offset)
    form = Form.DESCRIBE if _shows(tree) else Form.SELECT
    text, tree, called, long = _without_calls(parser, whole, offset, text, tree)
    return Parsed(text, text, tree, _gated(tree, text, whole, offset), named, form, whole, offset, calls=called, addresses=long)


def _change(parser: duckdb.DuckDBPyConnection, whole: str, offset: int, text: str, named: frozenset[str]) -> Parsed:
    """An INSERT, UPDATE or DELETE, cut into pieces that are gated each by itself."""

    def piece(probe: str) -> dml.Piece:
        return _without_calls(parser, probe, 0, probe, _tree(parser, probe, 0, probe))

    try:
        found = dml.check(text, piece)
    except JammiError as error:
        raise error.at(whole, None if error.position is None else offset + error.position) from None
    tree = {"pieces": found.trees}
    return Parsed(found.text, found.text, tree, found.reading, named, Form.CHANGE, whole, offset, 0, found.calls, found.addresses, found.cut)


def _explain(parser: duckdb.DuckDBPyConnection, whole: str, offset: int, text: str, named: frozenset[str]) -> Parsed:
    """EXPLAIN [ANALYZE] of a SELECT; what follows is gated like any statement."""
    words = tokens.top_level(text)
    start = 2 if len(words) > 1 and words[1].word in ("analyze", "analyse") else 1
    if len(words) > 2 and words[1].word == "(" and words[2].word == ")":
        inside = text.encode()[words[1].at : words[2].at].decode().lower()
        start = 1 if "select" in inside or "from" in inside else 3
    if len(words) <= start:
        raise SqlError("EXPLAIN needs a statement.").at(whole, offset)
    skipped = len(text.encode()[: words[start].at].decode())
    probe = text[skipped:]
    if [s.type for s in _extract(parser, probe, whole, offset + skipped)] != [duckdb.StatementType.SELECT]:
        raise StatementNotAllowed("Only a SELECT can be explained.").at(whole, offset + skipped)
    tree = _tree(parser, whole, offset + skipped, probe)
    probe, tree, called, long = _without_calls(parser, whole, offset + skipped, probe, tree)
    reading = _gated(tree, probe, whole, offset + skipped)
    reading.volatile.add("explain")
    return Parsed(text[:skipped] + probe, probe, tree, reading, _named(whole, named), Form.EXPLAIN, whole, offset, skipped, called, long)


def _pivot(parser: duckdb.DuckDBPyConnection, sql: str, given: str, named: frozenset[str]) -> Parsed:
    """A PIVOT without a list is several statements without text or tree: walk and bind it with a list put in, run it as written."""
    text = _trimmed(given)
    offset = given.index(text)
    words = tokens.top_level(text)
    on = next((i for i, t in enumerate(words) if t.word == "on"), None)
    if not words or words[0].word not in ("pivot", "pivot_wider") or on is None:
        raise StatementNotAllowed("A PIVOT without a list of values must stand alone.", hint=_NO_LIST).at(sql, offset)
    end = next((i for i in range(on, len(words)) if words[i].word in ("using", "group", "order", "limit", "offset")), len(words))
    raw = text.encode()
    cuts = [t.at for t in words[on:end] if t.word == ","] + [words[end].at if end < len(words) else len(raw)]
    for at in reversed(cuts):
        raw = raw[:at].rstrip() + b" IN ('') " + raw[at:]
    probe = raw.decode()
    tree = _tree(parser, sql, offset, probe)
    return Parsed(text, probe, tree, _gated(tree, probe, sql, offset), _named(sql, named), Form.PIVOT, sql, offset)


def tree_of(parser: duckdb.DuckDBPyConnection, text: str) -> dict[str, Any] | Fault:
    """The syntax tree of one SELECT, or why there is none."""
    [[answer]] = _asked(parser, "SELECT json_serialize_sql({}::VARCHAR)", text)
    try:
        body = json.loads(answer)
    except RecursionError:
        return Fault("Parser", "Max expression depth")
    if body["error"]:
        position = body.get("position")
        return Fault("Parser", body.get("error_message", ""), int(position) if position else None)
    if len(body["statements"]) != 1:
        return Fault("Parser", "One statement is expected here.")
    node: dict[str, Any] = body["statements"][0]["node"]
    return node


def _asked(parser: duckdb.DuckDBPyConnection, question: str, text: str) -> list[tuple[Any, ...]]:
    """The rows of a question about a text. In quotes, not bound: with the first text that is bound DuckDB imports all of pandas (0.2 s)."""
    if "\0" in text:  # a quoted text ends there
        return parser.cursor().execute(question.format("?"), [text]).fetchall()
    return parser.cursor().execute(question.format(literal(text))).fetchall()


def text_of(parser: duckdb.DuckDBPyConnection, tree: dict[str, Any]) -> str | None:
    """DuckDB's own print of a tree; None when it cannot."""
    names = sorted({n["identifier"] for n in nodes(tree) if n.get("type") == "VALUE_PARAMETER"})
    mapped = [{"key": name, "value": i} for i, name in enumerate(names, 1)]
    body = json.dumps({"error": False, "statements": [{"node": tree, "named_param_map": mapped}]})
    try:
        [[text]] = _asked(parser, "SELECT json_deserialize_sql({}::JSON)", body)
    except duckdb.Error:
        return None
    return str(text)


def _tree(parser: duckdb.DuckDBPyConnection, whole: str, offset: int, text: str) -> dict[str, Any]:
    tree = tree_of(parser, text)
    if isinstance(tree, Fault):
        if "Only SELECT" in tree.message:
            raise StatementNotAllowed("This form of SELECT cannot be checked, and is not run.").at(whole, offset)
        raise translate(duckdb.ParserException(f"Parser Error: {tree.message}"), Place(whole, offset, text))
    return tree


def _without_calls(
    parser: duckdb.DuckDBPyConnection, whole: str, offset: int, text: str, tree: dict[str, Any]
) -> tuple[str, dict[str, Any], dict[Name, Call], dict[Name, tuple[str, ...]]]:
    """The text with a name for each call of a table function of ours and for each name of three parts, its tree, and what the names stand for."""
    try:
        plain, called = replaced(text, tree)
        tree = _tree(parser, whole, offset, plain) if called else tree
        plain, long = shortened(plain, tree)
    except JammiError as error:
        raise error.at(whole, None if error.position is None else offset + error.position) from None
    return plain, (_tree(parser, whole, offset, plain) if long else tree), called, long


def _gated(tree: dict[str, Any], text: str, whole: str, offset: int) -> gate.Reading:
    try:
        return gate.walk(tree, text)
    except JammiError as error:
        raise error.at(whole, None if error.position is None else offset + error.position) from None


def _own_answer(tree: dict[str, Any]) -> Form | None:
    shown = _shows(tree)
    return Form.SHOW_TABLES if shown and not shown.get("query") and shown.get("table_name") in ('"tables"', "tables") else None


def _shows(tree: dict[str, Any]) -> dict[str, Any] | None:
    table = tree.get("from_table")
    return table if isinstance(table, dict) and table.get("type") == "SHOW_REF" else None


def _trimmed(text: str) -> str:
    """Without surrounding white space and what follows the first `;` outside brackets."""
    end = next((t.at for t in tokens.top_level(text) if t.word == ";"), None)
    return (text if end is None else text.encode("utf-8", "replace")[:end].decode()).strip()


def _named(whole: str, found: Any) -> frozenset[str]:
    if any(name.isdigit() for name in found):
        raise _positional(whole)
    return frozenset(found)


def _positional(sql: str) -> JammiError:
    at = next((at for at, body in tokens.all_tokens(sql) if body.rstrip() == b"?" or re.match(rb"[$?]\d", body)), None)
    error = StatementNotAllowed("Parameters without a name are not bound.", hint="Write $name, and pass name=value.")
    return error.at(sql, gate.offset_in(sql, at))

"""Parses a text into statements and checks each against the allowlist. DuckDB's parser gives the
statement types and syntax trees."""

import enum
import functools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import duckdb

from jammi_lab.core.errors import InvalidArgument, JammiError, SqlError, StatementNotAllowed
from jammi_lab.core.identifiers import is_text
from jammi_lab.engine.duckdb_errors import StatementContext, to_jammi_error
from jammi_lab.engine.duckdb_messages import DuckDBError
from jammi_lab.engine.sql import allowlist, credential_check, dml, tokens
from jammi_lab.engine.sql.syntax_tree import tree_of
from jammi_lab.engine.sql.table_functions import (
    FunctionCall,
    Name,
    replace_calls,
    shorten_names,
)
from jammi_lab.engine.sql.unsupported_statements import (
    _HINTS,
    PIVOT_HINT,
    unsupported_statement_error,
)
from jammi_lab.sources.base import Relation

# DuckDB treats these characters as white space and returns a changed text, in which positions
# shift; so they are replaced by blanks first. Quoted parts and comments are matched whole and stay.
_ODD_SPACES = re.compile(
    r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|\$(\w*)\$.*?\$\1\$|--[^\n]*|/\*.*?\*/|[\u00a0\u2000-\u200d\u202f\u205f\u2060\u3000\ufeff]""",
    re.S,
)


class StatementKind(enum.Enum):
    """The kind of a statement, by how it is run."""

    SELECT = "select"
    DESCRIBE = "describe"
    EXPLAIN = "explain"
    SHOW_TABLES = "show tables"
    PIVOT = "pivot without a list"
    DML = "insert, update or delete"


@dataclass(frozen=True, slots=True)
class ParsedStatement:
    """One statement that passed the allowlist."""

    text: str
    """The executed text, without separators: as written, with calls of Jammi's table functions and
    three-part names replaced."""
    probe: str
    """The text that is bound instead; equal to `text` except for EXPLAIN and a PIVOT without a
    list."""
    tree: dict[str, Any]
    """The tree of `probe`."""
    reads: allowlist.StatementReads
    parameters: frozenset[str]
    kind: StatementKind
    full_text: str
    """The whole text that the user wrote."""
    offset: int
    """The offset of `text` in it, in characters."""
    probe_offset: int = 0
    """The offset of `probe` in `text`, in characters."""
    calls: Mapping[Name, FunctionCall] = field(default_factory=dict)
    """Its calls of Jammi's table functions, by the names that replace them in `text`."""

    addresses: Mapping[Name, tuple[str, ...]] = field(default_factory=dict)
    """Its three-part names in FROM, by the two-part names that replace them in `text`."""

    dml_parts: dml.DmlParts | None = None
    """The parts of a DML statement; its target is the first table of `reading`."""

    bindings: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)
    """Cached bindings, by the schemas of the inputs."""

    def copy(self) -> "ParsedStatement":
        """A copy for another caller: binding adds to `reading.volatile`, and the original is
        cached."""
        return replace(self, reads=replace(self.reads, volatile=set(self.reads.volatile)))

    @property
    def original_text(self) -> str:
        """The statement as written, with its calls and three-part names."""
        return (
            self.full_text[self.offset : self.offset + len(self.text)]
            if self.calls or self.addresses
            else self.text
        )

    def error_context(
        self, relations: Sequence[Relation] = (), columns: Sequence[str] = ()
    ) -> StatementContext:
        """The position of the probe and the relations it reads, for errors."""
        return StatementContext(
            self.full_text, self.offset + self.probe_offset, self.probe, relations, columns
        )


_TABLE_KEYWORD = re.compile(r"[a-z_]+(?=\s*($|[;,)]|(where|join|group|order|limit)\b))", re.I)
"""A keyword after which a name of a table could end."""
MAX_CACHED_TEXTS, MAX_CACHED_TEXT_LENGTH = 256, 16_384


def is_cached(sql: object) -> bool:
    """Whether what is known of a text may be kept: it is a string, and short."""
    return isinstance(sql, str) and len(sql) <= MAX_CACHED_TEXT_LENGTH


class ParseCache:
    """A thread-safe LRU cache in front of `parse`, for short texts."""

    def __init__(self, parse_text: Callable[[str, bool], list[ParsedStatement]]) -> None:
        self._parse_text = parse_text
        self._parse_cached = functools.lru_cache(MAX_CACHED_TEXTS)(parse_text)

    def get(self, sql: str, allow_dml: bool) -> list[ParsedStatement]:
        """The checked statements of a text. Raises as `parse` does."""
        if not is_cached(sql):
            return self._parse_text(sql, allow_dml)
        return [parsed.copy() for parsed in self._parse_cached(sql, allow_dml)]


def parse(
    parser: duckdb.DuckDBPyConnection, sql: str, *, allow_dml: bool = False
) -> list[ParsedStatement]:
    """Parse a text and check its statements. `allow_dml` allows INSERT, UPDATE and DELETE.

    Raises SqlError for a syntax error, StatementNotAllowed for an unsupported statement,
    InvalidArgument when `sql` is not a string."""
    if not isinstance(sql, str):
        raise InvalidArgument(f"sql must be a string, got {type(sql).__name__}.")
    if not sql.strip():
        raise SqlError("There is no statement to run.")
    if not is_text(sql):
        raise SqlError("The statement contains a character that is not valid in SQL.")
    credential_check.check_statement(sql)
    text = _ODD_SPACES.sub(lambda m: m[0] if len(m[0]) > 1 else " ", sql)
    try:
        statements = _extract_statements(parser, text, sql)
    except SqlError as error:
        if (quoted := _quote_table_keyword(sql, error.position)) is None:
            raise
        return parse(parser, quoted, allow_dml=allow_dml)
    if not statements:
        raise SqlError("There is no statement to run.")
    if (
        len(statements) > 1
        and not statements[-1].query
        and all(s.type == duckdb.StatementType.CREATE for s in statements[:-1])
    ):
        return [_parse_pivot(parser, sql, text, frozenset(statements[-1].named_parameters))]
    parsed, position = [], 0
    for statement in statements:
        if not statement.query:
            raise StatementNotAllowed(
                "A PIVOT without a list of values must be the only statement.", hint=PIVOT_HINT
            ).with_position(sql, None)
        position = text.find(statement.query, position)
        if position < 0:  # DuckDB rewrites a reading PRAGMA as a SELECT that is not in the text
            raise StatementNotAllowed("PRAGMA is not supported.", hint=_HINTS["SET"]).with_position(
                sql, None
            )
        parsed.append(_parse_statement(parser, sql, position, statement, allow_dml))
        position += len(statement.query)
    return parsed


def _quote_table_keyword(sql: str, position: int | None) -> str | None:
    """The text with the keyword at the position of a syntax error quoted, where it can only be the
    name of a table (`FROM both`); else None."""
    if position is None or not re.search(r"\b(from|join)\s+$", sql[:position], re.I):
        return None
    keyword = _TABLE_KEYWORD.match(sql, position)
    if keyword is None:
        return None
    return f'{sql[:position]}"{keyword[0]}"{sql[keyword.end() :]}'


def _extract_statements(
    parser: duckdb.DuckDBPyConnection, text: str, full_text: str, offset: int = 0
) -> list[Any]:
    try:
        return list(parser.cursor().extract_statements(text))
    except duckdb.Error as error:
        if "Mixing named and positional" in str(error):
            raise _positional_parameter_error(full_text) from None
        raise to_jammi_error(error, StatementContext(full_text, offset, text)) from None


def _parse_statement(
    parser: duckdb.DuckDBPyConnection,
    full_text: str,
    position: int,
    statement: Any,
    allow_dml: bool,
) -> ParsedStatement:
    duckdb_type = statement.type.name
    text = _trim(statement.query)
    offset = position + statement.query.index(text)
    if duckdb_type == "EXPLAIN":
        return _parse_explain(
            parser, full_text, offset, text, frozenset(statement.named_parameters)
        )
    if allow_dml and duckdb_type.lower() in dml.VERBS:
        return _parse_dml(
            parser,
            full_text,
            offset,
            text,
            _named_parameters(full_text, statement.named_parameters),
        )
    if duckdb_type != "SELECT":
        raise unsupported_statement_error(duckdb_type, text).with_position(full_text, offset)
    return _parse_select(
        parser, full_text, offset, text, _named_parameters(full_text, statement.named_parameters)
    )


def _parse_select(
    parser: duckdb.DuckDBPyConnection,
    full_text: str,
    offset: int,
    text: str,
    parameters: frozenset[str],
) -> ParsedStatement:
    """Parse a SELECT, DESCRIBE or SHOW TABLES."""
    tree = _parse_tree(parser, full_text, offset, text)
    if statement_kind := _show_tables_kind(tree):
        return ParsedStatement(
            text,
            text,
            tree,
            allowlist.StatementReads(),
            parameters,
            statement_kind,
            full_text,
            offset,
        )
    statement_kind = StatementKind.DESCRIBE if _show_ref(tree) else StatementKind.SELECT
    text, tree, calls, addresses = _replace_calls(parser, full_text, offset, text, tree)
    return ParsedStatement(
        text,
        text,
        tree,
        _check_tree(tree, text, full_text, offset),
        parameters,
        statement_kind,
        full_text,
        offset,
        calls=calls,
        addresses=addresses,
    )


def _parse_dml(
    parser: duckdb.DuckDBPyConnection,
    full_text: str,
    offset: int,
    text: str,
    parameters: frozenset[str],
) -> ParsedStatement:
    """Parse an INSERT, UPDATE or DELETE; its pieces are checked one by one."""

    def piece(probe: str) -> dml.Piece:
        return _replace_calls(parser, probe, 0, probe, _parse_tree(parser, probe, 0, probe))

    try:
        checked = dml.check(text, piece)
    except JammiError as error:
        raise error.with_position(
            full_text, None if error.position is None else offset + error.position
        ) from None
    tree = {"pieces": checked.trees}
    return ParsedStatement(
        checked.text,
        checked.text,
        tree,
        checked.reads,
        parameters,
        StatementKind.DML,
        full_text,
        offset,
        0,
        checked.calls,
        checked.addresses,
        checked.parts,
    )


def _parse_explain(
    parser: duckdb.DuckDBPyConnection,
    full_text: str,
    offset: int,
    text: str,
    parameters: frozenset[str],
) -> ParsedStatement:
    """Parse EXPLAIN [ANALYZE] of a SELECT; the SELECT is checked like any other."""
    top_level_tokens = tokens.top_level_tokens(text)
    start = (
        2 if len(top_level_tokens) > 1 and top_level_tokens[1].text in ("analyze", "analyse") else 1
    )
    if (
        len(top_level_tokens) > 2
        and top_level_tokens[1].text == "("
        and top_level_tokens[2].text == ")"
    ):
        options = (
            text.encode()[top_level_tokens[1].offset : top_level_tokens[2].offset].decode().lower()
        )
        start = 1 if "select" in options or "from" in options else 3
    if len(top_level_tokens) <= start:
        raise SqlError("EXPLAIN needs a statement.").with_position(full_text, offset)
    skipped = len(text.encode()[: top_level_tokens[start].offset].decode())
    probe = text[skipped:]
    if [s.type for s in _extract_statements(parser, probe, full_text, offset + skipped)] != [
        duckdb.StatementType.SELECT
    ]:
        raise StatementNotAllowed("Only a SELECT can be explained.").with_position(
            full_text, offset + skipped
        )
    tree = _parse_tree(parser, full_text, offset + skipped, probe)
    probe, tree, calls, addresses = _replace_calls(parser, full_text, offset + skipped, probe, tree)
    reads = _check_tree(tree, probe, full_text, offset + skipped)
    reads.volatile.add("explain")
    return ParsedStatement(
        text[:skipped] + probe,
        probe,
        tree,
        reads,
        _named_parameters(full_text, parameters),
        StatementKind.EXPLAIN,
        full_text,
        offset,
        skipped,
        calls,
        addresses,
    )


def _parse_pivot(
    parser: duckdb.DuckDBPyConnection,
    full_text: str,
    statement_text: str,
    parameters: frozenset[str],
) -> ParsedStatement:
    """Parse a PIVOT without a list of values. DuckDB expands it to several statements without text
    or tree, so a copy with an inserted list is checked and bound, and the original is run."""
    text = _trim(statement_text)
    offset = statement_text.index(text)
    top_level_tokens = tokens.top_level_tokens(text)
    on_index = next((i for i, t in enumerate(top_level_tokens) if t.text == "on"), None)
    if (
        not top_level_tokens
        or top_level_tokens[0].text not in ("pivot", "pivot_wider")
        or on_index is None
    ):
        raise StatementNotAllowed(
            "A PIVOT without a list of values must not be part of another statement.",
            hint=PIVOT_HINT,
        ).with_position(full_text, offset)
    end = next(
        (
            i
            for i in range(on_index, len(top_level_tokens))
            if top_level_tokens[i].text in ("using", "group", "order", "limit", "offset")
        ),
        len(top_level_tokens),
    )
    raw = text.encode()
    insert_offsets = [t.offset for t in top_level_tokens[on_index:end] if t.text == ","] + [
        top_level_tokens[end].offset if end < len(top_level_tokens) else len(raw)
    ]
    for insert_at in reversed(insert_offsets):
        raw = raw[:insert_at].rstrip() + b" IN ('') " + raw[insert_at:]
    probe = raw.decode()
    tree = _parse_tree(parser, full_text, offset, probe)
    probe, tree, calls, addresses = _replace_calls(parser, full_text, offset, probe, tree)
    if calls:
        raise StatementNotAllowed(
            "A PIVOT without a list of values cannot read a table function.", hint=PIVOT_HINT
        ).with_position(full_text, offset)
    if addresses:  # the replacements are as long as what was there, and stand before ON
        end = len(text.encode()[: top_level_tokens[on_index].offset].decode())
        text = probe[:end] + text[end:]
    return ParsedStatement(
        text,
        probe,
        tree,
        _check_tree(tree, probe, full_text, offset),
        _named_parameters(full_text, parameters),
        StatementKind.PIVOT,
        full_text,
        offset,
        addresses=addresses,
    )


def _parse_tree(
    parser: duckdb.DuckDBPyConnection, full_text: str, offset: int, text: str
) -> dict[str, Any]:
    tree = tree_of(parser, text)
    if isinstance(tree, DuckDBError):
        if "Only SELECT" in tree.message:
            raise StatementNotAllowed("This form of SELECT is not supported.").with_position(
                full_text, offset
            )
        raise to_jammi_error(
            duckdb.ParserException(f"Parser Error: {tree.message}"),
            StatementContext(full_text, offset, text),
        )
    return tree


def _replace_calls(
    parser: duckdb.DuckDBPyConnection, full_text: str, offset: int, text: str, tree: dict[str, Any]
) -> tuple[str, dict[str, Any], dict[Name, FunctionCall], dict[Name, tuple[str, ...]]]:
    """The text with each call of a Jammi table function and each three-part name replaced; its
    tree; the calls and the three-part names by their replacement."""
    try:
        replaced_text, calls = replace_calls(text, tree)
        tree = _parse_tree(parser, full_text, offset, replaced_text) if calls else tree
        replaced_text, addresses = shorten_names(replaced_text, tree)
    except JammiError as error:
        raise error.with_position(
            full_text, None if error.position is None else offset + error.position
        ) from None
    return (
        replaced_text,
        (_parse_tree(parser, full_text, offset, replaced_text) if addresses else tree),
        calls,
        addresses,
    )


def _check_tree(
    tree: dict[str, Any], text: str, full_text: str, offset: int
) -> allowlist.StatementReads:
    try:
        return allowlist.check(tree, text)
    except JammiError as error:
        raise error.with_position(
            full_text, None if error.position is None else offset + error.position
        ) from None


def _show_tables_kind(tree: dict[str, Any]) -> StatementKind | None:
    show_ref = _show_ref(tree)
    return (
        StatementKind.SHOW_TABLES
        if show_ref
        and not show_ref.get("query")
        and show_ref.get("table_name") in ('"tables"', "tables")
        else None
    )


def _show_ref(tree: dict[str, Any]) -> dict[str, Any] | None:
    table = tree.get("from_table")
    return table if isinstance(table, dict) and table.get("type") == "SHOW_REF" else None


def _trim(text: str) -> str:
    """The text up to the first `;` outside brackets, without surrounding white space."""
    end = next((t.offset for t in tokens.top_level_tokens(text) if t.text == ";"), None)
    return (text if end is None else text.encode("utf-8", "replace")[:end].decode()).strip()


def _named_parameters(full_text: str, names: Any) -> frozenset[str]:
    if any(name.isdigit() for name in names):
        raise _positional_parameter_error(full_text)
    return frozenset(names)


def _positional_parameter_error(text: str) -> JammiError:
    offset = next(
        (
            offset
            for offset, body in tokens.all_tokens(text)
            if body.rstrip() == b"?" or re.match(rb"[$?]\d", body)
        ),
        None,
    )
    error = StatementNotAllowed(
        "Positional parameters are not supported.", hint="Write $name, and pass name=value."
    )
    return error.with_position(text, allowlist.character_offset(text, offset))

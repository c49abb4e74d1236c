"""Parses a text into statements and checks each against the allowlist. DuckDB's parser gives the
statement types and syntax trees."""

import contextlib
import enum
import re
from collections.abc import Iterator, Mapping, Sequence
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
    Replaced,
    replace_in_from,
)
from jammi_lab.engine.sql.unsupported_statements import (
    PIVOT_HINT,
    unsupported_statement_error,
)
from jammi_lab.sources.base import Relation

# DuckDB treats these characters as white space and returns a changed text, in which positions
# shift; so they are replaced by blanks first. Quoted parts and comments are matched whole and stay,
# those without an end up to that of the text: else each such beginning is followed to there.
_ODD_SPACES = re.compile(
    r"""'(?:[^']|'')*(?:'|\Z)|"(?:[^"]|"")*(?:"|\Z)|\$(\w*)\$.*?(?:\$\1\$|\Z)|--[^\n]*|/\*.*?(?:\*/|\Z)|[\u00a0\u2000-\u200d\u202f\u205f\u2060\u3000\ufeff]""",
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
    replaced: Mapping[Name, Replaced] = field(default_factory=dict)
    """Its calls of Jammi's table functions and its three-part names, by the two-part names that
    replace them in `text`."""

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
        if self.replaced:
            return self.full_text[self.offset : self.offset + len(self.text)]
        return self.text

    @property
    def has_calls(self) -> bool:
        """Whether it calls one of Jammi's table functions."""
        return any(isinstance(each, FunctionCall) for each in self.replaced.values())

    def error_context(
        self, relations: Sequence[Relation] = (), columns: Sequence[str] = ()
    ) -> StatementContext:
        """The position of the probe and the relations it reads, for errors."""
        return StatementContext(
            self.full_text, self.offset + self.probe_offset, self.probe, relations, columns
        )


_QUERY = re.compile(r"(?is)\s*(?:select|with|from)\b.{,4000}\Z")
_DIALECTS = ("snowflake", "spark", "bigquery", "tsql", "mysql")
"""Those of sqlglot, of tools that people come from."""
_BEHIND_PIVOT_LIST = ("using", "group", "order", "limit", "offset")


def parse(
    parser: duckdb.DuckDBPyConnection, sql: str, *, allow_dml: bool = False
) -> list[ParsedStatement]:
    """Parse a text and check its statements. `allow_dml` allows INSERT, UPDATE and DELETE.

    Raises SqlError for a syntax error, StatementNotAllowed for an unsupported statement,
    InvalidArgument when `sql` is not a string."""
    try:
        return _parse(parser, sql, allow_dml=allow_dml)
    except SqlError as error:
        if not error.hint:
            error.hint = _translation_hint(parser, sql)
            error.near = () if error.hint else error.near
        raise


def _translation_hint(parser: duckdb.DuckDBPyConnection, sql: str) -> str:
    """How DuckDB writes a query that it cannot read, as another tool takes it; empty if none does.
    What loses a part, or gets long, is no answer."""
    for dialect in _DIALECTS if _QUERY.match(sql) else ():
        with contextlib.suppress(Exception):  # of a grammar that is not ours; no descriptor left
            import sqlglot

            lossless = sqlglot.ErrorLevel.RAISE
            translated = sqlglot.transpile(sql, dialect, "duckdb", unsupported_level=lossless)
            text = "; ".join(translated)
            _parse(parser, text, allow_dml=False)
            if len(text) < 600:  # one line
                return f"In DuckDB: {text}"
    return ""


def _parse(
    parser: duckdb.DuckDBPyConnection, sql: str, *, allow_dml: bool
) -> list[ParsedStatement]:
    if not isinstance(sql, str):
        raise InvalidArgument(f"sql must be a string, got {type(sql).__name__}.")
    if not is_text(sql):
        raise SqlError("The statement contains a character that is not valid in SQL.")
    credential_check.check_statement(sql)
    text = _ODD_SPACES.sub(lambda m: m[0] if m[0].isascii() or len(m[0]) > 1 else " ", sql)
    reader = _Reader(parser, sql)
    statements = reader.extract(text)
    if not statements:
        raise SqlError("There is no statement to run.")
    types = [_type_of(statement) for statement in statements]
    is_pivot = types == ["MULTI"]  # of DuckDB 2; 1.5 lists its parts, without their text
    if not is_pivot and len(types) > 1 and not statements[-1].query:
        is_pivot = set(types[:-1]) == {"CREATE"}
    if is_pivot:
        return [reader.read_pivot(text, statements[-1].named_parameters)]
    parsed, position = [], 0
    for statement in statements:
        if not statement.query:
            raise StatementNotAllowed(
                "A PIVOT without a list of values must be the only statement.", hint=PIVOT_HINT
            ).with_position(sql, None)
        position = text.index(statement.query, position)
        parsed.append(reader.read(statement, position, allow_dml=allow_dml))
        position += len(statement.query)
    return parsed


class _Reader:
    """Reads the statements of one text; positions of errors are those in the text."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, full_text: str) -> None:
        self._connection, self._full_text = connection, full_text

    def extract(self, text: str, offset: int = 0) -> list[Any]:
        """DuckDB's statements in a part of the text."""
        for at, verb in tokens.evaluated_verbs(text):
            error = unsupported_statement_error(verb, verb)
            raise error.with_position(self._full_text, offset + at)
        try:
            return list(self._connection.cursor().extract_statements(text))
        except duckdb.Error as error:
            if "Mixing named and positional" in str(error):
                raise _positional_parameter_error(self._full_text) from None
            raise to_jammi_error(error, StatementContext(self._full_text, offset, text)) from None

    def read(self, statement: Any, position: int, *, allow_dml: bool) -> ParsedStatement:
        """A statement that begins at a position."""
        duckdb_type = _type_of(statement)
        text = _trim(statement.query)
        offset = position + statement.query.index(text)
        parameters = statement.named_parameters
        if duckdb_type == "EXPLAIN":
            return self._read_explain(text, offset, parameters)
        if allow_dml and duckdb_type.lower() in dml.VERBS:
            return self._read_dml(text, offset, parameters)
        if duckdb_type != "SELECT":
            error = unsupported_statement_error(duckdb_type, text)
            raise error.with_position(self._full_text, offset)
        tree = self._tree(text, offset)
        show_ref = _show_ref(tree)
        if show_ref and _shows_tables(show_ref):
            reads = allowlist.StatementReads()
            return self._parsed(
                StatementKind.SHOW_TABLES, text, offset, parameters, tree=tree, reads=reads
            )
        kind = StatementKind.DESCRIBE if show_ref else StatementKind.SELECT
        text, more = self._check(text, offset, tree)
        return self._parsed(kind, text, offset, parameters, **more)

    def _read_dml(self, text: str, offset: int, parameters: Any) -> ParsedStatement:
        """An INSERT, UPDATE or DELETE; its pieces are checked one by one."""

        def parse_piece(probe: str) -> dml.Piece:
            reader = _Reader(self._connection, probe)
            return reader._replace(probe, 0, reader._tree(probe, 0))

        with self._positions_from(offset):
            checked = dml.check(text, parse_piece)
        return self._parsed(
            StatementKind.DML,
            checked.text,
            offset,
            parameters,
            tree={"pieces": checked.trees},
            reads=checked.reads,
            replaced=checked.replaced,
            dml_parts=checked.parts,
        )

    def _read_explain(self, text: str, offset: int, parameters: Any) -> ParsedStatement:
        """EXPLAIN [ANALYZE] of a SELECT; the SELECT is checked like any other."""
        top_level = tokens.top_level_tokens(text)
        words = [token.text for token in top_level]
        start = 2 if words[1:2] in (["analyze"], ["analyse"]) else 1
        if words[1:3] == ["(", ")"]:
            options = text.encode()[top_level[1].offset : top_level[2].offset].decode().lower()
            start = 1 if "select" in options or "from" in options else 3
        if len(top_level) <= start:
            raise SqlError("EXPLAIN needs a statement.").with_position(self._full_text, offset)
        skipped = len(text.encode()[: top_level[start].offset].decode())
        probe, probe_offset = text[skipped:], offset + skipped
        types = [_type_of(statement) for statement in self.extract(probe, probe_offset)]
        if types != ["SELECT"]:
            error = StatementNotAllowed("Only a SELECT can be explained.")
            raise error.with_position(self._full_text, probe_offset)
        probe, more = self._check(probe, probe_offset, self._tree(probe, probe_offset))
        more["reads"].volatile.add("explain")
        return self._parsed(
            StatementKind.EXPLAIN,
            text[:skipped] + probe,
            offset,
            parameters,
            probe=probe,
            probe_offset=skipped,
            **more,
        )

    def read_pivot(self, statement_text: str, parameters: Any) -> ParsedStatement:
        """A PIVOT without a list of values. DuckDB expands it to several statements without text
        or tree, so a copy with an inserted list is checked and bound, and the original is run."""
        text = _trim(statement_text)
        offset = statement_text.index(text)
        top_level = tokens.top_level_tokens(text)
        words = [token.text for token in top_level]
        if words[:1] not in (["pivot"], ["pivot_wider"]) or "on" not in words:
            raise StatementNotAllowed(
                "A PIVOT without a list of values must not be part of another statement.",
                hint=PIVOT_HINT,
            ).with_position(self._full_text, offset)
        on_index = words.index("on")
        behind = [i for i in range(on_index, len(words)) if words[i] in _BEHIND_PIVOT_LIST]
        last = behind[0] if behind else len(words)
        raw = text.encode()
        ends = [token.offset for token in top_level[on_index:last] if token.text == ","]
        ends.append(top_level[last].offset if behind else len(raw))
        for end in reversed(ends):
            raw = raw[:end].rstrip() + b" IN ('') " + raw[end:]
        probe = raw.decode()
        probe, more = self._check(probe, offset, self._tree(probe, offset))
        if more["replaced"]:  # the replacements are as long as what was there, and before ON
            end = len(text.encode()[: top_level[on_index].offset].decode())
            text = probe[:end] + text[end:]
        parsed = self._parsed(StatementKind.PIVOT, text, offset, parameters, probe=probe, **more)
        if parsed.has_calls:
            raise StatementNotAllowed(
                "A PIVOT without a list of values cannot read a table function.", hint=PIVOT_HINT
            ).with_position(self._full_text, offset)
        return parsed

    def _parsed(
        self,
        kind: StatementKind,
        text: str,
        offset: int,
        parameters: Any,
        *,
        probe: str | None = None,
        **more: Any,
    ) -> ParsedStatement:
        """The statement; `more` are the other fields."""
        if any(name.isdigit() for name in parameters):
            raise _positional_parameter_error(self._full_text)
        return ParsedStatement(
            text=text,
            probe=text if probe is None else probe,
            parameters=frozenset(parameters),
            kind=kind,
            full_text=self._full_text,
            offset=offset,
            **more,
        )

    def _tree(self, text: str, offset: int) -> dict[str, Any]:
        tree = tree_of(self._connection, text)
        if isinstance(tree, DuckDBError):
            if "Only SELECT" in tree.message:
                error = StatementNotAllowed("This form of SELECT is not supported.")
                raise error.with_position(self._full_text, offset)
            raise to_jammi_error(
                duckdb.ParserException(f"Parser Error: {tree.message}"),
                StatementContext(self._full_text, offset, text),
            )
        return tree

    def _check(self, text: str, offset: int, tree: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """The text with calls and three-part names replaced, and the fields of ParsedStatement that
        describe it."""
        text, tree, replaced = self._replace(text, offset, tree)
        with self._positions_from(offset):
            reads = allowlist.check(tree, text)
        return text, {"tree": tree, "reads": reads, "replaced": replaced}

    def _replace(self, text: str, offset: int, tree: dict[str, Any]) -> dml.Piece:
        """The text with each call of a Jammi table function and each three-part name replaced; its
        tree; and what was replaced."""
        with self._positions_from(offset):
            text, replaced = replace_in_from(text, tree)
        return text, self._tree(text, offset) if replaced else tree, replaced

    @contextlib.contextmanager
    def _positions_from(self, offset: int) -> Iterator[None]:
        """A block whose errors have positions after an offset in the text."""
        try:
            yield
        except JammiError as error:
            position = None if error.position is None else offset + error.position
            raise error.with_position(self._full_text, position) from None


def _type_of(statement: Any) -> str:
    """The type of a statement; empty for one that the client does not know."""
    try:
        return str(statement.type.name)
    except ValueError:
        return ""


def _shows_tables(show_ref: dict[str, Any]) -> bool:
    return not show_ref.get("query") and show_ref.get("table_name") in ('"tables"', "tables")


def _show_ref(tree: dict[str, Any]) -> dict[str, Any] | None:
    table = tree.get("from_table")
    return table if isinstance(table, dict) and table.get("type") == "SHOW_REF" else None


def _trim(text: str) -> str:
    """The text up to the first `;` outside brackets, without surrounding white space."""
    end = next((t.offset for t in tokens.top_level_tokens(text) if t.text == ";"), None)
    return (text if end is None else text.encode("utf-8", "replace")[:end].decode()).strip()


def _positional_parameter_error(text: str) -> JammiError:
    offset = next(
        (offset for offset, body in tokens.all_tokens(text) if re.match(rb"[$?]\d|\?\s*$", body)),
        None,
    )
    error = StatementNotAllowed(
        "Positional parameters are not supported.",
        hint="A column is written by its name. Write $name, and pass name=value.",
    )
    return error.with_position(text, allowlist.character_offset(text, offset))

"""Checks INSERT, UPDATE and DELETE. DuckDB gives no syntax tree for them, so they are split at the
keywords outside brackets, and each piece is parsed and checked as a SELECT.

Forms that the splitter does not know are rejected. The binder then verifies that the pieces mean
the same in the statement as alone: the whole statement is explained on empty replicas, which hold
only the tables that the pieces name.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from jammi_lab.core.errors import JammiError, StatementNotAllowed
from jammi_lab.core.identifiers import ascii_lower
from jammi_lab.engine.sql import allowlist, tokens
from jammi_lab.engine.sql.allowlist import StatementReads, TableRef
from jammi_lab.engine.sql.table_functions import FunctionCall, Name

VERBS = ("insert", "update", "delete")
_CLAUSE_KEYWORDS = {
    "insert": {"into", "returning"},
    "update": {"update", "set", "from", "where", "returning"},
    "delete": {"from", "using", "where", "returning"},
}
_IDENTIFIER = r'(?:"(?:[^"]|"")+"|[A-Za-z_][\w$]*)'
_TARGET_CLAUSE = re.compile(
    rf"\s*({_IDENTIFIER}(?:\s*\.\s*{_IDENTIFIER}"
    rf")*)(?:\s+(?:as\s+)?(?!(?:by|select|values|from|with|default|table|as)\b)({_IDENTIFIER}"
    rf"))?\s*",
    re.I,
)
_INSERT_COLUMNS = re.compile(
    rf"\(\s*{_IDENTIFIER}(?:\s*,\s*{_IDENTIFIER})*\s*\)(?!\s*\.)|by\s+(?:name|position)\b", re.I
)
_NAME_PARTS = re.compile(_IDENTIFIER)
_ASSIGNMENT = re.compile(rf"\s*({_IDENTIFIER})\s*=(?!=)")
_CONFLICT = re.compile(
    rf"\s*conflict\s*(?:\(\s*{_IDENTIFIER}(?:\s*,\s*{_IDENTIFIER})*\s*\)\s*)?", re.I
)
_DO = re.compile(r"\s*(nothing|update)\s*", re.I)
_TOKEN = re.compile(r'\w[\w$]*|"(?:[^"]|"")*"|=+|.', re.S)
_DEFAULT = re.compile(r"=(\s*)default\b", re.I)
_UNSUPPORTED = "This form of {verb} is not supported."
_SUPPORTED_FORMS = {
    "insert": "Write INSERT INTO mutable.name (columns) SELECT … or VALUES …, with ON CONFLICT "
    "(key) DO UPDATE SET … or DO NOTHING.",
    "update": "Write UPDATE mutable.name SET column = … FROM … WHERE ….",
    "delete": "Write DELETE FROM mutable.name USING … WHERE ….",
}


@dataclass(frozen=True, slots=True)
class DmlParts:
    """The parts of a DML statement."""

    verb: str
    """insert, update or delete."""
    target: tuple[str, ...]
    """The target table, as typed."""
    alias: str | None
    """The alias of the target."""
    columns: tuple[str, ...]
    """The columns assigned in SET, as typed."""
    merges: bool
    """Whether it is an INSERT that accepts existing rows: ON CONFLICT, OR REPLACE, OR IGNORE."""
    returning: tuple[int, int] | None
    """Start and end of the RETURNING list, in characters."""


Piece = tuple[str, dict[str, Any], dict[Name, FunctionCall], dict[Name, tuple[str, ...]]]
Parse = Callable[[str], Piece]
"""Parses a SELECT. Returns its text with calls and three-part names replaced (same length), its
tree, and what the replacements stand for. Raises JammiError with a position in the SELECT."""


@dataclass
class CheckedDml:
    """A DML statement whose pieces all passed the allowlist."""

    text: str
    """The text as written, with calls replaced by names."""
    parts: DmlParts
    reads: StatementReads
    """The combined reads of all pieces; the target is the first table."""
    trees: list[dict[str, Any]]
    """The trees of the pieces."""
    calls: dict[Name, FunctionCall]
    addresses: dict[Name, tuple[str, ...]]


def check(text: str, parse: Parse) -> CheckedDml:
    """Split a statement and check its pieces. Raises StatementNotAllowed, SqlError and the errors
    of `parse`, with a position in `text`."""
    return _Splitter(text, parse).run()


class _Splitter:
    def __init__(self, text: str, parse: Parse) -> None:
        self.text, self.parse = text, parse
        self.raw = text.encode("utf-8", "replace")
        self.masked_text = self.mask_comments()
        self.top_level_tokens = [
            t for t in tokens.top_level_tokens(text) if t.text[:1].isalpha() or t.text == ","
        ]
        self.reads = StatementReads()
        self.calls = dict[Name, FunctionCall]()
        self.addresses = dict[Name, tuple[str, ...]]()
        self.trees: list[dict[str, Any]] = []
        self.with_clause, self.verb = "", ""

    def character_offset(self, byte_offset: int) -> int:
        return (
            byte_offset
            if self.text.isascii()
            else len(self.raw[:byte_offset].decode(errors="ignore"))
        )

    def mask_comments(self) -> str:
        """The text with comments and the contents of string literals blanked. Used only to match
        the statement's form."""
        masked = [" "] * len(self.text)
        tokens_of_text = tokens.all_tokens(self.text)
        start = self.character_offset(tokens_of_text[0][0]) if tokens_of_text else 0
        for _, body in tokens_of_text:
            token = body.decode(errors="replace")
            if (match := _TOKEN.match(token)) is not None:
                masked[start : start + len(match[0])] = match[0]
            start += len(token)
        return "".join(masked)[: len(self.text)]

    def unsupported_error(self, position: int = 0) -> StatementNotAllowed:
        error = StatementNotAllowed(
            _UNSUPPORTED.format(verb=self.verb.upper() or "the statement"),
            hint=_SUPPORTED_FORMS.get(self.verb, ""),
        )
        return error.with_position(self.text, position)

    def run(self) -> CheckedDml:
        first = next(
            (
                i
                for i, t in enumerate(self.top_level_tokens)
                if t.text in VERBS or t.text == "truncate"
            ),
            None,
        )
        if first is None or self.top_level_tokens[first].text == "truncate":
            raise StatementNotAllowed(
                "TRUNCATE is not supported.", hint="DELETE FROM mutable.name removes all rows."
            ).with_position(self.text, 0)
        self.verb = self.top_level_tokens[first].text
        self.with_clause = self.text[: self.character_offset(self.top_level_tokens[first].offset)]
        parts = list(self.split_clauses(self.top_level_tokens[first:]))
        target, alias, source = self.parse_target(parts)
        if self.with_clause.strip():
            self.check_piece("SELECT 1", len(self.with_clause), len(self.with_clause))
        merges = self.accepts_existing_rows(parts, first)
        columns: list[str] = []
        returning = None
        if self.verb == "insert":
            self.check_source(*source)
        for keyword, start, end in parts[1:]:
            match keyword:
                case "set":
                    columns += self.check_assignments(start, end)
                case "where":
                    self.check_piece("SELECT ", start, end)
                case "from" | "using":
                    self.check_piece("SELECT 1 FROM ", start, end)
                case "returning":
                    self.check_piece("SELECT ", start, end)
                    returning = (start, end)
                case "conflict":
                    if not _CONFLICT.fullmatch(self.masked_text, start - len("conflict"), end):
                        raise self.unsupported_error(start)
                case "do":
                    if not _DO.fullmatch(self.masked_text, start, end):
                        raise self.unsupported_error(start)
                case _:
                    raise self.unsupported_error(start)
        dml_parts = DmlParts(self.verb, target, alias, tuple(columns), merges, returning)
        return CheckedDml(self.text, dml_parts, self.reads, self.trees, self.calls, self.addresses)

    def split_clauses(self, token_list: Sequence[tokens.Token]) -> Iterator[tuple[str, int, int]]:
        """Each keyword with the start and end of the part that follows it, in characters."""
        keywords = _CLAUSE_KEYWORDS[self.verb]
        marks = list[tuple[str, int, int]]()
        previous = token_list[0]
        for token in token_list:
            is_clause = token.text in keywords and not (
                token.text == "from" and previous.text == "distinct"
            )
            if self.verb == "insert" and token.text == "conflict" and previous.text == "on":
                is_clause, keywords = True, keywords | {"do", "set", "where"}
            if is_clause:
                position = self.character_offset(token.offset)
                marks.append(
                    (
                        token.text,
                        self.character_offset(previous.offset)
                        if token.text == "conflict"
                        else position,
                        position + len(token.text),
                    )
                )
            previous = token
        if not marks or (self.verb != "update" and marks[0][0] not in ("into", "from")):
            raise self.unsupported_error()
        for (keyword, _, start), following in zip(marks, [*marks[1:], None], strict=True):
            yield keyword, start, len(self.text) if following is None else following[1]

    def parse_target(
        self, clauses: Sequence[tuple[str, int, int]]
    ) -> tuple[tuple[str, ...], str | None, tuple[int, int]]:
        """The target table, its alias, and the start and end of the text after it."""
        _, start, end = clauses[0]
        match = _TARGET_CLAUSE.match(self.masked_text, start, end)
        if match is None or (self.verb != "insert" and match.end() != end):
            raise self.unsupported_error(start)
        names = tuple(unquote(part) for part in _NAME_PARTS.findall(match[1]))
        if len(names) == 3:  # mutable.public.x is rewritten to mutable.x
            names = self.shorten_target(match.start(1), match.end(1), names)
        self.reads.tables.append(
            TableRef(names, len(self.text[: match.start(1)].encode("utf-8", "replace")))
        )
        return names, None if match[2] is None else unquote(match[2]), (match.end(), end)

    def shorten_target(self, start: int, end: int, names: tuple[str, ...]) -> tuple[str, ...]:
        if ascii_lower(names[0]) != "mutable" or ascii_lower(names[1]) != "public":
            raise self.unsupported_error(start)
        self.text = (
            self.text[:start] + f'{names[0]}."{names[2]}"'.ljust(end - start) + self.text[end:]
        )
        return names[0], names[2]

    def accepts_existing_rows(self, clauses: Sequence[tuple[str, int, int]], first: int) -> bool:
        keywords = [t.text for t in self.top_level_tokens[first + 1 :]]
        if self.verb != "insert":
            return False
        if keywords[:1] == ["or"]:
            if keywords[1:3] not in (["replace", "into"], ["ignore", "into"]):
                raise self.unsupported_error()
            return True
        if keywords[:1] != ["into"]:
            raise self.unsupported_error()
        return any(keyword == "conflict" for keyword, _, _ in clauses)

    def check_source(self, start: int, end: int) -> None:
        """Check the rows of an INSERT: VALUES or a query."""
        shape = _INSERT_COLUMNS.match(self.masked_text, start, end)
        if shape is not None:
            start = shape.end()
        if self.masked_text[start:end].lower().split() != ["default", "values"]:
            self.check_piece("", start, end)

    def check_assignments(self, start: int, end: int) -> list[str]:
        """Check a SET list; returns the assigned columns."""
        commas = [self.character_offset(t.offset) for t in self.top_level_tokens if t.text == ","]
        starts = [start, *(position + 1 for position in commas if start <= position < end)]
        columns = []
        for position in starts:
            match = _ASSIGNMENT.match(self.masked_text, position, end)
            if match is None:
                raise self.unsupported_error(position)
            columns.append(unquote(match[1]))
        self.check_piece(
            "SELECT ", start, end, lambda body: _DEFAULT.sub(lambda m: f"={m[1]}null   ", body)
        )
        return columns

    def check_piece(
        self, head: str, start: int, end: int, rewrite: Callable[[str], str] = lambda body: body
    ) -> None:
        """Parse and check one piece, behind the statement's own WITH clause, and replace its table
        function calls by names."""
        body = self.text[start:end]
        is_with_clause = start == end == len(self.with_clause)
        if not body.strip() and not is_with_clause:
            raise self.unsupported_error(start)
        prefix_length, probe = len(self.with_clause + head), self.with_clause + head + rewrite(body)

        def position_in_statement(probe_position: int) -> int:
            return (
                probe_position
                if probe_position < len(self.with_clause)
                else max(start, probe_position - prefix_length + start)
            )

        try:
            text, tree, calls, addresses = self.parse(probe)
            piece_reads = allowlist.check(tree, text)
        except JammiError as error:
            raise error.with_position(
                self.text, None if error.position is None else position_in_statement(error.position)
            ) from None
        if calls or addresses:
            self.record_calls(calls, addresses, start)
            self.text = (
                text[: len(self.with_clause)]
                + self.text[len(self.with_clause) : start]
                + text[prefix_length:]
                + self.text[end:]
            )
            self.with_clause = self.text[: len(self.with_clause)]
        self.trees.append(tree)
        for table in piece_reads.tables:
            position = allowlist.character_offset(text, table.offset)
            offset = (
                None
                if position is None
                else len(self.text[: position_in_statement(position)].encode("utf-8", "replace"))
            )
            # Every piece repeats the WITH clause; its tables are recorded once, for the WITH alone.
            if is_with_clause or position is None or position >= len(self.with_clause):
                self.reads.tables.append(TableRef(table.parts, offset))
        self.record_functions(piece_reads, position_in_statement)

    def record_calls(
        self, calls: dict[Name, FunctionCall], addresses: dict[Name, tuple[str, ...]], position: int
    ) -> None:
        """Add the table function calls and three-part names of a piece."""
        if any(self.calls.get(n, c) != c for n, c in calls.items()) or any(
            self.addresses.get(n, a) != a for n, a in addresses.items()
        ):
            raise StatementNotAllowed(
                "Only one part of a DML statement can call table functions or use three-part "
                "table names.",
                hint="Move the others into a WITH clause.",
            ).with_position(self.text, position)
        self.calls |= calls
        self.addresses |= addresses

    def record_functions(
        self, piece_reads: StatementReads, position_in_statement: Callable[[int], int]
    ) -> None:
        """Add the functions, aliases and value words of a piece."""
        combined = self.reads
        combined.functions |= piece_reads.functions
        combined.volatile |= piece_reads.volatile
        combined.aliases |= piece_reads.aliases
        combined.reads_clock |= piece_reads.reads_clock
        for name, (count, position) in piece_reads.value_words.items():
            so_far, first = combined.value_words.get(
                name, (0, None if position is None else position_in_statement(position))
            )
            combined.value_words[name] = (so_far + count, first)


def unquote(name: str) -> str:
    """An identifier without its quotes."""
    return name[1:-1].replace('""', '"') if name.startswith('"') else name

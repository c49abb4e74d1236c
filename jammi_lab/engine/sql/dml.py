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
from jammi_lab.engine.sql.table_functions import Name, Replaced

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
_UNSUPPORTED = "This form of {verb} is not supported."
_SUPPORTED_FORMS = {
    "insert": "Write INSERT INTO mutable.name (columns) SELECT … or VALUES …, with ON CONFLICT "
    "(key) DO UPDATE SET … or DO NOTHING.",
    "update": "Write UPDATE mutable.name SET column = … FROM … WHERE ….",
    "delete": "Write DELETE FROM mutable.name USING … WHERE ….",
    "truncate": "DELETE FROM mutable.name removes all rows.",
    "with": "Write the WITH into the SELECT of an INSERT; for UPDATE and DELETE, subqueries in "
    "FROM or USING.",
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
    """Whether it is an INSERT that accepts existing rows: ON CONFLICT."""
    returning: tuple[int, int] | None
    """Start and end of the RETURNING list, in characters."""


Piece = tuple[str, dict[str, Any], dict[Name, Replaced]]
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
    replaced: dict[Name, Replaced]


def check(text: str, parse: Parse) -> CheckedDml:
    """Split a statement and check its pieces. Raises StatementNotAllowed, SqlError and the errors
    of `parse`, with a position in `text`."""
    return _Splitter(text, parse).run()


class _Splitter:
    def __init__(self, text: str, parse: Parse) -> None:
        self.text, self.parse = text, parse
        self.raw = text.encode("utf-8", "replace")
        self.masked_text = self.mask_comments()
        self.words = [
            token
            for token in tokens.top_level_tokens(text)
            if token.text[:1].isalpha() or token.text == ","
        ]
        self.verb = self.words[0].text
        self.reads = StatementReads()
        self.replaced = dict[Name, Replaced]()
        self.trees: list[dict[str, Any]] = []

    def character_offset(self, byte_offset: int) -> int:
        return len(self.raw[:byte_offset].decode(errors="ignore"))

    def byte_offset(self, position: int) -> int:
        return len(self.text[:position].encode("utf-8", "replace"))

    def mask_comments(self) -> str:
        """The text with comments and the contents of string literals blanked. Used only to match
        the statement's form."""
        masked = [" "] * len(self.text)
        for offset, body in tokens.all_tokens(self.text):
            if (match := _TOKEN.match(body.decode(errors="replace"))) is not None:
                start = self.character_offset(offset)
                masked[start : start + len(match[0])] = match[0]
        return "".join(masked)[: len(self.text)]

    def unsupported_error(self, position: int = 0) -> StatementNotAllowed:
        return StatementNotAllowed(
            _UNSUPPORTED.format(verb=self.verb.upper()), hint=_SUPPORTED_FORMS.get(self.verb, "")
        ).with_position(self.text, position)

    def run(self) -> CheckedDml:
        if self.verb not in VERBS or (self.verb == "insert" and self.words[1].text != "into"):
            raise self.unsupported_error()
        parts = list(self.split_clauses())
        target, alias, source = self.parse_target(parts)
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
                case "conflict" if _CONFLICT.fullmatch(self.masked_text, start - 8, end):
                    pass
                case "do" if _DO.fullmatch(self.masked_text, start, end):
                    pass
                case _:
                    raise self.unsupported_error(start)
        merges = any(keyword == "conflict" for keyword, _, _ in parts)
        dml_parts = DmlParts(self.verb, target, alias, tuple(columns), merges, returning)
        return CheckedDml(self.text, dml_parts, self.reads, self.trees, self.replaced)

    def split_clauses(self) -> Iterator[tuple[str, int, int]]:
        """Each keyword with the start and end of the part that follows it, in characters."""
        keywords = _CLAUSE_KEYWORDS[self.verb]
        marks = list[tuple[str, int, int]]()
        previous = self.words[0]
        for token in self.words:
            start = token.offset
            is_clause = token.text in keywords and not (
                token.text == "from" and previous.text == "distinct"
            )
            if self.verb == "insert" and (previous.text, token.text) == ("on", "conflict"):
                is_clause, keywords = True, keywords | {"do", "set", "where"}
                start = previous.offset
            if is_clause:
                end = token.offset + len(token.text)
                place = self.character_offset(start), self.character_offset(end)
                marks.append((token.text, *place))
            previous = token
        if not marks or (self.verb != "update" and marks[0][0] not in ("into", "from")):
            raise self.unsupported_error()
        ends = [start for _, start, _ in marks[1:]] + [len(self.text)]
        for (keyword, _, start), end in zip(marks, ends, strict=True):
            yield keyword, start, end

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
        self.reads.tables.append(TableRef(names, self.byte_offset(match.start(1))))
        return names, None if match[2] is None else unquote(match[2]), (match.end(), end)

    def shorten_target(self, start: int, end: int, names: tuple[str, ...]) -> tuple[str, ...]:
        if ascii_lower(names[0]) != "mutable" or ascii_lower(names[1]) != "public":
            raise self.unsupported_error(start)
        self.text = (
            self.text[:start] + f'{names[0]}."{names[2]}"'.ljust(end - start) + self.text[end:]
        )
        return names[0], names[2]

    def check_source(self, start: int, end: int) -> None:
        """Check the rows of an INSERT: VALUES or a query."""
        shape = _INSERT_COLUMNS.match(self.masked_text, start, end)
        if shape is not None:
            start = shape.end()
        self.check_piece("", start, end)

    def check_assignments(self, start: int, end: int) -> list[str]:
        """Check a SET list; returns the assigned columns."""
        commas = [self.character_offset(t.offset) for t in self.words if t.text == ","]
        starts = [start, *(position + 1 for position in commas if start <= position < end)]
        columns = []
        for position in starts:
            match = _ASSIGNMENT.match(self.masked_text, position, end)
            if match is None:
                raise self.unsupported_error(position)
            columns.append(unquote(match[1]))
        self.check_piece("SELECT ", start, end)
        return columns

    def check_piece(self, head: str, start: int, end: int) -> None:
        """Parse and check one piece, and replace its table function calls and three-part names."""
        body = self.text[start:end]
        if not body.strip():
            raise self.unsupported_error(start)

        def position_in_statement(position: int) -> int:
            return start + max(position - len(head), 0)

        try:
            text, tree, replaced = self.parse(head + body)
            piece_reads = allowlist.check(tree, text)
        except JammiError as error:
            position = None if error.position is None else position_in_statement(error.position)
            raise error.with_position(self.text, position) from None
        if self.replaced and replaced:
            raise StatementNotAllowed(
                "Only one part of a DML statement can call table functions or use three-part "
                "table names.",
                hint="Move the others into that part, or into a result: ws.materialize(…).",
            ).with_position(self.text, start)
        self.replaced |= replaced
        self.text = self.text[:start] + text[len(head) :] + self.text[end:]
        self.trees.append(tree)
        for table in piece_reads.tables:
            position = allowlist.character_offset(text, table.offset)
            offset = None if position is None else self.byte_offset(position_in_statement(position))
            self.reads.tables.append(TableRef(table.parts, offset))
        self.record_functions(piece_reads, position_in_statement)

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

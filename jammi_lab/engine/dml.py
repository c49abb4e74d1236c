"""INSERT, UPDATE and DELETE have no syntax tree: they are cut at the keywords outside brackets, and each piece is parsed and gated as a SELECT.

What the cutting does not know is refused. That a piece means in its statement what it means alone is then proved by the binder: the whole statement
is explained on twins, where nothing but what the pieces name is there.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from jammi_lab.engine import gate, tokens
from jammi_lab.engine.calls import Call, Name
from jammi_lab.engine.gate import Named, Reading
from jammi_lab.errors import JammiError, StatementNotAllowed
from jammi_lab.names import ascii_lower

VERBS = ("insert", "update", "delete")
_CUTS = {
    "insert": {"into", "returning"},
    "update": {"update", "set", "from", "where", "returning"},
    "delete": {"from", "using", "where", "returning"},
}
_IDENTIFIER = r'(?:"(?:[^"]|"")+"|[A-Za-z_][\w$]*)'
_TARGET = re.compile(
    rf"\s*({_IDENTIFIER}(?:\s*\.\s*{_IDENTIFIER})*)(?:\s+(?:as\s+)?(?!(?:by|select|values|from|with|default|table|as)\b)({_IDENTIFIER}))?\s*", re.I
)
_SHAPE = re.compile(rf"\(\s*{_IDENTIFIER}(?:\s*,\s*{_IDENTIFIER})*\s*\)(?!\s*\.)|by\s+(?:name|position)\b", re.I)
_PARTS = re.compile(_IDENTIFIER)
_COLUMN = re.compile(rf"\s*({_IDENTIFIER})\s*=(?!=)")
_CONFLICT = re.compile(rf"\s*conflict\s*(?:\(\s*{_IDENTIFIER}(?:\s*,\s*{_IDENTIFIER})*\s*\)\s*)?", re.I)
_DO = re.compile(r"\s*(nothing|update)\s*", re.I)
_WORD = re.compile(r'\w[\w$]*|"(?:[^"]|"")*"|=+|.', re.S)
_DEFAULT = re.compile(r"=(\s*)default\b", re.I)
_FORM = "This form of {verb} cannot be checked, and is not run."
_FORMS = {
    "insert": "Write INSERT INTO mutable.name (columns) SELECT … or VALUES …, with ON CONFLICT (key) DO UPDATE SET … or DO NOTHING.",
    "update": "Write UPDATE mutable.name SET column = … FROM … WHERE ….",
    "delete": "Write DELETE FROM mutable.name USING … WHERE ….",
}


@dataclass(frozen=True, slots=True)
class Cut:
    """What a statement changes, and where its parts stand."""

    verb: str
    """insert, update or delete."""
    target: tuple[str, ...]
    """The table that it changes, as typed."""
    alias: str | None
    """What the statement calls it."""
    columns: tuple[str, ...]
    """The columns that SET gives new values, as typed."""
    merges: bool
    """Whether it is an INSERT that may meet rows which are there: ON CONFLICT, OR REPLACE, OR IGNORE."""
    returning: tuple[int, int] | None
    """Where the list behind RETURNING begins and ends, in characters."""


Piece = tuple[str, dict[str, Any], dict[Name, Call], dict[Name, tuple[str, ...]]]
Parse = Callable[[str], Piece]
"""A SELECT → the same with names for calls and long names, as long as it was; its tree; what the names stand for. JammiError, placed in it."""


@dataclass
class Checked:
    """A statement whose every piece passed the gate."""

    text: str
    """As written, with names in the place of calls."""
    cut: Cut
    reading: Reading
    """What all pieces say; the target is among its tables, first."""
    trees: list[dict[str, Any]]
    """The trees of the pieces."""
    calls: dict[Name, Call]
    addresses: dict[Name, tuple[str, ...]]


def check(text: str, parse: Parse) -> Checked:
    """Cut a statement and gate its pieces. StatementNotAllowed, SqlError and what parsing raises, placed in `text`."""
    return _Cutting(text, parse).run()


class _Cutting:
    def __init__(self, text: str, parse: Parse) -> None:
        self.text, self.parse = text, parse
        self.raw = text.encode("utf-8", "replace")
        self.shape = self.without_comments()
        self.words = [t for t in tokens.top_level(text) if t.word[:1].isalpha() or t.word == ","]
        self.reading, self.calls, self.addresses = Reading(), dict[Name, Call](), dict[Name, tuple[str, ...]]()
        self.trees: list[dict[str, Any]] = []
        self.lead, self.verb = "", ""

    def char(self, at: int) -> int:
        return at if self.text.isascii() else len(self.raw[:at].decode(errors="ignore"))

    def without_comments(self) -> str:
        """The text with blanks in the place of comments (and of what is inside of texts): what the forms are read from, and nothing else."""
        shape = [" "] * len(self.text)
        found = tokens.all_tokens(self.text)
        start = self.char(found[0][0]) if found else 0
        for _, body in found:
            written = body.decode(errors="replace")
            if (word := _WORD.match(written)) is not None:
                shape[start : start + len(word[0])] = word[0]
            start += len(written)
        return "".join(shape)[: len(self.text)]

    def refuse(self, at: int = 0) -> StatementNotAllowed:
        error = StatementNotAllowed(_FORM.format(verb=self.verb.upper() or "the statement"), hint=_FORMS.get(self.verb, ""))
        return error.at(self.text, at)

    def run(self) -> Checked:
        first = next((i for i, t in enumerate(self.words) if t.word in VERBS or t.word == "truncate"), None)
        if first is None or self.words[first].word == "truncate":
            raise StatementNotAllowed("TRUNCATE is not a statement that a workspace runs.", hint="DELETE FROM mutable.name removes all rows.").at(
                self.text, 0
            )
        self.verb = self.words[first].word
        self.lead = self.text[: self.char(self.words[first].at)]
        parts = list(self.parts(self.words[first:]))
        target, alias, source = self.target(parts)
        if self.lead.strip():
            self.piece("SELECT 1", len(self.lead), len(self.lead))
        merges = self.merging(parts, first)
        columns: list[str] = []
        returning = None
        if self.verb == "insert":
            self.source(*source)
        for word, start, end in parts[1:]:
            match word:
                case "set":
                    columns += self.set(start, end)
                case "where":
                    self.piece("SELECT ", start, end)
                case "from" | "using":
                    self.piece("SELECT 1 FROM ", start, end)
                case "returning":
                    self.piece("SELECT ", start, end)
                    returning = (start, end)
                case "conflict":
                    if not _CONFLICT.fullmatch(self.shape, start - len("conflict"), end):
                        raise self.refuse(start)
                case "do":
                    if not _DO.fullmatch(self.shape, start, end):
                        raise self.refuse(start)
                case _:
                    raise self.refuse(start)
        cut = Cut(self.verb, target, alias, tuple(columns), merges, returning)
        return Checked(self.text, cut, self.reading, self.trees, self.calls, self.addresses)

    def parts(self, words: Sequence[tokens.Token]) -> Iterator[tuple[str, int, int]]:
        """(keyword, where what follows it begins, where that ends), in characters."""
        cuts, marks, last = _CUTS[self.verb], list[tuple[str, int, int]](), words[0]
        for token in words:
            opens = token.word in cuts and not (token.word == "from" and last.word == "distinct")
            if self.verb == "insert" and token.word == "conflict" and last.word == "on":
                opens, cuts = True, cuts | {"do", "set", "where"}
            if opens:
                at = self.char(token.at)
                marks.append((token.word, self.char(last.at) if token.word == "conflict" else at, at + len(token.word)))
            last = token
        if not marks or (self.verb != "update" and marks[0][0] not in ("into", "from")):
            raise self.refuse()
        for (word, _, start), nearest in zip(marks, [*marks[1:], None], strict=True):
            yield word, start, len(self.text) if nearest is None else nearest[1]

    def target(self, parts: Sequence[tuple[str, int, int]]) -> tuple[tuple[str, ...], str | None, tuple[int, int]]:
        """The table, what it is called, and where what follows it begins and ends."""
        _, start, end = parts[0]
        found = _TARGET.match(self.shape, start, end)
        if found is None or (self.verb != "insert" and found.end() != end):
            raise self.refuse(start)
        names = tuple(_unquoted(part) for part in _PARTS.findall(found[1]))
        if len(names) == 3:  # it is called by two, in the place of three
            names = self.shorter(found.start(1), found.end(1), names)
        self.reading.tables.append(Named(names, len(self.text[: found.start(1)].encode("utf-8", "replace"))))
        return names, None if found[2] is None else _unquoted(found[2]), (found.end(), end)

    def shorter(self, start: int, end: int, names: tuple[str, ...]) -> tuple[str, ...]:
        if ascii_lower(names[0]) != "mutable" or ascii_lower(names[1]) != "public":
            raise self.refuse(start)
        self.text = self.text[:start] + f'{names[0]}."{names[2]}"'.ljust(end - start) + self.text[end:]
        return names[0], names[2]

    def merging(self, parts: Sequence[tuple[str, int, int]], first: int) -> bool:
        between = [t.word for t in self.words[first + 1 :]]
        if self.verb != "insert":
            return False
        if between[:1] == ["or"]:
            if between[1:3] not in (["replace", "into"], ["ignore", "into"]):
                raise self.refuse()
            return True
        if between[:1] != ["into"]:
            raise self.refuse()
        return any(word == "conflict" for word, _, _ in parts)

    def source(self, start: int, end: int) -> None:
        """What an INSERT inserts."""
        shape = _SHAPE.match(self.shape, start, end)
        if shape is not None:
            start = shape.end()
        if self.shape[start:end].lower().split() != ["default", "values"]:
            self.piece("", start, end)

    def set(self, start: int, end: int) -> list[str]:
        """The columns of a SET list."""
        commas = [self.char(t.at) for t in self.words if t.word == ","]
        cuts = [start, *(at + 1 for at in commas if start <= at < end)]
        columns = []
        for at in cuts:
            found = _COLUMN.match(self.shape, at, end)
            if found is None:
                raise self.refuse(at)
            columns.append(_unquoted(found[1]))
        self.piece("SELECT ", start, end, lambda body: _DEFAULT.sub(lambda m: f"={m[1]}null   ", body))
        return columns

    def piece(self, head: str, start: int, end: int, made: Callable[[str], str] = lambda body: body) -> None:
        """Parse and gate one piece, behind the statement's own WITH, and put names in the place of its calls."""
        body = self.text[start:end]
        with_alone = start == end == len(self.lead)
        if not body.strip() and not with_alone:
            raise self.refuse(start)
        before, probe = len(self.lead + head), self.lead + head + made(body)

        def place(at: int) -> int:
            return at if at < len(self.lead) else max(start, at - before + start)

        try:
            text, tree, calls, addresses = self.parse(probe)
            reading = gate.walk(tree, text)
        except JammiError as error:
            raise error.at(self.text, None if error.position is None else place(error.position)) from None
        if calls or addresses:
            if any(self.calls.get(n, c) != c for n, c in calls.items()) or any(self.addresses.get(n, a) != a for n, a in addresses.items()):
                raise StatementNotAllowed(
                    "Only one part of a change can call table functions or name tables by three parts.", hint="Put the rest into a WITH."
                ).at(self.text, start)
            self.calls |= calls
            self.addresses |= addresses
            self.text = text[: len(self.lead)] + self.text[len(self.lead) : start] + text[before:] + self.text[end:]
            self.lead = self.text[: len(self.lead)]
        self.trees.append(tree)
        for named in reading.tables:
            at = gate.offset_in(text, named.at)
            moved = None if at is None else len(self.text[: place(at)].encode("utf-8", "replace"))
            if with_alone or at is None or at >= len(self.lead):  # what WITH reads is noted once, with the WITH alone
                self.reading.tables.append(Named(named.parts, moved))
        own = self.reading
        own.functions, own.volatile, own.aliases = own.functions | reading.functions, own.volatile | reading.volatile, own.aliases | reading.aliases
        own.clock |= reading.clock
        for word, (count, at) in reading.words.items():
            so_far, first = own.words.get(word, (0, None if at is None else place(at)))
            own.words[word] = (so_far + count, first)


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name

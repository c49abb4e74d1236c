"""The SELECT in which the cursor stands: its clause, the names that it gives, the tables that it
derives, and the order in which its columns are offered."""

import collections
import dataclasses
import functools
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from jammi_kernel_ext.cell_scope import IGNORED_TEXT, NO_ALIAS, PART, aliased_relations, unquote
from jammi_lab.core.identifiers import fold

Column = tuple[str, str]
"""A name and its SQL type; the type is empty where it is not known."""
_CLAUSE = re.compile(
    r"\b(SELECT|FROM|JOIN|WHERE|GROUP\s+BY|ORDER\s+BY|PARTITION\s+BY|HAVING|QUALIFY|ON|USING|LIMIT"
    r"|SET|INTO|UPDATE|VALUES|RETURNING|DESCRIBE|TABLE)\b",
    re.IGNORECASE,
)
_BODY = re.compile(r"\s*(?:SELECT|WITH|FROM)\b", re.IGNORECASE)
_NAME_BEFORE = re.compile(
    rf"({PART})\s*(?:\([^()]*\)\s*)?AS\s+(?:(?:NOT\s+)?MATERIALIZED\s*)?$", re.IGNORECASE
)
_NAME_AFTER = re.compile(rf"\s*(?:AS\s+)?({PART})", re.IGNORECASE)
_OUTPUT = re.compile(rf"(?:^|\.|\bAS\s+|[\s)])({PART})\s*$", re.IGNORECASE)
_PLAIN = re.compile(rf"\s*(?:{PART}\s*\.\s*)*({PART})\s*$")
_STAR = re.compile(rf"\s*(?:({PART})\s*\.\s*)?\*")
_TABLE_CLAUSES = frozenset({"FROM", "JOIN", "INTO", "UPDATE", "DESCRIBE", "TABLE"})
_NUMERIC_CALLS = frozenset("avg sum median stddev variance quantile mean corr round abs".split())
_FLOATS = re.compile(r"FLOAT|DOUBLE|REAL|DECIMAL", re.IGNORECASE)
_INTEGERS = re.compile(r"INT", re.IGNORECASE)
_FOLLOWING = {
    "FROM": "WHERE JOIN GROUP ORDER LIMIT LEFT AS",
    "JOIN": "ON USING WHERE",
    "SELECT": "FROM AS",
    "WHERE": "AND OR GROUP ORDER IN IS LIKE",
    "ON": "AND OR WHERE JOIN",
    "USING": "WHERE GROUP ORDER",
    "GROUP BY": "HAVING ORDER LIMIT",
    "HAVING": "AND OR ORDER",
    "QUALIFY": "AND OR ORDER",
    "ORDER BY": "DESC ASC LIMIT NULLS",
}
"""Clause: the keywords that follow a complete operand."""


@dataclasses.dataclass(frozen=True)
class SelectScope:
    """The SELECT around the cursor, without what stands in its inner parentheses."""

    before: str
    """The text up to the cursor."""
    after: str
    """The text behind it."""
    call: str
    """The function between whose parentheses the cursor stands, in lower case; empty otherwise."""
    derived: dict[str, str]
    """The text of each common table expression and subquery in FROM, by its name."""

    @functools.cached_property
    def clause(self) -> str:
        """The clause of the cursor, such as `GROUP BY`; empty before the first."""
        return self._clause_and_text[0]

    @functools.cached_property
    def _clause_and_text(self) -> tuple[str, str]:
        last = None
        for last in _CLAUSE.finditer(self.before):  # noqa: B007  the last one is meant
            pass
        if last is None:
            return "", self.before
        return re.sub(r"\s+", " ", last[1].upper()), self.before[last.end() :]

    @property
    def expects_relation(self) -> bool:
        """Whether the next word is the name of a table."""
        clause, text = self._clause_and_text
        return clause in _TABLE_CLAUSES and (not text.strip() or text.rstrip().endswith(","))

    def following_keywords(self, keywords: Iterable[str]) -> list[str]:
        """The keywords that may follow where an operand has just ended; empty elsewhere."""
        head = self.before.rstrip()
        last = re.search(r"[\w\"]+$", head)
        is_star = re.search(r"(?:SELECT|,|\.)\s*\*$", head, re.IGNORECASE)
        ended = (last and last[0].upper() not in {*keywords, "BY", "ALL"}) or head.endswith(")")
        if head == self.before or not (ended or is_star):
            return []
        return _FOLLOWING.get(self.clause, "").split()

    def relations(self) -> list[tuple[str, str]]:
        """(alias, relation) of what the SELECT reads, subqueries by their name."""
        found = list(aliased_relations(self.before + self.after))
        named = {fold(alias) for alias, _ in found}
        return found + [
            (name, name)
            for name in self.derived
            if fold(name) not in named
            and re.search(rf"\)\s*(?:AS\s+)?{re.escape(name)}\b", self.before + self.after)
        ]

    def columns_of(self, relation: str, load: Callable[[str], list[Column]]) -> list[Column]:
        """The columns of a relation; `load` returns those of a stored one."""
        body = next(
            (body for name, body in self.derived.items() if fold(name) == fold(relation)), None
        )
        return load(relation) if body is None else list(_outputs(body, load))

    def select_items(self) -> list[str]:
        """The texts of the items behind SELECT."""
        match = re.search(
            r"\bSELECT\b(?:\s+DISTINCT\b)?(.*?)(?:\bFROM\b|$)",
            self.before + self.after,
            re.IGNORECASE | re.DOTALL,
        )
        return match[1].split(",") if match else []

    def names_given(self) -> list[str]:
        """The names that the items behind SELECT get with AS."""
        found = (re.search(rf"\bAS\s+({PART})\s*$", i, re.IGNORECASE) for i in self.select_items())
        return [unquote(match[1]) for match in found if match]

    def ranked(self, columns: list[Column], shared: Sequence[str] = ()) -> list[Column]:
        """The columns in the order in which they are likely to be meant. `shared`: the folded names
        that several relations have."""
        compared = re.search(rf"({PART})\s*=\s*$", self.before)
        used = {fold(unquote(w)) for w in re.findall(PART, self._clause_and_text[1])}
        plain = [fold(unquote(m[1])) for i in self.select_items() if (m := _PLAIN.match(i))]
        grouped = self.clause in ("GROUP BY", "PARTITION BY", "ORDER BY")

        def rank(column: Column) -> tuple[int, int]:
            name, kind = fold(column[0]), column[1]
            if compared is not None and self.clause == "ON":
                return (0 if name == fold(unquote(compared[1])) else 1), 0
            if name in used:
                return 9, 0
            if self.clause in ("ON", "USING"):
                return (0, shared.index(name)) if name in shared else (1, 0)
            if grouped and name in plain:
                return 0, plain.index(name)
            if self.call in _NUMERIC_CALLS:
                return (1 if _FLOATS.match(kind) else 2 if _INTEGERS.search(kind) else 3), 0
            return 1, 0

        return sorted(columns, key=rank)


def scope_at(statement: str, cursor: int) -> SelectScope:
    """The SELECT around a position of a statement."""
    text = IGNORED_TEXT.sub(lambda m: " " * len(m[0]), statement)
    start = text.rfind(";", 0, cursor) + 1
    stop = text.find(";", cursor) if ";" in text[cursor:] else len(text)
    opened: list[int] = []
    for position in range(start, cursor):
        if text[position] == "(":
            opened.append(position)
        elif text[position] == ")" and opened:
            opened.pop()
    call = ""
    if opened and (word := re.search(r"(\w+)\s*$", text[start : opened[-1]])):
        call = word[1].lower()
    for position in reversed(opened):
        if _BODY.match(text, position + 1):
            start, stop = position + 1, min(_closing(text, position), stop)
            break
    inner = {p for p in opened if p >= start}
    return SelectScope(
        _without_inner(text, start, cursor, inner),
        _without_inner(text, cursor, stop, set()),
        call,
        dict(_derived_tables(text)),
    )


def shared_names(lists: Iterable[list[Column]]) -> list[str]:
    """The folded names that more than one of the lists of columns has, in the order of the shortest
    list with them."""
    folded = sorted(([fold(c) for c, _ in names] for names in lists), key=len)
    counts = collections.Counter(itertools.chain.from_iterable(map(set, folded)))
    return [n for n in dict.fromkeys(itertools.chain.from_iterable(folded)) if counts[n] > 1]


def _closing(text: str, opening: int) -> int:
    """The position of the parenthesis that closes one; the end of the text where none does."""
    depth = 0
    for position in range(opening, len(text)):
        depth += {"(": 1, ")": -1}.get(text[position], 0)
        if not depth:
            return position
    return len(text)


def _without_inner(text: str, start: int, stop: int, kept: set[int]) -> str:
    """A part of a text without what stands in its parentheses, except in those that are kept."""
    parts, position = [], start
    while position < stop:
        character = text[position]
        if character == "(" and position not in kept:
            parts.append("()")
            position = _closing(text, position)
        elif character != ")":
            parts.append(character)
        position += 1
    return "".join(parts)


def _derived_tables(text: str) -> Iterator[tuple[str, str]]:
    """The name and text of each common table expression and subquery in FROM."""
    for match in re.finditer(r"\(", text):
        if not _BODY.match(text, match.end()):
            continue
        end = _closing(text, match.start())
        if before := _NAME_BEFORE.search(text, 0, match.start()):
            yield unquote(before[1]), text[match.end() : end]
        after = _NAME_AFTER.match(text, end + 1)
        if after and after[1].casefold() not in NO_ALIAS:
            yield unquote(after[1]), text[match.end() : end]


def _outputs(body: str, load: Callable[[str], list[Column]]) -> Iterator[Column]:
    """The columns that a SELECT returns."""
    scope = scope_at(body, len(body))
    for item in scope.select_items():
        if star := _STAR.match(item):
            for alias, relation in scope.relations():
                if star[1] is None or fold(alias) == fold(unquote(star[1])):
                    yield from load(relation)
        elif match := _OUTPUT.search(item):
            yield unquote(match[1]), ""

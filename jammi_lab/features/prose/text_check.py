"""Compares the numbers of documents with the tables of a workspace: backed, outdated, ambiguous or
found in no table; and ties exactly."""

import contextlib
import functools
import re
from bisect import bisect_right
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

from jammi_lab.core.dataframes import ArrowExportMixin, to_arrow
from jammi_lab.core.errors import InvalidArgument, TableDamaged
from jammi_lab.core.forms import listing_table
from jammi_lab.core.html import Rendered, ReprMixin, escape_invisible, plain_text, vstack
from jammi_lab.core.identifiers import find_name
from jammi_lab.core.junit import Case, to_junit
from jammi_lab.features.prose.documents import Document, Prose, Tie, tie_path
from jammi_lab.features.prose.value_search import (
    Findings,
    NoSuchCell,
    Number,
    Tables,
    ValueLocation,
    ValueSearch,
    key_text,
    to_decimal,
)
from jammi_lab.features.prose.written_numbers import WrittenNumber, parse_number

if TYPE_CHECKING:
    import pyarrow as pa

    from jammi_lab.catalog.catalog import Catalog
    from jammi_lab.store.result_files import ResultFiles

# --------------------------------------------------------------------------------------------------
# Which of several places a number means: what the text around it names.

_SENTENCE_END = re.compile(r"[.!?:;](?=\s+[A-Z\[(])|\n(?=[ \t]*(?:[-*+]|\d+[.)])[ \t])")
_PARAGRAPH = re.compile(r"\n[ \t]*\r?\n|(?=<(?:p|h\d|li|tr|td)\b)")
_HEADING = re.compile(
    r"^(?:#{1,6}[ \t]+(?P<md>.+)|\\(?:sub)*section\*?\{(?P<tex>[^}\n]*)\}"
    r"|(?P<rst>\S.*)\n[=~^\"'-]{3,}[ \t]*$)",
    re.MULTILINE,
)
_CELL_SEPARATOR = re.compile(r"(?<!\\)[|&]")
_KEY_WEIGHT, _COLUMN_WEIGHT, _TABLE_WEIGHT, _MENTION_WEIGHT = 8, 4, 4, 1
_PARAGRAPH_FACTOR, _HEADING_FACTOR, _PART_OF_NAME_FACTOR = 0.5, 0.45, 0.9
_WORD = re.compile(r"[^\W_]+")
MAX_NAME_WORDS_COUNT = 6
"""Of a longer name the first words are compared."""
MIN_LONG_NAME_CHARS = 4
_MIN_NUMBER_KEY_DIGITS = 3
"""A key that is a shorter number stands in any text, and names nothing."""
_MIN_COLUMN_SHARE = 0.5
_FAR = 1 << 30
_SENTENCE_CHARS = 500
"""How far before and behind a number its sentence is looked for."""


@dataclass(frozen=True, slots=True)
class _Context:
    """The names in a text around a number, and how far from the number each stands."""

    is_sentence: bool
    weight: float
    distances: dict[str, int]


def _names_in(text: str, position: int = 0) -> dict[str, int]:
    """All that a text may name: its words, and those that follow one another, joined; without
    capitals, and once more as they are. The value is the distance from the position."""
    words = [(match.start(), match[0]) for match in _WORD.finditer(text)]
    found: dict[str, int] = {}
    for first, (start, _) in enumerate(words):
        distance, phrase = abs(start - position), ""
        for _, word in words[first : first + MAX_NAME_WORDS_COUNT]:
            phrase = f"{phrase} {word}" if phrase else word
            for name in (phrase, phrase.lower()):
                if distance < found.get(name, _FAR):
                    found[name] = distance
    return found


@functools.lru_cache(1 << 16)
def _name(text: str) -> str:
    """A name as `_names_in` has it. Short ones keep their capitals."""
    if text.isdigit() and len(text) < _MIN_NUMBER_KEY_DIGITS:
        return ""
    name = " ".join(_WORD.findall(text)[:MAX_NAME_WORDS_COUNT])
    return name if len(name) < MIN_LONG_NAME_CHARS else name.lower()


class Outline:
    """The paragraphs and headings of a text."""

    def __init__(self, prose: Prose) -> None:
        self._text = prose.visible
        breaks = [match.end() for match in _PARAGRAPH.finditer(self._text)]
        self._breaks = [0, *breaks, len(self._text) + 1]
        self._headings = [
            (match.start(), match["md"] or match["tex"] or match["rst"] or "")
            for match in _HEADING.finditer(self._text)
        ]
        self._paragraphs: dict[int, dict[str, int]] = {}

    def contexts(self, number: WrittenNumber) -> list[_Context]:
        """The sentence of a number (of a table: its row and the head of its column), its paragraph
        and the headings above it."""
        text, start = self._text, number.start
        at = bisect_right(self._breaks, start) - 1
        first = self._breaks[at]
        paragraph, position = text[first : self._breaks[at + 1]], start - first
        row_start = paragraph.rfind("\n", 0, position) + 1
        row = paragraph[row_start:].split("\n", 1)[0]
        if _CELL_SEPARATOR.search(row):
            heads = _CELL_SEPARATOR.split(paragraph.lstrip("\n").split("\n", 1)[0])
            column = len(_CELL_SEPARATOR.findall(paragraph[row_start:position]))
            head = heads[column] if column < len(heads) else ""
            names = _names_in(f"{row} | {head}", position - row_start)
        else:
            left = max(0, position - _SENTENCE_CHARS)
            near, position = paragraph[left : position + _SENTENCE_CHARS], position - left
            ends = [0, *(m.end() for m in _SENTENCE_END.finditer(near)), len(near)]
            begin = max(end for end in ends if end <= position)
            end = min(end for end in ends if end > position)
            names = _names_in(near[begin:end], position - begin)
        if at not in self._paragraphs:
            self._paragraphs[at] = _names_in(paragraph)
        heading = _names_in(self._headings_above(start))
        return [
            _Context(True, 1.0, names),
            _Context(False, _PARAGRAPH_FACTOR, self._paragraphs[at]),
            _Context(False, _HEADING_FACTOR, heading),
        ]

    def _headings_above(self, position: int) -> str:
        """The two headings before a position: that of the section, and often that above it."""
        at = bisect_right(self._headings, (position,))
        return " | ".join(text for _, text in self._headings[max(0, at - 2) : at])


class PlaceEvidence:
    """What speaks for the places of one number."""

    def __init__(self, around: Sequence[_Context], named: Container[str]) -> None:
        """`around`: the contexts of the number; `named`: the tables that the document names."""
        self._around = around
        # A number may stand in thousands of places, in a few tables and columns.
        self.of_table = functools.cache(self._of_table)
        self.of_column = functools.cache(self._of_column)
        self._mention = functools.cache(lambda table: _MENTION_WEIGHT * (table in named))

    def score(self, location: ValueLocation) -> "Score":
        """What speaks for a place."""
        table, row, column = location.place
        distance, of_key = _FAR, 0.0
        keys = [
            name
            for name in map(_name, row)
            if any(name in context.distances for context in self._around)
        ]
        for context in self._around if keys else ():
            gaps = [context.distances[key] for key in keys if key in context.distances]
            of_key = max(of_key, _KEY_WEIGHT * context.weight * len(gaps) / len(row))
            if gaps and context.is_sentence:
                distance = max(gaps)
        near, of_column = of_key + self.of_table(table), self.of_column(column)
        return Score(near + of_column + self._mention(table), distance, near, of_column)

    def sentence_has(self, name: str) -> bool:
        """Whether the sentence has a name, or another number."""
        return _name(name) in self._around[0].distances

    def _of_table(self, table: str) -> float:
        name = _name(table)
        weights = [each.weight for each in self._around if name in each.distances]
        return _TABLE_WEIGHT * max(weights, default=0.0)

    def _of_column(self, column: str) -> float:
        return _COLUMN_WEIGHT * max(
            context.weight**2 * _share_of_name(column, context.distances)
            for context in self._around
        )


class Score(NamedTuple):
    """How much speaks for a place."""

    total: float
    distance: int
    """Characters between the number and the key, in one sentence."""
    near: float
    """What the row's key and the table's name, near the number, contribute."""
    of_column: float
    """What the column's name contributes."""


def _share_of_name(column: str, distances: dict[str, int]) -> float:
    """The share of the words of a column's name that a text has; half of them at least."""
    name = _name(column)
    if name in distances:
        return 1.0
    words = [word for word in name.split() if len(word) > 1]
    known = sum(word in distances for word in words)
    share = known / len(words) if words else 0.0
    return share * _PART_OF_NAME_FACTOR if share >= _MIN_COLUMN_SHARE else 0.0


def named_tables(text: str, tables: Iterable[str]) -> set[str]:
    """The tables that a document names anywhere, in code, too."""
    words = set(re.findall(r"\w+(?:-\w+)*", text))
    return {name for name in tables if name in words or (not name.isidentifier() and name in text)}


# --------------------------------------------------------------------------------------------------
# The comparison with the tables.

BACKED, OUTDATED, AMBIGUOUS, UNFOUND, UNKNOWN = (
    "backed",
    "outdated",
    "ambiguous",
    "unfound",
    "unknown",
)
FAILING_OUTCOMES = (OUTDATED, UNKNOWN)
UPDATED = "updated"
"""Of a tied number for which the newest value was written."""
_WORDS = {UNFOUND: "found in no table"}
_MIN_NEAR_SCORE = 2.0
"""From here on something near a number names its place."""


class Judgement(NamedTuple):
    """What backs a number."""

    outcome: str
    """backed, outdated, ambiguous, unfound (in no table); unknown for a tie that names nothing, and
    updated for one whose new value was written."""
    reason: str = ""
    """What backs it or why not."""
    location: ValueLocation | None = None
    """The place; of an outdated number that of the version it was written for."""
    now: str = ""
    """The newest value as the number is written, where that differs."""


@dataclass(frozen=True)
class CheckedNumber:
    """One number of a document, and what backs it."""

    file: str
    """The document."""
    cell: int | None
    """The number of the cell in a notebook, from 1."""
    line: int
    """The line in the file or cell, from 1."""
    number: str
    """The number as written; empty when a tie stands behind none."""
    tied: bool
    """Whether the number has a tie."""
    judgement: Judgement
    """What backs it."""

    @property
    def outcome(self) -> str:
        """The outcome."""
        return self.judgement.outcome

    def __str__(self) -> str:
        cell = f" cell {self.cell}" if self.cell is not None else ""
        outcome, reason, *_ = self.judgement
        number = self.number or "a tie"
        text = f"{self.file}{cell}:{self.line}: {number}: {_WORDS.get(outcome, outcome)}"
        joint = " " if outcome == BACKED else ": "
        return escape_invisible(text + joint + reason if reason else text)

    def to_dict(self) -> dict[str, Any]:
        """The fields, as in `--json`."""
        outcome, reason, place, now = self.judgement
        parts = ("table", "version", "row", "column")
        return {
            **{name: getattr(self, name) for name in ("file", "cell", "line", "number", "tied")},
            **{name: getattr(place, name, None) for name in parts},
            "now": now or None,
            "outcome": outcome,
            "reason": reason,
        }


class TextCheck(list[CheckedNumber], ReprMixin):
    """The numbers of documents, in their order."""

    __repr__ = ReprMixin.__repr__

    def __init__(self, entries: Sequence[CheckedNumber] = ()) -> None:
        super().__init__(entries)
        self.notes: list[str] = []
        """What was not searched, and what was changed."""

    def fails(self, *, unfound: bool = False) -> bool:
        """Whether a number or a tie is outdated, or a tie names nothing; with `unfound` also
        whether a number is in no table."""
        failing = (*FAILING_OUTCOMES, UNFOUND) if unfound else FAILING_OUTCOMES
        return any(each.outcome in failing for each in self)

    def junit(self) -> str:
        """A test case for each number, as JUnit XML."""
        return to_junit("jammi-lab numbers", [_junit_case(entry) for entry in self])

    def _rendered(self) -> Rendered:
        return vstack(*map(plain_text, self)) if self else plain_text("No numbers.")


class FoundValues(list[ValueLocation], ReprMixin, ArrowExportMixin):
    """Where a number stands in the tables, newest versions first."""

    __repr__ = ReprMixin.__repr__

    def arrow(self) -> "pa.Table":
        """Columns table, version, row (its key), column, value, newest; NULL when it is gone."""
        rows = [
            (*place, float(value), None if newest is None else float(newest))
            for *place, value, newest in self._rows()
        ]
        return to_arrow(
            rows,
            table="string",
            version="int64",
            row="string",
            column="string",
            value="float64",
            newest="float64",
        )

    def _rows(self) -> list[tuple[Any, ...]]:
        return [
            (v.table, v.version, ", ".join(v.row.values()), v.column, v.value, v.newest)
            for v in self
        ]

    def _rendered(self) -> Rendered:
        headings = ["table", "version", "row", "column", "value", "newest value"]
        return (
            listing_table(headings, self._rows(), aligned="lrllrr")
            if self
            else plain_text("Found in no table.")
        )


class ProseChecker:
    """Checks documents against one workspace."""

    def __init__(self, catalog: "Catalog", files: "ResultFiles") -> None:
        self._search = ValueSearch(catalog.result_tables.list, files)
        self._aliases = catalog.aliases

    def state(self) -> list[tuple[str, str]]:
        """What differs when a version was added or removed."""
        return [
            (name, version.record.table_name)
            for name, versions in self._search.tables().items()
            for version in versions
        ]

    def find_value(self, number: object) -> FoundValues:
        """Where a number stands. InvalidArgument."""
        text = f"{to_decimal(number):f}" if is_number(number) else str(number)
        written = parse_number(text)
        if written is None:
            raise InvalidArgument(
                f"find_value takes a number, or a text with one such as '36.4 %', got {number!r}."
            )
        [found] = self._search.find([written], self._search.tables()).locations
        return FoundValues(sorted(found, key=lambda each: (not each.is_current, -each.version)))

    def tie_of(self, table: str, row: Mapping[str, Any], column: str) -> str:
        """A value of a table's newest version with its tie, as a text to copy; empty when these
        are not the rows of that version. OSError, ValueError."""
        tables = self._search.tables()
        table = self._name_now(table, tables)
        versions = tables.get(table)
        key = self._search.row_key(versions[0].record) if versions else None
        if not versions or key is None or not set(key) <= set(row):
            return ""
        texts = [key_text(row[name]) for name in key]
        with contextlib.suppress(NoSuchCell):
            place = self._search.cell(versions[0], versions[0], texts, column)
            if place.value == row[column]:
                return f"{place.value}<!-- jammi {tie_path(table, texts, column)} -->"
        return ""

    def check(
        self, document: Document, shown: Sequence[str] = (), *, update: bool = False
    ) -> TextCheck:
        """Check a document. `shown`: tables that its outputs show. `update`: note the newest values
        of ties as edits of the document. InvalidArgument."""
        tables = self._search.tables()
        shown_now = (self._name_now(table, tables) for table in shown)
        named = {*shown_now, *named_tables(document.raw, tables)}
        spellings = {
            number.spelling: number for prose in document.proses for number in prose.numbers
        }
        index = {spelling: i for i, spelling in enumerate(spellings)}
        findings = self._search.find([*spellings.values()], tables)
        result = TextCheck()
        for prose in document.proses:
            outline = Outline(prose)
            found = [
                (
                    number.start,
                    number.text,
                    False,
                    _judge(outline, number, index[number.spelling], findings, named),
                )
                for number in prose.numbers
            ]
            for tie in prose.ties:
                judgement = self._judge_tie(tie, tables)
                if update and tie.number is not None and judgement.outcome == OUTDATED:
                    prose.edits.append((tie.number.start, tie.number.end, judgement.now))
                    judgement = judgement._replace(outcome=UPDATED)
                found.append((tie.start, tie.number.text if tie.number else "", True, judgement))
            for start, text, tied, judgement in sorted(found, key=lambda each: each[0]):
                place = str(document.file), prose.cell, prose.line_of(start)
                result.append(CheckedNumber(*place, " ".join(text.split()), tied, judgement))
        result.notes = list(dict.fromkeys(findings.unsearched))
        return result

    def _name_now(self, table: str, tables: Tables) -> str:
        """The name of a table that may have been renamed since it was written."""
        return find_name(self._aliases.resolve(table), tables) or table

    def _judge_tie(self, tie: Tie, tables: Tables) -> Judgement:
        try:
            return self._compare_tie(tie, tables)
        except NoSuchCell as error:
            return Judgement(UNKNOWN, str(error))
        except (OSError, ValueError, TableDamaged) as error:  # Arrow raises ValueError
            return Judgement(UNKNOWN, f"{tie.path[0]} cannot be read ({type(error).__name__})")

    def _compare_tie(self, tie: Tie, tables: Tables) -> Judgement:
        """What backs a tied number. NoSuchCell; OSError, ValueError."""
        written, *row = tie.path
        table = self._name_now(written, tables)
        if tie.number is None:
            raise NoSuchCell(f"no number stands right before {'/'.join(tie.path)}")
        if table not in tables or not row:
            raise NoSuchCell(f"there is no table {table!r}" if row else "the tie names no column")
        *row, column = row
        newest, *older = tables[table]
        place = self._search.cell(newest, newest, row, column)
        if tie.number.is_rounded_from(to_decimal(place.value)):
            return Judgement(BACKED, f"by {place.describe()}", place)
        for version in older:
            with contextlib.suppress(NoSuchCell):
                former = self._search.cell(version, newest, row, column)
                if tie.number.is_rounded_from(to_decimal(former.value)):
                    former = former.with_values(newest=place.value)
                    return _outdated(tie.number, former)
        now = tie.number.write_value(to_decimal(place.value))
        return Judgement(OUTDATED, f"{place.describe()} has {now}", place, now)


def is_number(value: object) -> TypeGuard[Number]:
    """Whether a value is a finite number."""
    is_kind = isinstance(value, int | float | Decimal) and not isinstance(value, bool)
    return is_kind and Decimal(str(value)).is_finite()


def _outdated(number: WrittenNumber, place: ValueLocation) -> Judgement:
    assert place.newest is not None
    now = number.write_value(to_decimal(place.newest), to_decimal(place.value))
    return Judgement(OUTDATED, f"it was {place.describe()}; now {now}", place, now)


def _judge(
    outline: Outline, number: WrittenNumber, index: int, findings: Findings, named: Container[str]
) -> Judgement:
    """What backs a number: the place for which most speaks. Where two places have as much, and one
    is up to date, the number is not called outdated."""
    places: dict[Any, ValueLocation] = {}
    for hit in findings.locations[index]:
        places.setdefault(hit.place, hit)
    usable = [hit for hit in places.values() if hit.is_current or _has_moved(number, hit)]
    if not usable:
        if index in findings.frequent:
            return Judgement(AMBIGUOUS, "a column holds it very often")
        gone = next(iter(places.values()), None)
        if gone is None:
            return Judgement(UNFOUND)
        lost = f"it was {gone.describe()}, which the newest version lacks"
        return Judgement(UNFOUND, lost)
    evidence = PlaceEvidence(outline.contexts(number), named)
    scores = {hit.place: evidence.score(hit) for hit in usable}
    best = max(score.total for score in scores.values())
    top = [hit for hit in usable if scores[hit.place].total == best]
    distance = min(scores[hit.place].distance for hit in top)
    nearest = [hit for hit in top if scores[hit.place].distance == distance]
    hit = nearest[0]
    # rows of derived tables with the same key and column are one
    if len({(each.place[1:], each.newest) for each in nearest}) > 1:
        return _ambiguous(top)
    if hit.is_current:
        return Judgement(BACKED, f"by {hit.describe()}", hit)
    score = scores[hit.place]
    population = findings.values[hit.place[2]] if score.of_column else findings.values.total()
    is_unlikely_chance = population <= 10 ** (number.digits - 1)
    is_sure = score.near >= _MIN_NEAR_SCORE or is_unlikely_chance
    if is_sure and not any(each.is_current for each in top):
        judgement = _outdated(number, hit)
        if not evidence.sentence_has(judgement.now):
            return judgement
        return Judgement(AMBIGUOUS, f"the sentence has the newest value, {judgement.now}, too", hit)
    return _ambiguous(usable)


def _has_moved(number: WrittenNumber, hit: ValueLocation) -> bool:
    """Whether the newest version has another number in the place."""
    return is_number(hit.newest) and not number.is_rounded_from(to_decimal(hit.newest))


def _ambiguous(hits: Sequence[ValueLocation]) -> Judgement:
    place = hits[0].describe()
    if len(hits) > 1:
        return Judgement(AMBIGUOUS, f"{len(hits)} places, such as {place}")
    return Judgement(AMBIGUOUS, f"perhaps {place}, but nothing near it names the row or the table")


def _junit_case(entry: CheckedNumber) -> Case:
    cell = f"cell {entry.cell} " if entry.cell is not None else ""
    name = f"{cell}line {entry.line}: {entry.number}"
    if entry.outcome == BACKED:
        return Case(entry.file, name)
    problem = "failure" if entry.outcome in FAILING_OUTCOMES else "skipped"
    message = entry.judgement.reason or _WORDS.get(entry.outcome, entry.outcome)
    return Case(entry.file, name, problem=problem, type=entry.outcome, message=message)

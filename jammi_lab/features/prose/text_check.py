"""Compares the numbers of documents with the tables of a workspace: backed, outdated, ambiguous or
found in no table; and ties exactly."""

import contextlib
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

from jammi_lab.core.dataframes import ArrowExportMixin, to_arrow
from jammi_lab.core.errors import InvalidArgument, TableDamaged
from jammi_lab.core.forms import listing_table
from jammi_lab.core.html import Rendered, ReprMixin, escape_invisible, plain_text, to_text, vstack
from jammi_lab.core.junit import Case, to_junit
from jammi_lab.features.prose.documents import Document, Tie, tie_path
from jammi_lab.features.prose.evidence import Outline, PlaceEvidence, named_tables
from jammi_lab.features.prose.value_search import (
    Findings,
    NoSuchCell,
    Number,
    Tables,
    ValueLocation,
    ValueSearch,
    to_decimal,
)
from jammi_lab.features.prose.written_numbers import WrittenNumber, parse_number

if TYPE_CHECKING:
    import pyarrow as pa

    from jammi_lab.catalog.result_tables import ResultTableRepository
    from jammi_lab.store.result_files import ResultFiles

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

    def __init__(self, tables: "ResultTableRepository", files: "ResultFiles") -> None:
        self._search = ValueSearch(tables.list, files)

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
        versions = self._search.tables().get(table)
        key = self._search.row_key(versions[0].record) if versions else None
        if not versions or key is None or not set(key) <= set(row):
            return ""
        texts = [to_text(row[name]) for name in key]
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
        named = {*shown, *named_tables(document.raw, tables)}
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

    def _judge_tie(self, tie: Tie, tables: Tables) -> Judgement:
        try:
            return self._compare_tie(tie, tables)
        except NoSuchCell as error:
            return Judgement(UNKNOWN, str(error))
        except (OSError, ValueError, TableDamaged) as error:  # Arrow raises ValueError
            return Judgement(UNKNOWN, f"{tie.path[0]} cannot be read ({type(error).__name__})")

    def _compare_tie(self, tie: Tie, tables: Tables) -> Judgement:
        """What backs a tied number. NoSuchCell; OSError, ValueError."""
        table, *row = tie.path
        if tie.number is None:
            raise NoSuchCell("no number stands before the tie")
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

"""Which of several places a number means: what the text around it names."""

import functools
import re
from bisect import bisect_right
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from jammi_lab.features.prose.documents import Prose
from jammi_lab.features.prose.value_search import ValueLocation
from jammi_lab.features.prose.written_numbers import WrittenNumber

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
            ends = [0, *(m.end() for m in _SENTENCE_END.finditer(paragraph)), len(paragraph)]
            begin = max(end for end in ends if end <= position)
            end = min(end for end in ends if end > position)
            names = _names_in(paragraph[begin:end], position - begin)
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
        self._near = {name for context in around for name in context.distances}
        # A number may stand in thousands of places, in a few tables and columns.
        self.of_table = functools.cache(self._of_table)
        self.of_column = functools.cache(self._of_column)
        self._mention = functools.cache(lambda table: _MENTION_WEIGHT * (table in named))

    def score(self, location: ValueLocation) -> "Score":
        """What speaks for a place."""
        table, row, column = location.place
        distance, of_key = _FAR, 0.0
        keys = [name for name in map(_name, row) if name in self._near]
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

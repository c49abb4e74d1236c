"""The recipes on a staleness board: which of them are found, in which order, and what they are stale because of."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Any, TypeVar

from jammi_lab.markup import visible
from jammi_lab.sensing.reports import Status, StatusRow
from jammi_lab.values.verdicts import (
    DefinitionChanged,
    Fresh,
    InputAdvanced,
    InputVanished,
    PossiblyStale,
    Stale,
    Undecidable,
    Verdict,
    reasons_of,
    word,
)

if TYPE_CHECKING:
    from jammi_lab.workspace import Workspace

T = TypeVar("T")
MOST_CAUSES = 12
"""Causes that are told with how many tables they concern."""
_WORST = ("damaged", "stale", "possibly stale", "undecidable", "missing manifest", "fresh")


@dataclass(frozen=True)
class Line:
    """A recipe on the board."""

    row: StatusRow
    word: str
    reasons: list[str]
    causes: list[str]
    """What it is stale because of, as groups are named."""
    cost: float | None
    """Seconds that its newest version took; None when not known."""
    text: str = field(init=False)
    """What the filter looks through: the name and the reasons, in one case."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", "\n".join([self.row.name, *self.reasons]).casefold())


class Lines:
    """What one look found. What was found, counted and ordered before is kept: of fifty thousand, a page turns in no time."""

    def __init__(self, lines: Sequence[Line]) -> None:
        self.all = list(lines)
        self.names = {line.row.name for line in self.all}
        self.counts = dict(Counter(line.word for line in self.all))
        self._kept: dict[tuple[Any, ...], Any] = {}

    def told(self) -> list[tuple[Any, ...]]:
        """What two looks that saw the same have in common: all that a page shows but for the age."""
        return [(line.row.name, line.row.version, line.row.index, line.word, line.reasons) for line in self.all]

    def causes(self, text: str) -> list[tuple[str, int]]:
        """The most frequent causes among those that the filter finds."""
        return self._once(("causes", text), lambda: Counter(c for line in self.found(text) for c in line.causes).most_common(MOST_CAUSES))

    def found(self, text: str, group: str = "", sort: str | None = None, *, descending: bool = False) -> list[Line]:
        """Those that the filter finds, of one cause if one is named, in the order of a column; the worst come first where it is none of them."""

        def find() -> list[Line]:
            wanted = text.strip().casefold()
            some = self.all if sort is None else self._sorted(sort, descending=descending)
            return [x for x in some if (not wanted or wanted == x.word or wanted in x.text) and (not group or group in x.causes)]

        return self._once(("found", text, group, sort, descending), find)

    def _sorted(self, sort: str, *, descending: bool) -> list[Line]:
        """By a column, equal ones by name."""
        named = self._once(("sorted", "name"), lambda: sorted(self.all, key=lambda line: line.text))
        if sort == "name":
            return named[::-1] if descending else named
        return self._once(("sorted", sort, descending), lambda: sorted(named, key=_SORTING.get(sort, _worst), reverse=descending))

    def _once(self, key: tuple[Any, ...], make: Callable[[], T]) -> T:
        """The last sixteen answers: what is typed passes."""
        if key not in self._kept:
            if len(self._kept) >= 16:
                del self._kept[next(iter(self._kept))]
            self._kept[key] = make()
        found: T = self._kept[key]
        return found


def looked(ws: "Workspace", status: Status) -> Lines:
    """The lines of a status."""
    took = {t.name: t.seconds for t in reversed(ws.tables())}
    return Lines([Line(r, word(r.verdict), [visible(x) for x in reasons_of(r.verdict)], _causes(r.verdict), took.get(r.name)) for r in status])


def _causes(verdict: Verdict) -> list[str]:
    """What a verdict comes from: `papers.csv changed`, each once."""
    match verdict:
        case Stale(reasons):
            found = [_cause(reason, "") for reason in reasons]
        case PossiblyStale(causes):
            found = [_cause(cause.reason, cause.path[-1]) for cause in causes]
        case Undecidable(doubts, reasons):
            found = [_cause(reason, "") for reason in reasons] + [f"{doubt.input.label} cannot be decided" for doubt in doubts]
        case Fresh():
            found = []
        case _:
            found = [word(verdict)]
    return list(dict.fromkeys(visible(f) for f in found))


def _cause(reason: object, at: str) -> str:
    match reason:
        case InputAdvanced(given):
            return f"{given.label} changed"
        case InputVanished(given):
            return f"{given.label} is gone"
        case DefinitionChanged(recorded, _):
            return f"the definition{f' of {at}' if at else ''} changed" if recorded is not None else f"{at or 'it'} was never computed"
        case _:
            return f"{at} is damaged"


def _worst(line: Line) -> float:
    return _WORST.index(line.word)


_SORTING: Mapping[str, Callable[[Line], float]] = {
    "age": lambda line: inf if line.row.age is None else line.row.age,
    "rows": lambda line: inf if line.row.rows is None else line.row.rows,
    "size": lambda line: inf if line.row.bytes is None else line.row.bytes,
    "cost": lambda line: inf if line.cost is None else line.cost,
}

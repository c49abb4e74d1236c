"""The rows of a staleness board: filtering, sorting, and the causes by which stale recipes are
grouped."""

import functools
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Any

from jammi_lab.core.checks import CheckStatus
from jammi_lab.core.html import escape_invisible
from jammi_lab.core.verdicts import (
    LABELS_BY_SEVERITY,
    DefinitionChanged,
    InputAdvanced,
    InputVanished,
    MissingManifest,
    Undecidable,
    Verdict,
    causes_of,
    count_by_label,
    marked_label,
    verdict_label,
)
from jammi_lab.freshness.reports import Status, StatusRow

if TYPE_CHECKING:
    from jammi_lab.workspace.workspace import Workspace

MAX_CAUSES = 12
"""Maximum number of causes listed with the number of recipes they affect."""
_NUMBER = re.compile(r"([0-9]+)")


@dataclass(frozen=True)
class RecipeRow:
    """A recipe on the board."""

    row: StatusRow
    verdict_word: str
    reasons: list[str]
    causes: list[str]
    """Labels of what made it stale; the board groups rows by these."""
    cost: float | None
    """Seconds it took to compute the newest version; None if unknown."""
    held: str = ""
    """Since when it is held, by whom and why; empty if it is not."""
    seen: float = field(default_factory=time.monotonic)
    """When the status was read, on the monotonic clock: its age counts from then."""
    search_text: str = field(init=False)
    """The case-folded name and reasons, searched by the filter."""

    @property
    def verdict_words(self) -> tuple[str, str]:
        """The verdict's word without and with the mark of grounds."""
        return self.verdict_word, marked_label(self.row.verdict)

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "search_text", "\n".join([self.row.name, *self.reasons]).casefold()
        )


class RecipeRows:
    """The rows of one status check. Filtered, counted and sorted results are cached, so that paging
    through fifty thousand rows is fast."""

    def __init__(self, rows: Sequence[RecipeRow]) -> None:
        self.rows = list(rows)
        self.names = {row.row.name for row in self.rows}
        self.counts = count_by_label(row.row.verdict for row in self.rows)

    def displayed_state(self) -> list[tuple[Any, ...]]:
        """Everything a page shows except the age, to compare two status checks."""
        return [
            (
                row.row.name,
                row.row.version,
                row.row.index,
                row.row.checks,
                row.verdict_words,
                row.reasons,
                row.held,
            )
            for row in self.rows
        ]

    @property
    def has_checks(self) -> bool:
        """Whether any recipe has checks."""
        return any(row.row.checks for row in self.rows)

    def causes(self, text: str) -> list[tuple[str, int]]:
        """The most frequent causes among the rows that match the filter, with their counts."""
        causes = Counter(cause for row in self.matching_rows(text) for cause in row.causes)
        return causes.most_common(MAX_CAUSES)

    def matching_rows(
        self, text: str, group: str = "", sort: str | None = None, *, descending: bool = False
    ) -> list[RecipeRow]:
        """The rows that match the filter and, if given, the cause `group`. They are sorted by
        column; for an unknown column the most severe verdicts come first."""
        needle = text.strip().casefold()
        candidates = self.rows if sort is None else self._sorted(sort, descending=descending)
        return [
            row
            for row in candidates
            if (not needle or needle in row.verdict_words or needle in row.search_text)
            and (not group or group in row.causes)
        ]

    @functools.cached_property
    def _by_name(self) -> list[RecipeRow]:
        return sorted(self.rows, key=lambda row: name_order(row.row.name))

    def _sorted(self, sort: str, *, descending: bool) -> list[RecipeRow]:
        """All rows by a column; ties are sorted by name."""
        if sort == "name":
            return self._by_name[::-1] if descending else self._by_name
        return sorted(self._by_name, key=_SORT_KEYS.get(sort, _severity), reverse=descending)


def build_rows(ws: "Workspace", status: Status) -> RecipeRows:
    """Build the board's rows from a status."""
    seconds_by_name = {t.name: t.seconds for t in reversed(ws.tables())}
    return RecipeRows(
        [
            RecipeRow(
                r,
                verdict_label(r.verdict),
                _remarks(r),
                _causes(r.verdict),
                seconds_by_name.get(r.name),
                "" if r.held is None else escape_invisible(str(r.held)),
            )
            for r in status
        ]
    )


def _remarks(row: StatusRow) -> list[str]:
    """What a row says of its verdict; first which process computes it now."""
    remarks = [escape_invisible(remark) for remark in row.remarks]
    return [f"computed by {row.computed_by} now", *remarks] if row.computed_by else remarks


def _causes(verdict: Verdict) -> list[str]:
    """The labels of a verdict's causes without duplicates, such as `papers.csv changed`."""
    labels = [_cause(cause.reason, "".join(cause.path[-1:])) for cause in causes_of(verdict)]
    if isinstance(verdict, Undecidable):
        labels += [f"{doubt.input.label} is undecidable" for doubt in verdict.unpinned]
    elif isinstance(verdict, MissingManifest):
        labels = [verdict_label(verdict)]
    return list(dict.fromkeys(escape_invisible(f) for f in labels))


def _cause(reason: object, table_name: str) -> str:
    match reason:
        case InputAdvanced(input_ref):
            return f"{input_ref.label} changed"
        case InputVanished(input_ref):
            return f"{input_ref.label} is gone"
        case DefinitionChanged(recorded, _):
            return (
                f"the definition{f' of {table_name}' if table_name else ''} changed"
                if recorded is not None
                else f"{table_name or 'it'} was never computed"
            )
        case _:
            return f"{table_name} is damaged" if table_name else "damaged"


def name_order(name: str) -> list[tuple[bool, int, str]]:
    """By name, numbers in it by their value: "t2" before "t10"."""
    parts = _NUMBER.split(name.casefold())
    return [
        (index % 2 == 1, int(part) if index % 2 else 0, part)
        for index, part in enumerate(parts)
        if part
    ]


def _severity(row: RecipeRow) -> float:
    return LABELS_BY_SEVERITY.index(row.verdict_word)


def _check_severity(status: CheckStatus | None) -> float:
    """Failing checks first, then those that are due, those that pass, tables without any."""
    return inf if status is None else list(CheckStatus).index(status)


_SORT_KEYS: Mapping[str, Callable[[RecipeRow], float]] = {
    "checks": lambda line: _check_severity(line.row.check_status),
    "age": lambda line: inf if line.row.age is None else line.row.age,
    "rows": lambda line: inf if line.row.rows is None else line.row.rows,
    "size": lambda line: inf if line.row.bytes is None else line.row.bytes,
    "cost": lambda line: inf if line.cost is None else line.cost,
}

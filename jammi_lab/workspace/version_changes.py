"""What changed between two versions of a table: rows and columns, counted without reading the
columns whose published digests are equal."""

import functools
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from jammi_lab.core.anchors import Anchor
from jammi_lab.core.html import count_noun
from jammi_lab.core.identifiers import quote_identifier
from jammi_lab.core.manifest import Manifest
from jammi_lab.core.records import TableRecord
from jammi_lab.core.value import Value
from jammi_lab.workspace.diff import (
    NEW,
    OLD,
    rows_differ,
    statements_as_bags,
    statements_by_key,
    unused_name,
)
from jammi_lab.workspace.lookup import TableVersion

if TYPE_CHECKING:
    import pyarrow as pa

RowPart = Literal["changed", "added", "removed"]


class ColumnChange(Value, frozen=True):
    """A column with another value in some row."""

    name: str
    """Its name."""
    type: str
    """Its SQL type."""
    rows: int
    """Number of rows in which it differs."""


class ChangeSummary(Value, frozen=True, kw_only=True):
    """The numbers of a difference between two versions."""

    compared_by: Literal["key", "position", "row"]
    """How rows are matched: by key; by their position, for tables without a key; or not at all, as
    multisets of whole rows."""
    columns: list[ColumnChange] = []
    """The columns that differ. Empty when rows are compared as whole rows."""
    added: int = 0
    """Rows that only the later version has."""
    removed: int = 0
    """Rows that only the former version has."""
    changed: int = 0
    """Rows of both versions with another value in some column."""
    skipped_columns: list[str] = []
    """Columns that were not read, because their digests are equal."""
    columns_added: list[str] = []
    """Columns that only the later version has, or that have another type there."""
    columns_removed: list[str] = []
    """Columns that only the former version has, or that have another type there."""

    def __str__(self) -> str:
        parts = [
            f"{count_noun(number, 'row')} {word}"
            for word in ("added", "removed", "changed")
            if (number := getattr(self, word))
        ]
        parts += [
            f"columns {word}: {', '.join(names)}"
            for word, names in (("added", self.columns_added), ("removed", self.columns_removed))
            if names
        ]
        return ", ".join(parts) or "no row differs"


class ChangedRows(NamedTuple):
    """Rows of both versions with another value in some column, as tables of equal length."""

    labels: "pa.Table"
    """What identifies each row: its key, or its number and two columns that did not change."""
    old: "pa.Table"
    """The former values of the columns that differ."""
    new: "pa.Table"
    """The later values."""
    differs: "pa.Table"
    """Whether they differ."""


class VersionComparison:
    """Compares two versions of a table. `query` runs a statement over both, without their first
    `skipped_rows` rows, which are known to be equal. Raises TableNotFound, TableDamaged."""

    def __init__(
        self,
        new: TableVersion,
        old: TableVersion,
        query: "Callable[[str], pa.Table]",
        skipped_rows: int,
    ) -> None:
        self.new, self.old = new, old
        self._query, self._skipped_rows = query, skipped_rows
        self.common = common_columns(new.record, old.record)
        """The columns that both have, with their types."""
        self._differing = [
            name
            for name in self.common
            if name not in equal_columns(new.record, old.record, self.common)
        ]
        self._skipped = [name for name in self.common if name not in self._differing]

    @functools.cached_property
    def key(self) -> list[str]:
        """The key by which rows are matched; empty when the versions have no common one."""
        key = self.new.record.key
        return list(key) if key == self.old.record.key and set(key) <= set(self.common) else []

    @functools.cached_property
    def _is_aligned(self) -> bool:
        """Whether rows at equal positions are the same row: the key columns are equal, or without a
        key, a column that is not constant."""
        if self.key:
            return set(self.key) <= set(self._skipped)
        if self.new.record.row_count != self.old.record.row_count or not self._skipped:
            return False
        row, first = self._aliases
        names = [quote_identifier(name) for name in self._skipped[:_MAX_CHECKED_COLUMNS]]
        differs = " OR ".join(f"{row}.{name} IS DISTINCT FROM {first}.{name}" for name in names)
        found = self._query(  # stops at the first row that differs from the first one
            f"SELECT 1 FROM {NEW} AS {row}, "
            f"(SELECT {', '.join(names)} FROM {NEW} LIMIT 1) AS {first} WHERE {differs} LIMIT 1"
        )
        return bool(found.num_rows)

    @functools.cached_property
    def _compared_by(self) -> Literal["key", "position", "row"]:
        if self.key:
            return "key"
        return "position" if not self._differing or self._is_aligned else "row"

    @functools.cached_property
    def _aliases(self) -> tuple[str, str]:
        names = {c.name for r in (self.new.record, self.old.record) for c in r.columns}
        return unused_name("n", names), unused_name("o", names)

    @functools.cached_property
    def _pairs(self) -> str:
        """The FROM clause of the pairs of matched rows."""
        new, old = self._aliases
        if self._is_aligned:
            return f"{NEW} AS {new} POSITIONAL JOIN {OLD} AS {old}"
        keys_equal = " AND ".join(f"{new}.{k} = {old}.{k}" for k in map(quote_identifier, self.key))
        return f"{NEW} AS {new} JOIN {OLD} AS {old} ON {keys_equal}"

    @functools.cached_property
    def summary(self) -> ChangeSummary:
        """The numbers of rows and columns that differ."""
        new, old = self.new.record, self.old.record
        names = {c.name: c.type for c in new.columns}
        counts = self._counts() if self._differing or not self.common else _Counts()
        return ChangeSummary(
            compared_by=self._compared_by,
            columns=[
                ColumnChange(name, names[name], rows)
                for name, rows in counts.by_column.items()
                if rows
            ],
            added=counts.added,
            removed=counts.removed,
            changed=counts.changed,
            skipped_columns=self._skipped,
            columns_added=[c.name for c in new.columns if c.name not in self.common],
            columns_removed=[c.name for c in old.columns if c.name not in self.common],
        )

    def _counts(self) -> "_Counts":
        if self._compared_by == "row":
            added, removed = (
                self._query(f"SELECT count(*) FROM ({statement})").column(0)[0].as_py()
                for statement in statements_as_bags([*self.common])[:2]
            )
            return _Counts(added=added, removed=removed)
        values = [name for name in self._differing if name not in self.key]
        tests = [rows_differ([name], *self._aliases) for name in values]
        filters = ["true", rows_differ(values, *self._aliases), *tests]
        statement = ", ".join(f"count(*) FILTER (WHERE {test})" for test in filters)
        row = self._query(f"SELECT {statement} FROM {self._pairs}")
        matched, changed, *by_column = (column[0].as_py() for column in row.columns)
        matched += self._skipped_rows
        return _Counts(
            changed,
            (self.new.record.row_count or 0) - matched,
            (self.old.record.row_count or 0) - matched,
            dict(zip(values, by_column, strict=True)),
        )

    def rows(self, part: Literal["added", "removed"], limit: int) -> "pa.Table":
        """The first rows that only one version has."""
        at = ("added", "removed").index(part)
        statements = (
            statements_by_key(self.key, [], *self._aliases)
            if self.key
            else statements_as_bags([*self.common])
        )
        return self._query(f"{statements[at]} LIMIT {limit}")

    @property
    def label_names(self) -> list[str]:
        """The names of the columns that identify a changed row."""
        if self._compared_by == "position":
            return ["row", *self._skipped[:_MAX_CONTEXT_COLUMNS]]
        return self.key

    def changed_rows(self, limit: int) -> ChangedRows:
        """The first rows with another value in some column, with their former and later values in
        the columns of the summary."""
        new, old = self._aliases
        values = [c.name for c in self.summary.columns]
        by_position = self._compared_by == "position"
        labels = self.label_names[by_position:]
        number = f"row_number() OVER () + {self._skipped_rows}" if by_position else "NULL"
        sides = [
            f"{new}.{name} AS n{i}, {old}.{name} AS o{i}"
            for i, name in enumerate(map(quote_identifier, values))
        ]
        columns = [f"{new}.{quote_identifier(c)} AS l{i}" for i, c in enumerate(labels)]
        tests = [f"n{i} IS DISTINCT FROM o{i}" for i in range(len(values))]
        keys = ", ".join(f"l{i}" for i in range(len(labels)))
        order = "" if self._is_aligned else f"ORDER BY {keys}"  # aligned rows are in file order
        found = self._query(
            f"SELECT *, {', '.join(f'{t} AS d{i}' for i, t in enumerate(tests))} "
            f"FROM (SELECT {', '.join([f'{number} AS number', *columns, *sides])} "
            f"FROM {self._pairs}) WHERE {' OR '.join(tests)} {order} LIMIT {limit}"
        )
        shown = [*(["number"] if by_position else []), *(f"l{i}" for i in range(len(labels)))]
        return ChangedRows(
            found.select(shown).rename_columns(self.label_names),
            *(
                found.select([f"{side}{i}" for i in range(len(values))]).rename_columns(values)
                for side in "ond"
            ),
        )


_MAX_CHECKED_COLUMNS = 3
"""Number of equal columns that are checked for being constant."""
_MAX_CONTEXT_COLUMNS = 2
"""Number of equal columns that are shown beside a row without a key."""


class _Counts(NamedTuple):
    changed: int = 0
    added: int = 0
    removed: int = 0
    by_column: dict[str, int] = {}


def common_columns(new: TableRecord, old: TableRecord) -> dict[str, str]:
    """The columns of one name and type in both, in the order of `new`."""
    former = {c.name: c.type for c in old.columns}
    return {c.name: c.type for c in new.columns if former.get(c.name) == c.type}


def equal_columns(new: TableRecord, old: TableRecord, common: Collection[str]) -> set[str]:
    """The common columns whose bytes are equal, which implies the same values in the same order."""
    former = {c.name: c.digest for c in old.columns}
    return {
        c.name for c in new.columns if c.name in common and c.digest and c.digest == former[c.name]
    }


def equal_row_groups(new: Manifest, old: Manifest, columns: Sequence[str]) -> int:
    """The number of row groups at the beginning of both files that are equal in all columns."""
    groups = [_digests_by_row_group(manifest, columns) for manifest in (new, old)]
    count = 0
    while count in groups[0] and groups[0][count] == groups[1].get(count):
        count += 1
    return count


def _digests_by_row_group(manifest: Manifest, columns: Sequence[str]) -> dict[int, list[str]]:
    names = set(columns)
    groups: dict[int, list[tuple[str, int, str]]] = {}
    for leaf in manifest.leaves:
        if leaf.column in names:
            groups.setdefault(leaf.row_group, []).append((leaf.column, leaf.offset, leaf.digest))
    # Offsets differ between files; they only order the several leaves of a nested column.
    return {
        group: [f"{column}:{digest}" for column, _, digest in sorted(leaves)]
        for group, leaves in groups.items()
    }


def input_changes(new: TableRecord, old: TableRecord) -> list[str]:
    """What differs between the recorded inputs of two versions, one sentence each."""
    former = {anchor.input.identity: anchor for anchor in old.anchors}
    current = {anchor.input.identity: anchor for anchor in new.anchors}
    lines = ["The definition changed."] if new.definition_hash != old.definition_hash else []
    for identity, anchor in current.items():
        earlier = former.get(identity)
        if earlier is None:
            lines.append(f"{anchor.input.label} is a new input.")
        elif not anchor.same_state(earlier):
            lines.append(f"{anchor.input.label} changed{_states(earlier, anchor)}.")
    lines += [
        f"{anchor.input.label} is no longer an input."
        for identity, anchor in former.items()
        if identity not in current
    ]
    return lines


def _states(earlier: Anchor, later: Anchor) -> str:
    """The versions and row counts of two states of an input, where they are known and differ."""
    if not later.pinned:
        return f", as far as known: {later.note}" if later.note else ", as far as known"
    parts = []
    if None not in (earlier.version, later.version) and earlier.version != later.version:
        parts.append(f"version {earlier.version} → {later.version}")
    counts = (earlier.row_count, later.row_count)
    if None not in counts and counts[0] != counts[1]:
        parts.append(f"{counts[0]:,} → {counts[1]:,} rows")
    if earlier.columns != later.columns:
        parts.append("other columns are read")
    return f": {', '.join(parts)}" if parts else ""

"""What changed between two versions of a table: rows and columns, counted without reading the
columns whose published digests are equal."""

import functools
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from jammi_lab.core.html import count_noun, escape_invisible
from jammi_lab.core.identifiers import quote_identifier, unused_name
from jammi_lab.core.records import TableRecord
from jammi_lab.core.value import Value
from jammi_lab.core.verdicts import ROUNDING_RATIO

if TYPE_CHECKING:
    import pyarrow as pa

NEW, OLD = "__jammi_new", "__jammi_old"
"""The names of the compared tables in statements."""
ROW_NUMBER = "file_row_number"
"""DuckDB's name for the number of a row in its file; a column of this name hides it."""
ComparedBy = Literal["key", "position", "row"]


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

    compared_by: ComparedBy
    """How rows are matched: by key; in tables without a key by their position, where that is known
    to be the same row; else not at all, as multisets of whole rows."""
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
    rounded: int = 0
    """Floating-point numbers in rows of both versions that are equal but for rounding. They count
    as equal."""

    def __str__(self) -> str:
        parts = [
            f"{count_noun(number, 'row')} {word}"
            for word in ("added", "removed", "changed")
            if (number := getattr(self, word))
        ]
        parts += self._rounded_clause()
        parts += [
            f"columns {word}: {', '.join(names)}"
            for word, names in (("added", self.columns_added), ("removed", self.columns_removed))
            if names
        ]
        return ", ".join(parts) or "no row differs"

    def _rounded_clause(self) -> list[str]:
        numbers = count_noun(self.rounded, "number")
        return [f"{numbers} equal but for rounding"] if self.rounded else []

    def brief(self, rows: int) -> str:
        """What differs, in few words: `price: 3 of 200,000 rows, 1 row added`. `rows`: the number
        of rows of the later version."""
        named = self.columns
        parts = [f"{escape_invisible(c.name)}: {c.rows:,}" for c in named[:_MAX_NAMED_COLUMNS]]
        if parts:
            parts[-1] += f" of {count_noun(rows, 'row')}"
        if more := len(named) - len(parts):
            parts.append(f"{count_noun(more, 'more column')}")
        parts += [
            f"{count_noun(number, 'row')} {word}"
            for number, word in ((self.added, "added"), (self.removed, "removed"))
            if number
        ]
        parts += [
            f"{escape_invisible(name)} {word}"
            for names, word in ((self.columns_added, "new"), (self.columns_removed, "gone"))
            for name in names[:_MAX_NAMED_COLUMNS]
        ]
        return ", ".join(parts + self._rounded_clause())


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


FLOAT_TYPES = ("FLOAT", "DOUBLE")


class VersionCounts:
    """The numbers by which two versions of a table differ. `rows_of` runs a statement over both,
    without the first `skipped_rows` rows, which are known to be equal."""

    def __init__(
        self,
        new: TableRecord,
        old: TableRecord,
        rows_of: Callable[[str], Sequence[Sequence[Any]]],
        skipped_rows: int = 0,
    ) -> None:
        self.new, self.old = new, old
        self._rows_of, self._skipped_rows = rows_of, skipped_rows
        self.common = common_columns(new, old)
        """The columns that both have, with their types."""
        equal = equal_columns(new, old, self.common)
        self._differing = [name for name in self.common if name not in equal]
        self._skipped = [name for name in self.common if name in equal]

    @functools.cached_property
    def key(self) -> list[str]:
        """The key by which rows are matched; empty when the versions have no common one."""
        key = self.new.key
        return list(key) if key == self.old.key and set(key) <= set(self.common) else []

    @functools.cached_property
    def statements(self) -> list[str]:
        """Statements for the rows that were added and removed, those that were changed, and these
        as they were before: by key, else as multisets."""
        if not self.key:
            return _statements_as_bags([*self.common])
        values = [name for name in self.common if name not in self.key]
        return _statements_by_key(self.key, self._rows_differ(values), *self._aliases)

    def _rows_differ(self, columns: Sequence[str]) -> str:
        """The condition that a pair of rows differs in one of these columns by more than
        rounding."""
        new, old = self._aliases
        return (
            " OR ".join(
                values_differ(f"{new}.{name}", f"{old}.{name}", self.common[column])
                for column, name in zip(columns, map(quote_identifier, columns), strict=True)
            )
            or "false"
        )

    @functools.cached_property
    def _is_aligned(self) -> bool:
        """Whether rows at equal positions are the same row: the key columns are equal, or without a
        key, a column that is not constant."""
        if self.key:
            return set(self.key) <= set(self._skipped)
        if self.new.row_count != self.old.row_count or not self._skipped:
            return False
        row, first = self._aliases
        names = [quote_identifier(name) for name in self._skipped[:_MAX_CHECKED_COLUMNS]]
        differs = " OR ".join(f"{row}.{name} IS DISTINCT FROM {first}.{name}" for name in names)
        found = self._rows_of(  # stops at the first row that differs from the first one
            f"SELECT 1 FROM {NEW} AS {row}, "
            f"(SELECT {', '.join(names)} FROM {NEW} LIMIT 1) AS {first} WHERE {differs} LIMIT 1"
        )
        return bool(found)

    @functools.cached_property
    def _compared_by(self) -> ComparedBy:
        if self.key:
            return "key"
        is_equal = bool(self.common) and not self._differing
        return "position" if self._is_aligned or is_equal else "row"

    @functools.cached_property
    def _aliases(self) -> tuple[str, str]:
        names = {c.name for r in (self.new, self.old) for c in r.columns}
        return unused_name("n", names), unused_name("o", names)

    @functools.cached_property
    def _pairs(self) -> str:
        """The FROM clause of the pairs of matched rows."""
        new, old = self._aliases
        if self._is_aligned:
            return f"{NEW} AS {new} POSITIONAL JOIN {OLD} AS {old}"
        return f"{NEW} AS {new} JOIN {OLD} AS {old} ON {_keys_equal(self.key, new, old)}"

    @functools.cached_property
    def summary(self) -> ChangeSummary:
        """The numbers of rows and columns that differ."""
        new, old = self.new, self.old
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
            rounded=counts.rounded,
        )

    def _counts(self) -> "_Counts":
        if self._compared_by == "row":
            added, removed = (
                self._rows_of(f"SELECT count(*) FROM ({statement})")[0][0]
                for statement in self.statements[:2]
            )
            return _Counts(added=added, removed=removed)
        matched, changed, rounded, *by_column = self._count_pairs()
        matched += self._skipped_rows
        return _Counts(
            changed,
            (self.new.row_count or 0) - matched,
            (self.old.row_count or 0) - matched,
            dict(zip(self._value_columns, by_column, strict=True)),
            rounded,
        )

    @property
    def _value_columns(self) -> list[str]:
        return [name for name in self._differing if name not in self.key]

    def _count_pairs(self) -> Sequence[Any]:
        """The numbers of pairs of rows, of those that differ, of numbers that are equal but for
        rounding, and of pairs that differ by column."""
        values = self._value_columns
        counts = [f"count(*) FILTER (WHERE {self._rows_differ([name])})" for name in values]
        all_differ = f"count(*) FILTER (WHERE {self._rows_differ(values)})"
        rounded = []
        for name, count in zip(values, counts, strict=True):
            if self.common[name] in FLOAT_TYPES:
                rounded.append(
                    f"count(*) FILTER (WHERE {rows_differ([name], *self._aliases)}) - {count}"
                )
        statement = ", ".join(["count(*)", all_differ, " + ".join(rounded) or "0", *counts])
        [row] = self._rows_of(f"SELECT {statement} FROM {self._pairs}")
        return row


class VersionComparison(VersionCounts):
    """Two versions of a table with the rows that differ. `query` runs a statement as `rows_of` of
    `VersionCounts`. Raises TableNotFound, TableDamaged."""

    def __init__(
        self,
        new: TableRecord,
        old: TableRecord,
        query: "Callable[[str], pa.Table]",
        skipped_rows: int,
    ) -> None:
        def rows_of(statement: str) -> list[tuple[Any, ...]]:
            found = query(statement)
            return [*zip(*(column.to_pylist() for column in found.columns), strict=True)]

        super().__init__(new, old, rows_of, skipped_rows)
        self.query = query

    def rows(self, part: Literal["added", "removed"], limit: int) -> "pa.Table":
        """The first rows that only one version has."""
        statement = self.statements[("added", "removed").index(part)]
        return self.query(f"{statement} LIMIT {limit}")

    @property
    def label_names(self) -> list[str]:
        """The names of the columns that identify a changed row: its key or number, and of all but
        very large tables two columns that did not change."""
        others = [name for name in self._skipped if name not in self.key]
        is_quick = not self.key or (self.new.row_count or 0) <= _MAX_CONTEXT_ROWS
        return [*(self.key or ["row"]), *others[: _MAX_CONTEXT_COLUMNS if is_quick else 0]]

    def changed_rows(self, limit: int) -> ChangedRows:
        """The first rows with another value in some column, with their former and later values in
        the columns of the summary."""
        new, old = self._aliases
        values = [c.name for c in self.summary.columns]
        labels = self.label_names[0 if self.key else 1 :]
        number = "NULL" if self.key else f"row_number() OVER () + {self._skipped_rows}"
        sides = [
            f"{new}.{name} AS n{i}, {old}.{name} AS o{i}"
            for i, name in enumerate(map(quote_identifier, values))
        ]
        columns = [f"{new}.{quote_identifier(c)} AS l{i}" for i, c in enumerate(labels)]
        tests = [
            values_differ(f"n{i}", f"o{i}", self.common[name]) for i, name in enumerate(values)
        ]
        keys = ", ".join(f"l{i}" for i in range(len(self.key))) or "number"
        order = "" if self._is_aligned else f"ORDER BY {keys}"  # aligned rows are in file order
        found = self.query(
            f"SELECT *, {', '.join(f'{t} AS d{i}' for i, t in enumerate(tests))} "
            f"FROM (SELECT {', '.join([f'{number} AS number', *columns, *sides])} "
            f"FROM {self._pairs}) WHERE {' OR '.join(tests)} {order} LIMIT {limit}"
        )
        shown = [*([] if self.key else ["number"]), *(f"l{i}" for i in range(len(labels)))]
        return ChangedRows(
            found.select(shown).rename_columns(self.label_names),
            *(
                found.select([f"{side}{i}" for i in range(len(values))]).rename_columns(values)
                for side in "ond"
            ),
        )


_MAX_NAMED_COLUMNS = 3
_MAX_CHECKED_COLUMNS = 3
"""Number of equal columns that are checked for being constant."""
_MAX_CONTEXT_COLUMNS = 2
"""Number of equal columns that are shown beside a changed row."""
_MAX_CONTEXT_ROWS = 1_000_000
"""In larger tables with a key they are not read."""


class _Counts(NamedTuple):
    changed: int = 0
    added: int = 0
    removed: int = 0
    by_column: dict[str, int] = {}
    rounded: int = 0


def skip_rows(select: str, rows: int) -> str:
    """A SELECT from the file of a result table without its first rows. DuckDB skips the row groups
    that the condition on the row number excludes."""
    return f"{select} WHERE {ROW_NUMBER} >= {rows}" if rows else select


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


def _keys_equal(key: Sequence[str], new: str, old: str) -> str:
    """The condition that a pair of rows has one key."""
    return " AND ".join(f"{new}.{k} = {old}.{k}" for k in map(quote_identifier, key))


def _statements_by_key(key: Sequence[str], rows_differ: str, new: str, old: str) -> list[str]:
    """Statements for added, removed, changed, before. `new` and `old` are the table aliases."""
    tables = {new: f"{NEW} AS {new}", old: f"{OLD} AS {old}"}
    keys_equal = _keys_equal(key, new, old)

    def order_terms(table: str) -> str:
        return ", ".join(f"{table}.{quote_identifier(k)}" for k in key)

    def rows_only_in(one: str, other: str) -> str:
        return (
            f"SELECT {one}.* FROM {tables[one]} WHERE NOT EXISTS (SELECT 1 FROM {tables[other]} "
            f"WHERE {keys_equal}) ORDER BY {order_terms(one)}"
        )

    def changed_rows(side: str) -> str:
        return (
            f"SELECT {side}.* FROM {tables[new]} JOIN {tables[old]} ON {keys_equal} WHERE "
            f"{rows_differ} ORDER BY {order_terms(new)}"
        )

    return [rows_only_in(new, old), rows_only_in(old, new), changed_rows(new), changed_rows(old)]


def values_differ(new: str, old: str, kind: str) -> str:
    """The condition that two values of an SQL type differ by more than rounding."""
    differ = f"{new} IS DISTINCT FROM {old}"
    if kind not in FLOAT_TYPES:
        return differ
    # not AND, of which DuckDB evaluates both sides for every row
    return f"(CASE WHEN {differ} THEN NOT {are_close(new, old)} ELSE false END)"


def are_close(new: str, old: str) -> str:
    """The condition that two finite floating-point numbers of one sign are equal but for
    rounding."""
    return (
        f"coalesce(isfinite({new}) AND isfinite({old}) AND signbit({new}) = signbit({old}) AND "
        f"abs({new}::DOUBLE - {old}::DOUBLE) <= "
        f"{ROUNDING_RATIO}::DOUBLE * least(abs({new}), abs({old})), false)"
    )


def rows_differ(columns: Sequence[str], new: str, old: str) -> str:
    """The condition that a pair of rows differs in one of these columns."""
    names = map(quote_identifier, columns)
    return " OR ".join(f"{new}.{c} IS DISTINCT FROM {old}.{c}" for c in names) or "false"


def _statements_as_bags(common: Sequence[str]) -> list[str]:
    """Statements for added, removed, changed, before. Rows are compared as multisets; without a key
    no row counts as changed."""
    empty_statements = [f"FROM {NEW} LIMIT 0", f"FROM {OLD} LIMIT 0"]
    if not common:  # no column is left to compare on
        return [f"FROM {NEW} ORDER BY ALL", f"FROM {OLD} ORDER BY ALL", *empty_statements]
    columns = ", ".join(map(quote_identifier, common))

    def rows_only_in(one: str, other: str) -> str:
        return f"SELECT {columns} FROM {one} EXCEPT ALL SELECT {columns} FROM {other} ORDER BY ALL"

    return [rows_only_in(NEW, OLD), rows_only_in(OLD, NEW), *empty_statements]

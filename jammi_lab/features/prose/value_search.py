"""Where numbers stand in the result tables: each Parquet file is read once, its numeric columns
compared with all numbers together, and only the rows that match are looked at."""

import contextlib
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np

from jammi_lab.core.display_values import is_midnight
from jammi_lab.core.errors import TableDamaged
from jammi_lab.core.html import to_text
from jammi_lab.core.records import TableRecord, TableVersion, VersionRecord
from jammi_lab.core.value import Value
from jammi_lab.features.prose.written_numbers import WrittenNumber
from jammi_lab.storage.files import open_for_reading
from jammi_lab.storage.parquet import open_parquet
from jammi_lab.store.result_files import ResultFiles

if TYPE_CHECKING:
    import pyarrow as pa

Number = int | float | Decimal
Tables = dict[str, list[TableVersion]]
"""The ready versions of each table by name, newest first, each file once."""
MAX_TABLE_ROWS = 1_000_000
"""Larger tables are not searched."""
MAX_SEARCHED_ROWS = 20_000_000
"""Of all versions together."""
MAX_COLUMN_MATCHES = 1000
"""A number that a column holds more often stands nowhere in particular."""
_SLACK_RATIO = 1e-12
"""Values are compared with bounds as doubles, and those this near to a bound again, exactly."""


class NoSuchCell(LookupError):
    """Why a tie names no value."""


class ValueLocation(Value, frozen=True):
    """One value of a version of a table."""

    table: str
    """The table's name."""
    version: int
    """The version that has the value."""
    row: dict[str, str]
    """The key of the row as texts: the declared key, else the text columns that identify a row;
    empty for the only row, and the row's number under `row` when nothing identifies it."""
    column: str
    """The column."""
    value: Number
    """The value as stored."""
    newest_version: int
    """The newest version of the table."""
    newest: Number | None
    """The value in the same row and column of the newest version; None when it has none there."""

    @property
    def is_current(self) -> bool:
        """Whether the newest version has the value."""
        return self.version == self.newest_version

    @property
    def place(self) -> tuple[str, tuple[str, ...], str]:
        """What identifies the cell in every version."""
        return self.table, tuple(self.row.values()), self.column

    def describe(self) -> str:
        """Where it stands, in words."""
        row = f", row {', '.join(self.row.values())}" if self.row else ""
        return f"{self.table} version {self.version}{row}, column {self.column}"


@dataclass
class Findings:
    """What a search of several numbers found."""

    locations: list[list[ValueLocation]]
    """For each number where it stands, newest versions first in each table."""
    frequent: set[int] = field(default_factory=set)
    """The numbers that a column holds too often to list."""
    unsearched: list[str] = field(default_factory=list)
    """Why tables were not searched, a sentence each."""
    values: Counter[str] = field(default_factory=Counter)
    """How many values were compared, by column."""


Match = tuple[int, int, str, Number]
"""The index of a number, and the row, column and value that was rounded to it."""


class ValueSearch:
    """Searches the versions of the tables of a workspace."""

    def __init__(
        self,
        versions: Callable[[], Sequence[tuple[VersionRecord, TableRecord]]],
        files: ResultFiles,
    ) -> None:
        """`versions`: the ready versions with their tables."""
        self._versions, self._files = versions, files

    def tables(self) -> Tables:
        """The tables as they are now."""
        found: dict[str, dict[str, TableVersion]] = {}
        for version, record in sorted(self._versions(), key=lambda pair: -pair[0].version):
            files = found.setdefault(version.recipe, {})
            files.setdefault(record.table_name, TableVersion(version, record))
        return {name: [*files.values()] for name, files in found.items()}

    def find(self, numbers: Sequence[WrittenNumber], tables: Tables) -> Findings:
        """Where numbers stand."""
        findings, bounds = Findings([[] for _ in numbers]), _Bounds(numbers)
        remaining_rows = MAX_SEARCHED_ROWS
        for versions in tables.values() if numbers else ():
            matches = dict[int, list[Match]]()
            for age, version in enumerate(versions):
                rows = version.record.row_count or 0
                if rows > min(MAX_TABLE_ROWS, remaining_rows):
                    findings.unsearched.append(f"{version_label(version)} is too large to search.")
                    continue
                remaining_rows -= rows
                with _reporting(version, findings):
                    matches[age] = self._search_file(version.record, bounds, findings)
            with _reporting(versions[0], findings):
                for number, location in self._locate(matches, versions):
                    findings.locations[number].append(location)
        return findings

    def _search_file(
        self, record: TableRecord, bounds: "_Bounds", findings: Findings
    ) -> list[Match]:
        table = self._read(
            record, lambda each: _is_number(each.type) and each.name not in record.key
        )
        matches = []
        for name in table.column_names:
            found, frequent = bounds.matches(table.column(name))
            matches += [(number, row, name, value) for number, row, value in found]
            findings.frequent |= frequent
            findings.values[name] += table.num_rows
        return matches

    def _locate(
        self, matches: dict[int, list[Match]], versions: Sequence[TableVersion]
    ) -> Iterator[tuple[int, ValueLocation]]:
        """The locations of the matches of each version, with the newest value of each cell."""
        if not any(matches.values()):
            return
        newest = versions[0]
        names = self.row_key(newest.record)
        key = ["row"] if names is None else names
        rows, values = dict[tuple[str, ...], int](), None
        if names is not None and any(found for age, found in matches.items() if age):
            rows = {texts: row for row, texts in enumerate(self._keys(newest.record, names))}
            values = self._read(newest.record, lambda each: _is_number(each.type))
        for age, found in matches.items():
            record = versions[age].record
            keys = self._keys(record, names) if found else []
            for number, row, column, value in found:
                now: Number | None = value if not age else None
                if age and keys[row] in rows and values and column in values.column_names:
                    now = values.column(column)[rows[keys[row]]].as_py()
                yield (
                    number,
                    ValueLocation(
                        newest.version.recipe,
                        versions[age].version.version,
                        dict(zip(key, keys[row], strict=True)),
                        column,
                        value,
                        newest.version.version,
                        now,
                    ),
                )

    def cell(
        self, version: TableVersion, newest: TableVersion, row: Sequence[str], column: str
    ) -> ValueLocation:
        """The cell of a version that a tie names. NoSuchCell; OSError, ValueError."""
        label, key = version_label(version), self.row_key(newest.record)
        if key is None:
            raise NoSuchCell(f"nothing identifies a row of {label}; give it a key")
        if len(row) != len(key):
            raise NoSuchCell(f"a row of {label} is named by {', '.join(key) or 'nothing'}")
        values = self._read(version.record, lambda each: _is_number(each.type))
        if column not in values.column_names:
            raise NoSuchCell(f"{label} has no column {column!r} with numbers")
        keys = self._keys(version.record, key)
        texts = tuple(row)
        if texts not in keys:  # a timestamp may be written in full
            texts = tuple(text.removesuffix(" 00:00:00") for text in row)
        if texts not in keys:
            raise NoSuchCell(f"{label} has no row {', '.join(row)}")
        value = values.column(column)[keys.index(texts)].as_py()
        if value is None or not math.isfinite(value):
            raise NoSuchCell(f"{label} has {to_text(value)} there")
        number, names = version.version.version, dict(zip(key, texts, strict=True))
        current = newest.version.version
        return ValueLocation(version.version.recipe, number, names, column, value, current, value)

    def row_key(self, record: TableRecord) -> list[str] | None:
        """The columns that identify a row: the declared key, else text columns without duplicates;
        empty when there is one row, None when there are none."""
        if record.key or record.row_count == 1:
            return list(record.key)
        texts: list[str] = self._read(record, lambda each: _is_text(each.type)).column_names
        for names in [*([name] for name in texts), texts]:
            if names and len(set(self._keys(record, names))) == record.row_count:
                return names
        return None

    def _keys(self, record: TableRecord, names: Sequence[str] | None) -> list[tuple[str, ...]]:
        """The keys of all rows as texts; their numbers from 1 when nothing identifies a row."""
        if names is None:
            return [(str(row + 1),) for row in range(record.row_count or 0)]
        table = self._read(record, lambda each: each.name in names)
        if len(table.column_names) < len(names) or not names:  # an older version may have others
            return [("",) * len(names)] * table.num_rows
        columns = [[*map(key_text, table.column(name).to_pylist())] for name in names]
        return [*zip(*columns, strict=True)]

    def _read(self, record: TableRecord, wanted: "Callable[[pa.Field], bool]") -> "pa.Table":
        with open_for_reading(self._files.parquet(record)) as file:
            parquet = open_parquet(file)
            schema = parquet.schema_arrow
            names = [each.name for each in schema if wanted(each)]
            if len({*schema.names}) < len(schema):
                raise ValueError("two columns have one name")
            return parquet.read(names, use_threads=False)


def key_text(value: Any) -> str:
    """A value of a key; a timestamp at midnight as its day, as tables show it."""
    return to_text(value.date() if is_midnight(value) else value)


def version_label(version: TableVersion) -> str:
    """A version in a sentence."""
    return f"{version.version.recipe} version {version.version.version}"


@contextlib.contextmanager
def _reporting(version: TableVersion, findings: Findings) -> Iterator[None]:
    """Report a file that cannot be read instead of raising."""
    try:
        yield
    except (OSError, ValueError, TableDamaged) as error:  # Arrow raises ValueError
        findings.unsearched.append(
            f"{version_label(version)} cannot be read ({type(error).__name__})."
        )


class _Bounds:
    """The intervals of all numbers, cut where one begins or ends."""

    def __init__(self, numbers: Sequence[WrittenNumber]) -> None:
        self._numbers = numbers
        intervals = [
            (*_as_doubles(each), number)
            for number, written in enumerate(numbers)
            for each in written.intervals
        ]
        edges = sorted({edge for low, high, _ in intervals for edge in (low, high)})
        index = {edge: i for i, edge in enumerate(edges)}
        self._members: list[list[tuple[int, float, float]]] = [[] for _ in edges]
        """The numbers whose intervals cover what follows an edge, with their inner bounds."""
        for low, high, number in intervals:
            slack = 4 * _SLACK_RATIO
            inner = number, low + abs(low) * slack, high - abs(high) * slack
            for members in self._members[index[low] : index[high]]:
                members.append(inner)
        self._edges = np.array(edges)
        self._covers = np.array([bool(members) for members in self._members])

    def matches(self, column: "pa.ChunkedArray") -> tuple[list[tuple[int, int, Number]], set[int]]:
        """The numbers, rows and values that match in a column; and the numbers that match too
        often."""
        import pyarrow as pa

        values = column.cast(pa.float64(), safe=False).to_numpy()
        segments = np.searchsorted(self._edges, values, "right") - 1
        [rows] = np.nonzero((segments >= 0) & self._covers[np.maximum(segments, 0)])
        counts = np.bincount(segments[rows], minlength=len(self._covers))
        often = counts > MAX_COLUMN_MATCHES
        frequent = {n for i in np.nonzero(often)[0] for n, _, _ in self._members[i]}
        rows = rows[~often[segments[rows]]]
        stored = column.take(pa.array(rows)).to_pylist() if len(rows) else []
        found = []
        for row, value in zip(rows.tolist(), stored, strict=True):
            for number, low, high in self._members[segments[row]]:
                if low <= value <= high or self._numbers[number].is_rounded_from(to_decimal(value)):
                    found.append((number, row, value))
        return found, frequent


def _as_doubles(interval: tuple[Decimal, Decimal]) -> tuple[float, float]:
    low, high = map(float, interval)
    return low - abs(low) * _SLACK_RATIO, high + abs(high) * _SLACK_RATIO


def to_decimal(value: Number) -> Decimal:
    """A stored number as it is written in decimals."""
    return value if isinstance(value, Decimal) else Decimal(str(value))


def _is_number(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    types = pa.types
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind))


def _is_text(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))

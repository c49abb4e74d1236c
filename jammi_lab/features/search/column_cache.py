"""A cache of source columns in vector order: hits take their columns from it without a query.

An entry holds what one statement returned for all rows, under a digest of the state of all its
inputs. Each search checks whether that state is current, as it does for `source_missing`;
where it is not, or where checking takes longer than reading, the source is read.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jammi_lab.core.anchors import Input
from jammi_lab.core.caches import ObjectCache

if TYPE_CHECKING:
    import pyarrow as pa

    from jammi_lab.engine.prepared_statement import PreparedStatement
    from jammi_lab.storage.vector_arrays import RowNumbers

MAX_CACHED_BYTES = 64 << 20
"""The largest result that is cached."""
_CACHE_BYTES = 2 * MAX_CACHED_BYTES
_MAX_SELECTIONS = 256
ROW_LOAD_SECONDS = 5e-7
"""Assumed cost of loading one row. Loading is due once as much time was spent on partial reads."""
_READ_PER_LOAD_RATIO = 1.0
"""How much of the last load's time is spent on partial reads before the columns load again."""
_MAX_SKIPPED_CHECKS = 63
SelectionKey = tuple[str | None, str, str, tuple[str, ...] | frozenset[str] | None]
"""Tenant, table, the table whose source rows are meant, and the columns: a tuple as selected beside
hits, a set as named by a condition, None for all."""


class CachedColumns:
    """The columns of all rows, in the order of the vectors. Safe to share between threads."""

    def __init__(self, rows: "pa.Table", types: dict[str, str], inputs: Sequence[Input]) -> None:
        self._rows, self.types, self.inputs = rows.combine_chunks(), types, list(inputs)
        """`types`: SQL types by column; `inputs`: what was read."""

    @property
    def nbytes(self) -> int:
        """Bytes held in memory."""
        return int(self._rows.nbytes)

    def join(self, hits: "pa.Table", positions: "RowNumbers") -> "pa.Table":
        """Hits with the columns of their rows; `positions` are those of the hits among the
        vectors."""
        import pyarrow as pa

        from jammi_lab.storage.vector_arrays import to_arrow_rows

        rows = self._rows.take(to_arrow_rows(positions))
        hit_columns = {name: hits[name] for name in hits.column_names}
        columns = {
            **hit_columns,
            "key": rows["key"],
            **{name: rows[name] for name in rows.column_names if name not in hit_columns},
        }
        return pa.table(columns)


@dataclass(slots=True)
class ColumnSelection:
    """Columns that were selected over one table, and what reading them has cost."""

    columns: list[str]
    """The columns as the source spells them."""
    inputs: list[Input]
    """The inputs that an answer reports."""
    read_inputs: list[Input]
    """The inputs that are read beside the hits."""
    read_seconds: float = 0.0
    """Seconds spent on reading since the columns were last loaded."""
    last_read_seconds: float = 0.0
    """Seconds that the last read took."""
    load_seconds: float = 0.0
    """Seconds that the last load took, also when the result was too large."""
    was_loaded: bool = False
    """Whether the columns were loaded at some time."""
    too_large_state: str = ""
    """The state whose columns are too large for the cache."""
    is_deterministic: bool = True
    """Whether equal inputs give equal rows."""
    checks_to_skip: int = 0
    """Searches that do not check the state of the inputs, since that takes longer than reading."""
    last_skip_count: int = 0
    """How many searches skipped the check the last time."""

    def should_check(self, rows: int) -> bool:
        """Whether to check the state of the inputs, for a table of so many rows."""
        if self.checks_to_skip:
            self.checks_to_skip -= 1
            return False
        return self.is_deterministic and (self.was_loaded or self.load_is_due(rows))

    def load_is_due(self, rows: int) -> bool:
        """Whether partial reads have cost as much as loading all columns does."""
        load_cost = max(rows * ROW_LOAD_SECONDS, _READ_PER_LOAD_RATIO * self.load_seconds)
        return self.read_seconds > load_cost

    def load_soon(self) -> None:
        """Make loading due at the next search: the caller expects several."""
        self.read_seconds, self.last_read_seconds = math.inf, self.last_read_seconds or math.inf

    def record_load(self, seconds: float) -> None:
        """Record what a load took."""
        self.read_seconds, self.load_seconds, self.was_loaded = 0.0, seconds, True
        if self.last_read_seconds == math.inf:
            self.last_read_seconds = seconds

    def record_check(self, seconds: float) -> None:
        """Record what checking the state took; a check slower than a read is skipped more and more
        often."""
        too_slow = seconds > self.last_read_seconds
        self.last_skip_count = (
            min(2 * self.last_skip_count + 1, _MAX_SKIPPED_CHECKS) if too_slow else 0
        )
        self.checks_to_skip = self.last_skip_count


class ColumnCache:
    """The recently selected columns of one workspace."""

    def __init__(self) -> None:
        self.loaded = ObjectCache(_CACHE_BYTES)
        """Loaded columns and rows, by the digest of their state."""
        self._selections: dict[SelectionKey, ColumnSelection] = {}

    def find(self, key: SelectionKey) -> ColumnSelection | None:
        """The statistics of a selection; None when it is unknown."""
        return self._selections.get(key)

    def evict(self, key: SelectionKey) -> None:
        """Drop a selection whose columns have changed their meaning."""
        self._selections.pop(key, None)

    def record_read(
        self,
        key: SelectionKey,
        columns: Sequence[str],
        prepared: "PreparedStatement",
        inputs: Sequence[Input],
        read_inputs: list[Input],
        seconds: float,
    ) -> None:
        """Record a statement that has just been run; `inputs` are those that its answer reports,
        `read_inputs` those beside the hits."""
        selection = self._selections.get(key)
        if (
            selection is None
            or selection.read_inputs != read_inputs
            or selection.columns != list(columns)
        ):
            if len(self._selections) >= _MAX_SELECTIONS:
                self._selections.clear()
            selection = ColumnSelection(
                list(columns),
                list(inputs),
                read_inputs,
                is_deterministic=not (prepared.volatile or prepared.reads_clock),
            )
            self._selections[key] = selection
        selection.read_seconds = selection.read_seconds + seconds
        selection.last_read_seconds = seconds


def inputs_of(prepared: "PreparedStatement") -> list[Input]:
    """What a statement reads, with the columns read."""
    return [
        Input(kind=i.kind, name=i.name, table=i.table, columns=b.columns)
        for b in prepared.inputs
        for i in [b.relation.input]
    ]


def read_within_limit(prepared: "PreparedStatement") -> "pa.Table | None":
    """The rows of a statement; None when they exceed `MAX_CACHED_BYTES`."""
    import pyarrow as pa

    batches, size = list[pa.RecordBatch](), 0
    with prepared.run() as stream:
        schema = stream.schema
        for batch in stream.batches():
            size += batch.nbytes
            if size > MAX_CACHED_BYTES:
                return None
            batches.append(batch)
    return pa.Table.from_batches(batches, schema)

"""The rows of a mutable table: its log, folded by key.

A commit is one Arrow batch: the rows that were put, then the keys of those that were removed. The
rows at a version are those put last for each key, and not removed since.
"""

import contextlib
import functools
import itertools
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jammi_lab.catalog.logs import Entry, LogRecord, LogRepository, check_entry_size
from jammi_lab.core.errors import (
    InvalidArgument,
    SchemaMismatch,
    TableDamaged,
    invalid_row_error,
)
from jammi_lab.core.interrupts import DeferInterrupts
from jammi_lab.features.live.table_columns import check_columns
from jammi_lab.storage.arrow_values import intact_rows, intact_schema
from jammi_lab.storage.parquet import foreign_types

_MAX_BATCHES = 64
"""Batches that a fold keeps apart before it joins them."""
Key = Hashable


@dataclass(frozen=True)
class MutableSnapshot:
    """One version of a table."""

    record: LogRecord
    """The record of the table at this version."""
    rows: pa.Table
    """Its rows, ordered by key."""


class Fold:
    """The rows of one table at one version."""

    def __init__(self, record: LogRecord) -> None:
        self.schema, self.key = stored_schema(record), record.key
        if not self.key:
            raise invalid_row_error()
        self.stored_schema = without_constraints(self.schema)
        self.version, self.commit_id = 0, ""
        self._batches: list[pa.RecordBatch] = []
        self._size = self.bytes = 0
        """How many rows the batches have, and how many bytes."""
        self.positions: dict[Key, int] = {}
        """The row of each key, counted over all batches."""
        self._is_sorted = True

    def apply(self, entry: Entry) -> list[Key]:
        """Apply the next commit; return the keys that it touched. Raises TableDamaged."""
        if entry.position != self.version:
            raise invalid_row_error()
        batch = batch_of(entry, self.stored_schema)
        keys = keys_of(batch, self.key)
        self.positions.update(zip(keys[: entry.row_count], itertools.count(self._size)))
        for key in keys[entry.row_count :]:
            self.positions.pop(key, None)
        self._batches.append(batch)
        self._size += len(keys)
        self.bytes += batch.nbytes
        self.version, self.commit_id = entry.position + 1, entry.commit_id
        self._is_sorted = False
        if len(self._batches) > _MAX_BATCHES:
            self._batches = self._all_rows().combine_chunks().to_batches()
        return keys

    def rows(self) -> pa.Table:
        """All rows, ordered by key."""
        if not self._is_sorted:
            numbers = np.fromiter(self.positions.values(), np.int64, len(self.positions))
            rows = self._all_rows().take(pa.array(numbers))
            order = pc.sort_indices(rows, [(column, "ascending") for column in self.key])
            keys = list(self.positions)
            self.positions = {keys[row]: at for at, row in enumerate(order.to_pylist())}
            self._batches = rows.take(order).combine_chunks().to_batches()
            self._size, self.bytes, self._is_sorted = len(keys), rows.nbytes, True
        return self._all_rows().cast(self.schema)

    def select(self, keys: Sequence[Key]) -> pa.Table:
        """The rows of keys that exist, in their order."""
        return self._all_rows().take(pa.array([self.positions[key] for key in keys], pa.int64()))

    def copy(self) -> "Fold":
        """Another fold of the same version."""
        copy = Fold.__new__(Fold)
        copy.__dict__.update(self.__dict__)
        copy._batches, copy.positions = list(self._batches), dict(self.positions)
        return copy

    def _all_rows(self) -> pa.Table:
        return pa.Table.from_batches(self._batches, self.stored_schema)


class FoldCache:
    """The newest fold of each table; beyond `max_bytes` the least recently used are evicted."""

    def __init__(self, logs: LogRepository, max_bytes: Callable[[], int]) -> None:
        self._logs, self._max_bytes = logs, max_bytes
        self._cached: OrderedDict[int, Fold] = OrderedDict()
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def use(self, record: LogRecord) -> Iterator[Fold]:
        """The fold at a record that was read in the transaction around this block; nobody else uses
        it meanwhile. A commit that the block applies and that is then rolled back is noticed by its
        id. Raises TableDamaged."""
        with DeferInterrupts(), self._lock:
            fold = self._advanced(self._cached.pop(record.log_id, None), record)
            self._cached[record.log_id] = fold
            total = sum(each.bytes for each in self._cached.values())
            while total > self._max_bytes():
                total -= self._cached.popitem(last=False)[1].bytes
            yield fold

    def newest(self, record: LogRecord) -> MutableSnapshot:
        """A snapshot at the record's version or a later one. Raises TableNotFound when the table
        was dropped; TableDamaged."""
        with self._logs.reading(record):
            current = self._logs.refresh(record)
            with self.use(current) as fold:
                return MutableSnapshot(current, fold.rows())

    def evict(self, record: LogRecord) -> None:
        """Evict a dropped table."""
        # without the lock: its holder may wait for the transaction that drops the table
        self._cached.pop(record.log_id, None)

    def load(self, record: LogRecord, version: int) -> Fold:
        """The fold at any version from `record.first` on, from the log alone. Raises
        TableDamaged."""
        fold = Fold(record)
        fold.version = record.oldest
        for entry in self._logs.entries(record, fold.version, version):
            fold.apply(entry)
        return fold

    def _advanced(self, fold: Fold | None, record: LogRecord) -> Fold:
        if fold is not None and fold.commit_id == record.commit_id:
            return fold
        if fold is not None and max(record.first, 1) <= fold.version <= record.next:
            # its own last entry first: a commit that was rolled back is not in the log
            found = self._logs.entries(record, fold.version - 1, record.next)
            if found and found[0].commit_id == fold.commit_id:
                for entry in found[1:]:
                    fold.apply(entry)
                return _check_rows(fold, record)
        return _check_rows(self.load(record, record.next), record)


def _check_rows(fold: Fold, record: LogRecord) -> Fold:
    """The fold, if it has the rows that the record says. Raises TableDamaged."""
    if (fold.version, len(fold.positions)) != (record.next, record.row_count):
        raise TableDamaged(
            f"{record.label} is damaged: it has {len(fold.positions)} of {record.row_count} rows.",
            table=record.name,
            hint="A backup of the catalog may contain the others.",
        )
    return fold


def stored_schema(record: LogRecord) -> pa.Schema:
    """The schema of a log, from its record. Raises TableDamaged for one that no log has."""
    return _decoded_schema(record.schema, tuple(record.key))


@functools.lru_cache(maxsize=256)
def _decoded_schema(body: bytes, key: tuple[str, ...]) -> pa.Schema:
    try:
        with foreign_types():
            read = pa.ipc.read_schema(pa.py_buffer(body))
        schema = intact_schema(read).empty_table().schema
        if not key:
            return schema
        if (*check_columns("", schema, key),) == key and len(set(schema.names)) == len(schema):
            return schema
    except (pa.ArrowException, OSError, InvalidArgument, SchemaMismatch):
        pass
    raise invalid_row_error()


def without_constraints(schema: pa.Schema) -> pa.Schema:
    """The schema with NULL in any column, as removed rows have it."""
    return pa.schema([field.with_nullable(True) for field in schema])


def batch_of(entry: Entry, schema: pa.Schema) -> pa.RecordBatch:
    """The batch of an entry. Raises TableDamaged."""
    try:
        batch = pa.ipc.read_record_batch(pa.py_buffer(entry.body), schema)
        intact_rows(pa.Table.from_batches([batch]))
    except (pa.ArrowException, OSError, EOFError):
        raise invalid_row_error() from None
    return batch


def body_of(put: pa.Table, removed: pa.Table | None = None) -> bytes:
    """The batch of a commit: all columns of the rows that are put, and the keys of those that are
    removed. Raises InvalidArgument for one that is too large."""
    schema = without_constraints(put.schema)
    rows = put.cast(schema)
    if removed is not None and removed.num_rows:
        rows = pa.concat_tables([rows, with_nulls(removed, schema)])
    batches = rows.combine_chunks().to_batches() or [pa.RecordBatch.from_pylist([], schema)]
    check_entry_size(rows.nbytes)
    return bytes(batches[0].serialize())


def with_nulls(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Rows of some columns, with NULL in the others."""
    columns = [
        rows[field.name] if field.name in rows.column_names else pa.nulls(len(rows), field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def keys_of(rows: pa.Table | pa.RecordBatch, key: Sequence[str]) -> list[Key]:
    """The keys of rows: one value, or a tuple for a key of several columns."""
    columns = []
    for name in key:
        column = rows.column(name)
        if pa.types.is_temporal(column.type):  # Python has no nanoseconds
            column = column.cast(pa.int32() if column.type.bit_width == 32 else pa.int64())
        columns.append(column.to_pylist())
    return columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))


def differ(old: pa.Table, new: pa.Table) -> pa.BooleanArray:
    """For each pair of rows whether they differ in any value, bit by bit: -0.0 is not 0.0, and a
    NaN is itself."""
    differing = pa.repeat(False, len(old))
    for name in old.column_names:
        before, after = (_bits(rows[name].combine_chunks()) for rows in (old, new))
        unequal = pc.fill_null(pc.not_equal(before, after), False)
        became_null = pc.not_equal(pc.is_null(before), pc.is_null(after))
        differing = pc.or_(differing, pc.or_(unequal, became_null))
    return differing


def _bits(column: pa.Array) -> pa.Array:
    if pa.types.is_floating(column.type):
        return column.view(pa.int32() if column.type.bit_width == 32 else pa.int64())
    return column

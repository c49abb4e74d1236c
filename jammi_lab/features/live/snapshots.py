"""Arrow snapshots of mutable tables: one version of each in memory, updated incrementally from the
history."""

import bisect
import contextlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jammi_lab.catalog.mutable_tables import History, HistoryTrimmed, MutableTableRepository
from jammi_lab.core.records import MutableRecord
from jammi_lab.features.live.row_codec import Layout, cached_layout
from jammi_lab.storage.vector_arrays import to_arrow_rows


@dataclass(frozen=True)
class MutableSnapshot:
    """One version of a table."""

    record: MutableRecord
    """The record of the table at this version."""
    rows: pa.Table
    """Its rows, ordered by key."""
    keys: pa.Array
    """Their keys."""

    @property
    def bytes(self) -> int:
        """Its memory size."""
        return int(self.rows.nbytes + self.keys.nbytes)


class SnapshotCache:
    """A cache of the newest snapshot of each table; beyond `most` bytes the least recently used are
    evicted."""

    def __init__(self, mutables: MutableTableRepository, max_bytes: Callable[[], int]) -> None:
        self._mutables, self._max_bytes = mutables, max_bytes
        self._cached: OrderedDict[int, MutableSnapshot] = OrderedDict()
        self._lock = threading.Lock()

    def newest(self, record: MutableRecord) -> MutableSnapshot:
        """A snapshot at the record's version or a later one. Raises TableNotFound when the table
        was dropped."""
        with self._lock:
            cached = self._cached.get(record.table_id)
        if cached is not None and cached.record.version >= record.version:
            return self._store(cached)
        if cached is not None:
            max_rows = 1000 + len(cached.keys) // 4  # beyond that a full read is as fast
            with contextlib.suppress(HistoryTrimmed):
                return self._store(
                    apply_history(
                        cached,
                        self._mutables.history(record.table_id, cached.record.version, max_rows),
                    )
                )
        return self._store(self._load(record.table_id))

    def evict(self, table_id: int) -> None:
        """Evict a dropped table."""
        with self._lock:
            self._cached.pop(table_id, None)

    def _load(self, table_id: int) -> MutableSnapshot:
        record, keys, bodies = self._mutables.rows(table_id)
        rows = cached_layout(record.schema, tuple(record.key)).table(bodies)
        return MutableSnapshot(
            record, rows, pa.array(keys, pa.int64() if record.numbered else pa.binary())
        )

    def _store(self, snapshot: MutableSnapshot) -> MutableSnapshot:
        table_id = snapshot.record.table_id
        with self._lock:
            current = self._cached.get(table_id)
            if current is None or current.record.version <= snapshot.record.version:
                self._cached[table_id] = snapshot
            self._cached.move_to_end(table_id)
            total = sum(each.bytes for each in self._cached.values())
            while total > self._max_bytes():
                total -= self._cached.popitem(last=False)[1].bytes
        return snapshot


def apply_history(snapshot: MutableSnapshot, history: History) -> MutableSnapshot:
    """Apply the history to a snapshot: remove the rows of touched keys, and insert their current
    rows in key order."""
    if not history.now:
        return MutableSnapshot(history.record, snapshot.rows, snapshot.keys)
    shape: Layout = cached_layout(history.record.schema, tuple(history.record.key))
    keys, rows = snapshot.keys, snapshot.rows
    if any(history.before.get(key, b"") is not None for key in history.now):
        touched = pa.array(history.now, keys.type)
        untouched = pc.invert(pc.is_in(keys, value_set=touched))
        keys, rows = keys.filter(untouched), rows.filter(untouched)
    current = sorted((key, body) for key, body in history.now.items() if body is not None)
    if current:
        new_keys = pa.array([key for key, _ in current], snapshot.keys.type)
        new_rows = shape.table([body for _, body in current])
        order = None
        if len(keys) and current[0][0] < keys[-1].as_py():
            positions = [
                bisect.bisect_left(range(len(keys)), key, key=lambda i: keys[i].as_py())
                for key, _ in current
            ]
            new_positions = np.arange(len(keys), len(keys) + len(current))
            order = to_arrow_rows(np.insert(np.arange(len(keys)), positions, new_positions))
        keys = pa.concat_arrays([keys, new_keys])
        rows = pa.concat_tables([rows, new_rows]).combine_chunks()
        if order is not None:
            keys, rows = keys.take(order), rows.take(order)
    return MutableSnapshot(history.record, rows, keys)

"""The rows of mutable tables as Arrow, one version of each kept in memory, brought up to date by what changed since."""

import bisect
import contextlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jammi_lab.catalog.mutables import History, Mutables, Trimmed
from jammi_lab.live.rows import Layout, layout
from jammi_lab.values.mutables import MutableRecord


@dataclass(frozen=True)
class Snapshot:
    """One version of a table."""

    record: MutableRecord
    """The table as it was when it had this version."""
    rows: pa.Table
    """Its rows in the order of their keys."""
    keys: pa.Array
    """Their keys."""

    @property
    def bytes(self) -> int:
        """What it takes in memory."""
        return int(self.rows.nbytes + self.keys.nbytes)


class Snapshots:
    """The newest version seen of each table, those that were not asked for longest are let go of beyond `most` bytes."""

    def __init__(self, mutables: Mutables, most: Callable[[], int]) -> None:
        self._mutables, self._most = mutables, most
        self._kept: OrderedDict[int, Snapshot] = OrderedDict()
        self._lock = threading.Lock()

    def newest(self, record: MutableRecord) -> Snapshot:
        """The version that the record says, or a later one. TableNotFound when the table is gone."""
        with self._lock:
            kept = self._kept.get(record.table_id)
        if kept is not None and kept.record.version >= record.version:
            return self._keep(kept)
        if kept is not None:
            most = 1000 + len(kept.keys) // 4  # beyond that, reading all of it is as fast
            with contextlib.suppress(Trimmed):
                return self._keep(_caught_up(kept, self._mutables.history(record.table_id, kept.record.version, most)))
        return self._keep(self._loaded(record.table_id))

    def forget(self, table_id: int) -> None:
        """Let go of a table that is gone."""
        with self._lock:
            self._kept.pop(table_id, None)

    def _loaded(self, table_id: int) -> Snapshot:
        record, keys, bodies = self._mutables.rows(table_id)
        rows = layout(record.schema, tuple(record.key)).table(bodies)
        return Snapshot(record, rows, pa.array(keys, pa.int64() if record.numbered else pa.binary()))

    def _keep(self, snapshot: Snapshot) -> Snapshot:
        table_id = snapshot.record.table_id
        with self._lock:
            there = self._kept.get(table_id)
            if there is None or there.record.version <= snapshot.record.version:
                self._kept[table_id] = snapshot
            self._kept.move_to_end(table_id)
            held = sum(each.bytes for each in self._kept.values())
            while held > self._most():
                held -= self._kept.popitem(last=False)[1].bytes
        return snapshot


def _caught_up(old: Snapshot, history: History) -> Snapshot:
    """The table as it is now: what is left of the old rows, with the new ones in their places."""
    if not history.now:
        return Snapshot(history.record, old.rows, old.keys)
    shape: Layout = layout(history.record.schema, tuple(history.record.key))
    touched = pa.array(history.now, old.keys.type)
    left = pc.invert(pc.is_in(old.keys, value_set=touched))
    keys, rows = old.keys.filter(left), old.rows.filter(left)
    there = sorted((key, body) for key, body in history.now.items() if body is not None)
    if there:
        new_keys, new_rows = pa.array([key for key, _ in there], old.keys.type), shape.table([body for _, body in there])
        places = [bisect.bisect_left(range(len(keys)), key, key=lambda at: keys[at].as_py()) for key, _ in there]
        order = pa.array(np.insert(np.arange(len(keys)), places, np.arange(len(keys), len(keys) + len(there))))
        keys = pa.concat_arrays([keys, new_keys]).take(order)
        rows = pa.concat_tables([rows, new_rows]).combine_chunks().take(order)
    return Snapshot(history.record, rows, keys)

"""Scratch databases that are kept for the next run of a statement over the same relations."""

import contextlib
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import duckdb

from jammi_lab.engine import duckdb_instances

if TYPE_CHECKING:
    pass

ViewBodies = tuple[tuple[tuple[str, ...], str], ...]
"""The names of a scratch database's views, each with its SELECT."""
MAX_IDLE_DATABASES = 16
"""Per instance. An empty database in memory takes some ten kilobytes."""
MAX_KEPT_BODY_LENGTH = 16_384


@dataclass(slots=True)
class IdleScratch:
    """A cursor whose scratch database has all views of a statement."""

    cursor: duckdb.DuckDBPyConnection
    database: str
    settings: tuple[str, ...]
    """The settings that were applied to the cursor."""

    def close(self) -> None:
        """Drop the scratch database and close the cursor."""
        with contextlib.suppress(duckdb.Error):  # the instance may be closed or invalid
            duckdb_instances.close_scratch(self.cursor, self.database)
        self.cursor.close()


class ScratchPool:
    """Idle scratch databases of one instance, by their views. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: OrderedDict[ViewBodies, IdleScratch] = OrderedDict()
        self._is_closed = False

    def take(self, views: ViewBodies) -> IdleScratch | None:
        """An idle scratch database with just these views; None when there is none."""
        with self._lock:
            return self._idle.pop(views, None)

    def put(self, views: ViewBodies, scratch: IdleScratch) -> None:
        """Keep a scratch database; the one that was kept first is closed when there are too
        many."""
        surplus: IdleScratch | None = scratch
        with self._lock:
            if not self._is_closed and views not in self._idle:
                self._idle[views], surplus = scratch, None
                if len(self._idle) > MAX_IDLE_DATABASES:
                    surplus = self._idle.popitem(last=False)[1]
        if surplus is not None:
            surplus.close()

    def close(self) -> None:
        """Close every idle scratch database and keep none from now on."""
        with self._lock:
            self._is_closed, idle = True, list(self._idle.values())
            self._idle.clear()
        for scratch in idle:
            scratch.close()

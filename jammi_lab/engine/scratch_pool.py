"""The cursor of one run of a statement, and the scratch databases that are kept for the next run of
a statement over the same relations."""

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import duckdb

from jammi_lab.engine import duckdb_instances
from jammi_lab.engine.name_resolution import ResolvedNames

if TYPE_CHECKING:
    from jammi_lab.engine.tenant_instances import TenantSession

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


class RunCursor:
    """The cursor of one run with the scratch database of its relations.

    `begin` and `end` are called in the thread of the run; `end` also where nothing began."""

    def __init__(
        self, session: "TenantSession", relations: ResolvedNames, *, one_thread: bool = False
    ) -> None:
        self._session, self._relations, self._one_thread = session, relations, one_thread
        self._views = _views_to_keep(relations)
        self._scratch = None if self._views is None else session.idle_scratches.take(self._views)
        self._undo = contextlib.ExitStack()
        self.cursor = session.main.cursor() if self._scratch is None else self._scratch.cursor

    def begin(self, settings: Sequence[str]) -> None:
        """Apply the cursor's settings, acquire the relations, and create their views unless the
        cursor has them. Raises as `TenantSession.create_views`."""
        applied = () if self._scratch is None else self._scratch.settings
        for setting in settings:
            if setting not in applied:
                self.cursor.execute(setting)
        self._session.acquire(self._undo, self.cursor, self._relations)
        if self._scratch is None and self._relations:
            database = duckdb_instances.open_scratch(self.cursor)
            self._scratch = IdleScratch(self.cursor, database, ())
            self._session.create_views(self.cursor, database, self._relations)
        if self._scratch is not None:
            self._scratch.settings = tuple({*applied, *settings})
        if self._one_thread:
            self._undo.callback(self._session.use_one_thread())

    def end(self, *, is_clean: bool) -> None:
        """Release the relations. The scratch database is kept if the run `is_clean`: it ended by
        itself and without an error. Raises duckdb.Error."""
        try:
            if self._scratch is not None and (self._views is None or not is_clean):
                duckdb_instances.close_scratch(self.cursor, self._scratch.database)
                self._scratch = None
        finally:
            self._undo.close()
            if self._scratch is None or self._views is None or not is_clean:
                self.cursor.close()
            else:
                self._session.idle_scratches.put(self._views, self._scratch)


def _views_to_keep(relations: ResolvedNames) -> ViewBodies | None:
    """The views of relations that always have the same columns and rows; None when another is among
    them. A view over anything else would remember columns that the source had once."""
    bodies: list[tuple[tuple[str, ...], str]] = []
    for parts, relation in relations.items():
        if not relation.read.is_immutable or relation.read.body is None:
            return None
        bodies.append((parts, relation.read.body))
    too_long = sum(len(body) for _, body in bodies) > MAX_KEPT_BODY_LENGTH
    return tuple(bodies) if bodies and not too_long else None

"""The cursor of one run of a statement, with the scratch database of its relations."""

import contextlib
from collections.abc import Sequence

from jammi_lab.engine import duckdb_instances
from jammi_lab.engine.name_resolution import ResolvedNames
from jammi_lab.engine.scratch_pool import MAX_KEPT_BODY_LENGTH, IdleScratch, ViewBodies
from jammi_lab.engine.tenant_instances import TenantSession


class RunCursor:
    """The cursor of one run with the scratch database of its relations.

    `begin` and `end` are called in the thread of the run; `end` also where nothing began."""

    def __init__(
        self, session: TenantSession, relations: ResolvedNames, *, one_thread: bool = False
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

"""Ephemeral sessions: whose they are, which kernel holds them, and until when.

A session ends once: whoever turns its row from open into anything else, in the transaction that removes its tables, is the one who ended it.
"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from jammi_lab.catalog import scope
from jammi_lab.catalog.database import Database
from jammi_lab.catalog.direct import Direct
from jammi_lab.catalog.schema import sessions
from jammi_lab.catalog.scope import Scope
from jammi_lab.values.base import Value

OPEN, ENDED, PARTIAL = "open", "ended", "partial"


class SessionRecord(Value, frozen=True, kw_only=True):
    """An ephemeral session."""

    session_id: str
    """32 hex digits; part of the names of its tables."""
    tenant: str
    writer_id: str
    """The handle of the workspace that opened it."""
    state: str = OPEN
    """`open`; `ended`: its tables are dropped, and the log may still hold what they held; `partial`: some could not be dropped."""
    created_at: str
    deadline: str | None
    """When it ends by itself, RFC 3339; None is never."""


_s = sessions
_RECORD = tuple(_s.c[name] for name in ("session_id", "tenant_id", "writer_id", "state", "created_at", "deadline"))
_id: sa.BindParameter[str] = sa.bindparam("id")
_LIST = scope.select_mine(*_RECORD, seen=_s).order_by(_s.c.created_at, _s.c.session_id)
_GET = Direct(scope.select_of(*_RECORD, seen=_s).where(_s.c.session_id == _id))
_CHANGE = scope.update_of(_s).where(_s.c.session_id == _id, _s.c.state == sa.literal_column(f"'{OPEN}'"))
_CLAIM = Direct(_CHANGE.values(state=sa.literal_column(f"'{ENDED}'")))
_KEEP = scope.update_of(_s).where(_s.c.session_id == _id)
_FORGET = Direct(scope.delete_of(_s).where(_s.c.session_id == _id))
_OPEN = Direct(sa.insert(_s))


class Sessions:
    """The ephemeral sessions of the bound tenant."""

    def __init__(self, database: Database, bound: Scope) -> None:
        self._database, self._scope = database, bound

    def open(self, record: SessionRecord) -> None:
        """Keep a new session. TenantForbidden."""
        self._scope.check_owner(record.tenant, "The session")
        row = {name: getattr(record, name) for name in SessionRecord.__struct_fields__ if name != "tenant"}
        with self._database.write() as tx:
            _OPEN.change(tx, row | {"tenant_id": record.tenant})

    def list(self) -> list[SessionRecord]:
        """The sessions of the bound tenant, oldest first, those too that are over and left something."""
        with self._database.read() as tx:
            return [_record(row) for row in tx.execute(_LIST, self._scope.params()).all()]

    def get(self, session_id: str, tenant: str) -> SessionRecord | None:
        """The session of that id, whoever is bound."""
        with self._database.read() as tx:
            found = _GET.rows(tx, {"owner": tenant, "id": session_id})
        return _record(found[0]) if found else None

    def move(self, record: SessionRecord, deadline: str | None) -> bool:
        """Whether it was open, and has this deadline now."""
        with self._database.write() as tx:
            return tx.execute(_CHANGE.values(deadline=deadline), _key(record)).rowcount == 1

    def claim(self, record: SessionRecord) -> bool:
        """Whether it was open, and is ended by this call; the transaction around it says with what."""
        with self._database.write() as tx:
            return _CLAIM.change(tx, _key(record)) == 1

    def keep(self, record: SessionRecord) -> None:
        """It is over, and left tables."""
        with self._database.write() as tx:
            tx.execute(_KEEP.values(state=PARTIAL), _key(record))

    def keep_ended(self, record: SessionRecord) -> None:
        """It is over."""
        with self._database.write() as tx:
            tx.execute(_KEEP.values(state=ENDED), _key(record))

    def forget(self, records: Sequence[SessionRecord]) -> None:
        """Nothing is left of these."""
        with self._database.write() as tx:
            for record in records:
                _FORGET.change(tx, _key(record))


def _key(record: SessionRecord) -> dict[str, Any]:
    return {"owner": record.tenant, "id": record.session_id}


def _record(row: Any) -> SessionRecord:
    session_id, tenant, writer, state, created, deadline = row
    return SessionRecord(session_id=session_id, tenant=tenant, writer_id=writer, state=state, created_at=created, deadline=deadline)

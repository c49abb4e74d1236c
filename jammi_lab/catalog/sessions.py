"""Ephemeral sessions: their tenant, the kernel that holds them, and their deadline.

A session ends once, for whoever changes its row from open to another state, in the transaction that
drops its tables.
"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from jammi_lab.catalog import tenant_scope as scope
from jammi_lab.catalog.database import CompiledStatement, Database
from jammi_lab.catalog.row_mapping import RowMapping
from jammi_lab.catalog.schema import sessions
from jammi_lab.catalog.tenant_scope import TenantPredicate
from jammi_lab.core.value import Value

OPEN, ENDED, PARTIAL = "open", "ended", "partial"


class SessionRecord(Value, frozen=True, kw_only=True):
    """An ephemeral session."""

    session_id: str
    """32 hex digits; part of the names of its tables."""
    tenant: str
    writer_id: str
    """The handle of the workspace that opened it."""
    state: str = OPEN
    """`open`; `ended`: its tables are dropped, but the log may still contain their values;
    `partial`: some tables could not be dropped."""
    created_at: str
    deadline: str | None
    """When it ends by itself, RFC 3339; None is never."""


_s = sessions
_SESSION = RowMapping(_s, SessionRecord)
_id: sa.BindParameter[str] = sa.bindparam("id")
_LIST = CompiledStatement(
    scope.select_own(*_SESSION.columns, tables=_s).order_by(_s.c.created_at, _s.c.session_id)
)
_GET = CompiledStatement(
    scope.select_owned_by(*_SESSION.columns, tables=_s).where(_s.c.session_id == _id)
)
_UPDATE_OPEN = scope.update_owned_by(_s).where(
    _s.c.session_id == _id, _s.c.state == sa.literal_column(f"'{OPEN}'")
)
_CLAIM = CompiledStatement(_UPDATE_OPEN.values(state=sa.literal_column(f"'{ENDED}'")))
_UPDATE = scope.update_owned_by(_s).where(_s.c.session_id == _id)
_DELETE = CompiledStatement(scope.delete_owned_by(_s).where(_s.c.session_id == _id))
_INSERT = CompiledStatement(sa.insert(_s))


class SessionRepository:
    """The ephemeral sessions of the bound tenant."""

    def __init__(self, database: Database, active_scope: TenantPredicate) -> None:
        self._database, self._scope = database, active_scope

    def open(self, record: SessionRecord) -> None:
        """Store a new session. Raises TenantForbidden."""
        self._scope.check_owner(record.tenant, "The session")
        with self._database.write() as tx:
            _INSERT.execute(tx, _SESSION.encode(record))

    def list(self) -> list[SessionRecord]:
        """The sessions of the bound tenant, oldest first, including ended ones that left
        something."""
        return list(map(_SESSION.decode, self._database.fetch(_LIST, self._scope.parameters())))

    def get(self, session_id: str, tenant: str) -> SessionRecord | None:
        """The session of that id, whoever is bound."""
        rows = self._database.fetch(_GET, {"owner": tenant, "id": session_id})
        return _SESSION.decode(rows[0]) if rows else None

    def set_deadline(self, record: SessionRecord, deadline: str | None) -> bool:
        """Change the deadline of an open session; return whether it was open."""
        with self._database.write() as tx:
            return tx.execute(_UPDATE_OPEN.values(deadline=deadline), _key(record)).rowcount == 1

    def claim(self, record: SessionRecord) -> bool:
        """Mark an open session as ended; return whether this call did it. The surrounding
        transaction drops its tables."""
        with self._database.write() as tx:
            return _CLAIM.execute(tx, _key(record)) == 1

    def mark_partial(self, record: SessionRecord) -> None:
        """Mark a session as ended with tables left."""
        with self._database.write() as tx:
            tx.execute(_UPDATE.values(state=PARTIAL), _key(record))

    def mark_ended(self, record: SessionRecord) -> None:
        """Mark a session as ended."""
        with self._database.write() as tx:
            tx.execute(_UPDATE.values(state=ENDED), _key(record))

    def remove(self, records: Sequence[SessionRecord]) -> None:
        """Delete the rows of sessions of which nothing else is left."""
        with self._database.write() as tx:
            for record in records:
                _DELETE.execute(tx, _key(record))


def _key(record: SessionRecord) -> dict[str, Any]:
    return {"owner": record.tenant, "id": record.session_id}

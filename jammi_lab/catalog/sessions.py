"""Ephemeral sessions: their tenant, the kernel that holds them, and their deadline.

A session ends once, for whoever changes its row from open to another state, in the transaction that
drops its tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jammi_lab.catalog import tenant_scope as scope
from jammi_lab.catalog.connection import Statement
from jammi_lab.catalog.repository import ScopedRepository
from jammi_lab.catalog.row_mapping import RowMapping
from jammi_lab.catalog.schema import sessions
from jammi_lab.core.value import Value

OPEN, ENDED = "open", "ended"


class SessionRecord(Value, frozen=True, kw_only=True):
    """An ephemeral session."""

    session_id: str
    """32 hex digits; part of the names of its tables."""
    tenant: str
    writer_id: str
    """The handle of the workspace that opened it."""
    state: str = OPEN
    """`open`; or `ended`: the log may still contain values of its tables, and some tables may not
    have been dropped."""
    created_at: str
    deadline: str | None
    """When it ends by itself, RFC 3339; None is never."""


_SESSION = RowMapping(sessions, SessionRecord)
_OWN = f"{scope.owned_by('ephemeral_sessions')} AND ephemeral_sessions.session_id = :id"
_SELECT = f"SELECT {_SESSION.columns} FROM ephemeral_sessions"
_LIST = Statement(
    f"{_SELECT} WHERE {scope.owned_by_reader('ephemeral_sessions')} "
    "ORDER BY ephemeral_sessions.created_at, ephemeral_sessions.session_id"
)
_GET = Statement(f"{_SELECT} WHERE {_OWN}")
_INSERT = Statement(sessions.insert)
_SET_DEADLINE = Statement(
    f"UPDATE ephemeral_sessions SET deadline = :deadline WHERE {_OWN} AND state = '{OPEN}'"
)
_CLAIM = Statement(
    f"UPDATE ephemeral_sessions SET state = '{ENDED}' WHERE {_OWN} AND state = '{OPEN}'"
)
_DELETE = Statement(f"DELETE FROM ephemeral_sessions WHERE {_OWN}")


class SessionRepository(ScopedRepository):
    """The ephemeral sessions of the bound tenant."""

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
        return _SESSION.first(self._database.fetch(_GET, {"owner": tenant, "id": session_id}))

    def set_deadline(self, record: SessionRecord, deadline: str | None) -> bool:
        """Change the deadline of an open session; return whether it was open."""
        with self._database.write() as tx:
            return _SET_DEADLINE.execute(tx, _key(record) | {"deadline": deadline}) == 1

    def claim(self, record: SessionRecord) -> bool:
        """Mark an open session as ended; return whether this call did it. The surrounding
        transaction drops its tables."""
        with self._database.write() as tx:
            return _CLAIM.execute(tx, _key(record)) == 1

    def remove(self, records: Sequence[SessionRecord]) -> None:
        """Delete the rows of sessions of which nothing else is left."""
        with self._database.write() as tx:
            for record in records:
                _DELETE.execute(tx, _key(record))


def _key(record: SessionRecord) -> dict[str, Any]:
    return {"owner": record.tenant, "id": record.session_id}

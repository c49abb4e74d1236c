"""`EphemeralSession`, the handle of an ephemeral session: temporary tables whose values are removed
completely.

Names, limits and rules are those of jammi-db's ephemeral sessions. In addition a session is
durable, so that the next kernel ends the sessions of a dead one.
"""

import datetime
import re
import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from jammi_lab.catalog.logs import LogRecord
from jammi_lab.catalog.sessions import SessionRecord
from jammi_lab.core.clock import parse_rfc3339
from jammi_lab.core.errors import (
    DuplicateTable,
    InvalidArgument,
    NameInvalid,
    NameTooLong,
    SessionClosed,
    UnknownTable,
)
from jammi_lab.core.forms import form, listing_table
from jammi_lab.core.html import Rendered, ReprMixin, count_noun, plain_text
from jammi_lab.core.identifiers import near_names, quote_identifier
from jammi_lab.engine.sql.tokens import all_tokens
from jammi_lab.features.live.ephemeral_sessions import EphemeralSessions
from jammi_lab.features.live.open_session import OpenSession
from jammi_lab.inputs.row_input import SchemaLike

PREFIX = "__eph_"
MAX_NAME_LENGTH = 63
MAX_LOGICAL_NAME_LENGTH = MAX_NAME_LENGTH - len(PREFIX) - 32 - 1
PLACEHOLDER = b"{table}"
LOG_WARNING = (
    "Their values may remain in the catalog's log until readers of an older snapshot of the "
    "catalog finish; the log is emptied then."
)
_LOGICAL = re.compile(r"[a-z0-9_]+")

ReadStatement = Callable[[str, Mapping[str, Any]], Any]
"""Runs read-only statements in the scope of the bound tenant and returns the Result of the last
one."""


class EphemeralSession(ReprMixin):
    """Temporary tables of one tenant, removed when the session is closed or at its deadline; also a
    context manager.

    The session belongs to the tenant that was bound when it was opened. After its end every method
    except `close` raises SessionClosed.
    """

    def __init__(
        self, sessions: EphemeralSessions, session: OpenSession, read: ReadStatement
    ) -> None:
        self._sessions, self._session, self._read = sessions, session, read
        self._finalizer = weakref.finalize(self, sessions.close_later, session.record.session_id)
        self._finalizer.atexit = False  # the next open ends the sessions of an exited process

    @property
    def id(self) -> str:
        """32 hex digits."""
        return self._session.record.session_id

    @property
    def tenant(self) -> str:
        """The tenant that it belongs to."""
        return self._session.record.tenant

    @property
    def created_at(self) -> datetime.datetime:
        """When it was opened, UTC."""
        return parse_rfc3339(self._session.record.created_at)

    @property
    def deadline(self) -> datetime.datetime | None:
        """When it ends by itself, UTC; None is never."""
        return self._session.deadline

    @property
    def timeout(self) -> float | None:
        """The timeout in seconds with which it was opened; None is never."""
        return self._session.timeout

    @property
    def expired(self) -> bool:
        """Whether its deadline has passed."""
        return self._sessions.is_expired(self._session)

    @property
    def tables(self) -> dict[str, str]:
        """Logical → physical name of each table, in order of creation."""
        return dict(self._session.tables)

    def create(self, name: str, schema: SchemaLike, *, primary_key: str | Sequence[str]) -> None:
        """Create a table that lives as long as the session.

        Raises DuplicateTable, NameTooLong (more than 24 characters), NameInvalid (characters other
        than a-z, 0-9, _), SchemaMismatch and InvalidArgument for the schema and the key,
        SessionClosed.
        """
        with self._sessions.use(self._session):
            if name in self._session.tables:
                raise DuplicateTable(
                    f"The session already has a table {name!r}.",
                    name=name,
                    hint="Choose another name.",
                )
            physical = self._new_physical_name(name)
            self._sessions.create_table(self._session, physical, schema, primary_key)
            self._session.tables[name] = physical

    def insert(self, name: str, rows: Any) -> int:
        """Insert rows (a RecordBatch, a Table, a frame or a list of dicts), all or none; return how
        many.

        Raises UnknownTable, SchemaMismatch, DuplicateKey, InvalidArgument, SessionClosed.
        """
        with self._sessions.use(self._session):
            return self._sessions.insert(self._record(name), rows)

    def sql(
        self, name: str, text: str, params: Mapping[str, Any] | None = None, **named: Any
    ) -> Any:
        """Run read-only statements and return the rows of the last. `{table}` stands for a table of
        the session; within strings, comments and quoted names it is not replaced.

        The statements run in the scope of the session's tenant, whoever is bound. Raises
        UnknownTable, SessionClosed, InvalidArgument, StatementNotAllowed for a change, and as
        `ws.sql` does.
        """
        if not isinstance(text, str):
            raise InvalidArgument(f"sql must be a string, got {type(text).__name__}.")
        with self._sessions.use(self._session):
            result = self._read(
                fill_placeholder(text, self._sql_name(name)), {**(params or {}), **named}
            )
            # fetched at once: a deadline waits for running statements, but not for open results
            result.arrow()
            return result

    def count_rows(self, name: str) -> int:
        """The number of rows of a table. Raises UnknownTable, SessionClosed."""
        with self._sessions.use(self._session):
            return self._record(name).row_count

    def table_ref(self, name: str) -> str:
        """The SQL name of a table, for statements of the session's tenant. Raises UnknownTable,
        SessionClosed."""
        with self._sessions.use(self._session):
            return self._sql_name(name)

    def extend(self, seconds: float) -> None:
        """Move the deadline by that many seconds. Raises InvalidArgument, SessionClosed."""
        self._sessions.extend(self._session, seconds)

    def close(self) -> None:
        """Drop the tables and publish the end on the topic `jammi.audit.session_lifecycle.v1`.

        After this no value of the session is in any file of the workspace. While somebody reads an
        older snapshot of the catalog, its log still contains them: then close returns after five
        seconds with a RuntimeWarning, and the log is emptied when the readers finish. Closing
        again, also after the deadline, is safe and waits for that again. Raises
        PartialDeletionFailure with the tables that could not be dropped.
        """
        if not self._end():
            warnings.warn(
                f"The session has ended and its tables are dropped. {LOG_WARNING}",
                RuntimeWarning,
                stacklevel=2,
            )

    def _end(self) -> bool:
        """Close it; return whether nothing of it is left. Raises PartialDeletionFailure."""
        self._finalizer.detach()
        return self._sessions.close(self._session)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _new_physical_name(self, name: str) -> str:
        if not isinstance(name, str) or not name:
            raise NameInvalid("A table of a session needs a name.", name=str(name))
        if len(name) > MAX_LOGICAL_NAME_LENGTH:
            raise NameTooLong(name, MAX_LOGICAL_NAME_LENGTH)
        if not _LOGICAL.fullmatch(name):
            raise NameInvalid(f"Invalid table name {name!r}: use a-z, 0-9 and _.", name=name)
        return f"{PREFIX}{self.id}_{name}"

    def _record(self, name: str) -> LogRecord:
        physical = self._physical_name(name)
        record = self._sessions.find_table(physical)
        if record is None:
            raise SessionClosed(
                "The session has ended and its tables are dropped.",
                hint="Open a new session: ws.ephemeral().",
            )
        return record

    def _physical_name(self, name: str) -> str:
        physical = self._session.tables.get(name) if isinstance(name, str) else None
        if physical is None:
            suggestions = near_names(str(name), self._session.tables)
            hint = (
                f"It has {', '.join(self._session.tables)}."
                if self._session.tables
                else _CREATE_HINT
            )
            raise UnknownTable(
                f"The session has no table {name!r}.",
                name=str(name),
                near=suggestions,
                hint="" if suggestions else hint,
            )
        return physical

    def _sql_name(self, name: str) -> str:
        return f"mutable.{quote_identifier(self._physical_name(name))}"

    def _rendered(self) -> Rendered:
        state = "over" if self._session.ended else "open"
        facts = [("tables", ", ".join(self._session.tables))]
        return form(f"Ephemeral session of {self.tenant}: {state}", facts=facts)


_CREATE_HINT = "Create one first: s.create(name, schema, primary_key=[…])."


class SessionList(list["SessionInfo"], ReprMixin):
    """Open ephemeral sessions, oldest first."""

    __repr__ = ReprMixin.__repr__

    def _rendered(self) -> Rendered:
        if not self:
            return plain_text("No ephemeral session is open.")
        lines = [
            (each.tenant, ", ".join(each.tables), "no" if each.deadline is None else "yes")
            for each in self
        ]
        return listing_table(
            ["tenant", "tables", "ends at"],
            lines,
            aligned="lll",
            note=count_noun(len(lines), "open session"),
        )


class SessionInfo(ReprMixin):
    """An open ephemeral session of any kernel."""

    def __init__(self, record: SessionRecord, physical_names: Sequence[str]) -> None:
        self._record = record
        self.tables = {name[len(PREFIX) + 33 :]: name for name in physical_names}
        """Logical → physical name of each table."""

    @property
    def id(self) -> str:
        """32 hex digits."""
        return self._record.session_id

    @property
    def tenant(self) -> str:
        """The tenant that it belongs to."""
        return self._record.tenant

    @property
    def created_at(self) -> datetime.datetime:
        """When it was opened, UTC."""
        return parse_rfc3339(self._record.created_at)

    @property
    def deadline(self) -> datetime.datetime | None:
        """When it ends by itself, UTC; None is never."""
        return None if self._record.deadline is None else parse_rfc3339(self._record.deadline)

    def _rendered(self) -> Rendered:
        return SessionList([self])._rendered()


def fill_placeholder(text: str, reference: str) -> str:
    """The text with `{table}` replaced where it is a token of the statement: not in strings,
    comments or quoted names."""
    tokens = {position for position, _ in all_tokens(text)}
    encoded = text.encode("utf-8", "replace")
    parts, start = [], 0
    for match in re.finditer(re.escape(PLACEHOLDER), encoded):
        position = match.start()
        if {position, position + 1, position + len(PLACEHOLDER) - 1} <= tokens:
            parts += [encoded[start:position], reference.encode()]
            start = match.end()
    return b"".join([*parts, encoded[start:]]).decode("utf-8", "replace")

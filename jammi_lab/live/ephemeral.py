"""An ephemeral session as a person holds it: tables for a while, which leave nothing behind.

Names, limits and rules are those of jammi-db's ephemeral sessions. Beyond them a session is durable, so that the next kernel ends what a dead one
left.
"""

import datetime
import re
import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from jammi_lab import forms
from jammi_lab.catalog.sessions import SessionRecord
from jammi_lab.clock import from_rfc3339
from jammi_lab.engine.tokens import all_tokens
from jammi_lab.errors import DuplicateTable, InvalidArgument, NameInvalid, NameTooLong, SessionClosed, UnknownTable
from jammi_lab.live.schemas import SchemaLike
from jammi_lab.live.sessions import Held, Sessions
from jammi_lab.markup import Form, Shown, count, facts, plain
from jammi_lab.names import near, quote
from jammi_lab.values.mutables import MutableRecord

PREFIX = "__eph_"
MAX_NAME = 63
MAX_LOGICAL = MAX_NAME - len(PREFIX) - 32 - 1
PLACEHOLDER = b"{table}"
STILL_READ = "Their values may be in the catalog's log until whoever reads an older state of the catalog is done; then it is emptied."
_LOGICAL = re.compile(r"[a-z0-9_]+")

Read = Callable[[str, Mapping[str, Any]], Any]
"""Runs statements that read, in the bound tenant's scope, and gives the Result of the last one."""


class EphemeralSession(Shown):
    """Tables of one tenant that are gone when the session is closed, or at its deadline; also a context manager.

    It keeps the tenant that was bound when it was opened. Whatever is asked of it when it is over is SessionClosed, but `close`.
    """

    def __init__(self, sessions: Sessions, held: Held, read: Read) -> None:
        self._sessions, self._held, self._read = sessions, held, read
        self._finalizer = weakref.finalize(self, sessions.forget, held.record.session_id)
        self._finalizer.atexit = False  # the next open sweeps what a process leaves

    @property
    def id(self) -> str:
        """32 hex digits."""
        return self._held.record.session_id

    @property
    def tenant(self) -> str:
        """Whose it is."""
        return self._held.record.tenant

    @property
    def created_at(self) -> datetime.datetime:
        """When it was opened, UTC."""
        return from_rfc3339(self._held.record.created_at)

    @property
    def deadline(self) -> datetime.datetime | None:
        """When it ends by itself, UTC; None is never."""
        return self._held.deadline

    @property
    def timeout(self) -> float | None:
        """After how many seconds it was to end when it was opened; None is never."""
        return self._held.timeout

    @property
    def expired(self) -> bool:
        """Whether its deadline is past."""
        return self._sessions.expired(self._held)

    @property
    def tables(self) -> dict[str, str]:
        """Logical → physical name of each table, in the order in which they were made."""
        return dict(self._held.tables)

    def create(self, name: str, schema: SchemaLike, *, primary_key: str | Sequence[str]) -> None:
        """A table that lives as long as the session.

        Raises DuplicateTable, NameTooLong (more than 24 characters), NameInvalid (others than a-z, 0-9, _), SchemaMismatch and InvalidArgument for
        the schema and the key, SessionClosed.
        """
        with self._sessions.using(self._held):
            if name in self._held.tables:
                raise DuplicateTable(f"The session has a table {name!r} already.", name=name, hint="Choose another name.")
            physical = self._physical(name)
            self._sessions.create_table(self._held, physical, schema, primary_key)
            self._held.tables[name] = physical

    def insert(self, name: str, rows: Any) -> int:
        """How many rows were inserted: a RecordBatch, a Table, a frame or a list of dicts; all of them or none.

        Raises UnknownTable, SchemaMismatch, DuplicateKey, InvalidArgument, SessionClosed.
        """
        with self._sessions.using(self._held):
            return self._sessions.insert(self._record(name), rows)

    def sql(self, name: str, text: str, params: Mapping[str, Any] | None = None, **named: Any) -> Any:
        """The rows of statements that read, with `{table}` standing for a table of the session; within texts, comments and quoted names it is left.

        Whoever is bound, they run in the scope of the session's tenant. Raises UnknownTable, SessionClosed, InvalidArgument, StatementNotAllowed for
        a change, and as `ws.sql` does.
        """
        if not isinstance(text, str):
            raise InvalidArgument(f"A statement is a text, not a value of type {type(text).__name__}.")
        with self._sessions.using(self._held):
            result = self._read(filled(text, self._reference(name)), {**(params or {}), **named})
            result.arrow()  # the statement is over when this returns; a deadline waits for it, and it for nobody
            return result

    def count_rows(self, name: str) -> int:
        """How many rows a table has. UnknownTable; SessionClosed."""
        with self._sessions.using(self._held):
            return self._record(name).row_count

    def table_ref(self, name: str) -> str:
        """What SQL calls a table, for statements of the session's tenant. UnknownTable; SessionClosed."""
        with self._sessions.using(self._held):
            return self._reference(name)

    def extend(self, seconds: float) -> None:
        """Move the deadline by so many seconds. InvalidArgument; SessionClosed."""
        self._sessions.extend(self._held, seconds)

    def close(self) -> None:
        """Remove its tables, and tell it on the topic `jammi.audit.session_lifecycle.v1`. When this returns, no value of it is in any file of the
        workspace; but while somebody reads an older state of the catalog, the log keeps what they may need: after five seconds it returns with a
        RuntimeWarning, and the log is emptied when they are done. Closing twice, or what the deadline has closed, is fine, and waits for that again.
        PartialDeletionFailure names the tables that would not go."""
        if not self._end():
            warnings.warn(f"The session is over, and its tables are gone. {STILL_READ}", RuntimeWarning, stacklevel=2)

    def _end(self) -> bool:
        """Close it; whether nothing of it is left. PartialDeletionFailure."""
        self._finalizer.detach()
        return self._sessions.close(self._held)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _physical(self, name: str) -> str:
        if not isinstance(name, str) or not name:
            raise NameInvalid("A table of a session needs a name.", name=str(name))
        if len(name) > MAX_LOGICAL:
            raise NameTooLong(name, MAX_LOGICAL)
        if not _LOGICAL.fullmatch(name):
            raise NameInvalid(f"A table of a session cannot be called {name!r}: use a-z, 0-9 and _.", name=name)
        return f"{PREFIX}{self.id}_{name}"

    def _record(self, name: str) -> MutableRecord:
        physical = self._known(name)
        record = self._sessions.record(physical)
        if record is None:
            raise SessionClosed("The session is over: its tables are gone.", hint="Open another one: ws.ephemeral().")
        return record

    def _known(self, name: str) -> str:
        physical = self._held.tables.get(name) if isinstance(name, str) else None
        if physical is None:
            like = near(str(name), self._held.tables)
            hint = f"It has {', '.join(self._held.tables)}." if self._held.tables else _FIRST
            raise UnknownTable(f"The session has no table {name!r}.", name=str(name), near=like, hint="" if like else hint)
        return physical

    def _reference(self, name: str) -> str:
        return f"mutable.{quote(self._known(name))}"

    def _form(self) -> Form:
        state = "over" if self._held.ended else "open"
        return facts(f"Ephemeral session of {self.tenant}: {state}", [("tables", ", ".join(self._held.tables))])


_FIRST = "Make one first: s.create(name, schema, primary_key=[…])."


class SessionList(list["SessionInfo"], Shown):
    """Open ephemeral sessions, oldest first."""

    __repr__ = Shown.__repr__

    def _form(self) -> Form:
        if not self:
            return plain("No ephemeral session is open.")
        lines = [(each.tenant, ", ".join(each.tables), "no" if each.deadline is None else "yes") for each in self]
        return forms.listing(["tenant", "tables", "ends by itself"], lines, aligned="lll", note=count(len(lines), "open session"))


class SessionInfo(Shown):
    """An open ephemeral session, of whichever kernel."""

    def __init__(self, record: SessionRecord, physical: Sequence[str]) -> None:
        self._record = record
        self.tables = {name[len(PREFIX) + 33 :]: name for name in physical}
        """Logical → physical name of each table."""

    @property
    def id(self) -> str:
        """32 hex digits."""
        return self._record.session_id

    @property
    def tenant(self) -> str:
        """Whose it is."""
        return self._record.tenant

    @property
    def created_at(self) -> datetime.datetime:
        """When it was opened, UTC."""
        return from_rfc3339(self._record.created_at)

    @property
    def deadline(self) -> datetime.datetime | None:
        """When it ends by itself, UTC; None is never."""
        return None if self._record.deadline is None else from_rfc3339(self._record.deadline)

    def _form(self) -> Form:
        return SessionList([self])._form()


def filled(text: str, reference: str) -> str:
    """The text with `{table}` replaced where it is a word of the statement: not in texts, comments, or quoted names."""
    tokens = {at for at, _ in all_tokens(text)}
    raw = text.encode("utf-8", "replace")
    parts, start = [], 0
    for found in re.finditer(re.escape(PLACEHOLDER), raw):
        at = found.start()
        if {at, at + 1, at + len(PLACEHOLDER) - 1} <= tokens:
            parts += [raw[start:at], reference.encode()]
            start = found.end()
    return b"".join([*parts, raw[start:]]).decode("utf-8", "replace")

"""Extensions, attached databases and scoped secrets of one tenant's DuckDB instance.

They are loaded on first use, when a relation that needs them is described, queried or run:
`Requirements.extensions` are loaded, `Requirements.attachment` is attached under its alias. A
lasting attachment (a server) stays until its key is forgotten, another attachment of the same key
replaces it, or the instance closes. Any other (a file) is detached when its last statement ends, so
that its owner can write again.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import duckdb

from jammi_lab.core.errors import JammiError, SourceUnavailable
from jammi_lab.engine.duckdb_messages import parse_error
from jammi_lab.sources import attach, duckdb_extensions
from jammi_lab.sources.base import Attachment, Relation, ScopedSecret

MAX_UNANSWERED_QUERIES = 4
"""With this many abandoned queries unanswered, a server gets no further query."""


@dataclass(eq=False)
class _Entry:
    needed: Attachment | ScopedSecret
    lock: threading.Lock = field(default_factory=threading.Lock)
    attached: bool = False
    users: int = 0
    detach_when_unused: bool = False
    """Whether to detach it after its last user, although it is lasting."""
    abandoned: list[threading.Event] = field(default_factory=list)
    """Of abandoned queries, set when the server has answered them."""


class Attachments:
    """The extensions and attachments of one DuckDB instance. Thread-safe; each thread passes its
    own cursor."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loaded: set[str] = set()
        self._entries: dict[str, _Entry] = {}

    @property
    def aliases(self) -> list[str]:
        """The aliases of what is attached now."""
        with self._lock:
            return [alias for alias, entry in self._entries.items() if entry.attached]

    @contextmanager
    def use(self, cursor: duckdb.DuckDBPyConnection, relation: Relation) -> Iterator[None]:
        """Load and attach what a relation needs, on that cursor, for one block.

        Raises ExtensionMissing, SourceUnavailable, duckdb.Error, and the errors that
        `Relation.explain` makes of DuckDB's messages.
        """
        required = relation.requirements
        self._load(cursor, required.extensions)
        needed = required.scoped_secret or required.attachment
        if needed is None:
            yield
            return
        entry = self._add_user(cursor, needed)
        try:
            try:
                self._attach(cursor, entry)
            except duckdb.Error as error:
                message = parse_error(error).message
                explained = None if relation.explain is None else relation.explain(message)
                raise explained or error from None
            yield
        finally:
            self._remove_user(cursor, entry)

    def _attach(self, cursor: duckdb.DuckDBPyConnection, entry: _Entry) -> None:
        needed = entry.needed
        with entry.lock:
            if entry.attached:
                return
            if needed.extension is not None:
                self._load(cursor, (needed.extension,))
            if isinstance(needed, ScopedSecret):
                attach.create_secret(cursor, needed)
            else:
                attach.attach(cursor, needed)
            entry.attached = True

    def record_abandoned(self, attachment: Attachment, has_ended: threading.Event) -> None:
        """Record that a query to the server was abandoned."""
        with self._lock:
            if (entry := self._entries.get(attachment.alias)) is not None:
                entry.abandoned.append(has_ended)

    def detach(self, cursor: duckdb.DuckDBPyConnection, key: str, except_alias: str = "") -> None:
        """Detach every attachment of a key except `except_alias`: now, or after its last user."""
        with self._lock:
            entries = [
                entry
                for alias, entry in self._entries.items()
                if entry.needed.key == key and alias != except_alias
            ]
            for entry in entries:
                entry.detach_when_unused = True
        for entry in entries:
            self._detach_if_unused(cursor, entry)

    def _load(self, cursor: duckdb.DuckDBPyConnection, extensions: tuple[str, ...]) -> None:
        if missing := [name for name in extensions if name not in self._loaded]:
            duckdb_extensions.load(cursor, missing)
            self._loaded.update(missing)

    def _add_user(
        self, cursor: duckdb.DuckDBPyConnection, needed: Attachment | ScopedSecret
    ) -> _Entry:
        self.detach(cursor, needed.key, except_alias=needed.alias)
        with self._lock:
            entry = self._entries.setdefault(needed.alias, _Entry(needed))
            entry.abandoned = [each for each in entry.abandoned if not each.is_set()]
            if len(entry.abandoned) >= MAX_UNANSWERED_QUERIES:
                raise unresponsive_error()
            entry.users += 1
            entry.detach_when_unused = False
            return entry

    def _remove_user(self, cursor: duckdb.DuckDBPyConnection, entry: _Entry) -> None:
        with self._lock:
            entry.users -= 1
        self._detach_if_unused(cursor, entry)

    def _detach_if_unused(self, cursor: duckdb.DuckDBPyConnection, entry: _Entry) -> None:
        with self._lock:
            # Only the last user goes on: an earlier one whose server never answers may still hold
            # the entry's lock.
            if entry.users:
                return
        with entry.lock:  # a new user that arrives meanwhile waits for this lock, then re-attaches
            with self._lock:
                still_needed = entry.users or (
                    entry.attached and entry.needed.persistent and not entry.detach_when_unused
                )
            if still_needed:
                return
            if entry.attached:
                if isinstance(entry.needed, ScopedSecret):
                    attach.drop_secret(cursor, entry.needed.alias)
                else:
                    attach.detach(cursor, entry.needed)
                entry.attached = False
            with self._lock:
                if not entry.users and self._entries.get(entry.needed.alias) is entry:
                    del self._entries[entry.needed.alias]


class QueryTimeout:
    """The timeout of one query to a server. A server that does not answer makes its own source
    unavailable, not the tenant's instance."""

    def __init__(self, attachment: Attachment | None, seconds: float | None) -> None:
        self._attachment, self._seconds = attachment, seconds
        self._deadline = None if seconds is None else time.monotonic() + seconds
        self._has_ended = threading.Event()

    def __enter__(self) -> None:
        """Called in the worker when it starts."""

    def __exit__(self, *_: object) -> None:
        """Called in the worker when it ends, whether or not anybody still waits."""
        self._has_ended.set()

    def check_timeout(self) -> None:
        """Raise SourceUnavailable when the time is up."""
        if self._deadline is not None and time.monotonic() > self._deadline:
            raise unresponsive_error(self._seconds)

    def abandon(self, attachments: Attachments) -> bool:
        """Abandon the worker. False when there is no attachment to charge it to, so that the whole
        instance must be retired."""
        if self._attachment is None:
            return False
        attachments.record_abandoned(self._attachment, self._has_ended)
        return True


def unresponsive_error(seconds: float | None = None) -> JammiError:
    """The error for a server that accepts connections but does not answer."""
    within = "" if seconds is None else f" within {seconds:g} s"
    return SourceUnavailable(
        f"The server does not respond{within}.", hint="Check whether it is overloaded or stopped."
    )

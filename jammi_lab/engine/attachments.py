"""Extensions, attached databases and scoped secrets of one tenant's DuckDB instance.

They are loaded on first use, when a relation that needs them is described, queried or run:
`Requirements.extensions` are loaded, `Requirements.attachment` is attached under its alias. A
lasting attachment (a server) stays until its key is forgotten, another attachment of the same key
replaces it, or the instance closes. Any other (a file) is detached when its last statement ends, so
that its owner can write again.
"""

import functools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import duckdb

from jammi_lab.core.errors import JammiError, SourceUnavailable
from jammi_lab.engine.duckdb_messages import parse_error
from jammi_lab.engine.server_silence import SilenceWatch
from jammi_lab.sources import attach, duckdb_extensions
from jammi_lab.sources.base import Attachment, Relation, ScopedSecret

UNANSWERED_GRACE_SECONDS = 0.5
"""How long a new query waits for abandoned earlier ones to answer before it assumes that the server
has stopped."""
MAX_UNANSWERED_QUERIES = 4
"""With this many abandoned queries unanswered, a server gets no further query, even if it accepts
connections."""


@dataclass(eq=False)
class _Entry:
    attachment: Attachment
    lock: threading.Lock = field(default_factory=threading.Lock)
    attached: bool = False
    users: int = 0
    detach_when_unused: bool = False
    """Whether to detach it after its last user, although it is lasting."""
    unanswered: int = 0
    """The number of abandoned queries that the server has not answered yet."""


class Attachments:
    """The extensions and attachments of one DuckDB instance. Thread-safe; each thread passes its
    own cursor."""

    def __init__(self, read_timeout_seconds: Callable[[], float]) -> None:
        """`read_timeout_seconds` is the longest silence of a server within an answer."""
        self._lock = threading.Lock()
        self._answered = threading.Condition(self._lock)
        self._loaded: set[str] = set()
        self._entries: dict[str, _Entry] = {}
        self._secret_users: dict[str, int] = {}
        self.connector_state: dict[str, Any] = {}
        """The instance's store for connectors, exposed as `Query.connector_state`."""
        self._read_timeout_seconds = read_timeout_seconds

    @functools.cached_property
    def silence_watch(self) -> SilenceWatch:
        """The watch over the attached servers."""
        return SilenceWatch(self._read_timeout_seconds, self._attached_now)

    def check_silence(self) -> None:
        """End the reads from servers that have waited for too long."""
        if self._entries:
            self.silence_watch.check()

    @property
    def aliases(self) -> list[str]:
        """The aliases of what is attached now."""
        return [attachment.alias for attachment in self._attached_now()]

    def _attached_now(self) -> list[Attachment]:
        with self._lock:
            return [entry.attachment for entry in self._entries.values() if entry.attached]

    def use(
        self, cursor: duckdb.DuckDBPyConnection, requirement: Relation | Attachment
    ) -> Callable[[], None]:
        """Load and attach what a relation needs, on that cursor. Returns the function that ends
        this use.

        Raises ExtensionMissing, SourceUnavailable, duckdb.Error, and the errors that
        `Relation.explain` makes of DuckDB's messages.
        """
        attachment = (
            requirement
            if isinstance(requirement, Attachment)
            else requirement.requirements.attachment
        )
        if isinstance(requirement, Relation):
            self._load(cursor, requirement.requirements.extensions)
            if requirement.requirements.scoped_secret is not None:
                return self._use_secret(cursor, requirement.requirements.scoped_secret)
        if attachment is None:
            return lambda: None
        entry = self._add_user(cursor, attachment)
        try:
            with entry.lock:
                if not entry.attached:
                    if attachment.extension is not None:
                        self._load(cursor, (attachment.extension,))
                    attach.attach(cursor, attachment)
                    entry.attached = True
        except BaseException as error:
            self._remove_user(cursor, entry)
            if (
                isinstance(error, duckdb.Error)
                and isinstance(requirement, Relation)
                and requirement.explain
                and (explained := requirement.explain(parse_error(error).message))
            ):
                raise explained from None
            raise
        return lambda: self._remove_user(cursor, entry)

    @contextmanager
    def using(
        self, cursor: duckdb.DuckDBPyConnection, requirement: Relation | Attachment | None
    ) -> Iterator[None]:
        """`use` as a context manager; None needs nothing."""
        end_use = None if requirement is None else self.use(cursor, requirement)
        try:
            yield
        finally:
            if end_use is not None:
                end_use()

    def record_unanswered(self, attachment: Attachment) -> Callable[[], None]:
        """Record that a query to the server was abandoned. Until the returned function is called,
        other queries wait for the server at most `UNANSWERED_GRACE_SECONDS`."""
        with self._lock:
            entry = self._entries.get(attachment.alias)
            if entry is None:
                return lambda: None
            entry.unanswered += 1

        def record_answer() -> None:
            with self._lock:
                entry.unanswered -= 1
                self._answered.notify_all()

        return record_answer

    def detach(self, cursor: duckdb.DuckDBPyConnection, key: str, except_alias: str = "") -> None:
        """Detach every attachment of a key except `except_alias`: now, or after its last user."""
        with self._lock:
            entries = [
                entry
                for alias, entry in self._entries.items()
                if entry.attachment.key == key and alias != except_alias
            ]
            for entry in entries:
                entry.detach_when_unused = True
        for entry in entries:
            self._detach_if_unused(cursor, entry)

    def _use_secret(
        self, cursor: duckdb.DuckDBPyConnection, secret: ScopedSecret
    ) -> Callable[[], None]:
        """Create a scoped secret in DuckDB; it is dropped after its last user."""
        name = secret.name
        with self._lock:
            if not self._secret_users.get(name):
                self._load(cursor, (secret.extension,))
                attach.create_secret(cursor, secret)
            self._secret_users[name] = self._secret_users.get(name, 0) + 1

        def drop_use() -> None:
            with self._lock:
                self._secret_users[name] -= 1
                if not self._secret_users[name]:
                    del self._secret_users[name]
                    attach.drop_secret(cursor, name)

        return drop_use

    def _load(self, cursor: duckdb.DuckDBPyConnection, extensions: tuple[str, ...]) -> None:
        if missing := [name for name in extensions if name not in self._loaded]:
            duckdb_extensions.load(cursor, missing)
            self._loaded.update(missing)

    def _add_user(self, cursor: duckdb.DuckDBPyConnection, attachment: Attachment) -> _Entry:
        self.detach(cursor, attachment.key, except_alias=attachment.alias)
        with self._lock:
            self._answered.wait_for(
                lambda: not self._unanswered_queries(attachment.alias), UNANSWERED_GRACE_SECONDS
            )  # a server that has recovered answers those first
            unanswered = self._unanswered_queries(attachment.alias)
        if unanswered >= MAX_UNANSWERED_QUERIES or (unanswered and not attach.responds(attachment)):
            raise unresponsive_error()
        with self._lock:
            entry = self._entries.setdefault(attachment.alias, _Entry(attachment))
            entry.users += 1
            entry.detach_when_unused = False
            return entry

    def _unanswered_queries(self, alias: str) -> int:
        """The number of abandoned queries to it without an answer."""
        entry = self._entries.get(alias)
        return 0 if entry is None else entry.unanswered

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
                    entry.attached and entry.attachment.persistent and not entry.detach_when_unused
                )
            if still_needed:
                return
            if entry.attached:
                attach.detach(cursor, entry.attachment)
                entry.attached = False
            with self._lock:
                if not entry.users and self._entries.get(entry.attachment.alias) is entry:
                    del self._entries[entry.attachment.alias]


class QueryTimeout:
    """The timeout of one query to a server. A server that does not answer makes its own source
    unavailable, not the tenant's instance."""

    def __init__(
        self, attachments: Attachments, attachment: Attachment | None, seconds: float | None
    ) -> None:
        self._attachments, self._attachment, self._seconds = attachments, attachment, seconds
        self._deadline = None if seconds is None else time.monotonic() + seconds
        self._unanswered: list[Callable[[], None]] = []
        self._worker_ended = False

    def __enter__(self) -> None:
        """Called in the worker when it starts."""

    def __exit__(self, *_: object) -> None:
        """Called in the worker when it ends, whether or not anybody still waits."""
        self._worker_ended = True
        self._record_answers()

    def check_timeout(self) -> None:
        """Raise SourceUnavailable when the time is up."""
        if self._deadline is not None and time.monotonic() > self._deadline:
            raise unresponsive_error(self._seconds)

    def abandon(self) -> bool:
        """Abandon the worker. False when there is no attachment to charge it to, so that the whole
        instance must be retired."""
        if self._attachment is None:
            return False
        self._unanswered.append(self._attachments.record_unanswered(self._attachment))
        if self._worker_ended:
            self._record_answers()
        return True

    def _record_answers(self) -> None:
        while self._unanswered:
            self._unanswered.pop()()


def unresponsive_error(seconds: float | None = None) -> JammiError:
    """The error for a server that accepts connections but does not answer."""
    within = "" if seconds is None else f" within {seconds:g} s"
    return SourceUnavailable(
        f"The server does not respond{within}.", hint="Check whether it is overloaded or stopped."
    )

"""What the instance of one tenant has loaded and attached for the bodies of relations.

Nothing of it is done before a relation that needs it is described, queried or run: `Relation.extensions` are loaded, `Relation.attachment` is
attached under its alias. A lasting attachment (a server) stays until its key is forgotten, another one of its key comes, or the instance closes; any
other (a file) is detached as soon as the last statement that uses it is over, so that its owner can write.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import duckdb

from jammi_lab.engine.faults import read_fault
from jammi_lab.errors import JammiError, SourceUnavailable
from jammi_lab.sources import attaching, extensions
from jammi_lab.sources.base import Attachment, Relation, ScopedSecret

GRACE = 0.5
"""How many seconds a question waits for the answers to earlier ones that were given up, before the server is taken for stopped."""
MOST_SILENT = 4
"""With so many questions given up and still without an answer, a server is asked nothing more, even if it takes connections."""


@dataclass(eq=False)
class _Entry:
    attachment: Attachment
    lock: threading.Lock = field(default_factory=threading.Lock)
    attached: bool = False
    users: int = 0
    unwanted: bool = False
    """Whether it goes when its last user is gone, although it is a lasting one."""
    silent: int = 0
    """How many questions to it were given up and are still without an answer."""


class Attachments:
    """The extensions and attachments of one DuckDB instance. Safe from several threads, each with a cursor of its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answered = threading.Condition(self._lock)
        self._loaded: set[str] = set()
        self._entries: dict[str, _Entry] = {}
        self._told_to: dict[str, int] = {}
        self.memory: dict[str, Any] = {}
        """`Asking.memory`."""

    @property
    def aliases(self) -> list[str]:
        """What is attached now."""
        return [alias for alias, entry in self._entries.items() if entry.attached]

    def use(self, cursor: duckdb.DuckDBPyConnection, needs: Relation | Attachment) -> Callable[[], None]:
        """Load and attach what is needed, on that cursor; what is returned says that this use is over. ExtensionMissing, SourceUnavailable,
        duckdb.Error; what `Relation.explain` makes of DuckDB's words."""
        attachment = needs if isinstance(needs, Attachment) else needs.attachment
        if isinstance(needs, Relation):
            self._load(cursor, needs.extensions)
            if needs.scoped is not None:
                return self._told(cursor, needs.scoped)
        if attachment is None:
            return lambda: None
        entry = self._taken(cursor, attachment)
        try:
            with entry.lock:
                if not entry.attached:
                    if attachment.extension is not None:
                        self._load(cursor, (attachment.extension,))
                    attaching.attach(cursor, attachment)
                    entry.attached = True
        except BaseException as error:
            self._left(cursor, entry)
            if (
                isinstance(error, duckdb.Error)
                and isinstance(needs, Relation)
                and needs.explain
                and (said := needs.explain(read_fault(error).message))
            ):
                raise said from None
            raise
        return lambda: self._left(cursor, entry)

    @contextmanager
    def using(self, cursor: duckdb.DuckDBPyConnection, needs: Relation | Attachment | None) -> Iterator[None]:
        """The same for one block."""
        left = None if needs is None else self.use(cursor, needs)
        try:
            yield
        finally:
            if left is not None:
                left()

    def silent(self, attachment: Attachment) -> Callable[[], None]:
        """Note that a question to it was given up; until what is returned is called, nobody else waits for it longer than `GRACE`."""
        with self._lock:
            entry = self._entries.get(attachment.alias)
            if entry is None:
                return lambda: None
            entry.silent += 1

        def answered() -> None:
            with self._lock:
                entry.silent -= 1
                self._answered.notify_all()

        return answered

    def forget(self, cursor: duckdb.DuckDBPyConnection, key: str, but: str = "") -> None:
        """Detach what is attached under a key (but for one alias): at once, or when its last user is gone."""
        with self._lock:
            entries = [entry for alias, entry in self._entries.items() if entry.attachment.key == key and alias != but]
            for entry in entries:
                entry.unwanted = True
        for entry in entries:
            self._leave(cursor, entry)

    def _told(self, cursor: duckdb.DuckDBPyConnection, secret: ScopedSecret) -> Callable[[], None]:
        """Make a scoped credential; it goes with its last user."""
        with self._lock:
            if not self._told_to.get(secret.name):
                self._load(cursor, (secret.extension,))
                attaching.tell(cursor, secret)
            self._told_to[secret.name] = self._told_to.get(secret.name, 0) + 1

        def left() -> None:
            with self._lock:
                self._told_to[secret.name] -= 1
                if not self._told_to[secret.name]:
                    del self._told_to[secret.name]
                    attaching.untell(cursor, secret)

        return left

    def _load(self, cursor: duckdb.DuckDBPyConnection, names: tuple[str, ...]) -> None:
        if missing := [name for name in names if name not in self._loaded]:
            extensions.load(cursor, missing)
            self._loaded.update(missing)

    def _taken(self, cursor: duckdb.DuckDBPyConnection, attachment: Attachment) -> _Entry:
        self.forget(cursor, attachment.key, but=attachment.alias)
        with self._lock:
            self._answered.wait_for(lambda: not self._silent(attachment.alias), GRACE)  # a server that is back answers those first
            silent = self._silent(attachment.alias)
        if silent >= MOST_SILENT or (silent and not attaching.answers(attachment)):
            raise does_not_answer()
        with self._lock:
            entry = self._entries.setdefault(attachment.alias, _Entry(attachment))
            entry.users += 1
            entry.unwanted = False
            return entry

    def _silent(self, alias: str) -> int:
        """How many earlier questions to it are without an answer."""
        entry = self._entries.get(alias)
        return 0 if entry is None else entry.silent

    def _left(self, cursor: duckdb.DuckDBPyConnection, entry: _Entry) -> None:
        with self._lock:
            entry.users -= 1
        self._leave(cursor, entry)

    def _leave(self, cursor: duckdb.DuckDBPyConnection, entry: _Entry) -> None:
        with self._lock:
            if entry.users:  # the last of them comes here; until then one whose server never answers may hold the lock of the entry
                return
        with entry.lock:  # whoever comes meanwhile waits here, and then attaches it again
            with self._lock:
                wanted = entry.users or (entry.attached and entry.attachment.lasting and not entry.unwanted)
            if wanted:
                return
            if entry.attached:
                attaching.detach(cursor, entry.attachment)
                entry.attached = False
            with self._lock:
                if not entry.users and self._entries.get(entry.attachment.alias) is entry:
                    del self._entries[entry.attachment.alias]


class Patience:
    """How long one question to a server is waited for. A server that gives no answer costs its own source, not the tenant's instance."""

    def __init__(self, attachments: Attachments, attachment: Attachment | None, seconds: float | None) -> None:
        self._attachments, self._attachment, self._seconds = attachments, attachment, seconds
        self._until = None if seconds is None else time.monotonic() + seconds
        self._given_up: list[Callable[[], None]] = []
        self._over = False

    def __enter__(self) -> None:
        """The worker begins."""

    def __exit__(self, *_: object) -> None:
        """The worker is over, whoever still waits for it."""
        self._over = True
        self._settle()

    def tick(self) -> None:
        """SourceUnavailable when the time is up."""
        if self._until is not None and time.monotonic() > self._until:
            raise does_not_answer(self._seconds)

    def give_up(self) -> bool:
        """Leave the worker behind; whether that is all there is to do."""
        if self._attachment is None:
            return False
        self._given_up.append(self._attachments.silent(self._attachment))
        if self._over:
            self._settle()
        return True

    def _settle(self) -> None:
        while self._given_up:
            self._given_up.pop()()


def does_not_answer(seconds: float | None = None) -> JammiError:
    """The error for a server that is there and gives no answer."""
    within = "" if seconds is None else f" within {seconds:g} s"
    return SourceUnavailable(f"The server does not answer{within}.", hint="Look whether it is overloaded, or stopped.")

"""The open handles of a workspace ("writers"), and which of them are alive.

Each open handle holds a lock (`writer_locks.py`) that its death releases. A stopped or suspended
process counts as alive, so there are no timeouts. The lock only shows liveness; the compare-and-set
of `table_status.py` prevents publishing another writer's row.
"""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import socket
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jammi_lab.catalog.connection import AllTenantsStatement, Connection, Statement
from jammi_lab.catalog.database import Database
from jammi_lab.catalog.row_mapping import RowMapping
from jammi_lab.catalog.schema import writers
from jammi_lab.catalog.writer_locks import Lock, Locks
from jammi_lab.core.clock import Clock, rfc3339
from jammi_lab.core.value import Value


class WriterRecord(Value, frozen=True, kw_only=True):
    """One open handle of a workspace."""

    writer_id: str
    host: str
    boot_id: str
    """Identifies one boot of a machine."""
    pid: int
    started_at: str
    retired_at: str | None = None
    """When it was closed or found dead."""


_WRITER = RowMapping(writers, WriterRecord)
_LIST = Statement(
    f"SELECT {_WRITER.columns} FROM writers ORDER BY writers.started_at, writers.writer_id"
)
_GET = Statement(f"SELECT {_WRITER.columns} FROM writers WHERE writers.writer_id = :id")
_UNRETIRED = Statement("SELECT writers.writer_id FROM writers WHERE writers.retired_at IS NULL")
_UNSETTLED = AllTenantsStatement(
    "SELECT DISTINCT result_tables.writer_id FROM result_tables "
    "WHERE result_tables.status IN ('building', 'deleting')"
)
_REVIVE = Statement("UPDATE writers SET retired_at = NULL WHERE writers.writer_id = :id")
_RETIRE = Statement(
    "UPDATE writers SET retired_at = :now "
    "WHERE writers.writer_id = :id AND writers.retired_at IS NULL"
)
_REGISTER = Statement(writers.insert)
_RETIRED_BEFORE = Statement(
    "SELECT writers.writer_id FROM writers WHERE writers.retired_at < :before"
)
_DELETE = Statement(
    "DELETE FROM writers WHERE writers.writer_id = :id AND writers.retired_at IS NOT NULL"
)
RETIRED_ROW_SECONDS = 3600
"""How long the row of a closed or dead writer is kept for whoever asks who was here."""


class Writers:
    """The writers of a workspace. The locks that this object holds end with `close()` or with the
    process."""

    def __init__(self, database: Database, locks: Locks, clock: Clock) -> None:
        self._database, self.lock_store, self._clock = database, locks, clock
        self.held_locks: dict[str, Lock] = {}
        self._own_rows: dict[str, dict[str, Any]] = {}

    def register(self) -> str:
        """Register a new writer and return its id. Its lock is held from before anybody can see it
        until `retire`."""
        writer_id, lock = self._create_lock()
        row = WriterRecord(
            writer_id=writer_id,
            host=socket.gethostname(),
            boot_id=boot_id(),
            pid=os.getpid(),
            started_at=rfc3339(self._clock.now_ns()),
        ).to_dict()
        self._database.dialect.acknowledge_commits()
        try:
            with self._database.write() as tx:
                _REGISTER.execute(tx, row)
        except BaseException:
            lock.release(remove=True)
            raise
        self.held_locks[writer_id], self._own_rows[writer_id] = lock, row
        return writer_id

    def _create_lock(self) -> tuple[str, Lock]:
        while True:
            writer_id = f"w{self._clock.token(16)}"
            with contextlib.suppress(BlockingIOError):
                return writer_id, self.lock_store.create(writer_id)

    def retire(self, writer_id: str) -> None:
        """End a writer of this process: mark its row, then remove and release its lock."""
        self._mark_retired(writer_id)
        self._own_rows.pop(writer_id, None)
        if (lock := self.held_locks.pop(writer_id, None)) is not None:
            lock.release(remove=True)

    def reacquire_lost(self) -> None:
        """Acquire again locks that were lost without a death, and mark their writers as active.
        Does nothing otherwise.

        Another kernel may have cleaned up what these writers were building meanwhile. Raises
        SourceUnavailable.
        """
        if self.lock_store.reacquire_lost():
            with self._database.write() as tx:
                for writer_id in self.held_locks:
                    if _REVIVE.execute(tx, {"id": writer_id}) == 0:
                        _REGISTER.execute(tx, self._own_rows[writer_id])

    def write_note(self, note: str) -> None:
        """Attach a note to the locks held here, replacing the last; it may be lost. Errors of a
        full disk or a server are ignored."""
        for lock in list(self.held_locks.values()):
            with contextlib.suppress(Exception):
                lock.write_note(note)

    def read_note(self, writer_id: str) -> tuple[float, str] | None:
        """The age in seconds and the text of the last note of a writer or of the holder of a named
        lock; None when there is none or it cannot be read."""
        with contextlib.suppress(Exception):
            return self.lock_store.read_note(writer_id)
        return None

    def try_acquire_named(self, name: str) -> Lock | None:
        """Acquire the named lock for one piece of work; None when somebody else holds it. `name`
        consists of letters and digits. Raises OSError, SourceUnavailable."""
        return self.lock_store.try_acquire_named(name)

    def is_alive(self, writer_id: str) -> bool:
        """Whether anybody, this process included, holds the writer's lock. A stopped process is
        alive; a missing lock file means dead."""
        return writer_id in self.held_locks or self.lock_store.is_held(writer_id)

    def get(self, writer_id: str) -> WriterRecord | None:
        """The writer of that id, retired or not."""
        return _WRITER.first(self._database.fetch(_GET, {"id": writer_id}))

    def list(self) -> list[WriterRecord]:
        """Every writer, oldest first."""
        return list(map(_WRITER.decode, self._database.fetch(_LIST, {})))

    def suspects(self) -> Sequence[str]:
        """Writers, other than those of this process, that are not retired or have building or
        deleting rows. Only their locks are worth testing."""
        with self._database.read() as tx:
            ids = {row[0] for row in _UNRETIRED.fetch(tx, {})} | {
                row[0] for row in _UNSETTLED.fetch(tx, {})
            }
        return sorted(ids - set(self.held_locks) - {""})

    def dead_writers(self) -> Iterator[str]:
        """Iterate over the dead writers. Each one's lock is held while the caller cleans up its
        rows; at the next step it is retired and its lock file removed.

        A writer at which the caller leaves the loop (exception, break) is released unchanged, and
        is found again.
        """
        for writer_id in self.suspects():
            with self.hold_dead(writer_id) as dead:
                if dead:
                    yield writer_id

    def remove_leftover_locks(self) -> None:
        """Remove lock files that nobody holds and nobody will ask for: of writers that died before
        they were registered or after they retired, and of named locks.

        The files are listed before the catalog is queried: a writer registered meanwhile holds its
        lock, or is a suspect if it died. Raises OSError.
        """
        if self._database.read_only or not (
            leftover := self.lock_store.leftover_ids() - set(self.held_locks)
        ):
            return
        for writer_id in sorted(leftover.difference(self.suspects())):
            with contextlib.suppress(FileNotFoundError):
                if (lock := self.lock_store.try_acquire(writer_id)) is not None:
                    lock.release(remove=writer_id not in self.suspects())

    @contextlib.contextmanager
    def hold_dead(self, writer_id: str) -> Iterator[bool]:
        """Yield whether that writer is dead, holding its lock for the block if so; then retire it,
        unless the block raises or the catalog is read-only."""
        try:
            lock, dead = self.lock_store.try_acquire(writer_id), False
        except FileNotFoundError:
            lock, dead = None, True
        if lock is None and not dead:
            yield False  # held by the writer itself, or by another kernel that cleans up
            return
        finished = False
        try:
            if writer_id not in self.suspects():  # it retired between the list and the lock
                yield False
                return
            yield True
            if not self._database.read_only:
                self._mark_retired(writer_id)
                finished = True
        finally:
            if lock is not None:
                lock.release(remove=finished)

    def close(self) -> None:
        """Release every lock that is held; writers that were not retired look dead from now on.
        Idempotent."""
        while self.held_locks:
            self.held_locks.popitem()[1].release(remove=False)
        self.lock_store.close()

    def _mark_retired(self, writer_id: str) -> None:
        # without fsync: after a power failure it is found dead again, with nothing to clean up
        now = self._clock.now_ns()
        with self._database.write_without_fsync(), self._database.write() as tx:
            _RETIRE.execute(tx, {"id": writer_id, "now": rfc3339(now)})
            self._delete_retired(tx, now - RETIRED_ROW_SECONDS * 1_000_000_000)

    def _delete_retired(self, tx: Connection, before_ns: int) -> None:
        """Delete the rows of writers that retired before a moment, except those with unsettled
        tables."""
        old = {row[0] for row in _RETIRED_BEFORE.fetch(tx, {"before": rfc3339(before_ns)})}
        if old:
            old -= {row[0] for row in _UNSETTLED.fetch(tx, {})}
        for writer_id in sorted(old):
            _DELETE.execute(tx, {"id": writer_id})


@functools.cache
def boot_id() -> str:
    """An identifier of this boot of this machine, from the operating system where possible, else
    from the host's name and network address."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return f"{platform.node()}-{uuid.getnode():012x}"

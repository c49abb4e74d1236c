"""Who has the workspace open, and who of them is alive.

Each open handle of a workspace holds a lock (`locks.py`) that its death lets go: a stopped or suspended process is alive, there are no time-outs.
What the lock is for is liveness only; that nobody publishes another's row is the compare-and-set's job.
"""

import contextlib
import functools
import os
import platform
import socket
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import sqlalchemy as sa

from jammi_lab.catalog import scope
from jammi_lab.catalog.database import Database
from jammi_lab.catalog.direct import Direct
from jammi_lab.catalog.locks import Lock, Locks
from jammi_lab.catalog.schema import result_tables, writers
from jammi_lab.clock import Clock, rfc3339
from jammi_lab.values.base import Value


class WriterRecord(Value, frozen=True, kw_only=True):
    """One open handle of a workspace."""

    writer_id: str
    host: str
    boot_id: str
    """Tells one start of a machine from the next."""
    pid: int
    started_at: str
    retired_at: str | None = None
    """When it was closed or found dead."""


_COLUMNS = tuple(writers.c[name] for name in WriterRecord.__struct_fields__)
_LIST = scope.untenanted(writers, *_COLUMNS).order_by(writers.c.started_at, writers.c.writer_id)
_GET = scope.untenanted(writers, *_COLUMNS).where(writers.c.writer_id == sa.bindparam("id"))
_UNRETIRED = Direct(scope.untenanted(writers, writers.c.writer_id).where(writers.c.retired_at.is_(None)))
_UNSETTLED = Direct(
    scope.everyones(result_tables.c.writer_id)
    .distinct()
    .where(result_tables.c.status.in_([sa.literal_column("'building'"), sa.literal_column("'deleting'")]))
)
_REVIVE = sa.update(writers).where(writers.c.writer_id == sa.bindparam("id")).values(retired_at=None)
_RETIRE = Direct(
    sa.update(writers).where(writers.c.writer_id == sa.bindparam("id"), writers.c.retired_at.is_(None)).values(retired_at=sa.bindparam("now"))
)
_REGISTER = Direct(sa.insert(writers))


class Writers:
    """The writers of a workspace; the locks that this object holds end with `close()` or with the process."""

    def __init__(self, database: Database, kept: Locks, clock: Clock) -> None:
        self._database, self._kept, self._clock = database, kept, clock
        self._locks: dict[str, Lock] = {}

    def register(self) -> str:
        """A new writer's id; its lock is held from before anybody can see it until `retire`."""
        writer_id, lock = self._begun()
        row = WriterRecord(
            writer_id=writer_id, host=socket.gethostname(), boot_id=boot_id(), pid=os.getpid(), started_at=rfc3339(self._clock.now_ns())
        ).to_dict()
        try:
            with self._database.write() as tx:
                _REGISTER.change(tx, row)
        except BaseException:
            lock.release(forget=True)
            raise
        self._locks[writer_id] = lock
        return writer_id

    def _begun(self) -> tuple[str, Lock]:
        while True:
            writer_id = f"w{self._clock.token(16)}"
            with contextlib.suppress(BlockingIOError):
                return writer_id, self._kept.make(writer_id)

    def retire(self, writer_id: str) -> None:
        """End a writer of ours: the row says so, then the lock goes, its file first."""
        self._retire(writer_id)
        if (lock := self._locks.pop(writer_id, None)) is not None:
            lock.release(forget=True)

    def assure(self) -> None:
        """Nothing, unless the locks held here were lost without a death: they are held again then, and their writers are no longer retired.

        Whatever these were building meanwhile may have been settled by another kernel. SourceUnavailable."""
        if self._kept.renewed():
            with self._database.write() as tx:
                tx.execute(_REVIVE, [{"id": writer_id} for writer_id in self._locks])

    def say(self, word: str) -> None:
        """Leave word for other kernels, in place of the last; it may be lost. Whatever a full disk or a server raises is swallowed."""
        for lock in list(self._locks.values()):
            with contextlib.suppress(Exception):
                lock.say(word)

    def heard(self, writer_id: str) -> tuple[float, str] | None:
        """The last word of a writer, or of who has a turn, and how many seconds ago it was left; None when there is none or it cannot be told."""
        with contextlib.suppress(Exception):
            return self._kept.heard(writer_id)
        return None

    def turn(self, name: str) -> Lock | None:
        """The lock of that name, held by whoever does this work just now, or None when somebody has it; `name` is of letters and digits. OSError,
        SourceUnavailable."""
        return self._kept.turn(name)

    def is_alive(self, writer_id: str) -> bool:
        """Whether the writer's lock is held by anybody, this process included. A stopped process is alive; a lock file that is gone is nobody's."""
        return writer_id in self._locks or self._kept.held(writer_id)

    def get(self, writer_id: str) -> WriterRecord | None:
        """The writer of that id, retired or not."""
        with self._database.read() as tx:
            row = tx.execute(_GET, {"id": writer_id}).first()
        return None if row is None else _record(row)

    def list(self) -> list[WriterRecord]:
        """Every writer there was, oldest first."""
        with self._database.read() as tx:
            return [_record(row) for row in tx.execute(_LIST).all()]

    def suspects(self) -> Sequence[str]:
        """Writers, other than ours, that are not retired or have building or deleting rows: the only ones whose locks are worth trying."""
        with self._database.read() as tx:
            ids = {row[0] for row in _UNRETIRED.rows(tx, {})} | {row[0] for row in _UNSETTLED.rows(tx, {})}
        return sorted(ids - set(self._locks) - {""})

    def dead_writers(self) -> Iterator[str]:
        """Each dead writer in turn, whose lock is held while the caller settles its rows; when the loop goes on, it is retired and its lock file
        removed.

        A writer that the caller leaves the loop at (an exception, a break) is let go as it was, and is found again.
        """
        for writer_id in self.suspects():
            with self.settling(writer_id) as dead:
                if dead:
                    yield writer_id

    def forget_left(self) -> None:
        """Remove the locks that nobody has and nobody will ask for: of writers that died before they were entered or after they retired, of turns.

        They are listed before the catalog is asked: who is entered meanwhile has the lock, or is found here when it died. OSError."""
        if self._database.read_only or not (left := self._kept.left() - set(self._locks)):
            return
        for writer_id in sorted(left.difference(self.suspects())):
            with contextlib.suppress(FileNotFoundError):
                if (lock := self._kept.take(writer_id)) is not None:
                    lock.release(forget=writer_id not in self.suspects())

    @contextlib.contextmanager
    def settling(self, writer_id: str) -> Iterator[bool]:
        """Whether that writer is dead, and if so its lock for one block; then it is retired, unless the block raises or all is read-only."""
        try:
            lock, dead = self._kept.take(writer_id), False
        except FileNotFoundError:
            lock, dead = None, True
        if lock is None and not dead:
            yield False  # somebody holds it: the writer itself, or another kernel that settles it
            return
        settled = False
        try:
            if writer_id not in self.suspects():  # it retired between the list and the lock
                yield False
                return
            yield True
            if not self._database.read_only:
                self._retire(writer_id)
                settled = True
        finally:
            if lock is not None:
                lock.release(forget=settled)

    def close(self) -> None:
        """Let go of every lock that is held; writers that were not retired look dead from now on. Twice is fine."""
        while self._locks:
            self._locks.popitem()[1].release(forget=False)
        self._kept.close()

    def _retire(self, writer_id: str) -> None:
        with self._database.hasty(), self._database.write() as tx:  # after a power failure it is found dead once more, with nothing left to settle
            _RETIRE.change(tx, {"id": writer_id, "now": rfc3339(self._clock.now_ns())})


def _record(row: sa.Row[tuple[str, ...]]) -> WriterRecord:
    return WriterRecord(**dict(zip(WriterRecord.__struct_fields__, row, strict=True)))  # type: ignore[arg-type]


@functools.cache
def boot_id() -> str:
    """What tells this start of this machine from every other, where the system says so; else the machine's name and address."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return f"{platform.node()}-{uuid.getnode():012x}"

"""Single flight: one build per tenant and definition is the one that others wait for, across threads and processes."""

import contextlib
import contextvars
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.catalog.writers import boot_id
from jammi_lab.clock import Clock
from jammi_lab.errors import DependencyCycle
from jammi_lab.values.records import Progress, TableRecord, TableStatus

_STEP = 0.05
_SILENT = 60.0
"""Seconds for which a process may stand still before nobody waits for it any more."""
_own: contextvars.ContextVar[frozenset[tuple[int, str]]] = contextvars.ContextVar("building", default=frozenset())
"""What the call that runs in this context is building: the Flight, and the definition."""


class Flight:
    """Waits for builds of others, and knows what this call is building, whichever thread of it asks."""

    def __init__(self, catalog: Catalog, clock: Clock, wait_seconds: float, settle_dead: Callable[[], object]) -> None:
        self._catalog, self._clock, self._wait_seconds, self._settle_dead = catalog, clock, wait_seconds, settle_dead

    @contextlib.contextmanager
    def mine(self, definition: str) -> Iterator[None]:
        """A block in which this call builds the definition."""
        token = _own.set(_own.get() | {(id(self), definition)})
        try:
            yield
        finally:
            _own.reset(token)

    def wait(self, other: TableRecord, on_progress: Callable[[Progress], None] | None) -> bool:
        """Wait until the other build is over: True; False when the caller should build on its own, because its patience ran out, the other's process
        has been standing still for a minute, or its writer is dead and its row cannot be settled.

        A build whose writer has died is settled at once. DependencyCycle for what this very call is building; KeyboardInterrupt passes through.
        """
        if (id(self), other.definition_hash) in _own.get():
            raise DependencyCycle(f"{other.recipe!r} is being built by the call that asks for it.", path=[other.recipe, other.recipe])
        give_up = self._clock.monotonic() + self._wait_seconds
        pause, moved = threading.Event(), self._clock.monotonic()
        while (now := self._clock.monotonic()) < give_up:
            row = self._catalog.tables.get(other.table_name)
            if row is None or row.status is not TableStatus.BUILDING:
                return True
            if not self._catalog.writers.is_alive(other.writer_id):
                self._settle_dead()
                left = self._catalog.tables.get(other.table_name)
                return left is None or left.status is not TableStatus.BUILDING  # what cannot be settled is not waited for
            moved = moved if self._stands_still(other.writer_id) else now
            if now - moved >= _SILENT:
                return False
            if on_progress:
                on_progress(Progress(stage=f"waiting for {self._who(other.writer_id)} to build {other.recipe}", done=0, total=None, unit="rows"))
            pause.wait(_STEP)
        return False

    def _stands_still(self, writer_id: str) -> bool:
        """Whether the writer's process is stopped, as far as this machine can tell."""
        writer = self._catalog.writers.get(writer_id)
        if writer is None or writer.boot_id != boot_id():
            return False
        try:
            return Path(f"/proc/{writer.pid}/stat").read_text().rpartition(") ")[2][:1] in ("T", "t")
        except OSError:
            return False

    def _who(self, writer_id: str) -> str:
        writer = self._catalog.writers.get(writer_id)
        return f"process {writer.pid} on {writer.host}" if writer else "another kernel"

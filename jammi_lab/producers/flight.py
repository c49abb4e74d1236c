"""Single flight: one build per tenant and definition is the one that others wait for, across threads and processes."""

import contextlib
import threading
from collections.abc import Callable, Iterator

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.clock import Clock
from jammi_lab.errors import DependencyCycle
from jammi_lab.values.records import Progress, TableRecord, TableStatus

_STEP = 0.05


class Flight:
    """Waits for builds of others, and knows what this thread is building."""

    def __init__(self, catalog: Catalog, clock: Clock, wait_seconds: float, settle_dead: Callable[[], object]) -> None:
        self._catalog, self._clock, self._wait_seconds, self._settle_dead = catalog, clock, wait_seconds, settle_dead
        self._own = threading.local()

    @contextlib.contextmanager
    def mine(self, definition: str) -> Iterator[None]:
        """A block in which this thread builds the definition."""
        building: set[str] = self._own.__dict__.setdefault("building", set())
        building.add(definition)
        try:
            yield
        finally:
            building.discard(definition)

    def wait(self, other: TableRecord, on_progress: Callable[[Progress], None] | None) -> bool:
        """Wait until the other build is over: True; False when the caller should build on its own, because its patience ran out or the other's
        writer is dead and its row cannot be settled.

        A build whose writer has died is settled at once. DependencyCycle for what this very thread is building; KeyboardInterrupt passes through.
        """
        if other.definition_hash in self._own.__dict__.get("building", ()):
            raise DependencyCycle(f"{other.recipe!r} is being built by the call that asks for it.", path=[other.recipe, other.recipe])
        give_up = self._clock.monotonic() + self._wait_seconds
        pause = threading.Event()
        while self._clock.monotonic() < give_up:
            row = self._catalog.tables.get(other.table_name)
            if row is None or row.status is not TableStatus.BUILDING:
                return True
            if not self._catalog.writers.is_alive(other.writer_id):
                self._settle_dead()
                left = self._catalog.tables.get(other.table_name)
                return left is None or left.status is not TableStatus.BUILDING  # what cannot be settled is not waited for
            if on_progress:
                on_progress(Progress(stage=f"waiting for {self._who(other.writer_id)} to build {other.recipe}", done=0, total=None, unit="rows"))
            pause.wait(_STEP)
        return False

    def _who(self, writer_id: str) -> str:
        writer = self._catalog.writers.get(writer_id)
        return f"process {writer.pid} on {writer.host}" if writer else "another kernel"

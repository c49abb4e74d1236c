"""Single flight: one build per tenant and definition is the one that others wait for, across threads and processes."""

import contextlib
import contextvars
import threading
from collections.abc import Callable, Hashable, Iterator
from typing import NamedTuple

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.clock import Clock, from_rfc3339
from jammi_lab.errors import DependencyCycle
from jammi_lab.producers.pulse import Beat, Pulse
from jammi_lab.values.records import Progress, TableRecord, TableStatus

_STEP = 0.05
_LISTEN = 1.0
_REST = 2.5
"""Seconds after which the time of a write, which servers tell in whole seconds, tells it from one to come."""
_SILENT = 60.0
"""Seconds without a sign of life after which nobody waits for a build any more."""
_SURE = 3.0
"""Seconds in which a kernel that works says something; silence is not believed on the word of a clock alone, which may have been set."""


class _Build(NamedTuple):
    """One build of the call that runs in this context."""

    flight: int
    """By which handle."""
    catalog: Hashable
    """In which catalog, which other handles may have open too."""
    definition: str


_own: contextvars.ContextVar[frozenset[_Build]] = contextvars.ContextVar("building", default=frozenset())
"""What the call that runs in this context is building."""


class InputMoved(Exception):
    """An input was changed while it was being read, and whether it has the same rows all the same; internal."""

    def __str__(self) -> str:
        return str(self.args[0])


class Flight:
    """Waits for builds of others, and knows what this call is building, whichever thread of it asks."""

    def __init__(self, catalog: Catalog, clock: Clock, wait_seconds: Callable[[], float], settle_dead: Callable[[], object]) -> None:
        self._catalog, self._clock, self._wait_seconds, self._settle_dead = catalog, clock, wait_seconds, settle_dead
        self._pulse = Pulse(catalog.writers, clock)

    @contextlib.contextmanager
    def mine(self, begun: TableRecord, on_progress: Callable[[Progress], None] | None) -> Iterator[Callable[[Progress], None]]:
        """A block in which this call builds a table; what is told to the function that it gives, `on_progress` and those who wait for it learn."""
        token = _own.set(_own.get() | {_Build(id(self), self._catalog.identity, begun.definition_hash or "")})
        try:
            with self._pulse.building(begun.table_name, on_progress) as tell:
                yield tell
        finally:
            _own.reset(token)

    def stop(self) -> None:
        """Let each build end with SessionClosed when it next says how far it is."""
        self._pulse.stop()

    def own(self) -> set[str]:
        """The definitions that this very call is building by this handle."""
        return {build.definition for build in _own.get() if build.flight == id(self)}

    def close(self) -> None:
        """End what runs beside the builds, when there are none any more."""
        self._pulse.close()

    def patience(self) -> float:
        """The moment, on the clock that is never set, at which a call that begins to wait now waits for nobody any more."""
        return self._clock.monotonic() + self._wait_seconds()

    def wait(self, other: TableRecord, give_up: float, on_progress: Callable[[Progress], None] | None) -> bool:
        """Wait until the other build is over: True; False when the caller should build on its own, because its patience ran out (`give_up`), the
        other's kernel has given no sign of life for a minute, or its writer is dead and its row cannot be settled.

        A build whose writer has died is settled at once. DependencyCycle for what this very call is building, by whichever handle of the catalog;
        KeyboardInterrupt passes through.
        """
        if any((build.catalog, build.definition) == (self._catalog.identity, other.definition_hash) for build in _own.get()):
            raise DependencyCycle(f"{other.recipe!r} is being built by the call that asks for it.", path=[other.recipe, other.recipe])
        pause, ear, stage = threading.Event(), _Ear(self._pulse, self._clock, other), self._stage(other)
        while self._clock.monotonic() < give_up:
            row = self._catalog.tables.get(other.table_name)
            if row is None or row.status is not TableStatus.BUILDING:
                return True
            if not self._catalog.writers.is_alive(other.writer_id):
                self._settle_dead()
                left = self._catalog.tables.get(other.table_name)
                return left is None or left.status is not TableStatus.BUILDING  # what cannot be settled is not waited for
            beat = ear.listen()
            if ear.silent():
                return False
            if on_progress:
                far = beat.progress if beat and beat.progress else Progress(stage="", done=0, total=None, unit="rows")
                on_progress(Progress(stage=stage, done=far.done, total=far.total, unit=far.unit))
            pause.wait(_STEP)
        return False

    def rest(self) -> None:
        """Wait until what was just written has been there for a while: of what has only now been written a server cannot say whether it was written
        again meanwhile, and takes each other write for one. KeyboardInterrupt passes through."""
        until, pause = self._clock.monotonic() + _REST, threading.Event()
        while self._clock.monotonic() < until:
            pause.wait(_STEP)

    def _stage(self, other: TableRecord) -> str:
        """For whom one waits, and since when that one has been at it."""
        writer = self._catalog.writers.get(other.writer_id)
        who = f"process {writer.pid} on {writer.host}" if writer else "another kernel"
        return f"waiting for {who} to build {other.recipe} (since {other.created_at[11:19]} UTC)"


class _Ear:
    """Listens, once in a while, for one build of another kernel."""

    def __init__(self, pulse: Pulse, clock: Clock, other: TableRecord) -> None:
        self._pulse, self._clock, self._other = pulse, clock, other
        self._listened: float | None = None
        self._beat: Beat | None = None
        self._changed = clock.monotonic()

    def listen(self) -> Beat | None:
        """The last that was heard."""
        now = self._clock.monotonic()
        if self._listened is None or now - self._listened >= _LISTEN:
            beat = self._pulse.heard(self._other.writer_id, self._other.table_name)
            if self._listened is not None and (beat and beat.said) != (self._beat and self._beat.said):
                self._changed = now
            self._beat, self._listened = beat, now
        return self._beat

    def silent(self) -> bool:
        """Whether the last sign of life is a minute old: as its own clock has it, or as was seen from here."""
        quiet = self._clock.monotonic() - self._changed
        return quiet >= _SILENT or (quiet >= min(_SURE, _SILENT) and self._age() >= _SILENT)

    def _age(self) -> float:
        """Seconds since the last word of the other kernel; since it began to build, if it has said nothing."""
        begun = self._clock.now_ns() / 1e9 - from_rfc3339(self._other.created_at).timestamp()
        return begun if self._beat is None else min(begun, self._beat.age)

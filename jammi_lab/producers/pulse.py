"""The sign of life of those who build: from the first second of a build on, its kernel says once a second what it builds and how far it is.

It is said by a thread of its own, so that a long sort, which gives no rows, is not taken for silence; a process that was stopped says nothing. A
build of less than a second costs no word.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator

import msgspec

from jammi_lab.catalog.writers import Writers
from jammi_lab.clock import Clock
from jammi_lab.engine.faults import stopped
from jammi_lab.values.base import Value
from jammi_lab.values.records import Progress

OnProgress = Callable[[Progress], None]
_PERIOD = 1.0


class Beat(Value, frozen=True):
    """What was heard of a build."""

    age: float
    """Seconds since its kernel said anything."""
    said: str
    """What it said, of all that it builds; another text after each second."""
    progress: Progress | None = None
    """How far this build is, if it said so."""


class _Build:
    def __init__(self, began: float, on_progress: OnProgress | None) -> None:
        self.began, self._on_progress = began, on_progress
        self.progress: Progress | None = None

    def tell(self, progress: Progress) -> None:
        """Take note of how far it is, and pass it on."""
        self.progress = progress
        if self._on_progress is not None:
            self._on_progress(progress)


class _Said(Value, frozen=True):
    at: float
    builds: dict[str, Progress | None]


class Pulse:
    """Says what one handle builds, and hears what others do."""

    def __init__(self, writers: Writers, clock: Clock) -> None:
        self._writers, self._clock = writers, clock
        self._guard, self._over = threading.Lock(), threading.Event()
        self._stopping = False
        self._builds: dict[str, _Build] = {}
        self._thread: threading.Thread | None = None

    @contextlib.contextmanager
    def building(self, table_name: str, on_progress: OnProgress | None) -> Iterator[OnProgress]:
        """A block in which a table is built; it gives what takes note of how far it is, and passes it on."""
        build = _Build(self._clock.monotonic(), on_progress)
        with self._guard:
            self._builds[table_name] = build
            if self._thread is None:
                self._thread = threading.Thread(target=self._beat, name="jammi-pulse", daemon=True)
                self._thread.start()

        def tell(progress: Progress) -> None:
            if self._stopping:
                raise stopped()
            build.tell(progress)

        try:
            yield tell
        finally:
            with self._guard:
                del self._builds[table_name]

    def heard(self, writer_id: str, table_name: str) -> Beat | None:
        """The last that was heard of a build; None before its kernel has said anything."""
        heard = self._writers.heard(writer_id)
        if heard is None:
            return None
        age, word = heard
        try:
            progress = msgspec.json.decode(word, type=_Said).builds.get(table_name)
        except msgspec.DecodeError:
            progress = None  # torn, or a later release's
        return Beat(age, word, progress)

    def stop(self) -> None:
        """Raise SessionClosed in whoever next says how far it is."""
        self._stopping = True

    def close(self) -> None:
        """End the thread. Nothing may be built any more."""
        self._over.set()
        if (thread := self._thread) is not None:
            thread.join(5)  # a server that does not answer holds nobody up

    def _beat(self) -> None:
        """Runs while anything is being built, and for up to a second longer: small builds that come one after the other share one thread."""
        while not self._over.wait(_PERIOD):
            now = self._clock.monotonic()
            with self._guard:
                if not self._builds:
                    self._thread = None
                    return
                said = {name: build.progress for name, build in self._builds.items() if now - build.began >= _PERIOD}
            if said:
                self._writers.say(msgspec.json.encode(_Said(now, said)).decode())

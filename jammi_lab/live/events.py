"""Reading a topic: events in the order of their offsets, from any of them on, and those that are still to come."""

import contextlib
import datetime
import hashlib
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa

from jammi_lab.catalog.topics import StoredEvent, TopicRecord
from jammi_lab.catalog.topics import Topics as Log
from jammi_lab.clock import Clock, from_rfc3339
from jammi_lab.errors import SessionClosed, TableDamaged, TopicNotFound
from jammi_lab.live.predicates import Predicate

POLL_SECONDS = 0.1
"""How often a follower asks whether another kernel has published; a publication in this kernel wakes it at once."""
_EVENTS, _MOST_EVENTS = 512, 8192
"""How many events are held at once: few at first, so that the first ones come soon."""
_BYTES = 32 << 20


@dataclass(frozen=True, slots=True)
class Event:
    """What was published in one call; with a condition, the rows of it that satisfy it."""

    offset: int
    """Its place in the topic, counting from 0."""
    produced_at: datetime.datetime
    """When it was published, UTC."""
    batch: pa.RecordBatch
    """Its rows."""

    def __repr__(self) -> str:
        return f"Event(offset={self.offset}, rows={self.batch.num_rows})"


class Wake:
    """Tells the followers of one workspace in one process that something was published, or that all is over."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._published, self.closed = 0, False

    @property
    def published(self) -> int:
        """Rises with every publication here."""
        return self._published

    def ring(self, *, closing: bool = False) -> None:
        """Something was published, or the workspace closes."""
        with self._condition:
            self._published += 1
            self.closed = self.closed or closing
            self._condition.notify_all()

    def wait(self, heard: int, seconds: float) -> None:
        """Until there is more than what was `heard`, at most so many seconds."""
        with self._condition:
            if self._published == heard and not self.closed:
                self._condition.wait(seconds)


class Reader:
    """One topic's events as values."""

    def __init__(self, log: Log, record: TopicRecord, predicate: Predicate | None = None) -> None:
        self.log, self.record, self._predicate = log, record, predicate
        self.schema = pa.ipc.read_schema(pa.py_buffer(record.columns))

    def some(self, start: int, stop: int, most: int = _EVENTS) -> tuple[list[Event], int]:
        """The next events from `start` on, before `stop`, as far as they are reasonably held at once, and the offset behind them."""
        chosen: list[int] = []
        size = 0
        for offset, each in self.log.sizes(self.record, start, stop, most):
            if chosen and size + each > _BYTES:
                break
            chosen.append(offset)
            size += each
        stored = self.log.events(self.record, chosen[0], chosen[-1] + 1) if chosen else []
        if len(stored) < max(len(chosen), 1) and self.log.again(self.record) is None:
            raise _dropped(self.record)  # what is kept too long goes silently, a topic that somebody dropped does not
        if not chosen:
            return [], stop
        return self._matching([self._event(each) for each in stored]), chosen[-1] + 1

    def from_to(self, start: int, stop: int) -> Iterator[Event]:
        """The events from `start` on, before `stop`. TopicNotFound when the topic is dropped meanwhile."""
        most = _EVENTS
        while start < stop:
            found, start = self.some(start, stop, most)
            most = min(2 * most, _MOST_EVENTS)
            yield from found

    def _event(self, stored: StoredEvent) -> Event:
        if hashlib.sha256(stored.body).hexdigest() != stored.digest:
            raise TableDamaged(
                f"The event {stored.offset} of the topic {self.record.name!r} is not what was published.",
                table=self.record.name,
                hint="The catalog is damaged; a backup may have the event.",
            )
        return Event(stored.offset, from_rfc3339(stored.produced_at), pa.ipc.read_record_batch(pa.py_buffer(stored.body), self.schema))

    def _matching(self, events: list[Event]) -> list[Event]:
        """The events with a row that satisfies the condition, and of each those rows."""
        if self._predicate is None or not events:
            return events
        numbers = self._predicate.matching(pa.Table.from_batches([event.batch for event in events], self.schema))
        bounds = np.cumsum([0, *(event.batch.num_rows for event in events)])
        places = np.searchsorted(numbers, bounds).tolist()
        kept = []
        for event, before, first, behind in zip(events, bounds.tolist(), places, places[1:], strict=False):
            if behind - first == event.batch.num_rows and behind > first:
                kept.append(event)
            elif behind > first:
                rows = numbers[first:behind] - before
                together = rows[-1] - rows[0] == len(rows) - 1
                batch = event.batch.slice(int(rows[0]), len(rows)) if together else event.batch.take(pa.array(rows))
                kept.append(Event(event.offset, event.produced_at, batch))
        return kept


def _dropped(record: TopicRecord) -> TopicNotFound:
    return TopicNotFound(f"The topic {record.name!r} was dropped.")


class Subscription:
    """Events as they come: an iterator, an async iterator, and a context manager. It holds its place and nothing else; forget it, or `close` it.

    It ends when nothing was to be delivered for `timeout` seconds, when it is closed, and when its workspace is. TopicNotFound when the topic is
    dropped.
    """

    def __init__(
        self, reader: Reader, start: int, *, wake: Wake, clock: Clock, timeout: float | None, seen: Callable[[int], None] | None = None
    ) -> None:
        self._reader, self._wake, self._clock, self._timeout, self._seen = reader, wake, clock, timeout, seen
        self._ready: deque[Event] = deque()
        self._next = self._taken = self._done = self._kept = start
        self._closed = False
        self._filling = threading.Lock()

    @property
    def offset(self) -> int:
        """The offset behind the last event that was taken."""
        return self._taken

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        until = None if self._timeout is None else self._clock.monotonic() + self._timeout
        while True:
            heard = self._wake.published
            self._fill(self._taken)
            if (event := self._take()) is not None:
                return event
            left = POLL_SECONDS if until is None else min(POLL_SECONDS, until - self._clock.monotonic())
            if self._over() or left <= 0:
                self.close()
                raise StopIteration
            self._wake.wait(heard, left)

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        import asyncio

        until = None if self._timeout is None else self._clock.monotonic() + self._timeout
        while True:
            await asyncio.to_thread(self._fill, self._taken)  # it goes on when this call is cancelled, so it must take nothing
            if (event := self._take()) is not None:
                return event
            left = POLL_SECONDS if until is None else min(POLL_SECONDS, until - self._clock.monotonic())
            if self._over() or left <= 0:
                await asyncio.to_thread(self.close)
                raise StopAsyncIteration
            await asyncio.sleep(left)

    def close(self) -> None:
        """End it; a named consumer's place is kept. Twice is fine."""
        if not self._closed:
            self._closed = True
            with contextlib.suppress(SessionClosed):
                self._keep()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Subscription({self._reader.record.name!r})"

    def _over(self) -> bool:
        return self._closed or self._wake.closed

    def _fill(self, taken: int) -> None:
        """Have the next events ready, if there are any. Whoever asks for one has done with those before the offset `taken`."""
        with self._filling:
            if self._closed:
                return
            self._done = max(self._done, taken)
            with contextlib.suppress(SessionClosed):
                if not self._ready:
                    self._look()
                if not self._ready and self._taken == taken:  # else it is a call that was cancelled, and another one has taken an event since
                    self._done = self._taken = self._next
                if not self._ready or self._done - self._kept >= _EVENTS:
                    self._keep()

    def _take(self) -> Event | None:
        """The next event that is ready."""
        if self._closed:
            return None
        try:
            event = self._ready.popleft()
        except IndexError:  # there is none, or another thread that follows with it was faster
            return None
        self._taken = event.offset + 1
        return event

    def _look(self) -> None:
        current = self._reader.log.again(self._reader.record)
        if current is None:
            raise _dropped(self._reader.record)
        start = max(self._next, current.first_offset)
        while start < current.next_offset and not self._ready:
            found, start = self._reader.some(start, current.next_offset)
            self._ready.extend(found)
        self._next = start

    def _keep(self) -> None:
        if self._seen is not None and self._done > self._kept:
            self._kept = self._done
            self._seen(self._done)

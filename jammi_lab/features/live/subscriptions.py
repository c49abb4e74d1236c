"""Reading and following a topic: events in order of their offsets, from any offset on, including
future ones."""

import contextlib
import datetime
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa

from jammi_lab.catalog.logs import Entry, LogRecord, LogRepository
from jammi_lab.core.clock import Clock, parse_rfc3339
from jammi_lab.core.errors import SessionClosed
from jammi_lab.features.live.fold import batch_of, stored_schema
from jammi_lab.features.live.topic_filters import Predicate

POLL_SECONDS = 0.1
"""How often a follower looks for events."""
FIRST_BATCH_COUNT, _MAX_BATCH_COUNT = 512, 8192
"""Events held in memory at once: few at first, so that the first ones arrive soon."""
_MAX_BATCH_BYTES = 32 << 20


@dataclass(frozen=True, slots=True)
class Event:
    """The rows published in one call; with a condition, those that satisfy it."""

    offset: int
    """Its position in the topic, counting from 0."""
    produced_at: datetime.datetime
    """When it was published, UTC."""
    batch: pa.RecordBatch
    """Its rows."""

    def __repr__(self) -> str:
        return f"Event(offset={self.offset}, rows={self.batch.num_rows})"


class TopicReader:
    """Reads the events of one topic."""

    def __init__(
        self, log: LogRepository, record: LogRecord, predicate: Predicate | None = None
    ) -> None:
        self.topics, self.record, self._predicate = log, record, predicate
        self.schema = stored_schema(record)

    def read_batch(
        self, start: int, stop: int, max_events: int = FIRST_BATCH_COUNT
    ) -> tuple[list[Event], int]:
        """The next events from `start` on, before `stop`, within the limits of memory, and the
        offset after them."""
        offsets: list[int] = []
        size = 0
        for offset, event_bytes in self.topics.sizes(self.record, start, stop, max_events):
            if offsets and size + event_bytes > _MAX_BATCH_BYTES:
                break
            offsets.append(offset)
            size += event_bytes
        stored = self.topics.entries(self.record, offsets[0], offsets[-1] + 1) if offsets else []
        if len(stored) < max(len(offsets), 1):
            self.topics.refresh(self.record)  # trimmed events are skipped; a dropped topic is not
        if not offsets:
            return [], stop
        return self._filter_events([self._event(entry) for entry in stored]), offsets[-1] + 1

    def read_range(self, start: int, stop: int) -> Iterator[Event]:
        """The events from `start` on, before `stop`. Raises TopicNotFound when the topic is dropped
        meanwhile."""
        max_events = FIRST_BATCH_COUNT
        while start < stop:
            events, start = self.read_batch(start, stop, max_events)
            max_events = min(2 * max_events, _MAX_BATCH_COUNT)
            yield from events

    def _event(self, entry: Entry) -> Event:
        return Event(entry.position, parse_rfc3339(entry.produced_at), batch_of(entry, self.schema))

    def _filter_events(self, events: list[Event]) -> list[Event]:
        """The events with at least one row that satisfies the condition, reduced to those rows."""
        if self._predicate is None or not events:
            return events
        row_numbers = self._predicate.matching_rows(
            pa.Table.from_batches([event.batch for event in events], self.schema)
        )
        bounds = np.cumsum([0, *(event.batch.num_rows for event in events)])
        positions = np.searchsorted(row_numbers, bounds).tolist()
        matching = []
        for event, first_row, first, end in zip(
            events, bounds.tolist(), positions, positions[1:], strict=False
        ):
            if end - first == event.batch.num_rows and end > first:
                matching.append(event)
            elif end > first:
                rows = row_numbers[first:end] - first_row
                batch = event.batch.take(pa.array(rows))
                matching.append(Event(event.offset, event.produced_at, batch))
        return matching


class Subscription:
    """Events as they are published: an iterator, an async iterator, and a context manager. It holds
    no resources besides its position; closing it is optional.

    It ends when there was no event for `timeout` seconds, when it is closed, and when its workspace
    closes. Raises TopicNotFound when the topic is dropped.
    """

    def __init__(
        self,
        reader: TopicReader,
        start: int,
        *,
        is_over: Callable[[], bool],
        clock: Clock,
        timeout: float | None,
    ) -> None:
        """`is_over`: whether the workspace is closed."""
        self._reader = reader
        self._is_over = is_over
        self._clock = clock
        self._timeout = timeout
        self._buffer: deque[Event] = deque()
        self._next = self._returned_offset = start
        self._closed = False
        self._fill_lock = threading.Lock()

    @property
    def offset(self) -> int:
        """The offset after the last event that was returned."""
        return self._returned_offset

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        deadline = self._deadline()
        while True:
            self._fill_buffer()
            if (event := self._pop()) is not None:
                return event
            if not (remaining := self._pause_seconds(deadline)):
                raise StopIteration
            time.sleep(remaining)

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        import asyncio

        deadline = self._deadline()
        while True:
            # the thread continues when this call is cancelled, so it must not consume an event
            await asyncio.to_thread(self._fill_buffer)
            if (event := self._pop()) is not None:
                return event
            if not (remaining := self._pause_seconds(deadline)):
                raise StopAsyncIteration
            await asyncio.sleep(remaining)

    def _deadline(self) -> float | None:
        return None if self._timeout is None else self._clock.monotonic() + self._timeout

    def _pause_seconds(self, deadline: float | None) -> float:
        """How long to wait for the next event; 0 at the end, when the subscription is closed."""
        seconds = POLL_SECONDS
        if deadline is not None:
            seconds = min(seconds, deadline - self._clock.monotonic())
        if self._has_ended() or seconds <= 0:
            self.close()
            return 0
        return seconds

    def close(self) -> None:
        """End the subscription. Idempotent."""
        self._closed = True

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

    def _has_ended(self) -> bool:
        return self._closed or self._is_over()

    def _fill_buffer(self) -> None:
        """Buffer the next events, if there are any."""
        with self._fill_lock, contextlib.suppress(SessionClosed):
            if not self._closed and not self._buffer:
                self._read_events()

    def _pop(self) -> Event | None:
        """Return the next buffered event, or None."""
        if self._closed:
            return None
        try:
            event = self._buffer.popleft()
        except IndexError:  # empty, or another thread took it
            return None
        self._returned_offset = event.offset + 1
        return event

    def _read_events(self) -> None:
        current = self._reader.topics.refresh(self._reader.record)
        start = max(self._next, current.first)
        while start < current.next and not self._buffer:
            events, start = self._reader.read_batch(start, current.next)
            self._buffer.extend(events)
        self._next = start
        if not self._buffer:
            self._returned_offset = start

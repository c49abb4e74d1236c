"""A running statement: a worker executes it and reads ahead; the caller takes batches and can be
interrupted at any time."""

import os
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO, Any, Protocol

import duckdb
import pyarrow as pa

from jammi_lab.core.cancellable import keep_interrupting, release_import_lock, stop, wait
from jammi_lab.core.errors import JammiError, check_not_forked
from jammi_lab.core.interrupts import (
    POLL_SECONDS,
    DeferInterrupts,
    Signal,
    raise_interrupts,
    time_limit,
)
from jammi_lab.core.thread_pool import submit
from jammi_lab.engine.duckdb_errors import closed_error
from jammi_lab.engine.sql import releases
from jammi_lab.sources.attach import in_transaction
from jammi_lab.sources.base import Query

BATCH_ROWS = 65_536
MAX_QUEUED_BATCHES = 4
"""The number of batches read ahead, so that DuckDB and a consumer that writes files overlap."""
_MIN_PAUSE_SECONDS = 0.001
"""The first pause of a worker that waits for its reader; each one doubles."""

_BUFFER_SETTING = "SET streaming_buffer_size = '4MB'"
"""DuckDB fills this buffer before it returns the first row. With 16 MB the first rows of a large
table take three times as long, and the total time is no shorter."""
_PROGRESS_SETTINGS = (
    "SET enable_progress_bar = true",
    "SET enable_progress_bar_print = false",
    "SET progress_bar_time = 0",
)
"""These settings are local to one cursor."""


class _End:
    """The end of the queue, with the statement's error if it failed."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class StatementCursor(Protocol):
    """The cursor of one run; `run_cursor.RunCursor`."""

    @property
    def cursor(self) -> duckdb.DuckDBPyConnection:
        """DuckDB's cursor."""
        ...

    def begin(self, settings: Sequence[str]) -> None:
        """Prepare the cursor for the statement."""
        ...

    def end(self) -> None:
        """Release what `begin` acquired."""
        ...


class StreamWorker:
    """The worker of a Stream. It has no reference to the Stream, so that an abandoned Stream can be
    garbage-collected and stops the worker.

    With `drained` it reads to the end without waiting for the consumer, so that the source can be
    released; rows beyond the memory limit are spilled to a file in the folder `spill`.
    With `witness` the rows are read in a transaction; at its end `witness` is called with a query
    function of the same transaction.
    """

    def __init__(
        self,
        run_cursor: StatementCursor,
        sql: str,
        params: Mapping[str, Any],
        *,
        read_ahead_fully: bool = False,
        after_read: Callable[[Query], None] | None = None,
        spill_folder: Path | None = None,
    ) -> None:
        self.run_cursor = run_cursor
        self._sql = sql
        self._params = dict(params)
        self.read_ahead_fully = read_ahead_fully
        self._after_read = after_read
        self.ready = Signal()
        """Set when the schema and the first full batch are there, or when the run has ended: then
        a short answer costs its reader one wait."""
        self.finished = Signal()
        self.stop_requested = False
        self.schema: pa.Schema | None = None
        self.batches: SimpleQueue[pa.RecordBatch | _End] | SpillQueue = (
            SpillQueue(spill_folder) if read_ahead_fully else SimpleQueue()
        )
        """Its reader may be interrupted, which breaks the lock of a `queue.Queue` (`Signal`)."""
        self.error: BaseException | None = None
        self._settings: tuple[str, ...] = ()
        self._lock, self._cleaning_up = threading.Lock(), False
        # Acquired by the worker thread when it starts, or by `stop` if that comes first.
        self._started_lock = threading.Lock()

    def start(self, with_progress: bool) -> None:
        """Start the worker thread."""
        self._settings = (
            (_BUFFER_SETTING, *_PROGRESS_SETTINGS) if with_progress else (_BUFFER_SETTING,)
        )
        submit(self._run, "jammi-statement")

    def _run(self) -> None:
        if not self._started_lock.acquire(blocking=False):
            return
        try:
            self.run_cursor.begin(self._settings)
            if self._after_read is None:
                self._read_batches()
            else:
                in_transaction(self.run_cursor.cursor, self._read_and_check)
        except BaseException as error:  # noqa: BLE001  raised, translated, in the caller's thread
            self.error = error
        finally:
            with self._lock:
                self._cleaning_up = True
            try:
                self.run_cursor.end()
            except duckdb.Error as error:
                self.error = self.error or error
            finally:
                release_import_lock()
                self._put(_End(self.error))
                self.finished.set()
                self.ready.set()

    def _read_and_check(self, query: Query) -> None:
        self._read_batches()
        if self._after_read is not None and not self.stop_requested:
            self._after_read(query)

    def _read_batches(self) -> None:
        """Read the batches into the queue. A separate function, so that its return drops the last
        reference to the reader, which releases the source."""
        if self.stop_requested:
            return
        cursor = self.run_cursor.cursor
        reader = releases.arrow_reader(cursor, self._sql, self._params, BATCH_ROWS)
        self.schema = reader.schema
        for batch in reader:
            if batch.num_rows and not self._put(batch):
                return
            if batch.num_rows >= BATCH_ROWS:  # a smaller one is the last
                self.ready.set()

    def _put(self, item: "pa.RecordBatch | _End") -> bool:
        pause = _MIN_PAUSE_SECONDS
        while not self.stop_requested:
            if self.batches.qsize() < MAX_QUEUED_BATCHES:
                self.batches.put(item)
                return True
            time.sleep(pause)
            pause = min(2 * pause, POLL_SECONDS)
        return False

    def interrupt(self) -> None:
        """Interrupt the statement."""
        self.stop_requested = True
        with self._lock:  # an interrupt must not hit the clean-up statements
            if not self._cleaning_up:
                self.run_cursor.cursor.interrupt()

    def percent(self) -> float:
        """DuckDB's progress in percent; negative when unknown."""
        with self._lock:
            return -1.0 if self._cleaning_up else float(self.run_cursor.cursor.query_progress())

    def stop(self) -> bool:
        """Stop the worker and wait briefly; returns whether it ended. If it did not, it is
        interrupted in the background until it does."""
        self.stop_requested = True
        # The worker never started: an interrupt came first, or no thread could be created.
        if self._started_lock.acquire(blocking=False):
            self.run_cursor.end()
            self.finished.set()
            self.ready.set()
        has_ended = stop(self.finished, self.interrupt)
        if not has_ended:
            keep_interrupting(self.finished, self.interrupt)
        return has_ended

    def stop_in_callback(self) -> None:
        """As `stop`, for a callback of the garbage collector."""
        with DeferInterrupts():
            self.stop()


class Stream:
    """The rows of one run of a statement; they can be read once. Its resources are released when it
    is drained, closed or garbage-collected."""

    def __init__(
        self,
        worker: StreamWorker,
        translate_error: Callable[[BaseException], JammiError],
        on_stuck: Callable[[], None],
        on_progress: Callable[[float], None] | None = None,
    ) -> None:
        self._worker = worker
        self._translate_error = translate_error
        self._on_stuck = on_stuck
        self._on_progress = on_progress
        self._is_ended, self._pid = False, os.getpid()
        self._finalizer = weakref.finalize(self, worker.stop_in_callback)

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema."""
        if self._worker.schema is None:
            raise closed_error()
        return self._worker.schema

    def start(self) -> None:
        """Start the statement and wait for its schema. Raises the statement's error if it fails
        before that."""
        try:
            self._worker.start(self._on_progress is not None)
            wait(
                self._worker.finished if self._worker.read_ahead_fully else self._worker.ready,
                self._worker.interrupt,
                tick=self._check_start,
            )
        except BaseException:
            self.close()
            raise
        if self._worker.schema is None or (
            self._worker.read_ahead_fully and self._worker.error is not None
        ):
            self._finish(self._worker.error)

    def batches(self, rows: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
        """The remaining rows, in non-empty batches of at most `rows`.

        Raises the statement's errors (SqlError, SourceUnavailable, ResourceExhausted …), and
        SessionClosed when the stream was closed.
        """
        while (batch := self._next_batch()) is not None:
            for start in range(0, batch.num_rows, max(rows, 1)):
                yield batch.slice(start, max(rows, 1)) if batch.num_rows > rows else batch

    def table(self) -> pa.Table:
        """The remaining rows as one table."""
        schema = self.schema
        return pa.Table.from_batches(list(self.batches()), schema)

    def close(self) -> None:
        """Stop the statement and release its resources. May be called twice."""
        if not self._is_ended:
            self._is_ended = True
            self._finalizer.detach()
            if not self._worker.stop():
                self._on_stuck()

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _next_batch(self) -> pa.RecordBatch | None:
        if self._is_ended:
            if self._worker.stop_requested:
                raise closed_error()
            return None
        check_not_forked(self._pid)  # the worker's thread is only in the parent
        try:
            with raise_interrupts():
                item = self._next_item()
        except BaseException:
            self.close()
            raise
        if isinstance(item, _End):
            self._finish(item.error)
            return None
        return item

    def _next_item(self) -> "pa.RecordBatch | _End":
        while True:
            DeferInterrupts.checkpoint()
            try:
                return self._worker.batches.get(timeout=POLL_SECONDS)
            except Empty:
                self._report_progress()
                if self._worker.finished.is_set() and self._worker.batches.empty():
                    raise closed_error() from None

    def _check_start(self) -> None:
        """Report the progress; do not wait any longer for rows when the columns are known."""
        self._report_progress()
        if self._worker.schema is not None:
            self._worker.ready.set()

    def _report_progress(self) -> None:
        time_limit.get()()
        if self._on_progress is not None and (percent := self._worker.percent()) <= 100:
            self._on_progress(max(percent, 0.0))  # unknown progress is reported as 0

    def _finish(self, error: BaseException | None) -> None:
        self._is_ended = True
        self._finalizer.detach()
        stop(self._worker.finished, lambda: None)
        if error is not None:
            raise self._translate_error(error) from None


MAX_MEMORY_BYTES = 64 << 20
"""The size of the batches that are held in memory, in bytes."""


class SpillQueue:
    """A queue of batches of one schema that is read once its end was put.

    What memory should not hold lies in a file in `folder` (None: the system's temporary folder).
    OSError when it cannot be written."""

    def __init__(self, folder: Path | None = None) -> None:
        place = None if folder is None else str(folder)
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(MAX_MEMORY_BYTES, dir=place)  # noqa: SIM115  it lives as long as the queue
        self._writer: pa.RecordBatchStreamWriter | None = None
        self._reader: Iterator[pa.RecordBatch] | None = None
        self._ends: list[_End] = []

    def qsize(self) -> int:
        """There is always a place."""
        return 0

    def put(self, item: pa.RecordBatch | _End) -> None:
        """Append an item."""
        if isinstance(item, _End):
            self._ends.append(item)
            return
        if self._writer is None:
            self._writer = pa.ipc.new_stream(self._file, item.schema)
        self._writer.write_batch(item)

    def get(self, timeout: float | None = None) -> pa.RecordBatch | _End:  # noqa: ARG002  what there is does not grow
        """Remove and return the next item. queue.Empty when there is none."""
        if self.empty():
            raise Empty
        if self._reader is None:
            self._reader = _written_batches(self._file, self._writer)
        batch = next(self._reader, None)
        return self._ends.pop() if batch is None else batch

    def empty(self) -> bool:
        """Whether there is nothing to read."""
        return not self._ends


def _written_batches(
    file: IO[bytes], writer: pa.RecordBatchStreamWriter | None
) -> Iterator[pa.RecordBatch]:
    """What was written to the file, which is closed then, or with the iterator."""
    with file:
        if writer is not None:
            writer.close()
            file.seek(0)
            yield from pa.ipc.open_stream(file)

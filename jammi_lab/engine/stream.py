"""A running statement: a worker executes it and reads ahead, the caller takes batches and can always be interrupted."""

import queue
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from jammi_lab.engine.faults import closed
from jammi_lab.engine.overflow import Overflow
from jammi_lab.engine.waiting import STEP, await_event, go_on_stopping, let_go_of_imports, settle
from jammi_lab.errors import JammiError
from jammi_lab.sources.attaching import in_transaction
from jammi_lab.sources.base import Asking
from jammi_lab.storage.beside import begin

BATCH = 65_536
AHEAD = 4
"""How many batches may lie ready; with them a consumer that writes files and DuckDB work at once."""

_BUFFER = "SET streaming_buffer_size = '4MB'"
"""What DuckDB fills before the first row comes: with 16 MB the first rows of a large table take three times as long, and all of them no less."""
_PROGRESS = ("SET enable_progress_bar = true", "SET enable_progress_bar_print = false", "SET progress_bar_time = 0")
"""All of these belong to one cursor."""

Setup = Callable[[duckdb.DuckDBPyConnection], Callable[[], None]]
"""Makes what a statement needs on its cursor, and returns what takes it away again."""


class _End:
    """The mark after the last batch, or the error instead of it."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class Pump:
    """The worker's side. It knows nothing of the Stream, so that a forgotten Stream can be collected and stops it.

    With `drained` it does not wait for whoever takes the rows: it reads to the end at once, because what it reads from must be let go. What is more
    than memory should hold waits in a file in the folder `spill`.
    With `witness` the rows are read in a transaction, and at its end that is called with what asks further questions in it.
    """

    def __init__(
        self,
        cursor: duckdb.DuckDBPyConnection,
        sql: str,
        params: Mapping[str, Any],
        setup: Setup,
        *,
        drained: bool = False,
        witness: Callable[[Asking], None] | None = None,
        memory: dict[str, Any] | None = None,
        spill: Path | None = None,
    ) -> None:
        self.cursor, self._sql, self._params, self._setup, self.drained, self._witness = cursor, sql, dict(params), setup, drained, witness
        self._memory: dict[str, Any] = {} if memory is None else memory
        self.ready, self.done, self.stopped = threading.Event(), threading.Event(), threading.Event()
        self.schema: pa.Schema | None = None
        self.batches: queue.Queue[pa.RecordBatch | _End] | Overflow[_End] = Overflow(spill) if drained else queue.Queue(AHEAD)
        self.error: BaseException | None = None
        self._settings: tuple[str, ...] = ()
        self._lock, self._tidying = threading.Lock(), False
        self._taken = threading.Lock()  # by the thread that works, or by who stops it before there is one

    def start(self, with_progress: bool) -> None:
        """Begin, in another thread."""
        self._settings = (_BUFFER, *_PROGRESS) if with_progress else (_BUFFER,)
        begin(self._work, "jammi-statement")

    def _work(self) -> None:
        if not self._taken.acquire(blocking=False):
            return
        undo: Callable[[], None] | None = None
        try:
            for setting in self._settings:
                self.cursor.execute(setting)
            undo = self._setup(self.cursor)
            if self._witness is None:
                self._pump()
            else:
                in_transaction(self.cursor, self._memory, self._witnessed)
        except BaseException as error:  # noqa: BLE001 — carried to the caller's thread, which raises it as ours
            self.error = error
        finally:
            with self._lock:
                self._tidying = True
            try:
                if undo is not None:
                    undo()
                self.cursor.close()
            except duckdb.Error as error:
                self.error = self.error or error
            finally:
                let_go_of_imports()
                self.ready.set()
                self._put(_End(self.error))
                self.done.set()

    def _witnessed(self, query: Asking) -> None:
        self._pump()
        if self._witness is not None and not self.stopped.is_set():
            self._witness(query)

    def _pump(self) -> None:
        """A function of its own: when it returns, nothing holds the reader, and what it read from is let go."""
        if self.stopped.is_set():
            return
        reader = self.cursor.execute(self._sql, self._params or None).to_arrow_reader(BATCH)
        self.schema = reader.schema
        self.ready.set()
        for batch in reader:
            if batch.num_rows and not self._put(batch):
                return

    def _put(self, item: "pa.RecordBatch | _End") -> bool:
        while not self.stopped.is_set():
            try:
                self.batches.put(item, timeout=STEP)
                return True
            except queue.Full:
                continue
        return False

    def interrupt(self) -> None:
        """Stop what runs."""
        self.stopped.set()
        with self._lock:  # an interrupt must not hit the statements that tidy up
            if not self._tidying:
                self.cursor.interrupt()

    def percent(self) -> float:
        """How much is done, as DuckDB sees it; negative when it cannot tell."""
        with self._lock:
            return -1.0 if self._tidying else float(self.cursor.query_progress())

    def stop(self) -> bool:
        """Stop and wait a little; whether it ended. Else it is stopped as soon as it can be."""
        self.stopped.set()
        if self._taken.acquire(blocking=False):  # it never began: an interrupt came first, or there may be no more threads
            self.cursor.close()
            self.ready.set()
            self.done.set()
        ended = settle(self.done, self.interrupt)
        if not ended:
            go_on_stopping(self.done, self.interrupt)
        return ended


class Stream:
    """The rows of one run of one statement, once. Nothing of it is left when it is drained, closed or forgotten."""

    def __init__(
        self, pump: Pump, failed: Callable[[BaseException], JammiError], stuck: Callable[[], None], on_progress: Callable[[float], None] | None = None
    ) -> None:
        self._pump, self._failed, self._stuck, self._on_progress = pump, failed, stuck, on_progress
        self._ended = False
        self._finalizer = weakref.finalize(self, pump.stop)

    @property
    def schema(self) -> pa.Schema:
        """Names and Arrow types."""
        if self._pump.schema is None:
            raise closed()
        return self._pump.schema

    def begin(self) -> None:
        """Start, and wait until the schema is known. The statement's error, when it fails before that."""
        try:
            self._pump.start(self._on_progress is not None)
            await_event(self._pump.done if self._pump.drained else self._pump.ready, self._pump.interrupt, tick=self._tick)
        except BaseException:
            self.close()
            raise
        if self._pump.schema is None or (self._pump.drained and self._pump.error is not None):
            self._end(self._pump.error)

    def batches(self, rows: int = BATCH) -> Iterator[pa.RecordBatch]:
        """The rows that were not taken yet, at most `rows` of them at a time; empty batches are left out.

        Raises what the statement raised: SqlError, SourceUnavailable, ResourceExhausted …; InvalidArgument when the stream was closed.
        """
        while (batch := self._next()) is not None:
            for start in range(0, batch.num_rows, max(rows, 1)):
                yield batch.slice(start, max(rows, 1)) if batch.num_rows > rows else batch

    def table(self) -> pa.Table:
        """All rows that were not taken yet."""
        schema = self.schema
        return pa.Table.from_batches(list(self.batches()), schema)

    def close(self) -> None:
        """Stop, and let go of everything. Closing twice is fine."""
        if not self._ended:
            self._ended = True
            self._finalizer.detach()
            if not self._pump.stop():
                self._stuck()

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _next(self) -> pa.RecordBatch | None:
        if self._ended:
            if self._pump.stopped.is_set():
                raise closed()
            return None
        try:
            item = self._awaited()
        except BaseException:
            self.close()
            raise
        if isinstance(item, _End):
            self._end(item.error)
            return None
        return item

    def _awaited(self) -> "pa.RecordBatch | _End":
        while True:
            try:
                return self._pump.batches.get(timeout=STEP)
            except queue.Empty:
                self._tick()
                if self._pump.done.is_set() and self._pump.batches.empty():
                    raise closed() from None

    def _tick(self) -> None:
        if self._on_progress is not None and (percent := self._pump.percent()) <= 100:
            self._on_progress(max(percent, 0.0))  # where DuckDB cannot tell: that it runs

    def _end(self, error: BaseException | None) -> None:
        self._ended = True
        self._finalizer.detach()
        settle(self._pump.done, lambda: None)
        if error is not None:
            raise self._failed(error) from None

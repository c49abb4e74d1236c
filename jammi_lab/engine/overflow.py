"""A queue without an end: so much of it lies in memory, the rest in a file that has no name and goes with the queue."""

import tempfile
import threading
from collections import deque
from pathlib import Path
from queue import Empty
from typing import IO, Generic, TypeVar

import pyarrow as pa

IN_MEMORY = 64 << 20
"""How many bytes of batches wait in memory."""
End = TypeVar("End")


class Overflow(Generic[End]):
    """Takes batches of one schema and a last item, as `queue.Queue` does; once a batch was put into the file, only what lies in memory is taken
    before the last item is there. `folder` is where the file is made (None: the system's). OSError when the disk does not take it."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._waiting: deque[pa.RecordBatch] = deque()
        self._bytes = 0
        self._file: IO[bytes] | None = None
        self._writer: pa.RecordBatchStreamWriter | None = None
        self._reader: pa.RecordBatchStreamReader | None = None
        self._last: list[End] = []
        self._changed = threading.Condition()

    def put(self, item: pa.RecordBatch | End, timeout: float | None = None) -> None:  # noqa: ARG002  as a queue's, which may be full
        """Append."""
        with self._changed:
            if not isinstance(item, pa.RecordBatch):
                self._last.append(item)
            elif self._writer is None and self._bytes + item.nbytes <= IN_MEMORY:
                self._waiting.append(item)
                self._bytes += item.nbytes
            else:
                self._written(item)
            self._changed.notify_all()

    def get(self, timeout: float | None = None) -> pa.RecordBatch | End:
        """The next item. queue.Empty when there is none in time."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._waiting or self._last, timeout):
                raise Empty
            if self._waiting:
                batch = self._waiting.popleft()
                self._bytes -= batch.nbytes
                return batch
            return batch if (batch := self._read()) is not None else self._last.pop(0)

    def empty(self) -> bool:
        """Whether nothing can be taken now."""
        with self._changed:
            return not self._waiting and not self._last

    def _written(self, batch: pa.RecordBatch) -> None:
        if self._writer is None:
            self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115  it lives as long as the queue
            self._writer = pa.ipc.new_stream(self._file, batch.schema)
        self._writer.write_batch(batch)

    def _read(self) -> pa.RecordBatch | None:
        """The next batch of the file, which is complete; None when there is none."""
        if self._writer is None or self._file is None:
            return None
        if self._reader is None:
            self._writer.close()
            self._file.seek(0)
            self._reader = pa.ipc.open_stream(self._file)
        try:
            batch: pa.RecordBatch = self._reader.read_next_batch()
        except StopIteration:
            self._file.close()
            self._file = None
            return None
        return batch

"""An unbounded queue of record batches: up to a limit in memory, the rest in an anonymous temporary
file."""

import tempfile
import threading
from collections import deque
from pathlib import Path
from queue import Empty
from typing import IO, Generic, TypeVar

import pyarrow as pa

MAX_MEMORY_BYTES = 64 << 20
"""The size of the batches that are held in memory, in bytes."""
End = TypeVar("End")


class SpillQueue(Generic[End]):
    """A queue of batches of one schema and a final item, with the interface of `queue.Queue`.

    Once a batch was written to the file, batches of the file can be read only after the final item
    was put. `folder` holds the file (None: the system's temporary folder). OSError when it cannot
    be written."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._in_memory: deque[pa.RecordBatch] = deque()
        self._memory_bytes = 0
        self._file: IO[bytes] | None = None
        self._writer: pa.RecordBatchStreamWriter | None = None
        self._reader: pa.RecordBatchStreamReader | None = None
        self._final_items: list[End] = []
        self._changed = threading.Condition()

    def put(self, item: pa.RecordBatch | End, timeout: float | None = None) -> None:  # noqa: ARG002  the signature of queue.Queue.put
        """Append an item; never blocks."""
        with self._changed:
            if not isinstance(item, pa.RecordBatch):
                self._final_items.append(item)
            elif self._writer is None and self._memory_bytes + item.nbytes <= MAX_MEMORY_BYTES:
                self._in_memory.append(item)
                self._memory_bytes += item.nbytes
            else:
                self._write_to_file(item)
            self._changed.notify_all()

    def get(self, timeout: float | None = None) -> pa.RecordBatch | End:
        """Remove and return the next item. queue.Empty after `timeout` seconds without one."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._in_memory or self._final_items, timeout):
                raise Empty
            if self._in_memory:
                batch = self._in_memory.popleft()
                self._memory_bytes -= batch.nbytes
                return batch
            return (
                batch if (batch := self._read_from_file()) is not None else self._final_items.pop(0)
            )

    def empty(self) -> bool:
        """Whether `get` would wait."""
        with self._changed:
            return not self._in_memory and not self._final_items

    def _write_to_file(self, batch: pa.RecordBatch) -> None:
        if self._writer is None:
            self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115  the file lives as long as the queue
            self._writer = pa.ipc.new_stream(self._file, batch.schema)
        self._writer.write_batch(batch)

    def _read_from_file(self) -> pa.RecordBatch | None:
        """The next batch of the file, or None at its end. Called only after the last write."""
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

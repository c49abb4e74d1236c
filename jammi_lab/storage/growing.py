"""The digest of a file that grows at its end, taken while it is written: what writes has one core, and what digests the other."""

import _thread
import hashlib
import os
from pathlib import Path

from jammi_lab.storage.beside import begin

BLOCK = 1 << 20
"""Bytes per read; measured flat between 64 KiB and 4 MiB."""
_LEAST = 1 << 18
"""Bytes that are worth another thread's attention."""


class Growing:
    """SHA-256 of a file of which no byte changes once it is written. It reads what is on disk, never what was meant to be."""

    def __init__(self, path: Path) -> None:
        self._path, self._whole, self._at = path, hashlib.sha256(), 0
        self._reading = _thread.allocate_lock()

    def grew(self) -> None:
        """More of the file is there: take it in while something else is done. What could not be taken in so is left for `ended`."""
        if not self._reading.acquire(blocking=False):
            return
        try:
            size = os.stat(self._path).st_size
            if size - self._at >= _LEAST:
                begin(lambda: self._in_between(size))
                return
        except (OSError, RuntimeError):  # RuntimeError: there may be no more threads
            pass
        self._reading.release()

    def ended(self) -> str:
        """All of the file is there: its digest. OSError."""
        with self._reading:
            self._take(os.stat(self._path).st_size)
            return self._whole.hexdigest()

    def abort(self) -> None:
        """Wait until nothing reads the file any more."""
        with self._reading:
            pass

    def _in_between(self, size: int) -> None:
        try:
            self._take(size)
        except OSError:
            pass  # `ended` meets it again, or does not
        finally:
            self._reading.release()

    def _take(self, size: int) -> None:
        """Hash up to a size. What was hashed is counted block by block, so that an error loses none and doubles none."""
        with open(self._path, "rb", buffering=0) as file:
            file.seek(self._at)
            while self._at < size and (block := file.read(min(BLOCK, size - self._at))):
                self._whole.update(block)
                self._at += len(block)

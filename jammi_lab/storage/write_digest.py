"""Hashing of a file while it is being written: one core writes, another one hashes."""

import _thread
import hashlib
import os
from pathlib import Path

from jammi_lab.core.thread_pool import submit

BLOCK_BYTES = 1 << 20
"""Bytes per read. The speed was measured equal from 64 KiB to 4 MiB."""
MIN_BACKGROUND_BYTES = 1 << 18
"""Fewer new bytes are not worth waking another thread."""


class StreamingDigest:
    """SHA-256 of an append-only file. It reads what is on disk, never what was intended to be
    written."""

    def __init__(self, path: Path) -> None:
        self._path, self._hash, self._position = path, hashlib.sha256(), 0
        self._read_lock = _thread.allocate_lock()

    def hash_in_background(self) -> None:
        """Start hashing the new bytes in the background. What is not hashed then is left for
        `finish`."""
        if not self._read_lock.acquire(blocking=False):
            return
        try:
            size = os.stat(self._path).st_size
            if size - self._position >= MIN_BACKGROUND_BYTES:
                submit(lambda: self._hash_and_release(size))
                return
        except (OSError, RuntimeError):  # RuntimeError: no more threads are allowed
            pass
        self._read_lock.release()

    def finish(self) -> str:
        """The digest of the completely written file. Raises OSError."""
        with self._read_lock:
            self._hash_until(os.stat(self._path).st_size)
            return self._hash.hexdigest()

    def abort(self) -> None:
        """Wait until no thread reads the file."""
        with self._read_lock:
            pass

    def _hash_and_release(self, size: int) -> None:
        try:
            self._hash_until(size)
        except OSError:
            pass  # if it persists, the final read raises it
        finally:
            self._read_lock.release()

    def _hash_until(self, size: int) -> None:
        """Hash up to a file size. The position advances by block, so that after an error no block
        is skipped or hashed twice."""
        with open(self._path, "rb", buffering=0) as file:
            file.seek(self._position)
            while self._position < size and (
                block := file.read(min(BLOCK_BYTES, size - self._position))
            ):
                self._hash.update(block)
                self._position += len(block)

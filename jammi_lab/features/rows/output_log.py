"""Checkpoint of a row map: a file to which the outputs of finished calls are appended, so that a
process that is killed loses only the calls in flight."""

import contextlib
import hashlib
import json
import os
import struct
import time
from collections.abc import Iterator
from io import FileIO
from typing import BinaryIO

import pyarrow as pa

from jammi_lab.steps.checkpoint import CheckpointSlot
from jammi_lab.storage.files import (
    StoragePath,
    fault_point,
    make_folder,
    open_for_reading,
    open_regular,
    remove_file,
    write_all,
    write_atomic,
)
from jammi_lab.storage.object_store import RemotePath

SUFFIX = ".log"
# A file that is written whole, like the checkpoint of an embedding, would be saved once a second at
# most. An encoder computes a lost second again for nothing; of a paid service it is money.
_FRAME_HEADER = struct.Struct("<I16s")
"""Before each frame: its length in bytes, and the first 16 bytes of its SHA-256."""
_MAX_FRAME_BYTES = 1 << 31
_MIN_PUT_INTERVAL_SECONDS, _MAX_PUT_TIME_SHARE = 1.0, 0.02
"""An object store takes whole objects: the log is put there at most this often, and for at most
this share of the run time."""


class OutputLog:
    """Appends tables and reads them back. A truncated or damaged file counts up to the damage.
    Errors of the file system end the log, not the run."""

    def __init__(self, slot: CheckpointSlot) -> None:
        self._slot = slot
        self._file: FileIO | None = None
        self._content = bytearray()
        """What an object store is to hold."""
        self._next_put = 0.0
        self._intact_bytes = 0
        """Where the next frame belongs: what follows is damaged and would hide it."""
        self._has_failed = slot.path is None

    def load(self) -> list[pa.Table]:
        """The tables of an earlier run, up to the first damage. Changes nothing."""
        if self._slot.path is None:
            return []
        tables: list[pa.Table] = []
        try:
            with open_for_reading(self._slot.path) as file:
                for number, frame in enumerate(_frames(file)):
                    if number:
                        with pa.ipc.open_stream(frame) as stream:
                            tables.append(stream.read_all())
                    self._intact_bytes += _FRAME_HEADER.size + len(frame)
                    if isinstance(self._slot.path, RemotePath):
                        self._content += _framed(frame)
        except (OSError, pa.ArrowException):
            pass  # what was read before counts
        return tables

    def append(self, table: pa.Table) -> bool:
        """Add a table. Returns whether it is in the log; in an object store, whether it will be at
        the next `append` or `flush`."""
        if self._has_failed:
            return False
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
        try:
            self._write(_framed(sink.getvalue().to_pybytes()))
        except OSError:
            self._has_failed = True
            self.close()
        fault_point("output_log.appended")
        return not self._has_failed

    def flush(self) -> None:
        """Put what an object store does not have yet."""
        if isinstance(self._slot.path, RemotePath) and self._content and not self._has_failed:
            with contextlib.suppress(OSError):
                self._put(self._slot.path)

    def close(self) -> None:
        """Close the file; it stays."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def remove(self) -> None:
        """Delete the file."""
        self.close()
        self._content.clear()
        if self._slot.path is not None:
            with contextlib.suppress(OSError):
                remove_file(self._slot.path)

    def _write(self, frame: bytes) -> None:
        path = self._slot.path
        assert path is not None, "checked by the caller"
        if isinstance(path, RemotePath):
            self._content += frame if self._content else self._header() + frame
            if time.monotonic() >= self._next_put:
                self._put(path)
            return
        if self._file is None:
            if not self._slot.tables_exist():
                raise FileNotFoundError("a table that the run reads was dropped")
            make_folder(path.parent)
            self._file = FileIO(open_regular(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), "a")
            self._file.truncate(self._intact_bytes)
            if not self._intact_bytes:
                frame = self._header() + frame
        # Not synced: what a call returned has to survive the death of this process, not of the
        # machine.
        write_all(self._file, frame)

    def _put(self, path: RemotePath) -> None:
        if not self._slot.tables_exist():
            raise FileNotFoundError("a table that the run reads was dropped")
        started_at = time.monotonic()
        write_atomic(path, bytes(self._content))
        now = time.monotonic()
        self._next_put = now + max(
            _MIN_PUT_INTERVAL_SECONDS, (now - started_at) / _MAX_PUT_TIME_SHARE
        )

    def _header(self) -> bytes:
        return _framed(json.dumps({"tables": list(self._slot.table_ids)}).encode())


def logged_table_ids(path: StoragePath) -> list[int]:
    """The ids of the mutable tables whose values a log may hold. Raises OSError, ValueError."""
    with open_for_reading(path) as file:
        header = next(_frames(file), b"{}")
    return [int(table_id) for table_id in json.loads(header).get("tables", [])]


def _framed(content: bytes) -> bytes:
    return _FRAME_HEADER.pack(len(content), hashlib.sha256(content).digest()[:16]) + content


def _frames(file: BinaryIO) -> Iterator[bytes]:
    """Yield the intact frames up to the first that is not."""
    while len(header := file.read(_FRAME_HEADER.size)) == _FRAME_HEADER.size:
        length, digest = _FRAME_HEADER.unpack(header)
        content = file.read(length) if length < _MAX_FRAME_BYTES else b""
        if hashlib.sha256(content).digest()[:16] != digest:
            return
        yield content

"""Checkpoints of interrupted runs: one file for each definition, to which finished rows are
appended, so that a process that is killed loses only the rows in flight."""

import contextlib
import hashlib
import os
import struct
from collections.abc import Iterator, Sequence
from io import FileIO
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.catalog.logs import LogRecord
from jammi_lab.sources.base import Relation
from jammi_lab.storage.files import (
    fault_point,
    list_files,
    make_folder,
    open_for_reading,
    open_regular,
    remove_file,
    write_all,
)
from jammi_lab.storage.object_store import RemotePath
from jammi_lab.store.result_files import CHECKPOINT_SECONDS, ResultFiles

_FRAME_HEADER = struct.Struct("<I16s")
"""Before each frame: its length in bytes, and the first 16 bytes of its SHA-256."""
_MAX_FRAME_BYTES = 1 << 31


class Checkpoint:
    """Appends tables and reads them back. A truncated or damaged file counts up to the damage.
    Errors of the file system end the checkpoint, not the run."""

    def __init__(self, path: Path | None) -> None:
        """`path`: None for a run that may not keep anything."""
        self._path = path
        self._file: FileIO | None = None
        self._intact_bytes = 0
        """Where the next frame belongs: what follows is damaged and would hide it."""
        self._has_failed = path is None

    def load(self) -> Iterator[pa.Table]:
        """Yield the tables of an earlier run, up to the first damage. Changes nothing."""
        if self._path is None:
            return
        self._intact_bytes = 0
        try:
            with open_for_reading(self._path) as file:
                for frame in _frames(file):
                    with pa.ipc.open_stream(frame) as stream:
                        yield stream.read_all()
                    self._intact_bytes += _FRAME_HEADER.size + len(frame)
        except (OSError, pa.ArrowException):
            return  # what was read before counts

    def append(self, table: pa.Table) -> bool:
        """Add a table, after `load` has yielded all. Returns whether it is in the file."""
        if self._has_failed:
            return False
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
        try:
            if self._file is None:
                self._file = self._open()
            # Not synced: what was computed has to survive the death of this process, not of the
            # machine.
            write_all(self._file, _framed(sink.getvalue().to_pybytes()))
        except OSError:
            self._has_failed = True
            self.close()
        fault_point("checkpoint.appended")
        return not self._has_failed

    def close(self) -> None:
        """Close the file; it stays."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def remove(self) -> None:
        """Delete the file."""
        self.close()
        self._intact_bytes = 0
        if self._path is not None:
            with contextlib.suppress(OSError):
                remove_file(self._path)

    def _open(self) -> FileIO:
        """The file to append to, after what is intact in it."""
        path = self._path
        assert path is not None, "without a path nothing is appended"
        make_folder(path.parent)
        file = FileIO(open_regular(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), "a")
        file.truncate(self._intact_bytes)
        return file


class CheckpointFolder:
    """The checkpoints of one workspace."""

    def __init__(self, catalog: Catalog, results: ResultFiles) -> None:
        self._catalog, self._results = catalog, results

    def checkpoint(self, definition: str, inputs: Sequence[Relation]) -> Checkpoint:
        """The checkpoint of a definition. Changes nothing.

        A run over mutable tables gets none, because their values must not outlive the drop of a row
        or table in a file; nor does one in an object store, to which nothing can be appended. Every
        tenant has a checkpoint of its own: with a shared one, the
        time of a run would reveal which rows another tenant has."""
        states = (relation.mutable and relation.mutable.state for relation in inputs)
        root = self._results.root
        if isinstance(root, RemotePath) or any(isinstance(state, LogRecord) for state in states):
            return Checkpoint(None)
        tenant = self._catalog.scope.tenant
        name = definition if tenant is None else f"{definition}__{tenant}"
        return Checkpoint(root / "checkpoints" / f"{name}.log")

    def remove_old(self) -> None:
        """Delete the checkpoints that are too old, as far as this user may."""
        now, root = self._results.clock.now_ns(), self._results.root
        for path, listed_file in list_files(root, "checkpoints", lambda *_: None):
            if now - listed_file.modified_ns > CHECKPOINT_SECONDS * 1_000_000_000:
                with contextlib.suppress(OSError):
                    remove_file(root / path)


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

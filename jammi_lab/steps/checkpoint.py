"""Checkpoints of interrupted runs: one file for each definition, to which finished rows are
appended, so that a process that is killed loses only the rows in flight."""

import contextlib
import hashlib
import os
import shutil
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from io import FileIO
from typing import BinaryIO

import msgspec
import pyarrow as pa

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.catalog.logs import LogRecord
from jammi_lab.core.errors import WorkspaceReadOnly
from jammi_lab.sources.base import Relation
from jammi_lab.storage.arrow_values import read_rows
from jammi_lab.storage.files import (
    StoragePath,
    fault_point,
    list_files,
    make_folder,
    open_for_reading,
    open_regular,
    remove_file,
    write_all,
)
from jammi_lab.storage.object_store import RemoteFile, RemotePath
from jammi_lab.store.result_files import CHECKPOINT_SECONDS, ResultFiles

_FRAME_HEADER = struct.Struct("<I16s")
"""Before each frame: its length in bytes, and the first 16 bytes of its SHA-256."""
_MAX_FRAME_BYTES = 1 << 31
_MIN_PUT_INTERVAL_SECONDS, _MAX_PUT_TIME_SHARE = 1.0, 0.02
"""An object store takes whole objects: a checkpoint is put there at most this often, and for at
most this share of the run time."""


class Checkpoint:
    """Appends tables and reads them back. A truncated or damaged file counts up to the damage.
    Errors of the file system end the checkpoint, not the run."""

    def __init__(
        self,
        path: StoragePath | None,
        table_ids: Sequence[int] = (),
        tables_exist: Callable[[], bool] = lambda: True,
    ) -> None:
        """`path`: None for a run that may not keep anything; `table_ids`: ids of the mutable tables
        that the run reads; `tables_exist`: whether they all still exist."""
        self._path, self._table_ids, self._tables_exist = path, table_ids, tables_exist
        self._file: FileIO | None = None
        self._remote: RemoteFile | None = None
        """The local copy of what an object store is to hold."""
        self._next_put = 0.0
        self._intact_bytes = 0
        """Where the next frame belongs: what follows is damaged and would hide it."""
        self._has_failed = path is None

    def load(self) -> Iterator[pa.Table]:
        """Yield the tables of an earlier run, up to the first damage. Changes nothing."""
        if self._path is None:
            return
        self._intact_bytes = 0
        # what was read before an error counts
        with contextlib.suppress(OSError, pa.ArrowException), open_for_reading(self._path) as file:
            for number, frame in enumerate(_frames(file)):
                if number:
                    yield read_rows(pa.ipc.open_stream, frame)
                self._intact_bytes += _FRAME_HEADER.size + len(frame)

    def append(self, table: pa.Table) -> bool:
        """Add a table, after `load` has yielded all. Returns whether it is in the file; in an
        object store, whether it will be at the next `append` or `flush`."""
        if self._has_failed:
            return False
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
        try:
            if not self._tables_exist():
                raise FileNotFoundError("a table that the run reads was dropped")
            if self._file is None:
                self._file = self._open()
            # Not synced: what was computed has to survive the death of this process, not of the
            # machine.
            write_all(self._file, _framed(sink.getvalue().to_pybytes()))
            if time.monotonic() >= self._next_put:
                self._put()
        except OSError:
            self._has_failed = True
            self.close()
        fault_point("checkpoint.appended")
        return not self._has_failed

    def flush(self) -> None:
        """Put what an object store does not have yet."""
        with contextlib.suppress(OSError):
            self._put()

    def close(self) -> None:
        """Close the file; it stays."""
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._remote is not None:
            self._remote.abort()
            self._remote = None

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
        make_folder(path.parent, inside=path.parent.parent)
        if isinstance(path, RemotePath):
            self._remote = RemoteFile(path)
            file = FileIO(self._remote.temp, "a")
            if self._intact_bytes:
                with open_for_reading(path) as kept:
                    shutil.copyfileobj(kept, file)
        else:
            file = FileIO(open_regular(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), "a")
        file.truncate(self._intact_bytes)
        if not self._intact_bytes:
            write_all(file, _framed(msgspec.json.encode({"tables": self._table_ids})))
        return file

    def _put(self) -> None:
        if self._remote is None:
            return
        started_at = time.monotonic()
        self._remote.commit()
        now = time.monotonic()
        self._next_put = now + max(
            _MIN_PUT_INTERVAL_SECONDS, (now - started_at) / _MAX_PUT_TIME_SHARE
        )


class CheckpointFolder:
    """The checkpoints of one workspace."""

    def __init__(self, catalog: Catalog, results: ResultFiles) -> None:
        self._catalog, self._results = catalog, results

    def checkpoint(self, definition: str, inputs: Sequence[Relation]) -> Checkpoint:
        """The checkpoint of a definition. Changes nothing.

        A run over tables of an ephemeral session gets none, because their values must not outlive
        the session in a file. Every tenant has a checkpoint of its own: with a shared one, the
        time of a run would reveal which rows another tenant has."""
        tables = []
        for state in (relation.mutable and relation.mutable.state for relation in inputs):
            if isinstance(state, LogRecord):
                tables.append(state)
        if any(record.session is not None for record in tables):
            return Checkpoint(None)

        ids = [record.log_id for record in tables]

        def tables_exist() -> bool:
            current = [self._catalog.mutable_tables.get(record.name) for record in tables]
            return ids == [record and record.log_id for record in current]

        tenant = self._catalog.scope.tenant
        name = definition if tenant is None else f"{definition}__{tenant}"
        path = self._results.root / "checkpoints" / f"{name}.log"
        return Checkpoint(path, ids, tables_exist)

    def remove_old(self) -> None:
        """Delete the checkpoints that are too old, as far as this user may."""
        now, root = self._results.clock.now_ns(), self._results.root
        for path, listed_file in list_files(root, "checkpoints", lambda *_: None):
            if now - listed_file.modified_ns > CHECKPOINT_SECONDS * 1_000_000_000:
                with contextlib.suppress(OSError):
                    remove_file(root / path)


def remove_checkpoints_of_table(root: StoragePath, table_id: int) -> None:
    """Delete the checkpoints of a workspace that may contain values of a mutable table. Raises
    WorkspaceReadOnly for those of another user that may not be read or removed."""
    try:
        for path, _ in list_files(root, "checkpoints"):
            # what is no checkpoint contains none
            with contextlib.suppress(FileNotFoundError, ValueError):
                with open_for_reading(root / path) as file:
                    frame = next(_frames(file), b"{}")
                header = msgspec.json.decode(frame, type=dict[str, list[int]])
                if table_id in header.get("tables", []):
                    remove_file(root / path)
    except NotADirectoryError:
        return  # in the place of the folder is none of ours
    except PermissionError as error:
        raise WorkspaceReadOnly(
            f"The table is dropped, but {str(error.filename)!r}, which may contain values of it, "
            "cannot be read or removed.",
            hint="Let its owner remove it: an interrupted run left it there.",
        ) from None


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

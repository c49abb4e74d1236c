"""The DuckDB instances of one tenant, and the views of the statements that run in them."""

import contextlib
import ctypes
import functools
import os
import re
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from jammi_lab.core import identifiers
from jammi_lab.core.interrupts import Signal
from jammi_lab.core.settings import Settings
from jammi_lab.core.thread_pool import submit
from jammi_lab.engine import duckdb_instances
from jammi_lab.engine.attachments import Attachments
from jammi_lab.engine.name_resolution import ResolvedNames
from jammi_lab.engine.sql import float_sums
from jammi_lab.engine.sql.read_set import scratch_name
from jammi_lab.engine.stream import StreamWorker
from jammi_lab.sources.base import Relation
from jammi_lab.sources.scratch_duckdb import register_frame
from jammi_lab.storage.spill_folders import SpillFolder

CLOSE_TIMEOUT_SECONDS = 5.0
MAX_LIMIT_ROWS = 2**63 - 1


def _without_pushdown(address: str, schema: pa.Schema) -> str:
    """A SELECT of a frame that keeps DuckDB from pushing float comparisons down to Arrow, which
    orders NaN differently.

    Comparisons of computed values are not pushed down, and a double negation preserves every bit.
    For floats in nested columns a LIMIT prevents the pushdown; it costs parallelism."""
    floats = [field.name for field in schema if pa.types.is_floating(field.type)]
    nested = any(
        pa.types.is_nested(field.type) and re.search("float|double", str(field.type))
        for field in schema
    )
    replacements = ", ".join(
        f"-(-{name}) AS {name}" for name in map(identifiers.quote_identifier, floats)
    )
    return (
        f"SELECT *{f' REPLACE ({replacements})' if replacements else ''} FROM "
        f"{address}{f' LIMIT {MAX_LIMIT_ROWS}' if nested else ''}"
    )


_open_anywhere: weakref.WeakSet["TenantInstances"] = weakref.WeakSet()


def _keep_alive_after_fork() -> None:
    """Keep the parent's instances alive in a forked child. Closing them there would wait for
    threads that do not exist in the child and crash it at exit."""
    for instances in _open_anywhere:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(instances.main))


os.register_at_fork(after_in_child=_keep_alive_after_fork)


class TenantInstances:
    """The instances of one tenant."""

    def __init__(self, settings: Settings, parent: Path) -> None:
        """`parent` is the folder in which it creates its spill folder."""
        self._spill = SpillFolder(parent)
        self.spill = self._spill.folder
        try:
            self.main = duckdb_instances.open_main(settings, self.spill)
        except BaseException:
            self._spill.remove()
            raise
        _open_anywhere.add(self)
        self.lock = threading.RLock()
        self.workers: weakref.WeakSet[StreamWorker] = weakref.WeakSet()
        self.users = 0
        self._users_lock = threading.Lock()
        self._held = dict[str, tuple[int, str]]()
        """How many statements hold an option of the instance, and its value without them."""
        self.attachments = Attachments()
        self._has_float_sums = False
        self._filesystems: dict[str, object] = {}

    @property
    def in_use(self) -> bool:
        """Whether a statement is being prepared or run."""
        return self.users > 0 or any(not worker.finished.is_set() for worker in self.workers)

    def add_users(self, change: int) -> None:
        """Count a user: 1 to begin, -1 to end."""
        with self._users_lock:
            self.users += change

    def hold_option(self, option: str, value: str) -> Callable[[], None]:
        """Set an option, until the function that is returned is called: DuckDB has one value of it
        for all statements of an instance. Several statements may hold it, all with the same
        value."""
        with self._users_lock, self.main.cursor() as cursor:
            users, without = self._held.get(option, (0, ""))
            if users == 0:
                [[without]] = cursor.execute(
                    f"SELECT CAST(current_setting('{option}') AS VARCHAR)"
                ).fetchall()
                cursor.execute(f"SET GLOBAL {option} = '{value}'")
            self._held[option] = users + 1, without
        return functools.partial(self._release_option, option)

    def _release_option(self, option: str) -> None:
        with self._users_lock, self.main.cursor() as cursor:
            users, without = self._held[option]
            if users == 1:
                cursor.execute(f"SET GLOBAL {option} = '{without}'")
            self._held[option] = users - 1, without

    def create_float_sums(self) -> None:
        """Create the macros of `float_sums`, once. Raises DuckDB's errors."""
        with self.lock:
            if not self._has_float_sums:
                with self.main.cursor() as cursor:
                    cursor.execute(";".join(float_sums.create_macros()))
                self._has_float_sums = True

    def acquire(
        self,
        undo: contextlib.ExitStack,
        cursor: duckdb.DuckDBPyConnection,
        relations: ResolvedNames,
    ) -> None:
        """Acquire `relations` for a statement on that cursor, until `undo` is closed: their bytes,
        attachments and extensions."""
        for relation in relations.values():
            if relation.acquire is not None:
                undo.callback(relation.acquire())
            undo.enter_context(self.attachments.use(cursor, relation))

    def create_views(
        self, cursor: duckdb.DuckDBPyConnection, database: str, relations: ResolvedNames
    ) -> None:
        """Create a view of each relation in a scratch database. Raises DuckDB's errors."""
        for number, (parts, relation) in enumerate(relations.items()):
            view = scratch_name(cursor, database, parts)
            cursor.execute(f"CREATE VIEW {view} AS {self.select_text(cursor, relation, number)}")

    def select_text(
        self, cursor: duckdb.DuckDBPyConnection, relation: Relation, number: int = 0
    ) -> str:
        """A SELECT of a relation for this cursor. Registers its frame or filesystem."""
        if relation.requirements.filesystem is not None:
            self.register_filesystem(relation.requirements.filesystem)
        if relation.read.frame is None:
            return relation.read.body or ""
        register_frame(cursor, f"__jammi_frame_{number}", relation.read.frame)
        return _without_pushdown(f"temp.main.__jammi_frame_{number}", relation.read.frame.schema)

    def register_filesystem(self, filesystem: Any) -> None:
        """Register an fsspec filesystem with DuckDB, replacing an earlier one of the same
        protocol."""
        protocols = (
            [filesystem.protocol]
            if isinstance(filesystem.protocol, str)
            else list(filesystem.protocol)
        )
        with self.lock:
            if all(self._filesystems.get(p) is filesystem for p in protocols):
                return
            for protocol in protocols:
                if self._filesystems.pop(protocol, None) is not None:
                    self.main.unregister_filesystem(protocol)
            self.main.register_filesystem(filesystem)
            self._filesystems.update(dict.fromkeys(protocols, filesystem))

    def describe(self, cursor: duckdb.DuckDBPyConnection, relation: Relation) -> dict[str, str]:
        """Columns and SQL types of a relation. Raises DuckDB's errors."""
        with self.attachments.use(cursor, relation):
            return {
                name: kind
                for name, kind, *_ in cursor.execute(
                    f"DESCRIBE {self.select_text(cursor, relation)}"
                ).fetchall()
            }

    def close(self) -> None:
        """Stop running statements, close the instances and remove spilled files. A statement that
        waits for a hanging server delays this in the background until the server answers or the
        process ends."""
        for worker in list(self.workers):
            worker.stop()
        closed = Signal()

        def release() -> None:
            self.main.close()
            self._spill.remove()
            closed.set()

        try:
            submit(release, "jammi-engine-close")
        except RuntimeError:
            # The interpreter is exiting and starts no more threads; the instances end with it.
            self._spill.remove()
            return
        closed.wait(
            CLOSE_TIMEOUT_SECONDS
        )  # DuckDB's close() waits indefinitely for a statement on a hanging server

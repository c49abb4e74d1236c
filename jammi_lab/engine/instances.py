"""The DuckDB instances of one tenant: what they know, and the namespace of a statement that runs in them."""

import contextlib
import re
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from jammi_lab import names
from jammi_lab.config import Settings
from jammi_lab.engine import duck
from jammi_lab.engine.attachments import Attachments
from jammi_lab.engine.readset import address
from jammi_lab.engine.resolve import Found
from jammi_lab.engine.spills import Spill
from jammi_lab.engine.stream import Pump, Setup
from jammi_lab.sources.base import Relation
from jammi_lab.sources.turns import turns
from jammi_lab.storage.beside import begin

_PATIENCE = 5.0
_EVERY_ROW = 2**63 - 1


def _compared_here(address: str, schema: pa.Schema) -> str:
    """A SELECT of a frame whose numbers DuckDB compares itself: it would leave that to Arrow, which finds NaN greater than nothing.

    It keeps values that are computed, and the negative of a negative is the same in every bit. What lies in a nested column it keeps under a limit,
    which it goes over in one thread."""
    floats = [field.name for field in schema if pa.types.is_floating(field.type)]
    nested = any(pa.types.is_nested(field.type) and re.search("float|double", str(field.type)) for field in schema)
    same = ", ".join(f"-(-{name}) AS {name}" for name in map(names.quote, floats))
    return f"SELECT *{f' REPLACE ({same})' if same else ''} FROM {address}{f' LIMIT {_EVERY_ROW}' if nested else ''}"


class Session:
    """The instances of one tenant."""

    def __init__(self, settings: Settings, parent: Path) -> None:
        """`parent`: where it makes itself a folder for what memory does not hold."""
        self._spill = Spill(parent)
        self.spill = self._spill.folder
        try:
            self.main = duck.open_main(settings, self.spill)
            self.twins = duck.open_twins(settings)
        except BaseException:
            self._spill.remove()
            raise
        self.lock = threading.RLock()
        self.pumps: weakref.WeakSet[Pump] = weakref.WeakSet()
        self.users = 0
        self._counting = threading.Lock()
        self.attachments = Attachments()
        self._filesystems: dict[str, object] = {}

    @property
    def in_use(self) -> bool:
        """Whether a statement is being prepared or run."""
        return self.users > 0 or any(not pump.done.is_set() for pump in self.pumps)

    def use(self, more: int) -> None:
        """Somebody begins to use it (1), or is over (-1)."""
        with self._counting:
            self.users += more

    def setup(self, found: Found) -> Setup:
        """What makes the namespace of a statement that reads `found` on its cursor."""

        def make(cursor: duckdb.DuckDBPyConnection) -> Callable[[], None]:
            if not found:
                return lambda: None
            with contextlib.ExitStack() as undo:
                for relation in found.values():
                    if relation.hold is not None:
                        undo.callback(relation.hold())
                    if relation.attachment is not None:
                        undo.callback(turns(self.attachments.memory, relation.attachment.type).read())
                    undo.callback(self.attachments.use(cursor, relation))
                database = duck.open_scratch(cursor)
                undo.callback(duck.close_scratch, cursor, database)
                for number, (parts, relation) in enumerate(found.items()):
                    self._view(cursor, database, parts, relation, number)
                return undo.pop_all().close

        return make

    def _view(self, cursor: duckdb.DuckDBPyConnection, database: str, parts: tuple[str, ...], relation: Relation, number: int) -> None:
        schema, table = address(parts)
        if len(parts) > 1:
            cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {database}.{names.quote(schema)}")
        body = self.body(cursor, relation, number)
        cursor.execute(f"CREATE VIEW {database}.{names.quote(schema)}.{names.quote(table)} AS {body}")

    def body(self, cursor: duckdb.DuckDBPyConnection, relation: Relation, number: int = 0) -> str:
        """A SELECT of a relation that the cursor can run; registers its frame or filesystem."""
        if relation.filesystem is not None:
            self.know(relation.filesystem)
        if relation.frame is None:
            return relation.body or ""
        cursor.register(f"__jammi_frame_{number}", relation.frame)
        return _compared_here(f"temp.main.__jammi_frame_{number}", relation.frame.schema)

    def know(self, filesystem: Any) -> None:
        """Let DuckDB read through an fsspec filesystem; it takes the place of an earlier one of the same protocol."""
        protocols = [filesystem.protocol] if isinstance(filesystem.protocol, str) else list(filesystem.protocol)
        with self.lock:
            if all(self._filesystems.get(p) is filesystem for p in protocols):
                return
            for protocol in protocols:
                if self._filesystems.pop(protocol, None) is not None:
                    self.main.unregister_filesystem(protocol)
            self.main.register_filesystem(filesystem)
            self._filesystems.update(dict.fromkeys(protocols, filesystem))

    def describe(self, cursor: duckdb.DuckDBPyConnection, relation: Relation) -> dict[str, str]:
        """Columns and SQL types of a relation. Raises what DuckDB raises."""
        with self.attachments.using(cursor, relation):
            return {name: kind for name, kind, *_ in cursor.execute(f"DESCRIBE {self.body(cursor, relation)}").fetchall()}

    def close(self) -> None:
        """Stop what runs and let go of the instances and of what they spilled; what a server that hangs still has goes when it answers, or with the
        process."""
        for pump in list(self.pumps):
            pump.stop()
        done = threading.Event()

        def let_go() -> None:
            self.main.close()
            self.twins.close()
            self._spill.remove()
            done.set()

        try:
            begin(let_go, "jammi-engine-close")
        except RuntimeError:
            self._spill.remove()  # the interpreter is ending: no thread is started any more, and the instances end with the process
            return
        done.wait(_PATIENCE)  # DuckDB waits without end for a statement that waits for a server

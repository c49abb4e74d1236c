"""DuckDB's main instances are used again by the tests of a process: opening and closing one takes
16 ms of processor time, a third of what most tests take.

An instance comes back only when nothing is left in it: no other connection, no database, table,
view or extension, and those settings that statements change as they were. Child processes and tests
marked `own_instances` open theirs in the usual way.

An instance with an extension is not used again, but loads it without hashing its file for the
signature, and so do the temporary ones of connectors: 80 MB for Delta tables, 0.3 s of processor
time for each of them.
"""

import contextlib
import os
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import duckdb

from jammi_lab.sources import scratch_duckdb

UNSIGNED_SETTINGS = {"allow_unsigned_extensions": "true"}

enabled = True
"""Whether instances are used again; cleared for the time of a test that is marked
`own_instances`."""
MAX_IDLE = 2
_QUESTIONS = (
    "SELECT count(*) FROM duckdb_databases()",
    """SELECT (SELECT count(*) FROM duckdb_tables()), (SELECT count(*) FROM duckdb_views() WHERE NOT internal),
    (SELECT count(*) FROM duckdb_extensions() WHERE loaded),
    (SELECT count(*) FROM duckdb_secrets()), (SELECT count FROM duckdb_connection_count()),
    current_setting('threads'), current_setting('TimeZone'), current_setting('disabled_optimizers'),
    current_setting('errors_as_json'), current_setting('preserve_insertion_order')""",
)
Kept = tuple[tuple[Any, ...], list[Any], duckdb.DuckDBPyConnection]
"""The settings that an instance was opened with, its fingerprint when it was new, a connection that
keeps it alive."""
idle: list[Kept] = []
"""Instances that are used again by the next workspace."""
_used: dict[int, Kept] = {}
_abandoned: list[Any] = []


def use_again(again: bool) -> None:
    """Whether the next test uses instances again, and loads extensions without a look at their
    signatures."""
    global enabled
    enabled = again
    for name, value in UNSIGNED_SETTINGS.items():
        if again:
            scratch_duckdb.CONFIG[name] = value
        else:
            scratch_duckdb.CONFIG.pop(name, None)


def install() -> None:
    """From now on instances are used again, if the package is loaded."""
    module: Any = sys.modules.get("jammi_lab.engine.tenant_instances")
    if module is None or hasattr(module.TenantInstances.close, "original"):
        return
    instances, session = module.duckdb_instances, module.TenantInstances
    open_new, close_session = instances.open_main, session.close

    def open_main(settings: Any, spill: Path) -> duckdb.DuckDBPyConnection:
        if not enabled or settings["engine.memory_limit"]:
            return open_new(settings, spill)  # type: ignore[no-any-return]
        names = ("timezone", "threads", "temp_quota")
        key = tuple(settings[f"engine.{name}"] for name in names)
        kept = _take(key, spill)
        if kept is None:
            with mock.patch.dict(instances.BOUND_CONFIG, UNSIGNED_SETTINGS):
                opened = open_new(settings, spill)
            kept = key, [_ask(opened, text) for text in _QUESTIONS], opened
        connection = kept[2].cursor()
        _used[id(connection)] = kept
        return connection

    def close(self: Any) -> None:
        kept, at_rest = _used.pop(id(self.main), None), not (self.in_use or self._filesystems)
        close_session(self)
        if kept is None:
            return
        if (
            not at_rest or self.spill.exists()
        ):  # a statement that waits for a server could hold it up
            module.submit(kept[2].close, "jammi-engine-close")
        elif len(idle) < MAX_IDLE and _is_clean(kept):
            idle.append(kept)
        else:
            kept[2].close()

    close.original = close_session  # type: ignore[attr-defined]
    instances.open_main, session.close = open_main, close
    os.register_at_fork(after_in_child=_abandon)


def _take(key: tuple[Any, ...], spill: Path) -> Kept | None:
    for kept in [each for each in idle if each[0] == key]:
        idle.remove(kept)
        with contextlib.suppress(duckdb.Error):  # it has spilled into another folder
            kept[2].execute(f"SET GLOBAL temp_directory = '{spill}'; RESET GLOBAL memory_limit")
            return kept
    return None


def _is_clean(kept: Kept) -> bool:
    _, fingerprint, connection = kept
    try:
        # To list the tables of an attached database would ask its server: that comes second.
        return all(_ask(connection, text) == fingerprint[n] for n, text in enumerate(_QUESTIONS))
    except duckdb.Error:
        return False


def _ask(connection: duckdb.DuckDBPyConnection, text: str) -> list[Any]:
    return connection.execute(text).fetchall()


def _abandon() -> None:
    """Keep the parent's instances alive in a forked child: their threads do not exist there."""
    _abandoned.append((idle[:], dict(_used)))
    idle.clear()
    _used.clear()

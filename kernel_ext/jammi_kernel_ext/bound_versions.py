"""Which versions of tables the variables of a cell had when it ended, for `%jammi resume`: its
output may name none.

They are an observation of the workspace, by the notebook's file and the text of the cell. The next
run of that cell replaces it, and the oldest observations go when there are too many. Names of
variables and tables are stored, no values.
"""

import contextlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from jammi_lab.core.errors import JammiError
from jammi_lab.core.interrupts import Signal
from jammi_lab.core.thread_pool import submit
from jammi_lab.features.outputs.stamps import StampedTable, code_digest, stamped_table
from jammi_lab.inputs.result_names import find_recorded_version
from jammi_lab.sources.frame_origins import origins
from jammi_lab.storage.digests import NO_STAT, CacheEntry, observation_key
from jammi_lab.workspace.result import Result, whole_table
from jammi_lab.workspace.result_table import ResultTable

if TYPE_CHECKING:
    from jammi_lab.workspace.assembly import Services
    from jammi_lab.workspace.workspace import Workspace


SAVE_SECONDS = 0.1
"""How long a cell waits until it is recorded."""


def record_versions(
    workspaces: "Iterable[Workspace]", values: Mapping[str, object], file: Path, text: str
) -> None:
    """Record the versions of the values that a cell of that text bound, by name, each in its
    workspace."""
    with contextlib.suppress(JammiError):  # then nothing tells the version
        for services in {ws._services for ws in workspaces}:
            found = {name: _table_of(services, value) for name, value in values.items()}
            tables = {name: table for name, table in found.items() if table is not None}
            if tables:
                entry = CacheEntry(NO_STAT, services.clock.now_ns(), msgspec.to_builtins(tables))
                services.observation_cache.put(_key(file, text), entry)
                _save(services)


def _save(services: "Services") -> None:
    """Write to the catalog. A cell waits a moment only for what other processes write there."""
    saved = Signal()

    def flush() -> None:
        with contextlib.suppress(JammiError):  # the workspace was closed
            services.observation_cache.flush()
        saved.set()

    submit(flush, "jammi-bound-versions")
    saved.wait(SAVE_SECONDS)


def recorded_versions(ws: "Workspace", file: Path, text: str) -> Mapping[str, StampedTable]:
    """What was recorded of the variables of a cell of a notebook, by name."""
    entry = ws._services.observation_cache.get(_key(file, text))
    try:
        return msgspec.convert({} if entry is None else entry.payload, dict[str, StampedTable])
    except msgspec.ValidationError:
        return {}


def _key(file: Path, text: str) -> str:
    return observation_key("bound", code_digest(f"{os.path.abspath(file)}\n{text}"))


def _table_of(services: "Services", value: object) -> StampedTable | None:
    """The version in this workspace of which a value is the table, or its rows."""
    if isinstance(value, ResultTable):
        is_own = value._services is services
        return stamped_table(value.name, value.version, value._record) if is_own else None
    origin = origins.recorded(value)
    if isinstance(value, Result):
        text, _ = value._statement() or ("", None)
        if value._read_as is not None or whole_table(text):
            origin = value._origin or value._read_origin()
    if origin is None or origin.derived or len(origin.inputs) != 1:
        return None
    [anchor] = origin.inputs
    name, catalog = anchor.input.name, services.catalog
    record = find_recorded_version(catalog, name, anchor)
    record = record or catalog.result_tables.get(name)  # by its physical name
    return None if record is None else stamped_table(name, anchor.version or 0, record)

"""What the variables of a notebook hold of tables when a cell ends, for `%jammi resume`.

It is an observation of the workspace, by the notebook's file: the version that each name is, or has
all rows of, and what was computed from tables. A name that a restart took away stays until a cell
binds it again. Names of variables and tables are stored, no values.
"""

import contextlib
import os
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import msgspec

from jammi_kernel_ext.cell_flow import is_output
from jammi_lab.core.errors import JammiError
from jammi_lab.core.thread_pool import JobQueue
from jammi_lab.core.value import Value
from jammi_lab.features.outputs.stamps import code_digest, short
from jammi_lab.inputs.result_names import find_recorded_version
from jammi_lab.sources.frame_origins import TOO_LARGE, origins
from jammi_lab.storage.digests import NO_STAT, CacheEntry, observation_key
from jammi_lab.workspace.result import Result, whole_table
from jammi_lab.workspace.result_table import ResultTable

if TYPE_CHECKING:
    from jammi_kernel_ext.frame_follower import FrameFollower
    from jammi_lab.core.anchors import FrameOrigin
    from jammi_lab.workspace.assembly import Services


_queue = JobQueue("jammi-held-names")
SAVE_SECONDS = 0.1
"""How long a cell waits until it is recorded."""
Form = Literal["table", "read", "arrow", "polars", "pandas", "exact", "scan", ""]
"""How a variable holds a table: as it is, as its rows by the method that gave them all, or empty
for what was computed from it."""


class HeldTable(Value, frozen=True, omit_defaults=True):
    """What a variable holds of a table."""

    cell: str
    """The cell that bound it, as `[3]`."""
    table: str
    """The recipe; the physical name where that was asked for."""
    form: Form = ""
    version: int = 0
    digest: str = ""
    """The beginning of the digest of its file."""
    is_exact: bool = False
    """Whether it was asked for by the number of the version."""


class HeldNames:
    """What the names of a notebook hold."""

    def __init__(self, values: Mapping[str, object], follower: "FrameFollower") -> None:
        self._values, self._follower = values, follower
        self._frames: dict[str, tuple[FrameOrigin, object, FrameOrigin | None]] = {}
        """By name, the recorded origin of its frame, what else decides the origin, and that."""

    def record(
        self, services: "Services", file: Path | None, cell: str, removed: AbstractSet[str]
    ) -> None:
        """Record what the names hold of a workspace's tables when a cell ends, which removed some
        names."""
        with contextlib.suppress(JammiError):  # then what was recorded before stays
            known = recorded_names(services, file)
            missing = known.keys() - self._values.keys() - removed
            names = {name: held for name, held in known.items() if name in missing}
            for name, value in dict(self._values).items():
                held = None if is_output(name) else self._held_table(services, name, value, cell)
                if held is None:
                    continue
                before = known.get(name)
                if before is not None and before.with_values(cell=cell) == held:
                    held = before
                names[name] = held
            if names != known:
                payload = {"names": msgspec.to_builtins(names)}
                entry = CacheEntry(NO_STAT, services.clock.now_ns(), payload)
                services.observation_cache.put(_key(file), entry)
                _save(services)

    def _held_table(
        self, services: "Services", name: str, value: object, cell: str
    ) -> HeldTable | None:
        if isinstance(value, ResultTable):
            if value._services.path != services.path:
                return None
            digest, is_exact = short(value._record.digest), not value._is_of_recipe
            return HeldTable(cell, value.name, "table", value.version, digest, is_exact)
        is_exact, form, origin = False, "", self._follower.known_origin(name)
        recorded = origins.recorded(value)
        if isinstance(value, Result):
            origin = value._origin or value._read_origin()
            text, _ = value._statement() or ("", None)
            is_exact = value._read_as is not None and not value._is_whole_recipe
            if value._read_as is not None or whole_table(text):
                form = "read"
        elif recorded is not None:
            origin = self._origin_of_frame(name, value, recorded)
            if origin is not None and not origin.derived and origin.grounds in ([], [TOO_LARGE]):
                form = origin.form
        if origin is None:
            return None
        return _table_of(services, origin, cell, form, is_exact=is_exact)

    def _origin_of_frame(
        self, name: str, value: object, recorded: "FrameOrigin"
    ) -> "FrameOrigin | None":
        """The origin of a frame. Its rows are compared again only after a cell that changed it, or
        that could not be followed."""
        state = id(value), self._follower.ground_count
        known = self._frames.get(name)
        if known is None or known[0] is not recorded or known[1] != state:
            known = self._frames[name] = recorded, state, origins.origin(value)
        return known[2]


def _table_of(
    services: "Services", origin: "FrameOrigin", cell: str, form: str, *, is_exact: bool
) -> HeldTable | None:
    catalog = services.catalog
    for anchor in origin.inputs if form else ():
        name = catalog.aliases.resolve(anchor.input.name)  # it may have been renamed since
        record = find_recorded_version(catalog, name, anchor)
        record = record or catalog.result_tables.get(name)  # by its physical name
        if record is not None:
            digest = short(record.digest)
            version = anchor.version or 0
            return HeldTable(cell, name, cast("Form", form), version, digest, is_exact)
    tables = (a.input.name for a in origin.inputs if a.input.kind_class.is_result)
    table = next(filter(services.lookup.has_ready_version, tables), None)
    return None if table is None else HeldTable(cell, table)


def _save(services: "Services") -> None:
    """Write to the catalog. A cell waits a moment only for what other processes write there."""

    def flush() -> None:
        with contextlib.suppress(JammiError):  # the workspace was closed
            services.observation_cache.flush()

    _queue.put(flush)
    _queue.wait(SAVE_SECONDS)


def recorded_names(services: "Services", file: Path | None) -> dict[str, HeldTable]:
    """What was recorded of the variables of a notebook, by name."""
    entry = services.observation_cache.get(_key(file))
    try:
        names = {} if entry is None else entry.payload.get("names")
        return msgspec.convert(names, dict[str, HeldTable])
    except msgspec.ValidationError:
        return {}


def _key(file: Path | None) -> str:
    """The key of a notebook; one for all whose front end does not tell the file."""
    return observation_key("names", "" if file is None else code_digest(os.path.abspath(file)))

"""The DuckDB instances that bind statements on empty replicas of their tables.

They hold nothing between two statements, so all workspaces of a process share one per time zone:
opening one for each took a third of the processor time of a workspace's first statement. Only
tenants have instances of their own; no message of DuckDB can name what another one reads.
"""

import contextlib
import functools
import threading
from contextlib import AbstractContextManager

import duckdb

from jammi_lab.core.settings import Settings
from jammi_lab.engine import duckdb_instances
from jammi_lab.engine.duckdb_errors import invalidates_instance
from jammi_lab.sources.scratch_duckdb import SharedInstance

_shared: dict[tuple[str, bool], SharedInstance] = {}
_lock = threading.Lock()


class Replicas:
    """The instances that bind statements: one with and one without the pushdown of filters, each
    opened on first use."""

    def __init__(self, settings: Settings, *, is_shared: bool) -> None:
        self._settings, self._is_shared = settings, is_shared
        self._own: dict[bool, duckdb.DuckDBPyConnection] = {}

    def borrow(
        self, *, pushes_filters_down: bool = False
    ) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        """An instance for one block; callers use a cursor of their own. With `pushes_filters_down`
        its plans show the filters of each scan."""
        opener = functools.partial(
            duckdb_instances.open_replicas,
            self._settings,
            pushes_filters_down=pushes_filters_down,
        )
        with _lock:
            if not self._is_shared:
                if pushes_filters_down not in self._own:
                    self._own[pushes_filters_down] = opener()
                return contextlib.nullcontext(self._own[pushes_filters_down])
            key = (str(self._settings["engine.timezone"]), pushes_filters_down)
            if key not in _shared:
                _shared[key] = SharedInstance(opener, invalidates_instance)
            return _shared[key].borrow()

    def close(self) -> None:
        """Close the instances that are not shared."""
        with _lock:
            own, self._own = list(self._own.values()), {}
        for instance in own:
            instance.close()

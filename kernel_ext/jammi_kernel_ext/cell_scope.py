"""The names that a cell may use: relations of the workspace and their columns."""

import itertools
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from jammi_lab.core.caches import BoundedCache
from jammi_lab.core.errors import JammiError
from jammi_lab.core.identifiers import quoted_name

if TYPE_CHECKING:
    from jammi_lab.workspace.workspace import Workspace

CACHE_SECONDS = 20.0
"""How long column lists are cached. Completion does not need newer ones."""
_MAX_CACHED = 500
_MAX_RELATIONS = 20
_DATABASE_KINDS = frozenset("postgresql mysql sqlite duckdb delta iceberg".split())


def likely_columns(ws: "Workspace", cache: "RelationColumnCache") -> list[tuple[str, str]]:
    """The columns of the result tables and local files of a workspace with their types, for a
    statement whose FROM is not written yet. Servers and URLs are not queried."""
    names: dict[str, str] = {}
    for _, record in itertools.islice(ws._services.catalog.result_tables.current(), _MAX_RELATIONS):
        names |= {column.name: column.type for column in record.columns}
    for source in itertools.islice(ws.sources.list(), _MAX_RELATIONS):
        if source.kind not in _DATABASE_KINDS and "://" not in source.location:
            columns = cache.relation_columns(ws, quoted_name(source.name))
            names |= {name: kind for name, kind in columns if name not in names}
    return list(names.items())


class RelationColumnCache:
    """A short-lived cache of the columns of relations and the tables of sources."""

    def __init__(self) -> None:
        self._cache = BoundedCache[Any, list[Any]](_MAX_CACHED)

    def source_tables(self, ws: "Workspace", source: str) -> list[str]:
        """The tables of a source."""
        return self._get(ws, source, ws.sources[source].tables)

    def relation_columns(self, ws: "Workspace", name: str) -> list[tuple[str, str]]:
        """(name, SQL type) of each column of a source, table or frame; empty when it cannot be
        read, and for a URL."""
        if "://" in name:
            return []

        def load() -> list[tuple[str, str]]:
            try:
                return load_columns(ws, name)
            except JammiError:
                return []

        return self._get(ws, ("columns", name), load)

    def _get(self, ws: "Workspace", what: Any, load: Callable[[], list[Any]]) -> list[Any]:
        period = time.monotonic() // CACHE_SECONDS
        key = (id(ws), ws.current_tenant, what, period)
        if (found := self._cache.get(key)) is None:
            found = load()
            self._cache.put(key, found)
        return found


def load_columns(ws: "Workspace", name: str) -> list[tuple[str, str]]:
    """(name, SQL type) of each column of a source, table or frame. SourceUnavailable and
    TableNotFound carry no statement or position, because the user did not type this statement."""
    services = ws._services
    try:
        table = services.recorded_recipes.bind_context("", [services.frames]).load_table(name)
    except JammiError as error:
        error.statement = error.position = None
        raise
    return list(table.prepared.output)


def relations_by_family(ws: "Workspace") -> dict[str, list[str]]:
    """The names that FROM accepts, by schema: sources (under the empty string), result tables,
    mutable tables, topics and the relations of the catalog."""
    from jammi_lab.freshness import catalog_relations

    names: dict[str, list[str]] = {
        "": list(ws.sources),
        "jammi": ws._services.catalog.recipes.names(),
        "jammi_catalog": sorted(catalog_relations.COLUMNS),
    }
    names["mutable"] = [m.name for m in ws.mutable.list()]
    names["topics"] = [t.name for t in ws.topics.list()]
    return names

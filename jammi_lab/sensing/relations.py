"""`jammi_catalog.*`: what a workspace knows of itself, as relations that SQL can read.

A relation is made when a statement that names it runs, and only the one that is named: a query over files costs no look, and `DESCRIBE` none
either. Every row comes from a reader of the catalog that goes through the tenant predicate, or from a verb of the workspace that does.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.catalog.sessions import OPEN
from jammi_lab.names import fold
from jammi_lab.observing.observers import JAMMI_CATALOG
from jammi_lab.sensing import models
from jammi_lab.sensing.columns import ColumnLineage
from jammi_lab.sources.base import Relation
from jammi_lab.sources.computed import Computed, Read
from jammi_lab.sources.locations import shown
from jammi_lab.tenancy import TenantScope
from jammi_lab.values.anchors import Input, InputKind
from jammi_lab.values.records import TableStatus, statement_of

if TYPE_CHECKING:
    import pyarrow as pa

    from jammi_lab.sensing.reports import Status

Rows = Callable[[], Iterable[Sequence[Any]]]
"""The rows of one relation, in the bound tenant's scope, each as long as the relation has columns."""

COLUMNS: Mapping[str, Mapping[str, str]] = {
    "sources": {"name": "VARCHAR", "kind": "VARCHAR", "location": "VARCHAR", "tenant": "VARCHAR", "anchor": "VARCHAR", "anchored_at": "VARCHAR"},
    "tables": {
        "name": "VARCHAR",
        "version": "BIGINT",
        "table_name": "VARCHAR",
        "kind": "VARCHAR",
        "status": "VARCHAR",
        "source": "VARCHAR",
        "row_count": "BIGINT",
        "bytes": "BIGINT",
        "created_at": "VARCHAR",
        "tenant": "VARCHAR",
    },
    "columns": {"table_name": "VARCHAR", "name": "VARCHAR", "type": "VARCHAR", "position": "BIGINT"},
    "recipes": {
        "name": "VARCHAR",
        "kind": "VARCHAR",
        "definition": "VARCHAR",
        "definition_hash": "VARCHAR",
        "newest_version": "BIGINT",
        "tenant": "VARCHAR",
    },
    "models": {"name": "VARCHAR", "version": "BIGINT", "dimensions": "BIGINT", "digest": "VARCHAR", "tenant": "VARCHAR"},
    "anchors": {
        "table_name": "VARCHAR",
        "input": "VARCHAR",
        "input_kind": "VARCHAR",
        "kind": "VARCHAR",
        "method": "VARCHAR",
        "value": "VARCHAR",
        "columns": "VARCHAR[]",
    },
    "status": {
        "name": "VARCHAR",
        "version": "BIGINT",
        "verdict": "VARCHAR",
        "reasons": "VARCHAR[]",
        "rows": "BIGINT",
        "bytes": "BIGINT",
        "age_seconds": "DOUBLE",
        "index": "VARCHAR",
    },
    "lineage": {"input": "VARCHAR", "derived": "VARCHAR", "kind": "VARCHAR"},
    "column_lineage": {"input": "VARCHAR", "input_column": "VARCHAR", "derived": "VARCHAR", "derived_column": "VARCHAR"},
    "mutable_tables": {"name": "VARCHAR", "version": "BIGINT", "row_count": "BIGINT", "tenant": "VARCHAR"},
    "topics": {"name": "VARCHAR", "next_offset": "BIGINT", "tenant": "VARCHAR"},
    "sessions": {"id": "VARCHAR", "tenant": "VARCHAR", "deadline": "VARCHAR", "tables": "VARCHAR[]"},
    "writers": {"id": "VARCHAR", "host": "VARCHAR", "pid": "BIGINT", "opened_at": "VARCHAR", "alive": "BOOLEAN"},
}
"""Column → SQL type of every relation. These stay; further ones may follow behind them. Moments are RFC 3339."""


class CatalogRelations:
    """The provider of `jammi_catalog.*`. What a room above fills in (`fill`) is empty until it does."""

    def __init__(self, catalog: Catalog, scope: TenantScope, status: Callable[[], "Status"], columns: ColumnLineage) -> None:
        self._catalog, self._scope, self._status, self._column_lineage = catalog, scope, status, columns
        self._rows: dict[str, Rows] = {
            "sources": self._sources,
            "tables": self._tables,
            "columns": self._columns,
            "recipes": self._recipes,
            "models": self._models,
            "anchors": self._anchors,
            "status": self._status_rows,
            "lineage": self._lineage,
            "column_lineage": self._columns_read,
            "topics": self._topics,
            "sessions": self._sessions,
            "mutable_tables": self._mutable_tables,
            "writers": self._writers,
        }

    def fill(self, relation: str, rows: Rows) -> None:
        """Say where the rows of a relation come from. KeyError for a relation that there is not."""
        assert relation in COLUMNS, relation
        self._rows[relation] = rows

    def resolve(self, parts: tuple[str, ...]) -> Relation | None:
        """The relation of `jammi_catalog.<name>`; None for any other name. Nothing is computed before it is run, and then once."""
        if len(parts) != 2 or fold(parts[0]) != JAMMI_CATALOG or (name := fold(parts[1])) not in COLUMNS:
            return None
        tenant = self._scope.current

        @functools.cache
        def once() -> "pa.Table":
            with self._scope.use(tenant):
                return self._table(name)

        relation = Relation(input=Input(InputKind.SOURCE, JAMMI_CATALOG, name), columns=COLUMNS[name])
        computed = Computed(says="", reads=lambda read: [Read(relation, tuple(sorted(read)), COLUMNS[name])], rows=lambda _: once())
        return dataclasses.replace(relation, computed=computed)

    def names(self) -> Iterable[str]:
        """All of them, as they are typed."""
        return [f"{JAMMI_CATALOG}.{name}" for name in COLUMNS]

    def _table(self, name: str) -> "pa.Table":
        import pyarrow as pa

        types = {"VARCHAR": pa.string(), "BIGINT": pa.int64(), "DOUBLE": pa.float64(), "BOOLEAN": pa.bool_(), "VARCHAR[]": pa.list_(pa.string())}
        rows = list(self._rows[name]()) if name in self._rows else []
        return pa.table({c: pa.array([row[at] for row in rows], types[kind]) for at, (c, kind) in enumerate(COLUMNS[name].items())})

    def _sources(self) -> Iterable[Sequence[Any]]:
        """`anchor` is how the state of a source is told; `anchored_at` when the newest table that reads it directly was completed."""
        seen: dict[str, str] = {}
        for _, record in self._catalog.tables.current():
            for anchor in record.anchors:
                if anchor.input.kind in (InputKind.SOURCE, InputKind.FRAME) and record.completed_at is not None:
                    at = fold(anchor.input.name)
                    seen[at] = max(seen.get(at, ""), record.completed_at)
        return [(r.name, r.kind, shown(r.location), r.tenant, r.anchor, seen.get(fold(r.name))) for r in self._catalog.sources.list()]

    def _tables(self) -> Iterable[Sequence[Any]]:
        return [
            (v.recipe, v.version, t.table_name, t.kind.value, t.status.value, t.source_id, t.row_count, t.bytes, v.created_at, v.tenant)
            for v, t in self._catalog.tables.list(status=None)
        ]

    def _columns(self) -> Iterable[Sequence[Any]]:
        for record in self._ready():
            yield from ((record.table_name, c.name, c.type, at) for at, c in enumerate(record.columns, 1))

    def _recipes(self) -> Iterable[Sequence[Any]]:
        newest = {(v.tenant, fold(v.recipe)): v.version for v, _ in self._catalog.tables.current()}
        for r in self._catalog.recipes.list():
            yield r.name, r.kind.value, statement_of(r), r.definition_hash, newest.get((r.tenant, fold(r.name))), r.tenant

    def _models(self) -> Iterable[Sequence[Any]]:
        return [(m.name, m.version, m.dimensions, m.digest, m.tenant) for m in self._catalog.models.list()]

    def _anchors(self) -> Iterable[Sequence[Any]]:
        for record in self._ready():
            for a in record.anchors:
                yield record.table_name, a.input.label, a.input.kind.value, a.kind.value, a.method, a.value, list(a.columns)

    def _status_rows(self) -> Iterable[Sequence[Any]]:
        """As `ws.status()` has them: from one shallow look."""
        table = self._status().arrow()
        return zip(*(table.column(name).to_pylist() for name in COLUMNS["status"]), strict=True)

    def _lineage(self) -> Iterable[Sequence[Any]]:
        of_models = (models.edge_of(use) for use in models.uses(self._catalog))
        edges = dict.fromkeys([*(link.edge for link in self._catalog.lineage.all()), *of_models])
        return [(e.input, e.derived, e.kind) for e in edges]

    def _columns_read(self) -> Iterable[Sequence[Any]]:
        edges = [edge for v, record in self._catalog.tables.current() for edge in self._column_lineage.edges(v.recipe, record)]
        self._column_lineage.flush()
        return [(e.input, e.input_column, e.derived, e.derived_column) for e in edges]

    def _topics(self) -> Iterable[Sequence[Any]]:
        return [(t.name, t.next_offset, t.tenant) for t in self._catalog.topics.list()]

    def _mutable_tables(self) -> Iterable[Sequence[Any]]:
        return [(m.name, m.version, m.row_count, m.tenant) for m in self._catalog.mutables.list()]

    def _sessions(self) -> Iterable[Sequence[Any]]:
        for r in self._catalog.sessions.list():
            if r.state == OPEN:
                yield r.session_id, r.tenant, r.deadline, [t.name for t in self._catalog.mutables.list(session=r.session_id)]

    def _writers(self) -> Iterable[Sequence[Any]]:
        writers = self._catalog.writers
        return [(w.writer_id, w.host, w.pid, w.started_at, w.retired_at is None and writers.is_alive(w.writer_id)) for w in writers.list()]

    def _ready(self) -> list[Any]:
        """Each ready table once, whatever the versions that refer to it, the newest first."""
        return list({t.table_name: t for _, t in self._catalog.tables.list(status=TableStatus.READY)}.values())

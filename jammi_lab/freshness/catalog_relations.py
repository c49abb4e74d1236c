"""`jammi_catalog.*`: the workspace's metadata as relations for SQL.

A relation is computed when a statement that names it runs, so other queries and `DESCRIBE` trigger
no observation pass. Every row is read with the tenant predicate applied.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.catalog.sessions import OPEN
from jammi_lab.core.anchors import source_input
from jammi_lab.core.dataframes import to_arrow
from jammi_lab.core.identifiers import fold
from jammi_lab.core.records import TableRecord, TableStatus, recipe_statement
from jammi_lab.core.tenancy import TenantScope
from jammi_lab.engine.name_resolution import NameResolver
from jammi_lab.freshness.table_column_lineage import ColumnLineage
from jammi_lab.inputs.source_names import JAMMI_CATALOG
from jammi_lab.sources.base import Computed, InputRead, ReadPlan, Relation
from jammi_lab.sources.locations import display_location

if TYPE_CHECKING:
    import pyarrow as pa

    from jammi_lab.freshness.reports import Status

Rows = Callable[[], Iterable[Sequence[Any]]]
"""The rows of one relation in the bound tenant's scope, one value per column."""

_COLUMN_LISTS = {
    "sources": "name, kind, location, tenant, anchor, anchored_at",
    "tables": "name, version BIGINT, table_name, kind, status, source, row_count BIGINT, "
    "bytes BIGINT, created_at, tenant, writer",
    "columns": "table_name, name, type, position BIGINT",
    "recipes": "name, kind, definition, definition_hash, newest_version BIGINT, tenant",
    "models": "name, version BIGINT, dimensions BIGINT, digest, tenant",
    "anchors": "table_name, input, input_kind, kind, method, value, columns VARCHAR[]",
    "status": "name, version BIGINT, verdict, reasons VARCHAR[], rows BIGINT, bytes BIGINT, "
    "age_seconds DOUBLE, index, checks, grounds VARCHAR[]",
    "checks": "check_name, table_name, recipe, version BIGINT, severity, outcome, failing BIGINT, "
    "checked_at, verdict",
    "lineage": "input, derived, kind",
    "column_lineage": "input, input_column, derived, derived_column",
    "mutable_tables": "name, version BIGINT, row_count BIGINT, tenant",
    "topics": "name, next_offset BIGINT, tenant",
    "sessions": "id, tenant, deadline, tables VARCHAR[]",
    "writers": "id, host, pid BIGINT, opened_at, alive BOOLEAN",
}
"""The columns of each relation, VARCHAR where no type is given."""
COLUMNS: Mapping[str, Mapping[str, str]] = {
    relation: {
        name: kind or "VARCHAR"
        for name, _, kind in (column.partition(" ") for column in columns.split(", "))
    }
    for relation, columns in _COLUMN_LISTS.items()
}
"""Column → SQL type of every relation. This is a public contract: columns are only appended. Times
are RFC 3339."""


class CatalogRelations(NameResolver):
    """Resolves `jammi_catalog.*`. `set_rows` sets the rows of relations that higher rooms
    provide."""

    def __init__(
        self,
        catalog: Catalog,
        scope: TenantScope,
        status: Callable[[], "Status"],
        columns: ColumnLineage,
    ) -> None:
        self._catalog = catalog
        self._scope = scope
        self._status = status
        self._column_lineage = columns
        # The catalog's database is never attached: DuckDB would read rows of every tenant, and they
        # would have to be filtered a second time. Small tables are made from the readers instead.
        self._rows: dict[str, Rows] = {
            "sources": self._source_rows,
            "tables": self._table_rows,
            "columns": self._column_rows,
            "recipes": self._recipe_rows,
            "models": self._model_rows,
            "anchors": self._anchor_rows,
            "status": self._status_rows,
            "lineage": self._lineage_rows,
            "column_lineage": self._column_lineage_rows,
            "topics": self._topic_rows,
            "sessions": self._session_rows,
            "mutable_tables": self._mutable_table_rows,
            "writers": self._writer_rows,
        }

    def set_rows(self, relation: str, rows: Rows) -> None:
        """Set the function that returns the rows of a relation."""
        assert relation in COLUMNS, relation
        self._rows[relation] = rows

    def resolve(self, parts: tuple[str, ...]) -> Relation | None:
        """The relation of `jammi_catalog.<name>`; None for any other name. Its rows are computed
        once, when the statement runs."""
        if (
            len(parts) != 2
            or fold(parts[0]) != JAMMI_CATALOG
            or (name := fold(parts[1])) not in COLUMNS
        ):
            return None
        tenant = self._scope.current

        computed = list["pa.Table"]()

        def compute_once(*_: object) -> "pa.Table":
            if not computed:
                with self._scope.use(tenant):
                    computed.append(self._table(name))
            return computed[0]

        relation = Relation(source_input(JAMMI_CATALOG, name), columns=COLUMNS[name])
        computed_rows = Computed(
            definition="",
            inputs=lambda read: [InputRead(relation, tuple(sorted(read)), COLUMNS[name])],
            rows=compute_once,
        )
        return dataclasses.replace(relation, read=ReadPlan(computed=computed_rows))

    def names(self) -> Iterable[str]:
        """The names of all relations."""
        return [f"{JAMMI_CATALOG}.{name}" for name in COLUMNS]

    def _table(self, name: str) -> "pa.Table":
        types = {
            "VARCHAR": "string",
            "BIGINT": "int64",
            "DOUBLE": "float64",
            "BOOLEAN": "bool",
            "VARCHAR[]": "texts",
        }
        kinds = {column: types[kind] for column, kind in COLUMNS[name].items()}
        return to_arrow(self._rows[name]() if name in self._rows else (), **kinds)

    def _source_rows(self) -> Iterable[Sequence[Any]]:
        """Rows of `sources`. `anchor` is the source's anchor setting, `anchored_at` the completion
        time of the newest table that reads it directly."""
        anchored_at: dict[str, str] = {}
        for _, record in self._catalog.result_tables.current():
            for anchor in record.anchors:
                if anchor.input.kind_class.is_external and record.completed_at is not None:
                    name = fold(anchor.input.name)
                    anchored_at[name] = max(anchored_at.get(name, ""), record.completed_at)
        return [
            (
                r.name,
                r.kind,
                display_location(r.location),
                r.tenant,
                r.anchor,
                anchored_at.get(fold(r.name)),
            )
            for r in self._catalog.sources.list()
        ]

    def _table_rows(self) -> Iterable[Sequence[Any]]:
        return [
            (
                v.recipe,
                v.version,
                t.table_name,
                t.kind,
                t.status.value,
                t.source_id,
                t.row_count,
                t.bytes,
                v.created_at,
                v.tenant,
                t.writer_id,
            )
            for v, t in self._catalog.result_tables.list(status=None)
        ]

    def _column_rows(self) -> Iterable[Sequence[Any]]:
        for record in self._ready_tables():
            yield from (
                (record.table_name, c.name, c.type, position)
                for position, c in enumerate(record.columns, 1)
            )

    def _recipe_rows(self) -> Iterable[Sequence[Any]]:
        newest = {
            (v.tenant, fold(v.recipe)): v.version for v, _ in self._catalog.result_tables.current()
        }
        for r in self._catalog.recipes.list():
            yield (
                r.name,
                r.kind,
                recipe_statement(r),
                r.definition_hash,
                newest.get((r.tenant, fold(r.name))),
                r.tenant,
            )

    def _model_rows(self) -> Iterable[Sequence[Any]]:
        return [
            (m.name, m.version, m.dimensions, m.digest, m.tenant)
            for m in self._catalog.models.list()
        ]

    def _anchor_rows(self) -> Iterable[Sequence[Any]]:
        for record in self._ready_tables():
            for a in record.anchors:
                yield (
                    record.table_name,
                    a.input.label,
                    a.input.kind,
                    a.kind.value,
                    a.method,
                    a.value,
                    list(a.columns),
                )

    def _status_rows(self) -> Iterable[Sequence[Any]]:
        """Rows of `status`: as `ws.status()`, from one shallow observation pass."""
        table = self._status().arrow()
        return zip(*(table.column(name).to_pylist() for name in COLUMNS["status"]), strict=True)

    def _lineage_rows(self) -> Iterable[Sequence[Any]]:
        links = self._catalog.lineage.all_edges()
        edges = dict.fromkeys(link.edge for link in links)
        return [(e.input, e.derived, e.kind) for e in edges]

    def _column_lineage_rows(self) -> Iterable[Sequence[Any]]:
        edges = [
            edge
            for v, record in self._catalog.result_tables.current()
            for edge in self._column_lineage.edges(v.recipe, record)
        ]
        self._column_lineage.flush()
        return [(e.input, e.input_column, e.derived, e.derived_column) for e in edges]

    def _topic_rows(self) -> Iterable[Sequence[Any]]:
        return [(t.name, t.next, t.tenant) for t in self._catalog.topics.list()]

    def _mutable_table_rows(self) -> Iterable[Sequence[Any]]:
        return [
            (m.name, m.version, m.row_count, m.tenant) for m in self._catalog.mutable_tables.list()
        ]

    def _session_rows(self) -> Iterable[Sequence[Any]]:
        for r in self._catalog.sessions.list():
            if r.state == OPEN:
                yield (
                    r.session_id,
                    r.tenant,
                    r.deadline,
                    [t.name for t in self._catalog.mutable_tables.list(session=r.session_id)],
                )

    def _writer_rows(self) -> Iterable[Sequence[Any]]:
        writers = self._catalog.writers
        return [
            (
                w.writer_id,
                w.host,
                w.pid,
                w.started_at,
                w.retired_at is None and writers.is_alive(w.writer_id),
            )
            for w in writers.list()
        ]

    def _ready_tables(self) -> list[TableRecord]:
        """Each ready table once, newest first. Several versions can refer to one table."""
        listed = self._catalog.result_tables.list(status=TableStatus.READY)
        return list({t.table_name: t for _, t in listed}.values())

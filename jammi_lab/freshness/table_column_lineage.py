"""Column lineage of tables: the input columns that each column depends on.

For a statement the engine plans one output column at a time; the input columns that the plan still
reads are its dependencies: its values, and whatever filters, joins or groups the rows. No
dependency is missing. If the engine cannot separate the columns, every column read is a dependency
of every column of the table. The same holds for imported rows, and for a statement that no longer
binds as it did.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.catalog.observations import COLUMN_LINEAGE_KIND
from jammi_lab.core.anchors import Anchor, Identity
from jammi_lab.core.clock import Clock
from jammi_lab.core.definitions import CanonicalStatement
from jammi_lab.core.errors import JammiError
from jammi_lab.core.recipes import parse_descriptor
from jammi_lab.core.records import TableRecord
from jammi_lab.core.tenancy import TenantScope
from jammi_lab.core.value import Value
from jammi_lab.engine.engine import Engine
from jammi_lab.engine.name_resolution import NameResolver
from jammi_lab.engine.sql.column_lineage import (
    MAX_TRACED_COLUMNS,
    ColumnReads,
    column_reads,
)
from jammi_lab.inputs.observation_cache import ObservationCache
from jammi_lab.steps.recipe import RunnableRecipe
from jammi_lab.steps.sql import Sql
from jammi_lab.storage.digests import NO_STAT, CacheEntry, observation_key
from jammi_lab.store import manifests

ColumnPair = tuple[Identity, str, str, bool]
"""Input, its column, the table's column, whether direct."""


class ColumnEdge(Value, frozen=True):
    """One edge between columns: `derived_column` of `derived` depends on `input_column` of
    `input`."""

    input: str
    """The source (`source.table` if it has several), recipe or physical table that was read."""
    input_column: str
    """The column of the input."""
    derived: str
    """The recipe that reads it."""
    derived_column: str
    """The column of the recipe's table."""
    direct: bool = True
    """Whether values are computed from it; otherwise it filters, joins or groups the rows."""


class ColumnLineage:
    """Column edges of ready tables, computed on request and stored in the observation cache."""

    def __init__(
        self,
        catalog: Catalog,
        scope: TenantScope,
        engine: Engine,
        extra: Sequence[NameResolver],
        cache: ObservationCache,
        clock: Clock,
    ) -> None:
        self._catalog = catalog
        self._scope = scope
        self._engine = engine
        self._extra = extra
        self._cache = cache
        self._clock = clock

    def edges(self, name: str, record: TableRecord) -> list[ColumnEdge]:
        """The edges into one table of the recipe `name`, in the order of its columns, then by
        input."""
        anchors = {a.input.identity: a for a in record.anchors if a.input.kind_class.has_rows}
        order = {c.name: position for position, c in enumerate(record.columns)}
        pairs = sorted(
            self._pairs(record, list(anchors.values())),
            key=lambda p: (order.get(p[2], 0), p[0], p[1]),
        )
        return [
            ColumnEdge(anchors[identity].input.label, column, name, derived_column, direct)
            for identity, column, derived_column, direct in pairs
            if identity in anchors
        ]

    def flush(self) -> None:
        """Persist the computed edges."""
        self._cache.flush()

    def _pairs(self, record: TableRecord, anchors: Sequence[Anchor]) -> Iterable[ColumnPair]:
        if len(record.columns) > MAX_TRACED_COLUMNS:
            return []
        key = observation_key(COLUMN_LINEAGE_KIND, record.table_name)
        if (entry := self._cache.get(key)) is not None:
            return [
                ((kind, name, table), column, derived_column, direct)
                for kind, name, table, column, derived_column, direct in entry.payload["pairs"]
            ]
        with self._scope.use(record.tenant):
            reads = self._column_reads(record)
        if reads is None:
            return [
                (a.input.identity, column, c.name, True)
                for a in anchors
                for column in a.columns
                for c in record.columns
            ]
        pairs = _all_pairs(reads, anchors)
        payload = {
            "pairs": [
                [*identity, column, derived_column, direct]
                for identity, column, derived_column, direct in pairs
            ]
        }
        self._cache.put(key, CacheEntry(NO_STAT, self._clock.now_ns(), payload))
        return pairs

    def _column_reads(self, record: TableRecord) -> list[ColumnReads] | None:
        """The column lineage of the table's definition; None when the engine cannot determine it,
        when the statement has changed its meaning, or when an altered definition names columns that
        its inputs do not have."""
        try:
            manifest = manifests.parse(self._catalog.result_tables.manifest(record.table_name))
            if manifest is None:
                return None
            recipe = parse_descriptor(manifest.descriptor)
            assert isinstance(recipe, RunnableRecipe), "every recipe makes a table"
            params = recipe.params or {} if isinstance(recipe, Sql) else {}
            inputs = [
                self._reads_of_statement(each.statement, each.canonical, params)
                for each in recipe.recorded_inputs()
            ]
            return recipe.column_reads([c.name for c in record.columns], inputs)
        except (JammiError, ValueError, LookupError):
            return None

    def _reads_of_statement(
        self, statement: str, canonical: CanonicalStatement, params: Mapping[str, Any]
    ) -> list[ColumnReads]:
        """Raises ValueError for a statement that has changed its meaning, or whose columns cannot
        be selected."""
        [prepared] = self._engine.prepare(
            statement, params, tenant=self._scope.current, extra_resolvers=self._extra
        )
        reads = column_reads(prepared) if prepared.canonical() == canonical else None
        if reads is None:
            raise ValueError("its columns are not known")
        return reads


def _all_pairs(reads: Sequence[ColumnReads], anchors: Sequence[Anchor]) -> list[ColumnPair]:
    """All edges. An anchored column that no output column depends on (it orders the rows) gets an
    indirect edge to every column."""
    pairs: list[ColumnPair] = [
        (identity, column, column_read.column, column in column_read.direct.get(identity, ()))
        for column_read in reads
        for identity, columns in column_read.reads.items()
        for column in columns
    ]
    known_pairs = {(identity, column) for identity, column, _, _ in pairs}
    pairs += [
        (a.input.identity, column, column_read.column, False)
        for a in anchors
        for column in a.columns
        if (a.input.identity, column) not in known_pairs
        for column_read in reads
    ]
    return pairs

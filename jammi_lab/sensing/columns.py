"""Column lineage: which columns of its inputs each column of a table was made from.

For a statement the engine is asked for one output column at a time, and what it then still reads is what that column rests on: its own values and
whatever filters, joins or groups the rows. Nothing is left out; where the engine cannot tell columns apart, every column that was read stands
behind every column of the table. So it does for rows that came from elsewhere, and for a statement that no longer binds as it did.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.clock import Clock
from jammi_lab.engine.outputs import ColumnReads, column_reads
from jammi_lab.engine.resolve import Provider
from jammi_lab.engine.session import Engine
from jammi_lab.errors import JammiError
from jammi_lab.names import fold
from jammi_lab.observing.memo import ObservationMemo
from jammi_lab.sensing.derived_columns import derived_columns, united
from jammi_lab.storage.digests import MemoEntry
from jammi_lab.storage.files import Stat
from jammi_lab.store import manifests
from jammi_lab.tenancy import TenantScope
from jammi_lab.values.anchors import Anchor, InputKind
from jammi_lab.values.base import Value
from jammi_lab.values.descriptors import (
    AsofJoinDescriptor,
    Canonical,
    ContextSetDescriptor,
    EmbeddingDescriptor,
    GraphPropagationDescriptor,
    NeighborGraphDescriptor,
    ProjectionDescriptor,
    SqlDescriptor,
    decode_param,
    parse_descriptor,
)
from jammi_lab.values.records import TableRecord

Identity = tuple[str, str, str]
Pair = tuple[Identity, str, str, bool]
"""Input, its column, the table's column, whether direct."""


class ColumnEdge(Value, frozen=True):
    """One edge between columns: `derived_column` of `derived` rests on `input_column` of `input`."""

    input: str
    """The source (`source.table` when it has several), recipe or physical table that was read."""
    input_column: str
    """Its column."""
    derived: str
    """The recipe that reads it."""
    derived_column: str
    """The column of its table."""
    direct: bool = True
    """Whether the values go into the column's own; else they decide which rows there are, or which belong together."""


class ColumnLineage:
    """Column edges of ready tables, found when they are asked for and kept in the observation memo."""

    def __init__(self, catalog: Catalog, scope: TenantScope, engine: Engine, extra: Sequence[Provider], memo: ObservationMemo, clock: Clock) -> None:
        self._catalog, self._scope, self._engine, self._extra, self._memo, self._clock = catalog, scope, engine, extra, memo, clock

    def edges(self, name: str, record: TableRecord) -> list[ColumnEdge]:
        """The edges into one table, which is called `name`: by its columns in their order, then by input."""
        known = {a.input.identity: a for a in record.anchors if a.input.kind is not InputKind.CLOCK}
        order = {c.name: at for at, c in enumerate(record.columns)}
        pairs = sorted(self._pairs(record, list(known.values())), key=lambda p: (order.get(p[2], 0), p[0], p[1]))
        return [ColumnEdge(known[at].input.label, column, name, derived, direct) for at, column, derived, direct in pairs if at in known]

    def flush(self) -> None:
        """Keep what was found."""
        self._memo.flush()

    def _pairs(self, record: TableRecord, anchors: Sequence[Anchor]) -> Iterable[Pair]:
        key = f"column_lineage:{record.table_name}"
        if (entry := self._memo.get(key)) is not None:
            return [((kind, name, table), column, derived, direct) for kind, name, table, column, derived, direct in entry.payload["pairs"]]
        with self._scope.use(record.tenant):
            found = self._asked(record)
        if found is None:
            return [(a.input.identity, column, c.name, True) for a in anchors for column in a.columns for c in record.columns]
        pairs = _all_of(found, anchors)
        payload = {"pairs": [[*identity, column, derived, direct] for identity, column, derived, direct in pairs]}
        self._memo.put(key, MemoEntry(Stat(0, 0, 0, 0), self._clock.now_ns(), payload))
        return pairs

    def _asked(self, record: TableRecord) -> list[ColumnReads] | None:
        """What the engine says of the statement that the table was made by; None when it cannot, or when the statement means something else now."""
        try:
            manifest = manifests.parse(self._catalog.tables.manifest(record.table_name))
            if manifest is None:
                return None
            match parse_descriptor(manifest.descriptor):
                case SqlDescriptor() as made:
                    return self._columns(made.statement, made.canonical, {n: decode_param(v) for n, v in made.params.items()})
                case EmbeddingDescriptor() as texts:
                    found = self._columns(texts.statement, texts.canonical, {})
                    return None if found is None else _embedded(found, texts.text)
                case (
                    NeighborGraphDescriptor()
                    | GraphPropagationDescriptor()
                    | ContextSetDescriptor()
                    | ProjectionDescriptor()
                    | AsofJoinDescriptor() as said
                ):
                    names = [c.name for c in record.columns]
                    return derived_columns(said, names, lambda asked: self._columns(asked.statement, asked.canonical, {}))
                case _:
                    return None
        except (JammiError, ValueError):
            return None

    def _columns(self, statement: str, said: Canonical, params: Mapping[str, Any]) -> list[ColumnReads] | None:
        [prepared] = self._engine.prepare(statement, params, tenant=self._scope.current, extra=self._extra)
        return column_reads(prepared) if prepared.canonical() == said else None


def _embedded(found: Sequence[ColumnReads], text: Sequence[str]) -> list[ColumnReads]:
    """The SELECT of key and texts as the columns `key` and `vector`."""
    wanted = {fold(name) for name in text}
    texts = [each for each in found if fold(each.column) in wanted]
    return [
        ColumnReads("key", found[0].reads, found[0].direct),
        ColumnReads("vector", united(t.reads for t in texts), united(t.direct for t in texts)),
    ]


def _all_of(found: Sequence[ColumnReads], anchors: Sequence[Anchor]) -> list[Pair]:
    """The edges; a column that the table was anchored on and no single column rests on (it orders the rows) stands behind all of them."""
    pairs: list[Pair] = [
        (identity, column, each.column, column in each.direct.get(identity, ()))
        for each in found
        for identity, columns in each.reads.items()
        for column in columns
    ]
    told = {(identity, column) for identity, column, _, _ in pairs}
    pairs += [
        (a.input.identity, column, each.column, False)
        for a in anchors
        for column in a.columns
        if (a.input.identity, column) not in told
        for each in found
    ]
    return pairs

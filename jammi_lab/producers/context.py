"""The producer `context_set`: for each target one vector, its members' vectors pooled."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jammi_lab.engine.resolve import Provider
from jammi_lab.engine.session import Engine
from jammi_lab.errors import InvalidArgument, SchemaMismatch
from jammi_lab.producers.base import Job, OnProgress
from jammi_lab.producers.inputs import Asked, Inputs, Taken
from jammi_lab.producers.matching import as_type, whole
from jammi_lab.producers.pooled import Folded, Pooled, no_keys, places_in, pooled_job, slabs
from jammi_lab.producers.sql import environment as sql_environment
from jammi_lab.values.descriptors import ContextSetDescriptor
from jammi_lab.values.records import Progress, TableKind
from jammi_lab.vectors.arrays import Floats, ascending, keys_of, numbers_of, places_of
from jammi_lab.vectors.exact import Places
from jammi_lab.vectors.matrix import Matrix

REVISION = 1
"""Raised when equal vectors and members would give other rows than before."""
_POOLS = ("mean", "sum", "max")


class ContextProducer:
    """Binds embedding tables and members."""

    def __init__(self, inputs: Inputs, engine: Engine) -> None:
        self._inputs, self._engine = inputs, engine

    def job(self, name: str, asked: str, members: str, pool: str, extra: Sequence[Provider] = ()) -> Job:
        """The vectors as a job. TableNotFound; SchemaMismatch; InvalidArgument."""
        if pool not in _POOLS:
            raise InvalidArgument(f"pool is mean, sum or max, not {pool!r}.")
        vectors = self._inputs.vectors_named(asked)
        return self._bound(name, vectors, self._inputs.table_named(members, ["target", "member"], extra, to="of members"), pool, extra)

    def from_descriptor(self, name: str, said: ContextSetDescriptor, extra: Sequence[Provider] = ()) -> Job:
        """A recorded definition as a job over its inputs as they are now. Raises as binding does."""
        return self._bound(name, (said.vectors.asked, said.vectors.statement), (said.members.asked, said.members.statement), said.pool, extra)

    def environment(self) -> dict[str, Any]:
        """What else shapes the rows."""
        return {"revision": REVISION, "select": sql_environment(self._engine)}

    def _bound(self, name: str, vectors: Asked, members: Asked, pool: str, extra: Sequence[Provider]) -> Job:
        taken, listed = self._inputs.take(vectors), self._inputs.take(members, extra)
        descriptor = ContextSetDescriptor(vectors=taken.said, members=listed.said, pool=pool)
        record = taken.record
        made = Pooled(name, "context")

        def fill(on_progress: OnProgress | None) -> dict[str, int]:
            matrix = self._inputs.matrix(taken)
            sets = _Sets(matrix, listed)
            made.give(sets.targets, _folded(matrix.vectors, sets, pool, made.stage, on_progress))
            return sets.counts

        return pooled_job(
            made,
            TableKind.CONTEXT_SET,
            descriptor,
            [taken, listed],
            fill,
            environment=self.environment(),
            again=lambda: self._bound(name, vectors, members, pool, extra),
            dimensions=record.dimensions if record else None,
            model_id=f"context-{pool}",
        )


class _Sets:
    """Targets in ascending order, each with the places of its members in key order. SchemaMismatch."""

    def __init__(self, matrix: Matrix, listed: Taken) -> None:
        table = listed.prepared.run().table()
        asked = listed.said.asked
        if missing := table.column(0).null_count:
            raise SchemaMismatch(
                f"{missing:,} of {table.num_rows:,} members of {asked!r} have no target.",
                table=asked,
                column="target",
                expected="a target in every row",
                actual="NULL",
                hint="Leave them out: SELECT target, member FROM … WHERE target IS NOT NULL.",
            )
        names, target = _numbered(whole(table.column(0)), "target")
        try:
            members = whole(table.column(1)).dictionary_encode("encode")
        except pa.ArrowException as error:
            raise no_keys(matrix.keys, table.schema.field(1).type, asked, "member") from error
        place = places_in(matrix.keys, members.dictionary, asked, "member")
        pairs = np.unique(target * max(1, len(place)) + numbers_of(members.indices))
        target, place = pairs // max(1, len(place)), place[pairs % max(1, len(place))]
        known = place >= 0
        there = np.unique(target[known])
        count = max(1, len(matrix))
        pairs = np.unique(np.searchsorted(there, target[known]) * count + place[known])  # one member, in whichever way it is said: 0 and −0
        self.row, self.place = pairs // count, pairs % count
        self.targets = _like(names.take(places_of(there)), table.schema.field(0).type)
        self.counts = {"members_ignored": int((~known).sum()), "targets_left_out": len(names) - len(there)}


def _folded(vectors: Floats, sets: _Sets, pool: str, stage: str, on_progress: OnProgress | None) -> Floats:
    n, width = len(sets.targets), vectors.shape[1]
    out = np.empty((n, width), np.float32)
    fold = Folded(sets.row, sets.place, None, n, "max" if pool == "max" else "sum")
    counts = np.bincount(sets.row, minlength=n)[:, None] if pool == "mean" else 1
    parts = slabs(max(n, len(vectors)), width)
    for at, some in enumerate(parts):
        if on_progress:
            on_progress(Progress(stage=stage, done=at, total=len(parts), unit="slabs"))
        with np.errstate(over="ignore"):
            out[:, some] = fold(vectors[:, some].astype(np.float64)) / counts
    return out


def _numbered(values: pa.Array, name: str) -> tuple[pa.Array, Places]:
    """The distinct values in ascending order, and for each value the number of its own. SchemaMismatch for a type without an order."""
    try:
        encoded = values.dictionary_encode()
        if pa.types.is_floating(values.type) and pc.sum(pc.equal(encoded.dictionary, 0.0)).as_py() == 2:  # 0 and −0, which are one target
            encoded = as_type(values, values.type).dictionary_encode()
    except pa.ArrowException as error:
        raise SchemaMismatch(f"Targets of type {values.type} have no order.", column=name, actual=str(values.type)) from error
    distinct = keys_of(encoded.dictionary, name)
    place = ascending(distinct, name)
    codes = numbers_of(encoded.indices).astype(np.int64)
    if place is None:
        return distinct, codes
    return distinct.take(pc.sort_indices(distinct)), place[codes]


def _like(values: pa.Array, kind: pa.DataType) -> pa.Array:
    """The values as the extension type that they had."""
    return pa.ExtensionArray.from_storage(kind, values) if isinstance(kind, pa.BaseExtensionType) else values

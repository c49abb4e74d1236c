"""Context sets: one vector per target, pooled from the vectors of its members."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jammi_lab.core.errors import SchemaMismatch
from jammi_lab.core.records import OnProgress, Progress
from jammi_lab.features.vectors.matrix import Matrix
from jammi_lab.features.vectors.pooled_vectors import (
    GroupedRows,
    blocks,
    match_keys,
)
from jammi_lab.steps.input_tables import InputTable
from jammi_lab.steps.key_types import single_array, to_common_type
from jammi_lab.storage.vector_arrays import (
    Floats,
    RowNumbers,
    key_ranks,
    to_arrow_rows,
    to_keys,
    to_numpy,
)


class MemberSets:
    """Targets in ascending order, each with the rows of its members in key order. Raises
    SchemaMismatch."""

    def __init__(self, matrix: Matrix, member_table: InputTable) -> None:
        table = member_table.prepared.run().table()
        table_name = member_table.step_input.asked
        if null_count := table.column(0).null_count:
            raise SchemaMismatch(
                f"{null_count:,} of {table.num_rows:,} members of {table_name!r} have no target.",
                table=table_name,
                column="target",
                expected="a target in every row",
                actual="NULL",
                hint="Exclude them: SELECT target, member FROM … WHERE target IS NOT NULL.",
            )
        targets, target = _number_targets(single_array(table.column(0)), "target")
        members = single_array(table.column(1))
        member_rows = match_keys(matrix.keys, members, table_name, "member")
        has_vector, count = member_rows >= 0, max(1, len(matrix))
        remaining = np.unique(target[has_vector])
        pairs = np.unique(
            np.searchsorted(remaining, target[has_vector]) * count + member_rows[has_vector]
        )
        self.row, self.place = pairs // count, pairs % count
        self.targets = _restore_type(
            targets.take(to_arrow_rows(remaining)), table.schema.field(0).type
        )
        ignored = pa.table(
            {"target": target[~has_vector], "member": members.filter(pa.array(~has_vector))}
        )
        self.counts = {
            "members_ignored": len(ignored.group_by(ignored.column_names).aggregate([])),
            "targets_left_out": len(targets) - len(remaining),
        }


def pool_vectors(
    vectors: Floats, sets: MemberSets, pool: str, stage: str, on_progress: OnProgress | None
) -> Floats:
    """One vector for each target, (targets, width) float32."""
    n, width = len(sets.targets), vectors.shape[1]
    out = np.empty((n, width), np.float32)
    fold = GroupedRows(sets.row, sets.place, None, n, "max" if pool == "max" else "sum")
    counts = np.bincount(sets.row, minlength=n)[:, None] if pool == "mean" else 1
    parts = blocks(max(n, len(vectors)), width)
    for number, columns in enumerate(parts):
        if on_progress:
            on_progress(Progress(stage=stage, done=number, total=len(parts), unit="slabs"))
        with np.errstate(over="ignore"):
            out[:, columns] = fold(vectors[:, columns].astype(np.float64)) / counts
    return out


def _number_targets(values: pa.Array, name: str) -> tuple[pa.Array, RowNumbers]:
    """The distinct values in ascending order, and for each value its position among them. Raises
    SchemaMismatch for a type without an order."""
    try:
        encoded = values.dictionary_encode()
        # 0 and −0 are one target, but two entries of the dictionary
        if (
            pa.types.is_floating(values.type)
            and pc.sum(pc.equal(encoded.dictionary, 0.0)).as_py() == 2
        ):
            encoded = to_common_type(values, values.type).dictionary_encode()
    except pa.ArrowException as error:
        raise SchemaMismatch(
            f"Targets of type {values.type} have no order.", column=name, actual=str(values.type)
        ) from error
    distinct = to_keys(encoded.dictionary, name)
    ranks = key_ranks(distinct, name)
    codes = to_numpy(encoded.indices).astype(np.int64)
    if ranks is None:
        return distinct, codes
    return distinct.take(pc.sort_indices(distinct)), ranks[codes]


def _restore_type(values: pa.Array, kind: pa.DataType) -> pa.Array:
    """The values in the extension type that they came in."""
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, values)
    return values

"""The vectors of an embedding table that a recipe reads."""

from jammi_lab.features.vectors.index.indexes import VectorIndexes
from jammi_lab.features.vectors.matrix import Matrix
from jammi_lab.steps.input_tables import InputTable
from jammi_lab.steps.recipe import BindContext


def load_matrix(ctx: BindContext, table: InputTable) -> Matrix:
    """The vectors of an embedding table; a read lease protects its file while they are loaded.
    Raises TableDamaged."""
    record, [bound_input] = table.record, table.prepared.inputs
    assert record is not None, "an embedding table is a result table"
    acquire = bound_input.relation.acquire
    release = None if acquire is None else acquire()
    try:
        return ctx.part(VectorIndexes).matrix(record)
    finally:
        if release is not None:
            release()

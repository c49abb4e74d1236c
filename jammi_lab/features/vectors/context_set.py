"""The recipe of a context set."""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Literal

from jammi_lab.core.definitions import StepInput
from jammi_lab.core.recipes import Stored, Table
from jammi_lab.core.records import OnProgress
from jammi_lab.steps.recipe import BindContext, RunnableRecipe, check_choices

if TYPE_CHECKING:
    from jammi_lab.engine.sql.column_lineage import ColumnReads
    from jammi_lab.steps.input_tables import InputTable
    from jammi_lab.steps.jobs import Job, RunningJob


@dataclass(frozen=True)
class ContextSet(RunnableRecipe):
    """One vector for each target, pooled from those of its members."""

    kind = "context_set"
    has_vectors = combines_vectors = True
    metric = "cosine"
    reads_sql = True
    stored_as = {"table": Stored("vectors", StepInput), "members": Stored(type=StepInput)}

    table: Table
    """The embedding table."""
    _: KW_ONLY
    members: Table
    """A table, source or SQL with the columns target and member."""
    pool: Literal["mean", "sum", "max"] = "mean"
    """How vectors are pooled."""

    def bind(self, ctx: BindContext) -> "Job":
        """Raises TableNotFound, SchemaMismatch, InvalidArgument."""
        from jammi_lab.steps.jobs import vector_columns

        check_choices(self, pool=("mean", "sum", "max"))
        vectors = ctx.load_vectors(self.table)
        members = ctx.load_table(self.members, ["target", "member"], "of members")
        recipe = self.with_values(table=vectors.step_input, members=members.step_input)
        dimensions = vectors.record.dimensions if vectors.record else None
        return ctx.job(
            recipe,
            [vectors.prepared, members.prepared],
            start=lambda on_progress: recipe._start(ctx, vectors, members, on_progress),
            key=["key"],
            dimensions=dimensions,
            columns=vector_columns(members.key_type, dimensions),
            model_id=f"context-{self.pool}",
        )

    def _start(
        self,
        ctx: BindContext,
        vectors: "InputTable",
        members: "InputTable",
        on_progress: OnProgress | None,
    ) -> "RunningJob":
        """Pool the vectors. Runs on a recipe that is bound."""
        from jammi_lab.features.vectors.pooled_members import MemberSets, pool_vectors
        from jammi_lab.features.vectors.pooled_vectors import pooled_job
        from jammi_lab.features.vectors.vector_inputs import load_matrix

        matrix = load_matrix(ctx, vectors)
        sets = MemberSets(matrix, members)
        stage = f"context {ctx.name}"
        pooled = pool_vectors(matrix.vectors, sets, self.pool, stage, on_progress)
        return pooled_job(ctx.name, sets.targets, pooled, sets.counts)

    def column_reads(
        self, _: Sequence[str], inputs: "Sequence[Sequence[ColumnReads]]"
    ) -> "list[ColumnReads]":
        """The vectors come from the vectors of the members."""
        from jammi_lab.engine.sql.column_lineage import combine_reads

        [key, vector], members = inputs
        return [
            combine_reads("key", [members[0]], [*members, key]),
            combine_reads("vector", [vector], [key, *members]),
        ]

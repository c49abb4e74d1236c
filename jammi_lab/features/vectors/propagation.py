"""The recipe of propagated vectors."""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Literal

from jammi_lab.core.definitions import StepInput
from jammi_lab.core.errors import InvalidArgument
from jammi_lab.core.recipes import Stored, Table, is_number
from jammi_lab.core.records import OnProgress
from jammi_lab.steps.recipe import BindContext, RunnableRecipe, check_choices

if TYPE_CHECKING:
    from jammi_lab.engine.sql.column_lineage import ColumnReads
    from jammi_lab.steps.input_tables import InputTable
    from jammi_lab.steps.jobs import Job, RunningJob


@dataclass(frozen=True)
class Propagation(RunnableRecipe):
    """The vectors of an embedding table mixed with those of their neighbours."""

    kind = "graph_propagation"
    has_vectors = combines_vectors = keeps_rows = True
    metric = "cosine"
    reads_sql = True
    stored_as = {"table": Stored("vectors", StepInput), "edges": Stored(type=StepInput)}

    table: Table
    """The embedding table."""
    edges: Table
    """A table, source or SQL with the columns src, dst and, where weighted, similarity."""
    _: KW_ONLY
    hops: int = 2
    """From 1 to 3."""
    alpha: float = 0.1
    """The weight of a row's original vector in each hop."""
    direction: Literal["out", "in", "both"] = "out"
    """Which edges of a row lead to its neighbours."""
    weighting: Literal["uniform", "similarity"] = "uniform"
    """How neighbours are averaged."""
    output: Literal["final", "concat"] = "final"
    """The vectors of the last hop, or those of all hops side by side."""

    def bind(self, ctx: BindContext) -> "Job":
        """Raises TableNotFound, SchemaMismatch, InvalidArgument."""
        from jammi_lab.steps.jobs import vector_columns

        if not is_number(self.hops, whole=True) or not 1 <= self.hops <= 3:
            raise InvalidArgument(f"hops must be 1, 2 or 3, got {self.hops!r}.")
        if not is_number(self.alpha) or not 0 <= self.alpha <= 1:
            raise InvalidArgument(f"alpha must be a number from 0 to 1, got {self.alpha!r}.")
        check_choices(
            self,
            direction=("out", "in", "both"),
            weighting=("uniform", "similarity"),
            output=("final", "concat"),
        )
        columns = ["src", "dst"]
        if self.weighting == "similarity":
            columns.append("similarity")
        vectors = ctx.load_vectors(self.table)
        edges = ctx.load_table(self.edges, columns, "of edges")
        recipe = self.with_values(
            table=vectors.step_input,
            edges=edges.step_input,
            hops=int(self.hops),
            alpha=float(self.alpha),
        )
        width = (vectors.record.dimensions if vectors.record else None) or 0
        if self.output == "concat":
            width *= recipe.hops + 1
        return ctx.job(
            recipe,
            [vectors.prepared, edges.prepared],
            start=lambda on_progress: recipe._start(ctx, vectors, edges, on_progress),
            key=["key"],
            dimensions=width,
            columns=vector_columns(vectors.key_type, width),
            model_id=f"propagation-{self.weighting}",
        )

    def _start(
        self,
        ctx: BindContext,
        vectors: "InputTable",
        edges: "InputTable",
        on_progress: OnProgress | None,
    ) -> "RunningJob":
        """Mix the vectors. Runs on a recipe that is bound."""
        from jammi_lab.features.vectors.pooled_vectors import pooled_job
        from jammi_lab.features.vectors.propagated_vectors import Hops, load_graph, propagate
        from jammi_lab.features.vectors.vector_inputs import load_matrix

        matrix = load_matrix(ctx, vectors)
        graph, ignored = load_graph(
            matrix.keys, edges, vectors.step_input.asked, self.direction, self.weighting
        )
        hops = Hops(self.hops, self.alpha, self.output == "concat")
        stage = f"propagate {ctx.name}"
        propagated = propagate(matrix.vectors, graph, hops, stage, on_progress)
        return pooled_job(ctx.name, matrix.keys, propagated, {"edges_ignored": ignored})

    def column_reads(
        self, _: Sequence[str], inputs: "Sequence[Sequence[ColumnReads]]"
    ) -> "list[ColumnReads]":
        """The vectors come from the vectors and the weights of the edges."""
        from jammi_lab.engine.sql.column_lineage import combine_reads

        [key, vector], edges = inputs
        return [
            combine_reads("key", [key], []),
            combine_reads("vector", [vector, *edges[2:]], [key, *edges]),
        ]

"""The recipe of a neighbour graph."""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING

from jammi_lab.core.definitions import StepInput
from jammi_lab.core.errors import InvalidArgument
from jammi_lab.core.recipes import Stored, Table, is_number
from jammi_lab.core.records import OnProgress, Progress
from jammi_lab.core.settings import Settings
from jammi_lab.steps.recipe import BindContext, RunnableRecipe

if TYPE_CHECKING:
    from jammi_lab.engine.sql.column_lineage import ColumnReads
    from jammi_lab.steps.input_tables import InputTable
    from jammi_lab.steps.jobs import Job, RunningJob


@dataclass(frozen=True)
class NeighborGraph(RunnableRecipe):
    """The `k` most similar rows of each row of an embedding table."""

    kind = "neighbor_graph"
    metric = "cosine"
    stored_as = {
        "table": Stored("vectors", StepInput),
        "_exact_max_rows": Stored("exact_max_rows"),
    }

    table: Table
    """The embedding table."""
    _: KW_ONLY
    k: int = 10
    """Edges for each row."""
    min_similarity: float | None = None
    """The minimum similarity of an edge."""
    mutual: bool = False
    """Keep an edge only if its reverse is one of the `k` edges of the other row."""
    exact: bool | None = None
    """True compares all pairs, False queries the index, None decides by the number of rows."""
    _exact_max_rows: int | None = field(default=None, init=False)
    """How many rows are few; None unless `exact` is."""

    def bind(self, ctx: BindContext) -> "Job":
        """Raises TableNotFound, SchemaMismatch for a table without vectors, InvalidArgument."""
        from jammi_lab.storage.vector_arrays import check_exact, check_k

        k, exact = check_k(self.k), check_exact(self.exact)
        if not is_number(self.min_similarity, optional=True):
            raise InvalidArgument(
                "min_similarity must be a number from −1 to 1 or None, got "
                f"{self.min_similarity!r:.80}."
            )
        floor = None if self.min_similarity is None else float(self.min_similarity)
        if self.mutual not in (True, False):
            raise InvalidArgument(f"mutual must be True or False, got {self.mutual!r}.")
        few = None
        if exact is None:
            few = self._exact_max_rows or ctx.part(Settings)["vectors.exact_max_rows"]
        vectors = ctx.load_vectors(self.table)
        recipe = self.with_values(
            table=vectors.step_input,
            k=k,
            min_similarity=floor,
            mutual=bool(self.mutual),
            exact=exact,
            _exact_max_rows=few,
        )
        key = vectors.key_type
        return ctx.job(
            recipe,
            [vectors.prepared],
            start=lambda on_progress: recipe._start(ctx, vectors, on_progress),
            key=["src", "dst"],
            columns={"src": key, "dst": key, "rank": "INTEGER", "similarity": "FLOAT"},
        )

    def _start(
        self, ctx: BindContext, table: "InputTable", on_progress: OnProgress | None
    ) -> "RunningJob":
        """Start the search for the edges. Runs on a recipe that is bound."""
        from jammi_lab.features.vectors.all_pairs import nearest_others
        from jammi_lab.features.vectors.index.indexes import VectorIndexes
        from jammi_lab.features.vectors.neighbor_edges import Edges, approximate_blocks
        from jammi_lab.features.vectors.vector_inputs import load_matrix
        from jammi_lab.steps.jobs import RunningJob

        matrix = load_matrix(ctx, table)

        def report_progress(done: int) -> None:
            if on_progress:
                stage = f"neighbours {ctx.name}"
                on_progress(Progress(stage=stage, done=done, total=len(matrix), unit="rows"))

        report_progress(0)
        exact = self.exact
        if exact is None:
            exact = len(matrix) <= (self._exact_max_rows or 0)
        index = None
        if not exact and table.record is not None:
            index = ctx.part(VectorIndexes).index(table.record, build=True)
        if (
            index is None or not index.shape.expansion
        ):  # measured to be slower than reading all vectors
            blocks = nearest_others(matrix.exact, self.k, on_rows=report_progress)
        else:
            oversample = ctx.part(Settings)["vectors.oversample"]
            blocks = approximate_blocks(matrix, index, self.k, oversample, report_progress)
        return RunningJob(Edges(matrix, blocks, self.k, self.min_similarity, mutual=self.mutual))

    def column_reads(
        self, names: Sequence[str], inputs: "Sequence[Sequence[ColumnReads]]"
    ) -> "list[ColumnReads]":
        """The keys come from the keys, all else from the vectors."""
        from jammi_lab.engine.sql.column_lineage import combine_reads

        [[key, vector]] = inputs
        values = {"src": key, "dst": key, "rank": vector, "similarity": vector}
        return [combine_reads(name, [values[name]], [key, vector]) for name in names]

"""The producer `imported`: vectors that were computed outside the workspace."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jammi_lab.core.errors import (
    InvalidArgument,
    NotRecomputable,
)
from jammi_lab.steps.recipe import BindContext, RunnableRecipe

if TYPE_CHECKING:
    import pyarrow as pa

    from jammi_lab.steps.jobs import Job


@dataclass(frozen=True)
class Imported(RunnableRecipe):
    """Vectors that were computed elsewhere and passed in."""

    kind = "imported"
    has_vectors = True
    metric = "cosine"
    resupply_hint = (
        "Its vectors were computed elsewhere: pass them again with "
        "ws.import_embeddings({0!r}, data, …)"
    )
    stored_as = {"rows": None}

    model_id: str
    """The model that is declared to have computed them."""
    key: str
    """The original name of the key column."""
    vector: str
    """The original name of the vector column."""
    source: str | None = None
    """The source, table or SQL of the rows."""
    rows: "pa.Table | None" = field(default=None, compare=False)
    """The rows; None once the recipe was stored."""
    rows_digest: str = field(default="", init=False)
    """Digest of the rows, sorted by key."""

    def bind(self, ctx: BindContext) -> "Job":
        """Raises SchemaMismatch for a missing column, a wrong width, numbers that are not finite
        and a zero vector; DuplicateKey for missing or duplicate keys; TableNotFound for an unknown
        source; NotRecomputable without rows."""
        from jammi_lab.features.vectors.imported_rows import sorted_table
        from jammi_lab.steps.input_tables import merged_inputs
        from jammi_lab.steps.jobs import RunningJob, TableRows
        from jammi_lab.storage.arrow_digests import rows_digest

        if self.rows is None:
            raise NotRecomputable(
                f"{ctx.name!r} was imported, as vectors of {self.model_id!r}; it cannot be "
                "recomputed here.",
                hint="Compute the vectors again and call "
                f"ws.import_embeddings({ctx.name!r}, data, …).",
            )
        recipe, rows = self, self.rows
        if not self.rows_digest:
            rows = sorted_table(self.rows, self.key, self.vector)
            recipe = self.with_values(rows=rows, rows_digest=rows_digest(rows))
        if not isinstance(self.model_id, str) or not self.model_id.strip():
            raise InvalidArgument(
                f"model_id must be a non-empty string, got {self.model_id!r}.",
                hint='For example model_id="text-embedding-3-small".',
            )
        return ctx.job(
            recipe,
            inputs=[] if self.source is None else merged_inputs([ctx.load_whole(self.source)]),
            start=lambda _: RunningJob(TableRows(rows)),
            key=["key"],
            dimensions=rows.schema.field("vector").type.list_size,
            model_id=self.model_id,
        )

    def missing_requirement(self, _: BindContext) -> str | None:
        """The rows are not stored with the recipe."""
        return f"imported vectors of {self.model_id}"

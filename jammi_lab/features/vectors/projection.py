"""The recipe of a projection."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any, Literal

from jammi_lab.core.definitions import StepInput
from jammi_lab.core.errors import InvalidArgument
from jammi_lab.core.identifiers import check_choice
from jammi_lab.core.recipes import Stored, Table, is_number
from jammi_lab.core.records import OnProgress, Progress
from jammi_lab.steps.recipe import BindContext, RunnableRecipe

if TYPE_CHECKING:
    from jammi_lab.engine.sql.column_lineage import ColumnReads
    from jammi_lab.steps.input_tables import InputTable
    from jammi_lab.steps.jobs import Job, RunningJob

_METHODS = ("pca", "tsne")
_LIBRARY = "scikit-learn"


@dataclass(frozen=True)
class Projection(RunnableRecipe):
    """The rows of an embedding table as points of a plane."""

    kind = "projection"
    stored_as = {
        "table": Stored("vectors", StepInput),
        "perplexity": Stored(type=float | None),
        "seed": Stored(type=int | None),
    }

    table: Table
    """The embedding table."""
    _: KW_ONLY
    method: Literal["pca", "tsne"] = "pca"
    """The projection method."""
    perplexity: float = 30.0
    """Of t-SNE: about how many neighbours a point has."""
    seed: int = 0
    """Random seed of t-SNE."""

    def bind(self, ctx: BindContext) -> "Job":
        """Raises TableNotFound, SchemaMismatch for a table without vectors, InvalidArgument,
        ExtensionMissing."""
        settings = self._tsne_settings() if self._is_tsne() else (None, None)
        if self._is_tsne() and not isinstance(self.table, StepInput):
            from jammi_lab.features.vectors.projections import import_manifold

            import_manifold()
        vectors = ctx.load_vectors(self.table)
        recipe = self.with_values(
            table=vectors.step_input, perplexity=settings[0], seed=settings[1]
        )
        return ctx.job(
            recipe,
            [vectors.prepared],
            start=lambda on_progress: recipe._start(ctx, vectors, on_progress),
            key=["key"],
            columns={"key": vectors.key_type, "x": "FLOAT", "y": "FLOAT"},
        )

    def _is_tsne(self) -> bool:
        check_choice("method", self.method, _METHODS)
        return self.method == "tsne"

    def _tsne_settings(self) -> tuple[float, int]:
        if not is_number(self.perplexity) or not 1 <= self.perplexity < math.inf:
            raise InvalidArgument(
                f"perplexity must be a number of at least 1, got {self.perplexity!r}."
            )
        if not is_number(self.seed, whole=True) or not 0 <= self.seed < 2**32:
            raise InvalidArgument(
                f"seed must be an integer from 0 to {2**32 - 1:,}, got {self.seed!r}."
            )
        return float(self.perplexity), int(self.seed)

    def _start(
        self, ctx: BindContext, table: "InputTable", on_progress: OnProgress | None
    ) -> "RunningJob":
        """Compute the points. Runs on a recipe that is bound."""
        from jammi_lab.features.vectors.projections import project_to_points
        from jammi_lab.features.vectors.vector_inputs import load_matrix
        from jammi_lab.steps.jobs import RunningJob, TableRows

        def report_progress(unit: str, done: int, total: int) -> None:
            is_search = self.method == "tsne" and unit == "rows"
            stage = f"neighbours for {ctx.name}" if is_search else f"projection {ctx.name}"
            if on_progress:
                on_progress(Progress(stage=stage, done=done, total=total, unit=unit))

        matrix = load_matrix(ctx, table)
        settings = self._tsne_settings() if self._is_tsne() else None
        return RunningJob(TableRows(project_to_points(matrix, settings, report_progress)))

    def environment(
        self, ctx: BindContext, recorded: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """With the version of the library that computes the points."""
        environment = super().environment(ctx)
        if self.method == "tsne":
            from jammi_lab.features.vectors.projections import installed_version

            environment[_LIBRARY] = installed_version() or (recorded or {}).get(_LIBRARY)
        return environment

    def missing_requirement(self, _: BindContext) -> str | None:
        """t-SNE needs a library."""
        from jammi_lab.features.vectors.projections import installed_version

        if self.method == "tsne" and installed_version() is None:
            return "t-SNE needs scikit-learn, which is not installed."
        return None

    def column_reads(
        self, _: Sequence[str], inputs: "Sequence[Sequence[ColumnReads]]"
    ) -> "list[ColumnReads]":
        """The points come from the vectors."""
        from jammi_lab.engine.sql.column_lineage import combine_reads

        [[key, vector]] = inputs
        points = [combine_reads(axis, [vector], [key]) for axis in ("x", "y")]
        return [combine_reads("key", [key], []), *points]

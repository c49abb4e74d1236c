"""Converts recipe values to producer jobs."""

from typing import assert_never

from jammi_lab.core.errors import InvalidArgument
from jammi_lab.inputs.source_names import FrameResolver
from jammi_lab.producers.jobs import Job
from jammi_lab.producers.registry import Producers
from jammi_lab.producers.step_functions import StepFunction
from jammi_lab.workspace.arguments import list_of_names
from jammi_lab.workspace.lookup import TableLookup
from jammi_lab.workspace.recipe_values import (
    AsofJoin,
    ContextSet,
    Embedding,
    Lexical,
    NeighborGraph,
    Projection,
    Propagation,
    PythonStep,
    RecipeValue,
    RowMap,
    Sql,
)
from jammi_lab.workspace.result_table import ResultTable, unwrap_table


class JobFactory:
    """Makes the producer job of a recipe value."""

    def __init__(self, producers: Producers, lookup: TableLookup, frames: FrameResolver) -> None:
        self._producers, self._lookup, self._frames = producers, lookup, frames

    def job(
        self, name: str, recipe: RecipeValue, *, bypass_cache: bool = False, frames: bool = False
    ) -> Job:
        """The job of a recipe. With `frames` its SQL can name data frames of the notebook. Raises
        what the verb of the recipe raises."""
        match recipe:
            case Sql():
                return self.sql(recipe, frames=frames)
            case Embedding():
                return self._producers.embedding.job(
                    name,
                    recipe.source,
                    recipe.key,
                    list_of_names(recipe.text),
                    recipe.model,
                    recipe.where,
                    ignore_known_vectors=bypass_cache,
                )
            case Lexical():
                return self._producers.lexical.job(
                    name,
                    recipe.source,
                    recipe.key,
                    list_of_names(recipe.text),
                    recipe.analyzer,
                    recipe.where,
                    ignore_previous=bypass_cache,
                )
            case PythonStep():
                return self._python_job(name, recipe, frames=frames)
            case RowMap():
                return self._row_map_job(name, recipe, bypass_cache=bypass_cache, frames=frames)
            case AsofJoin():
                return self._asof_job(name, recipe)
            case NeighborGraph() | Propagation() | ContextSet() | Projection():
                return self._vector_job(name, recipe)
        assert_never(recipe)

    def sql(self, recipe: Sql, *, frames: bool = False) -> Job:
        """The job of a statement."""
        extra_resolvers = [self._frames] if frames else []
        key = list_of_names(recipe.key)
        return self._producers.sql.job(recipe.text, recipe.params or {}, key, extra_resolvers)

    def _python_job(self, name: str, recipe: PythonStep, *, frames: bool) -> Job:
        return self._producers.python.job(
            name,
            _step_function(recipe),
            list_of_names(recipe.inputs),
            recipe.params or {},
            recipe.version,
            list_of_names(recipe.key),
            [self._frames] if frames else [],
        )

    def _row_map_job(self, name: str, recipe: RowMap, *, bypass_cache: bool, frames: bool) -> Job:
        from jammi_lab.producers.row_map import RowMapSettings

        return self._producers.row_map.job(
            name,
            _step_function(recipe),
            recipe.over,
            recipe.key,
            list_of_names(recipe.inputs),
            RowMapSettings(
                recipe.schema,
                recipe.params,
                recipe.version,
                recipe.batch,
                recipe.concurrency,
                recipe.on_error,
                recipe.cost,
            ),
            [self._frames] if frames else [],
            ignore_previous=bypass_cache,
        )

    def _asof_job(self, name: str, recipe: AsofJoin) -> Job:
        return self._producers.asof.job(
            name,
            self._table_name(recipe.spine),
            self._table_name(recipe.facts),
            (recipe.spine_time, recipe.facts_time),
            list_of_names(recipe.by),
            tolerance=recipe.tolerance,
            tie_break=recipe.tie_break,
            project=None if recipe.project is None else list_of_names(recipe.project),
            direction=recipe.direction,
            boundary=recipe.boundary,
        )

    def _vector_job(
        self, name: str, recipe: NeighborGraph | Propagation | ContextSet | Projection
    ) -> Job:
        table = self._table_name(recipe.table)
        match recipe:
            case NeighborGraph(k=k, min_similarity=least, mutual=mutual, exact=exact):
                return self._producers.neighbors.job(
                    name, table, k, least, mutual=mutual, exact=exact
                )
            case Propagation():
                return self._producers.propagation.job(
                    name,
                    table,
                    self._table_name(recipe.edges),
                    recipe.hops,
                    recipe.alpha,
                    direction=recipe.direction,
                    weighting=recipe.weighting,
                    output=recipe.output,
                )
            case ContextSet(members=members, pool=pool):
                return self._producers.context.job(name, table, self._table_name(members), pool)
            case Projection(method=method, perplexity=perplexity, seed=seed):
                return self._producers.projection.job(name, table, method, perplexity, seed)
        assert_never(recipe)

    def _table_name(self, table: str | ResultTable) -> str:
        """The name by which a producer reads a table. For a handle: its recipe if it is the newest
        version, else the physical name."""
        if isinstance(table, ResultTable):
            return self._lookup.lineage_name(unwrap_table(table)) or ""
        return table


def _step_function(recipe: PythonStep | RowMap) -> StepFunction:
    """The function of a recipe. A cell passes a StepFunction with the text of the cell; Python code
    passes a function. Raises InvalidArgument for a version that is not a string."""
    if recipe.version is not None and not isinstance(recipe.version, str):
        raise InvalidArgument(f"A version must be a string, got {recipe.version!r}.")
    function = recipe.function
    return function if isinstance(function, StepFunction) else StepFunction(function)

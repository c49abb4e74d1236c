"""Runs recipes: a recipe value becomes a producer's job, and each run makes a new version of a
table or reuses an equal ready table."""

import io
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from typing import TYPE_CHECKING, Any, get_args

from jammi_lab.core.clock import rfc3339
from jammi_lab.core.errors import InvalidArgument, SchemaMismatch
from jammi_lab.core.identifiers import check_choice, check_recipe_name
from jammi_lab.core.records import CallEstimate, ProgressOption, RecipeRecord, Reuse
from jammi_lab.features.vectors.embedding import Embedding, Precision
from jammi_lab.steps.anchor_confirmation import observed_anchors
from jammi_lab.steps.build import find_reusable, produce
from jammi_lab.steps.executor import Executor, to_executor
from jammi_lab.steps.jobs import Job
from jammi_lab.steps.recipe import BindContext, RunnableRecipe
from jammi_lab.steps.row_recipe import RowRecipe
from jammi_lab.steps.sql import Sql
from jammi_lab.store import manifests
from jammi_lab.store.sidecars import SidecarRequest
from jammi_lab.workspace.recipe_values import Cache, Refresh
from jammi_lab.workspace.result_table import ResultTable

if TYPE_CHECKING:
    from jammi_lab.workspace.assembly import Services


class Materializer:
    """Defines recipes and runs them, in the bound tenant's scope."""

    def __init__(self, services: "Services", executor: Executor | None = None) -> None:
        """`executor`: in place of that of the workspace."""
        self._services, self._context = services, services.build_context
        self._parts = dict[type, Callable[[], Any]]()
        if executor is not None:
            self._parts[Executor] = lambda: executor

    def materialize(
        self,
        name: str,
        recipe: str | RunnableRecipe,
        params: Mapping[str, Any] | None = None,
        key: str | Sequence[str] | None = None,
        *,
        cache: Cache = "use",
        refresh: Refresh = "no",
        progress: ProgressOption = None,
        frames: bool = False,
        index: tuple[str, str] | None = None,
        executor: Any = None,
    ) -> ResultTable:
        """Run a recipe, or SQL with its values and key. `index`: precision and time of the index of
        imported vectors. `executor`: that of `to_executor`, in place of that of the workspace.
        Raises what the verb of the recipe raises."""
        if executor is not None:
            with closing(to_executor(executor)) as chosen:
                return Materializer(self._services, chosen).materialize(
                    name, recipe, params, key, cache=cache, refresh=refresh, progress=progress
                )
        check_choice("cache", cache, get_args(Cache))
        check_choice("refresh", refresh, get_args(Refresh))
        recipe = _as_recipe(recipe, params, key)
        if isinstance(recipe, Embedding):
            index = recipe.precision, recipe.index
        request = SidecarRequest() if index is None else _index_request(*index)
        bypass_cache = cache == "bypass"
        with self._reading_inputs(refresh):
            job = self._bind(name, recipe, bypass_cache=bypass_cache, frames=frames)
        if recipe.reuses_rows and self._has_errors(name):
            bypass_cache = True  # the job still takes over what it can: only those rows are asked
        self._services.check_writable()
        self._check_definition(name, job)
        on_progress = self._services.progress.callback(progress)
        if refresh == "inputs":
            self._services.freshness.update_inputs(job, on_progress)
            job = job.rebind()
        made = produce(self._context, name, job, bypass_cache=bypass_cache, on_progress=on_progress)
        try:
            self._context.results.sidecar(made.record).build(made.record, request, on_progress)
        except KeyboardInterrupt as interrupt:
            interrupt.add_note(
                f"{name!r} is stored, but its index is not built: until then, a search reads all "
                "vectors."
            )
            raise
        reuse = made.reuse
        if recipe.reuses_rows and made.outcome == "reused":
            reuse = Reuse(new=0, changed=0, removed=0, unchanged=made.record.row_count or 0)
        table = ResultTable(self._services, made.version, made.record, made.outcome, reuse)
        table._is_of_recipe = True
        return table

    def estimate(
        self, name: str, recipe: RunnableRecipe, *, cache: Cache = "use", frames: bool = False
    ) -> CallEstimate | None:
        """What a row map would ask now; None for other recipes. Writes nothing. Raises as
        `materialize`."""
        job = self._bind(name, recipe, bypass_cache=cache == "bypass", frames=frames)
        return None if job.estimate is None else job.estimate()

    def _has_errors(self, name: str) -> bool:
        """Whether rows of the newest version hold errors, which are to be asked again."""
        tables = self._services.catalog.result_tables
        newest = tables.newest(name)
        manifest = newest and manifests.parse(tables.manifest(newest[1].table_name))
        return manifest is not None and bool(manifest.counts.get("errors"))

    def define(
        self,
        name: str,
        recipe: str | RunnableRecipe,
        params: Mapping[str, Any] | None,
        key: str | Sequence[str] | None,
    ) -> RecipeRecord:
        """Store a recipe without running it; it may read recipes that have no version yet. Raises
        as `materialize`, and TableNotFound for one whose columns are not known before it runs."""
        with self._services.recorded_recipes.reading_unbuilt():
            job = self._bind(name, _as_recipe(recipe, params, key))
        self._services.check_writable()
        self._check_definition(name, job)
        now = rfc3339(self._context.clock.now_ns())
        record = job.recipe(name, self._context.scope.current, now)
        self._services.catalog.recipes.define(record)
        return self._services.catalog.recipes.get(name) or record

    def find_ready(self, recipe: Sql) -> ResultTable | None:
        """The ready table that is the result of a statement over its current inputs; None when
        there is none. Computes nothing."""
        job, observation = self._bind("", recipe), self._services.observe(True)
        anchors = observed_anchors(job, observation, self._context.scope.current)
        record = find_reusable(self._context, job.definition, anchors)
        observation.close()
        if record is None:
            return None
        match = self._services.lookup.find_physical(record.table_name)
        return None if match is None else ResultTable(self._services, *match, "reused")

    def _bind(
        self, name: str, recipe: RunnableRecipe, *, bypass_cache: bool = False, frames: bool = False
    ) -> Job:
        """The job of a recipe over the current inputs. With `frames` its SQL can name data frames
        of the notebook; the input of a recipe of rows always can. Raises what the verb of the
        recipe raises."""
        if name:  # before the statement: it may stand in its place
            check_recipe_name(name)
        services = self._services
        frames = frames or isinstance(recipe, RowRecipe)
        ctx = BindContext(
            services.engine,
            services.scope,
            {**services.recipe_parts, **self._parts},
            name,
            resolvers=[services.frames] if frames else [],
            bypass_cache=bypass_cache,
        )
        # of a handle its recipe if it is the newest version, else the physical name
        names = {
            field: services.lookup.lineage_name(value) or ""
            for field, value in vars(recipe).items()
            if isinstance(value, ResultTable)
        }
        try:
            return recipe.with_values(**names).bind(ctx)
        except SchemaMismatch as error:
            error.table = error.table or name
            raise

    def _reading_inputs(self, refresh: str) -> AbstractContextManager[None]:
        """A block that binds a job. Inputs that are computed before it may have no version yet."""
        if refresh == "inputs":
            return self._services.recorded_recipes.reading_unbuilt()
        return nullcontext()

    def _check_definition(self, name: str, job: Job) -> None:
        """Check that the job may become the recipe's definition. NameInvalid, NameTooLong,
        DependencyCycle."""
        check_recipe_name(name)
        result_inputs = [
            b.relation.input.name for b in job.inputs if b.relation.input.kind_class.is_result
        ]
        recipes = self._services.catalog.recipes
        recipes.check_acyclic(name, self._context.scope.current, result_inputs)


def _index_request(precision: str, index: str) -> SidecarRequest:
    """The options of the index. InvalidArgument."""
    check_choice("precision", precision, get_args(Precision))
    check_choice("index", index, ("now", "later"))
    return SidecarRequest(precision, index == "later")


def _as_recipe(
    recipe: str | RunnableRecipe, params: Mapping[str, Any] | None, key: str | Sequence[str] | None
) -> RunnableRecipe:
    """The recipe value of an argument; a string is SQL. InvalidArgument for other types, and
    for `params` or `key` together with a value, which has its own."""
    if isinstance(recipe, str):
        return Sql(recipe, params, key)
    if not isinstance(recipe, RunnableRecipe):
        hint = "ws.register(name, frame, producer='who made it') stores a frame."
        if callable(recipe):
            hint = (
                "ws.compute(name, function, inputs=…) runs a function; what it is given are "
                "Results, whose rows .pandas() returns."
            )
        if isinstance(recipe, os.PathLike | io.IOBase):
            hint = "Pass the text in it: Path('name.sql').read_text()."
        raise InvalidArgument(
            "recipe must be a SQL string or a value such as jl.Embedding(…), got "
            f"{type(recipe).__name__}.",
            hint=hint,
        )
    if params is not None or key is not None:
        raise InvalidArgument(
            f"params= and key= apply to a SQL string only, not to a {type(recipe).__name__}.",
            hint=f"Pass them to jl.{type(recipe).__name__}(…) if it accepts them.",
        )
    return recipe

"""Runs recipes: a recipe value becomes a producer's job, and each run makes a new version of a
table or reuses an equal ready table."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Literal, get_args

from jammi_lab.core.clock import rfc3339
from jammi_lab.core.errors import InvalidArgument, SchemaMismatch
from jammi_lab.core.identifiers import check_recipe_name, near_names
from jammi_lab.core.records import CallEstimate, ProgressOption, RecipeRecord, Reuse, TableVersion
from jammi_lab.features.vectors.embedding import Embedding, Precision
from jammi_lab.freshness.queries import FreshnessQueries
from jammi_lab.steps.anchor_confirmation import observed_anchors
from jammi_lab.steps.build import Outcome, find_reusable, produce
from jammi_lab.steps.external import External
from jammi_lab.steps.jobs import Job
from jammi_lab.steps.recipe import Producer
from jammi_lab.steps.sql import Sql
from jammi_lab.store import manifests
from jammi_lab.store.sidecars import SidecarRequest
from jammi_lab.workspace.arguments import ProgressReporter
from jammi_lab.workspace.lookup import TableLookup
from jammi_lab.workspace.recipe_values import Cache, Refresh
from jammi_lab.workspace.result_table import ResultTable

if TYPE_CHECKING:
    from jammi_lab.workspace.infrastructure import Infrastructure


class Materializer:
    """Defines recipes and runs them, in the bound tenant's scope."""

    def __init__(
        self,
        parts: "Infrastructure",
        lookup: TableLookup,
        freshness: Callable[[], FreshnessQueries],
        progress: ProgressReporter,
    ) -> None:
        self._producers, self._frames = parts.producers, parts.frames
        self._context = parts.producer_context
        self._catalog, self._observe, self._lookup = parts.catalog, parts.observe, lookup
        self._freshness, self._progress = freshness, progress
        self._check_writable = parts.check_writable

    def materialize(
        self,
        name: str,
        recipe: str | Producer,
        params: Mapping[str, Any] | None = None,
        key: str | Sequence[str] | None = None,
        *,
        cache: Cache = "use",
        refresh: Refresh = "no",
        progress: ProgressOption = None,
        frames: bool = False,
    ) -> Outcome:
        """Run a recipe, or SQL with its values and key. Raises what the verb of the recipe
        raises."""
        recipe = _as_recipe(recipe, params, key)
        index = SidecarRequest()
        if isinstance(recipe, Embedding):
            index = index_request(recipe.precision, recipe.index)
        bypass_cache = cache == "bypass"
        with self._reading_inputs(refresh):
            job = self._bind(name, recipe, bypass_cache=bypass_cache, frames=frames)
        if cache == "use" and recipe.reuses_rows and self._has_errors(name):
            cache = "bypass"  # the job still takes over what it can: only those rows are asked
        outcome = self._produce(name, job, cache, refresh, progress, index)
        if recipe.reuses_rows and outcome.outcome == "reused":
            unchanged = Reuse(new=0, changed=0, removed=0, unchanged=outcome.record.row_count or 0)
            return Outcome(outcome.version, outcome.record, outcome.outcome, unchanged)
        return outcome

    def estimate(
        self, name: str, recipe: Producer, *, cache: Cache = "use", frames: bool = False
    ) -> CallEstimate | None:
        """What a row map would ask now; None for other recipes. Writes nothing. Raises as
        `materialize`."""
        job = self._bind(name, recipe, bypass_cache=cache == "bypass", frames=frames)
        return None if job.estimate is None else job.estimate()

    def _has_errors(self, name: str) -> bool:
        """Whether rows of the newest version hold errors, which are to be asked again."""
        newest = self._catalog.result_tables.newest(name)
        manifest = newest and manifests.parse(
            self._catalog.result_tables.manifest(newest[1].table_name)
        )
        return manifest is not None and bool(manifest.counts.get("errors"))

    def register(
        self,
        name: str,
        frame: Any,
        producer: str,
        params: Mapping[str, Any] | None,
        inputs: Sequence[str],
        key: str | Sequence[str] | None,
        cache: Cache,
        refresh: Refresh,
        progress: ProgressOption,
    ) -> Outcome:
        """Store rows that were computed elsewhere. Raises as `ws.register`."""
        from jammi_lab.sources.frame_origins import origins
        from jammi_lab.sources.frames import as_arrow

        with self._reading_inputs(refresh):
            rows = External(producer, params, key, inputs, as_arrow(frame), origins.origin(frame))
            job = self._bind(name, rows)
        return self._produce(name, job, cache, refresh, progress)

    def import_embeddings(
        self,
        name: str,
        data: Any,
        key: str,
        vector: str,
        source: str | None,
        model_id: str,
        precision: Precision,
        index: Literal["now", "later"],
        cache: Cache,
        refresh: Refresh,
        progress: ProgressOption,
    ) -> Outcome:
        """Store vectors that were computed elsewhere. Raises as `ws.import_embeddings`."""
        from jammi_lab.features.vectors.imported import Imported
        from jammi_lab.sources.frames import as_arrow

        request = index_request(precision, index)
        try:
            vectors = Imported(model_id, key, vector, source, as_arrow(data))
            job = self._bind(name, vectors)
        except SchemaMismatch as error:
            error.table = name
            raise
        return self._produce(name, job, cache, refresh, progress, request)

    def define(
        self,
        name: str,
        recipe: str | Producer,
        params: Mapping[str, Any] | None,
        key: str | Sequence[str] | None,
    ) -> RecipeRecord:
        """Store a recipe without running it; it may read recipes that have no version yet. Raises
        as `materialize`, and TableNotFound for one whose columns are not known before it runs."""
        with self._producers.reading_unbuilt():
            job = self._bind(name, _as_recipe(recipe, params, key))
        self._check_writable()
        self._check_definition(name, job)
        now = rfc3339(self._context.clock.now_ns())
        record = job.recipe(name, self._context.scope.current, now)
        self._catalog.recipes.define(record)
        return self._catalog.recipes.get(name) or record

    def find_ready(self, recipe: Sql) -> TableVersion | None:
        """The ready table that is the result of a statement over its current inputs; None when
        there is none. Computes nothing."""
        job, observation = self._bind("", recipe), self._observe(True)
        anchors = observed_anchors(job, observation, self._context.scope.current)
        record = find_reusable(self._context, job.definition, anchors)
        observation.close()
        return None if record is None else self._lookup.find_physical(record.table_name)

    def _bind(
        self, name: str, recipe: Producer, *, bypass_cache: bool = False, frames: bool = False
    ) -> Job:
        """The job of a recipe over the current inputs. With `frames` its SQL can name data frames
        of the notebook. Raises what the verb of the recipe raises."""
        resolvers = [self._frames] if frames else []
        ctx = self._producers.bind_context(name, resolvers, bypass_cache=bypass_cache)
        # of a handle its recipe if it is the newest version, else the physical name
        names = {
            field: self._lookup.lineage_name(value) or ""
            for field, value in vars(recipe).items()
            if isinstance(value, ResultTable)
        }
        return recipe.with_values(**names).bind(ctx)

    def _produce(
        self,
        name: str,
        job: Job,
        cache: str,
        refresh: str,
        progress: ProgressOption,
        index: SidecarRequest = SidecarRequest(),  # noqa: B008  frozen
    ) -> Outcome:
        if cache not in ("use", "bypass"):
            raise InvalidArgument(f'cache must be "use" or "bypass", got {cache!r}.')
        if refresh not in ("no", "inputs"):
            raise InvalidArgument(f'refresh must be "no" or "inputs", got {refresh!r}.')
        self._check_writable()
        self._check_definition(name, job)
        on_progress = self._progress.callback(progress)
        if refresh == "inputs":
            self._freshness().update_inputs(job, on_progress)
            job = job.rebind()
        outcome = produce(
            self._context, name, job, bypass_cache=cache == "bypass", on_progress=on_progress
        )
        try:
            self._context.results.sidecars.build(outcome.record, index, on_progress)
        except KeyboardInterrupt as interrupt:
            interrupt.add_note(
                f"{name!r} is stored, but its index is not built: until then, a search reads all "
                "vectors."
            )
            raise
        return outcome

    def _reading_inputs(self, refresh: str) -> AbstractContextManager[None]:
        """A block that binds a job. Inputs that are computed before it may have no version yet."""
        return self._producers.reading_unbuilt() if refresh == "inputs" else nullcontext()

    def _check_definition(self, name: str, job: Job) -> None:
        """Check that the job may become the recipe's definition. NameInvalid, NameTooLong,
        DependencyCycle."""
        check_recipe_name(name)
        result_inputs = [
            b.relation.input.name for b in job.inputs if b.relation.input.kind_class.is_result
        ]
        self._catalog.recipes.check_acyclic(name, self._context.scope.current, result_inputs)


def index_request(precision: str, index: str) -> SidecarRequest:
    """The options of the index. InvalidArgument."""
    for option, value, choices in (
        ("precision", precision, get_args(Precision)),
        ("index", index, ("now", "later")),
    ):
        if value not in choices:
            raise InvalidArgument(
                f"{option} must be one of {', '.join(choices)}, got {value!r}.",
                near=near_names(value, choices) if isinstance(value, str) else (),
            )
    return SidecarRequest(precision, index == "later")


def _as_recipe(
    recipe: str | Producer, params: Mapping[str, Any] | None, key: str | Sequence[str] | None
) -> Producer:
    """The recipe value of an argument; a string is SQL. InvalidArgument for other types, and
    for `params` or `key` together with a value, which has its own."""
    if isinstance(recipe, str):
        return Sql(recipe, params, key)
    if not isinstance(recipe, Producer):
        raise InvalidArgument(
            "recipe must be a SQL string or a value such as jl.Embedding(…), got "
            f"{type(recipe).__name__}.",
            hint="ws.compute(name, function, inputs=…) runs a function."
            if callable(recipe)
            else "ws.register(name, frame, producer=…) stores a frame.",
        )
    if params is not None or key is not None:
        raise InvalidArgument(
            f"params= and key= apply to a SQL string only, not to a {type(recipe).__name__}.",
            hint=f"Pass them to jl.{type(recipe).__name__}(…) if it accepts them.",
        )
    return recipe

"""The Workspace: a catalog and a results folder. Each method calls a service."""

import datetime
import os
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from jammi_lab.core.argument_suggestions import answer_calls
from jammi_lab.core.attribute_suggestions import (
    answer_assignment,
    answer_deletion,
    answer_guess,
    answer_item,
)
from jammi_lab.core.errors import InvalidArgument, JammiError
from jammi_lab.core.html import Rendered, plain_text
from jammi_lab.core.identifiers import list_of_names
from jammi_lab.core.records import Edge, OnProgress, ProgressOption
from jammi_lab.core.settings import Settings
from jammi_lab.core.verdicts import Verdict, Verification
from jammi_lab.engine.parameters import merge_params
from jammi_lab.features.asof.asof_join import AsofJoin
from jammi_lab.features.rows.row_map import RowMap
from jammi_lab.features.vectors.context_set import ContextSet
from jammi_lab.features.vectors.embedding import Embedding, Precision
from jammi_lab.features.vectors.imported import Imported
from jammi_lab.features.vectors.neighbor_graph import NeighborGraph
from jammi_lab.features.vectors.projection import Projection
from jammi_lab.features.vectors.propagation import Propagation
from jammi_lab.features.words.lexical import Analyzer, Lexical
from jammi_lab.sources.frame_origins import origins
from jammi_lab.sources.frames import as_arrow
from jammi_lab.steps.external import External
from jammi_lab.steps.python import PythonStep
from jammi_lab.steps.recipe import RunnableRecipe
from jammi_lab.steps.sql import Sql
from jammi_lab.store.reports import RecoveryReport
from jammi_lab.workspace import relocation
from jammi_lab.workspace.assembly import Services
from jammi_lab.workspace.first_use import load_modules
from jammi_lab.workspace.recipe_values import Cache, Refresh

if TYPE_CHECKING:
    from decimal import Decimal

    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from jammi_lab.features.checks.checks import Checks
    from jammi_lab.features.checks.results import CheckResults
    from jammi_lab.features.live.mutable_handles import MutableTables
    from jammi_lab.features.live.session_handle import EphemeralSession, SessionList
    from jammi_lab.features.live.topics import Topics
    from jammi_lab.features.pictures.lineage import Lineage
    from jammi_lab.features.prose.text_check import FoundValues
    from jammi_lab.features.vectors.models import Models
    from jammi_lab.freshness.explain import Why
    from jammi_lab.freshness.reports import Plan, RunReport, Status
    from jammi_lab.store.reports import FsckReport
    from jammi_lab.workspace.connection import ReadConnection
    from jammi_lab.workspace.query_plan import Explanation
    from jammi_lab.workspace.recipes import Recipe, Recipes
    from jammi_lab.workspace.result import Result
    from jammi_lab.workspace.result_table import ResultTable
    from jammi_lab.workspace.retrieval_evaluation import Metrics
    from jammi_lab.workspace.search_recordings import Recording, Recordings
    from jammi_lab.workspace.sources import Sources
    from jammi_lab.workspace.vector_views import Neighbors, VectorMap


_open: "weakref.WeakSet[Workspace]" = weakref.WeakSet()


@answer_calls
class Workspace:
    """What `jl.open` returns; also a context manager. Closing twice is fine."""

    if not TYPE_CHECKING:  # else a type checker would accept every attribute
        __getattr__ = answer_guess
        __getitem__ = answer_item
        __setitem__ = answer_assignment
        __delitem__ = answer_deletion

    def __init__(self, services: Services) -> None:
        if not isinstance(services, Services):
            raise InvalidArgument(
                "Workspace() cannot be called directly.", hint="Use jl.open(path)."
            )
        self._services = services
        # A forked child must not release the resources of its parent.
        self._closed, self._pid = False, os.getpid()
        _open.add(self)
        # The watching thread would keep a workspace alive that nobody has closed or uses any more.
        weakref.finalize(self, services.sessions.stop_watching).atexit = False

    # -- life cycle
    # ----------------------------------------------------------------------------------------------

    @property
    def path(self) -> str:
        """The folder as passed to `jl.open`, or the URL without credentials."""
        return self._services.path

    @property
    def settings(self) -> Settings:
        """The settings of this workspace; some can be changed while it is open."""
        return self._services.settings

    @property
    def read_only(self) -> bool:
        """Whether it was opened with `read_only=True`."""
        return self._services.catalog.read_only

    @property
    def default_progress(self) -> OnProgress | None:
        """Receives progress where a call does not pass `progress=`; the notebook sets its own."""
        return self._services.progress.default

    @default_progress.setter
    def default_progress(self, callback: OnProgress | None) -> None:
        self._services.progress.default = callback

    def close(self) -> None:
        """Release all resources. Builds in other threads fail with SessionClosed (waits up to
        10 s). In a forked child process this does nothing."""
        if self._closed:
            return
        self._closed = True
        _open.discard(self)
        if os.getpid() == self._pid:
            self._services.close(clean=not self.read_only)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else "read-only" if self.read_only else ""
        return f"Workspace({self.path!r}{f', {state}' if state else ''})"

    def _form(self) -> Rendered:
        """The summary that a notebook displays. Raises as `status`."""
        if self._closed:
            return plain_text(repr(self))
        with load_modules():
            from jammi_lab.workspace.summary import summarize

        return summarize(self)

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        try:
            form = self._form()
        except JammiError:  # displaying an object must not raise
            form = plain_text(repr(self))
        return form.data

    def _repr_html_(self) -> str:
        return self._repr_mimebundle_()["text/html"]

    # -- collections
    # ----------------------------------------------------------------------------------------------

    @property
    def sources(self) -> "Sources":
        """The registered sources."""
        return self._services.sources

    @property
    def models(self) -> "Models":
        """The registered models."""
        return self._services.models

    @property
    def checks(self) -> "Checks":
        """The checks on result tables."""
        return self._services.checks

    @property
    def mutable(self) -> "MutableTables":
        """The mutable tables."""
        return self._services.mutable_tables

    @property
    def topics(self) -> "Topics":
        """The topics."""
        return self._services.topics

    # -- tenants
    # ----------------------------------------------------------------------------------------------

    @property
    def current_tenant(self) -> str | None:
        """The tenant bound in this context; None is the shared scope."""
        return self._services.scope.current

    def tenant(self, name: str | None) -> AbstractContextManager[None]:
        """A block in which a tenant is bound; it can be entered more than once. NameInvalid."""
        return self._services.scope.use(name)

    def bind_tenant(self, name: str | None) -> None:
        """Bind a tenant for the rest of this context. NameInvalid."""
        self._services.scope.bind(name)

    def ephemeral(self, timeout: float | datetime.timedelta = 600) -> "EphemeralSession":
        """Open a session whose tables are deleted, with every value, when it is closed or `timeout`
        seconds after it was opened. It belongs to the bound tenant.

        Raises NoTenantBinding, WorkspaceReadOnly; InvalidArgument unless the time is above 0 and
        within the calendar.
        """
        with load_modules():
            from jammi_lab.features.live.session_handle import EphemeralSession

        sessions = self._services.sessions
        return EphemeralSession(sessions, sessions.open(timeout), self._services.statements.read)

    def sessions(self) -> "SessionList":
        """The open ephemeral sessions of the bound tenant, in any kernel."""
        with load_modules():
            from jammi_lab.features.live.session_handle import SessionInfo, SessionList

        return SessionList(SessionInfo(*row) for row in self._services.sessions.list_open())

    # -- SQL
    # ----------------------------------------------------------------------------------------------

    def sql(self, text: str, /, params: Mapping[str, Any] | None = None, **named: Any) -> "Result":
        """Run statements in order and return the rows of the last one.

        `$name` is bound from `params` and keywords, never pasted. Raises SqlError, TableNotFound,
        StatementNotAllowed, ParameterMissing, InvalidArgument, SourceUnavailable, TableDamaged,
        ResourceExhausted; KeyboardInterrupt cancels the statement.
        """
        return self._services.statements.run(text, merge_params(params, named))

    def explain(
        self,
        text: str,
        /,
        params: Mapping[str, Any] | None = None,
        *,
        analyze: bool = False,
        **named: Any,
    ) -> "Explanation":
        """The query plan of a statement, as DuckDB draws it, with estimated rows; with `analyze`
        the statement is run, and rows and times are measured.

        The Explanation is also a string. Raises as `sql` does.
        """
        return self._services.statements.explain(text, merge_params(params, named), analyze=analyze)

    def connection(self) -> "ReadConnection":
        """A read-only DB-API 2.0 connection, for tools that read SQL through one: `pd.read_sql(sql,
        ws.connection())`. Rows of tables that are not fresh come with a RuntimeWarning."""
        with load_modules():
            from jammi_lab.workspace.connection import ReadConnection

        return ReadConnection(self._services.statements)

    def _frames_from(self, namespace: Callable[[], Mapping[str, object]] | None) -> None:
        """Let cells name the data frames among the variables that `namespace` returns."""
        self._services.source_directory.notebook_variables = namespace

    # -- tables and recipes
    # ----------------------------------------------------------------------------------------------

    def table(self, name: "str | ResultTable", version: int | None = None) -> "ResultTable":
        """The newest ready version of a recipe, one version, or a physical table. TableNotFound,
        with near names."""
        return self._services.tables.find(name, version)

    def tables(
        self,
        kind: str | None = None,
        status: str | None = "ready",
        source: str | None = None,
        model: str | None = None,
        definition: str | None = None,
    ) -> "list[ResultTable]":
        """All tables that match, one entry per version, newest first. `source`: one that the table
        reads directly; `status=None`: any. InvalidArgument for an unknown kind or status."""
        lookup = self._services.lookup
        versions = lookup.list_tables(kind, status, source, model, definition)
        return self._services.tables.from_versions(versions)

    @property
    def recipes(self) -> "Recipes":
        """All recipes with their definition and newest version, by name; `ws.recipes()` is the
        same."""
        with load_modules():
            from jammi_lab.workspace.recipes import list_recipes

        return list_recipes(self._services.catalog)

    def recipe(self, name: str) -> "Recipe":
        """One recipe, by its name or an alias. TableNotFound, with near names."""
        [known] = self._services.lookup.check_recipes([name])
        return self.recipes[known]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._services.lookup.has_ready_version(name)

    def drop(self, name: str, *, if_exists: bool = False, force: bool = False) -> None:
        """Remove a recipe and all its versions. Refused while ready tables derive from it or
        checks on other tables read it, unless `force`; the error names them (other tenants' as a
        number).

        Raises TableNotFound, InvalidArgument, TenantForbidden.
        """
        self._services.maintenance.drop(name, if_exists=if_exists, force=force)

    def rename(self, old: str, new: str) -> None:
        """Rename a recipe. The old name stays as an alias, so its readers stay fresh, until a
        recipe takes that name or `unalias` removes it. TableNotFound, DuplicateTable, NameInvalid,
        TenantForbidden."""
        self._services.maintenance.rename(old, new)

    def unalias(self, old: str) -> None:
        """Remove the alias that `rename` left. A RuntimeWarning names the recipes that still read
        it (other tenants' as a number). TableNotFound, TenantForbidden."""
        self._services.maintenance.unalias(old)

    def hold(self, name: str, *, note: str = "") -> None:
        """Hold a recipe: a recompute or plan of everything lists it as blocked and leaves it as it
        is. `unhold`, or naming it in `recompute`, ends the hold. TableNotFound, TenantForbidden."""
        self._services.maintenance.hold(name, note)

    def unhold(self, name: str) -> None:
        """End the hold of a recipe. TableNotFound, TenantForbidden, InvalidArgument."""
        self._services.maintenance.unhold(name)

    def define(
        self,
        name: str,
        recipe: str | RunnableRecipe,
        *,
        params: Mapping[str, Any] | None = None,
        key: str | Sequence[str] | None = None,
    ) -> "Recipe":
        """Store a recipe under a name without running it. Returns the recipe.

        `recipe`: a SQL text, with `params` and `key`, or a value such as `jl.Embedding(…)`. It may
        read recipes that have no version yet. An equal definition changes nothing. Raises as
        `materialize` does, and TableNotFound when it reads a Python step, or a row map without
        `schema=`, that has not run: their columns are not known before. A call such as
        `search('vectors', …)` in a statement needs a version, too.
        """
        with load_modules():
            from jammi_lab.workspace.recipes import recipe_of

        record = self._services.materializer.define(name, recipe, params, key)
        return recipe_of(record, self._services.catalog)

    def lookup(
        self,
        sql: str,
        *,
        params: Mapping[str, Any] | None = None,
        key: str | Sequence[str] | None = None,
    ) -> "ResultTable | None":
        """The ready table with exactly this definition, including the key, over the current inputs;
        None when there is none. Computes nothing. Raises as `sql` does, and SchemaMismatch for a
        key that is no column."""
        return self._services.materializer.find_ready(Sql(sql, params, key))

    # -- producing tables
    # ----------------------------------------------------------------------------------------------

    def materialize(
        self,
        name: str,
        recipe: str | RunnableRecipe,
        *,
        params: Mapping[str, Any] | None = None,
        key: str | Sequence[str] | None = None,
        cache: Cache = "use",
        refresh: Refresh = "no",
        progress: ProgressOption = None,
        executor: Any = None,
    ) -> "ResultTable":
        """Run a recipe and store its rows as the next version of the table `name`, or return a
        ready table that is the same.

        `recipe`: a SQL text, with `params` (values of `$name`) and `key` (columns that identify a
        row; checked), or a value such as `jl.Embedding(…)`. `cache="bypass"` computes in any case;
        `refresh="inputs"` recomputes stale inputs first; `executor` is that of `jl.open`, for this
        call. Raises as `sql` or the verb of the value
        does, and NameInvalid, DependencyCycle, DuplicateKey, SchemaMismatch. When it fails or is
        interrupted, no rows remain; a recipe that has versions keeps them and the new definition,
        by which they are stale.
        """
        return self._services.materializer.materialize(
            name,
            recipe,
            params,
            key,
            cache=cache,
            refresh=refresh,
            progress=progress,
            executor=executor,
        )

    def register(
        self,
        name: str,
        frame: Any,
        *,
        producer: str,
        params: Mapping[str, Any] | None = None,
        inputs: Sequence[str] = (),
        key: str | Sequence[str] | None = None,
        cache: Cache = "use",
        refresh: Refresh = "no",
        progress: ProgressOption = None,
    ) -> "ResultTable":
        """Store rows that were computed elsewhere as the next version of `name`.

        `frame`: a pandas, polars or pyarrow object; `producer` and `params`: who computed it, and
        how. The table becomes stale when `inputs` (sources, recipes) change. Raises NameInvalid,
        TableNotFound, SchemaMismatch, DuplicateKey, DependencyCycle.
        """
        origin = origins.origin(frame)
        recipe = External(producer, params, key, inputs, as_arrow(frame), origin)
        return self.materialize(name, recipe, cache=cache, refresh=refresh, progress=progress)

    def compute(
        self,
        name: str,
        function: Callable[..., Any] | str,
        *,
        inputs: str | Sequence[str] = (),
        params: Mapping[str, Any] | None = None,
        version: str | None = None,
        key: str | Sequence[str] | None = None,
        cache: Cache = "use",
        refresh: Refresh = "no",
        progress: ProgressOption = None,
    ) -> "ResultTable":
        """Store the rows that a Python function returns, or return a ready table that is the same.

        The function takes a Result for each of `inputs` (sources, tables, SQL) and `params` as
        keywords; it returns a frame, a list of dicts, or an iterator of these. A text names a
        producer of an installed package. The definition is `version`, or the function's source with
        the plain values, arrays, frames, helper functions and classes that it names; imported
        modules are not followed; of a package's producer it is the version of the package. Rows are
        ordered by `key`, then by the other columns. The function is called again when inputs
        changed meanwhile.

        Raises InvalidArgument for a function without a version that cannot be fingerprinted (a
        lambda, one that names another object); StepFailed with the function's exception as its
        cause; SchemaMismatch; else as `materialize`.
        """
        step = PythonStep(function, inputs=inputs, params=params, version=version, key=key)
        return self.materialize(name, step, cache=cache, refresh=refresh, progress=progress)

    def map(
        self,
        name: str,
        function: Callable[..., Any] | str,
        over: str,
        *,
        key: str,
        inputs: str | Sequence[str],
        schema: "pa.Schema | Mapping[str, Any] | None" = None,
        params: Mapping[str, Any] | None = None,
        version: str | None = None,
        batch: int = 1,
        concurrency: int = 1,
        on_error: Literal["raise", "record"] = "raise",
        cost: float | None = None,
        cache: Cache = "use",
        refresh: Refresh = "no",
        progress: ProgressOption = None,
    ) -> "ResultTable":
        """Store what a Python function returns for each row of a source, table or SQL: the column
        `key`, the outputs, `_error` with `on_error="record"`, and `_input_digest`, in key order.

        The function takes the columns `inputs` of a row, and `params`, as keywords; it returns a
        dict or one value. With `batch` above 1 it takes an Arrow table of up to that many rows and
        returns a frame or list of as many; a coroutine function is awaited, `concurrency` calls at
        a time. It is called once for equal inputs, and not for inputs whose outputs an earlier
        version or an interrupted call has; `.reuse` of the table counts. `schema` gives names and
        types of the outputs, which follow from the values without it; `cost` of one call is for
        plans. The definition is `version`, or the function's source as for `compute`, with
        `params` and `schema`.

        Raises StepFailed with the function's exception as its cause (`on_error="record"` stores it
        in the row, which is computed again next time); DuplicateKey, SchemaMismatch;
        else as `compute`.
        """
        recipe = RowMap(
            function,
            over,
            key=key,
            inputs=inputs,
            schema=schema,
            params=params,
            version=version,
            batch=batch,
            concurrency=concurrency,
            on_error=on_error,
            cost=cost,
        )
        return self.materialize(name, recipe, cache=cache, refresh=refresh, progress=progress)

    def embed(
        self,
        name: str,
        source: str,
        *,
        key: str,
        text: str | Sequence[str],
        model: Any = "minilm",
        precision: Precision = "bf16",
        index: Literal["now", "later"] = "now",
        where: str | None = None,
        cache: Cache = "use",
        refresh: Refresh = "no",
        progress: ProgressOption = None,
    ) -> "ResultTable":
        """Encode the texts of a source, table or SQL as vectors: columns key, vector (float32),
        _text_digest, in key order.

        Only new and changed texts are encoded; `.reuse` of the table counts new, changed, removed
        and unchanged rows. `model`: a registered name, an encoder or a sentence-transformers model.
        An interrupted call keeps its vectors for the next one. The table is ready before its index:
        `precision` is how the index stores the vectors (the table has them in float32, and another
        precision is no other table), `index="later"` does not wait for it. Raises as `sql` does,
        and ModelNotFound, DuplicateKey, SchemaMismatch (with the encoder's exception as its cause),
        InvalidArgument.
        """
        recipe = Embedding(
            source, key=key, text=text, model=model, precision=precision, index=index, where=where
        )
        return self.materialize(name, recipe, cache=cache, refresh=refresh, progress=progress)

    def lexical(
        self,
        name: str,
        source: str,
        *,
        key: str,
        text: str | Sequence[str],
        analyzer: Analyzer = "english",
        where: str | None = None,
        cache: Cache = "use",
        refresh: Refresh = "no",
        progress: ProgressOption = None,
    ) -> "ResultTable":
        """Store the words of the texts of a source, table or SQL, for `search` by words: columns
        key, terms (ascending, each as often as it occurs), length (their number),
        _text_digest, in key order.

        `analyzer`: "english" (stems of words in lower case, without stop words), "simple" (words in
        lower case) or "exact" (what stands between spaces, for codes). Text without spaces between
        words is cut into overlapping pairs of characters. Only new and changed texts are analysed;
        `.reuse` of the table counts them. Raises as `sql` does, and DuplicateKey, SchemaMismatch,
        InvalidArgument.
        """
        recipe = Lexical(source, key=key, text=text, analyzer=analyzer, where=where)
        return self.materialize(name, recipe, cache=cache, refresh=refresh, progress=progress)

    def import_embeddings(
        self,
        name: str,
        data: Any,
        *,
        key: str = "id",
        vector: str = "vec",
        source: str | None = None,
        model_id: str = "external",
        precision: Precision = "bf16",
        index: Literal["now", "later"] = "now",
        cache: Cache = "use",
        refresh: Refresh = "no",
        progress: ProgressOption = None,
    ) -> "ResultTable":
        """Store vectors that were computed elsewhere.

        `vector`: their column; one called `vector` is found by default, too. `source`: the source,
        table or SQL whose rows they belong to; without it the other columns of `data` are also
        stored. `precision` and `index` as for `embed`. Raises SchemaMismatch for a wrong
        width, values that are not finite or a vector of zeros; DuplicateKey; TableNotFound.
        """
        return self._services.materializer.materialize(
            name,
            Imported(model_id, key, vector, source, as_arrow(data)),
            index=(precision, index),
            cache=cache,
            refresh=refresh,
            progress=progress,
        )

    def neighbor_graph(
        self,
        name: str,
        table: "str | ResultTable",
        *,
        k: int = 10,
        min_similarity: float | None = None,
        mutual: bool = False,
        exact: bool | None = None,
        cache: Cache = "use",
        refresh: Refresh = "no",
        progress: ProgressOption = None,
    ) -> "ResultTable":
        """Link each row of an embedding table with the `k` rows most similar to it: columns src,
        dst, rank (from 1), similarity (float32).

        A row is never linked with itself; ties are in ascending order of dst; rows are ordered by
        src and rank. `min_similarity` drops edges below it, and `mutual` those whose reverse is not
        among the `k` of dst; ranks stay those of the whole list. `exact=True` compares every pair,
        False queries the index, None compares where the table has at most
        `vectors.exact_max_rows` rows or the index would be no help. Raises TableNotFound;
        SchemaMismatch for a table without vectors; InvalidArgument for k < 0; DependencyCycle.
        """
        recipe = NeighborGraph(
            table, k=k, min_similarity=min_similarity, mutual=mutual, exact=exact
        )
        return self.materialize(name, recipe, cache=cache, refresh=refresh, progress=progress)

    def propagate(
        self,
        name: str,
        table: "str | ResultTable",
        edges: "str | ResultTable",
        *,
        hops: int = 2,
        alpha: float = 0.1,
        direction: Literal["out", "in", "both"] = "out",
        weighting: Literal["uniform", "similarity"] = "uniform",
        output: Literal["final", "concat"] = "final",
        cache: Cache = "use",
        refresh: Refresh = "no",
        progress: ProgressOption = None,
    ) -> "ResultTable":
        """Mix each vector of an embedding table with those of its neighbours: an embedding table
        with columns key, vector (float32).

        Each of 1 to 3 `hops` takes the share 1 − `alpha` from the neighbours and `alpha` from the
        row's own first vector. `edges`: a table, source or SQL with the columns src and dst, and
        similarity for `weighting="similarity"`. `direction`: whether the neighbours of a row are at
        the end of its edges ("out"), at the start of those that lead to it ("in"), or both.
        "uniform" is the mean of the row and its neighbours, "similarity" the weighted mean of the
        neighbours. `output="concat"` puts the vectors of all hops side by side, each of unit
        length. Edges with an unknown end are left out and counted in the manifest. Raises
        TableNotFound; SchemaMismatch, also when vectors cancel out; InvalidArgument;
        DependencyCycle.
        """
        recipe = Propagation(
            table,
            edges,
            hops=hops,
            alpha=alpha,
            direction=direction,
            weighting=weighting,
            output=output,
        )
        return self.materialize(name, recipe, cache=cache, refresh=refresh, progress=progress)

    def context_set(
        self,
        name: str,
        table: "str | ResultTable",
        *,
        members: "str | ResultTable",
        pool: Literal["mean", "sum", "max"] = "mean",
        cache: Cache = "use",
        refresh: Refresh = "no",
        progress: ProgressOption = None,
    ) -> "ResultTable":
        """Pool the vectors of the members of each target into one: an embedding table with columns
        key (the target), vector (float32).

        `members`: a table, source or SQL with the columns target and member, keys of the embedding
        table. A member listed twice counts once, one without a vector not at all (the manifest
        counts them), and a target without any known member is left out. Raises TableNotFound;
        SchemaMismatch for members of another type, a missing target or vectors that cancel out;
        InvalidArgument; DependencyCycle.
        """
        recipe = ContextSet(table, members=members, pool=pool)
        return self.materialize(name, recipe, cache=cache, refresh=refresh, progress=progress)

    def projection(
        self,
        name: str,
        table: "str | ResultTable",
        *,
        method: Literal["pca", "tsne"] = "pca",
        perplexity: float = 30.0,
        seed: int = 0,
        cache: Cache = "use",
        refresh: Refresh = "no",
        progress: ProgressOption = None,
    ) -> "ResultTable":
        """Place the rows of an embedding table in a plane, for a stored map: columns key, x, y
        (float32), in key order.

        "pca" uses the first two principal components. "tsne" places similar rows together, each
        near about `perplexity` others (at most a third of all the others), starting from the
        components with `seed`; fewer than five rows are placed as by "pca". Its result depends on
        the release of scikit-learn, which is part of the definition. Raises TableNotFound;
        SchemaMismatch for a table without vectors; InvalidArgument; ExtensionMissing for "tsne"
        without the extra `maps`; DependencyCycle.
        """
        recipe = Projection(table, method=method, perplexity=perplexity, seed=seed)
        return self.materialize(name, recipe, cache=cache, refresh=refresh, progress=progress)

    def asof_join(
        self,
        name: str,
        spine: "str | ResultTable",
        facts: "str | ResultTable",
        *,
        spine_time: str,
        facts_time: str,
        by: str | Sequence[str | tuple[str, str]] = (),
        direction: Literal["backward", "forward", "nearest"] = "backward",
        boundary: Literal["inclusive", "exclusive"] = "inclusive",
        tolerance: datetime.timedelta | int | None = None,
        tie_break: str | None = None,
        project: str | Sequence[str] | None = None,
        cache: Cache = "use",
        refresh: Refresh = "no",
        progress: ProgressOption = None,
    ) -> "ResultTable":
        """Join each row of `spine` with the row of `facts` that was known at its time: its own
        columns, then those of the fact. Every row of the spine stays, in its order.

        Both are a table, source or SQL. `by`: columns that must be equal, common names or (spine,
        facts) pairs. `direction`: the last fact until the spine's time ("backward"), the first one
        from it on ("forward"), or the nearest (of two equally near the earlier); an "exclusive"
        boundary leaves out a fact of that very time. `tolerance`: the greatest distance, a
        timedelta for times, an integer for integers. Of several facts of one time the one with the
        greatest `tie_break` counts. `project`: the columns of the facts, by default all but `by`;
        one with the name of a spine column becomes `<name>_facts`. NULL in a time or in `by`
        matches nothing.

        Raises AmbiguousMatch (a ValueError) for facts of one time that nothing distinguishes,
        SchemaMismatch for times or `by` of types that do not compare (floats are no times; with and
        without a zone do not mix), InvalidArgument, TableNotFound, DependencyCycle.
        """
        recipe = AsofJoin(
            spine,
            facts,
            spine_time=spine_time,
            facts_time=facts_time,
            by=by,
            direction=direction,
            boundary=boundary,
            tolerance=tolerance,
            tie_break=tie_break,
            project=project,
        )
        return self.materialize(name, recipe, cache=cache, refresh=refresh, progress=progress)

    # -- vectors
    # ----------------------------------------------------------------------------------------------

    def search(
        self,
        table: "str | ResultTable",
        query: Any = None,
        *,
        row: Any = None,
        k: int = 10,
        where: str | None = None,
        params: Mapping[str, Any] | None = None,
        select: str | Sequence[str] | None = None,
        exact: bool | None = None,
        words: "str | ResultTable | None" = None,
    ) -> "Result":
        """The `k` rows most similar to a text, a vector or a row of the table: key, rank (from 1),
        similarity, `select`ed columns of the source, source_missing. Ties are in ascending key
        order.

        Of a lexical table: the `k` rows that match the words of a text best, with `score` (BM25)
        instead of similarity; rows without any of the words are no hits. With `words`, a lexical
        table of the same keys: the best rows by meaning and words, with similarity and score, and
        their ranks on each side (`rank_meaning`, `rank_words`; NULL far down).

        Several texts or a matrix make one answer with a column `query` first. `where`: SQL over the
        source's columns as they are now, and `key`; `params` are its `$name` values. A source's
        name stands for the one table that can be searched so and was made from it; AmbiguousMatch
        lists them where there are several. `exact=None`
        reads all vectors where that is fast (up to `vectors.exact_max_rows`, 20,000) or the index
        would be no help, and uses the index elsewhere; True always reads all; False always uses the
        index, which is built first when it is missing. Similarities are exact either way. Raises
        TableNotFound, RowNotFound, ModelNotFound, SchemaMismatch, InvalidArgument, and what binding
        `where` raises.
        """
        return self._services.searches.search(
            table,
            query,
            words,
            row=row,
            k=k,
            where=where,
            params=params,
            select=list_of_names(select),
            exact=exact,
        )

    def recording(self, name: str) -> "AbstractContextManager[Recording]":
        """Record what `ws.search` finds within the block, in this thread or task; the searches of
        an earlier recording of that name stay. A search in SQL is part of a statement and is not
        recorded: materialize it, and its verdict tells whether it still holds. NameInvalid,
        WorkspaceReadOnly."""
        with load_modules():
            from jammi_lab.workspace.search_recordings import open_recording

        return open_recording(name, self._services.searches)

    @property
    def recordings(self) -> "Recordings":
        """The recordings of searches, by name."""
        with load_modules():
            from jammi_lab.workspace.search_recordings import Recordings

        return Recordings(self._services.searches)

    def encode(self, model: Any, texts: str | Sequence[str]) -> "NDArray[np.float32]":
        """The vectors of texts, float32 (texts, dimensions); nothing is stored. `model`: as in
        `embed`. ModelNotFound, SchemaMismatch (with the encoder's exception as its cause),
        InvalidArgument."""
        return self._services.search.encode(model, texts)

    def vector(self, table: "str | ResultTable", key: Any) -> "NDArray[np.float32]":
        """The stored vector of one row, float32. TableNotFound; RowNotFound (a KeyError)."""
        found = self.table(table)
        found._note_read()
        return self._services.search.vector(found._record, key)

    def neighbors(
        self,
        table: "str | ResultTable",
        key: Any = None,
        *,
        k: int = 10,
        select: str | Sequence[str] | None = None,
    ) -> "Neighbors":
        """The `k` rows most similar to the row with that key, as table and picture; without a key
        those of the first row.

        A text stands for a key of the table's own type, as `'17'` does in SQL. `select`: columns of
        the source to show. Raises as `search`.
        """
        return self._services.views.neighbors(table, key, k, list_of_names(select))

    def vector_map(
        self,
        table: "str | ResultTable",
        method: Literal["pca", "tsne"] | None = None,
        *,
        progress: ProgressOption = None,
    ) -> "VectorMap":
        """An embedding table as a map: each row is a point, placed by the first two principal
        components of the vectors.

        With a `method` the points are stored in the table `<table>_<method>`, as by `projection`; a
        perplexity and seed that it was made with before are kept. A table of kind projection is
        shown as it is. Raises TableNotFound; SchemaMismatch for a table without vectors;
        InvalidArgument when that name is another recipe's; and what `projection` raises.
        """
        return self._services.views.vector_map(table, method, progress)

    def evaluate(
        self,
        table: "str | ResultTable",
        golden: Any,
        *,
        k: int = 10,
        exact: bool | None = None,
        record: bool = True,
        words: "str | ResultTable | None" = None,
        as_table: str | None = None,
    ) -> "Metrics":
        """Score the retrieval quality of a table against judgements; with `words`, a lexical table,
        that of the search by both.

        `golden`: a frame or a list of dicts with `query` (all texts, or all vectors) or `row` (a
        key of the table, which is left out of its own hits), `key`, and optionally `relevance` (a
        number from 0; default 1); or a list of (query, key) or (query, key, relevance). A key
        without a judgement counts as not relevant. `exact` as in `search`. `as_table` keeps the
        scores as a recipe of that name, which becomes stale when a table that it searches does; its
        searches are exact. Scores by meaning are recorded for the model that made the vectors,
        unless `record=False`, the model is not registered here or the workspace is read-only.
        Raises as `search`, as `materialize`, and InvalidArgument for malformed judgements and a
        judgement of a row about itself.
        """
        evaluation = self._services.evaluation
        return evaluation.evaluate(
            table, golden, k=k, exact=exact, record=record, words=words, as_table=as_table
        )

    # -- verdicts, plans, lineage
    # ----------------------------------------------------------------------------------------------

    def verify(
        self,
        name: "str | ResultTable",
        expected: str | None = None,
        *,
        recompute: bool = False,
        progress: ProgressOption = None,
    ) -> Verification:
        """Compare bytes, manifest and (when given) definition hash with what was recorded. With
        `recompute`, also compute a statement in full over the recorded inputs, and compare the
        bytes. TableNotFound; ManifestUnsupported; NotRecomputable."""
        table = self._services.tables.find(name)
        return table.verify(expected, recompute=recompute, progress=progress)

    def staleness(self, name: "str | ResultTable", *, progress: ProgressOption = None) -> Verdict:
        """The verdict on a recipe's newest version, a physical table or a ResultTable, from a deep
        observation of its inputs. TableNotFound; DependencyCycle."""
        return self._services.tables.staleness(name, progress)

    def why(self, name: "str | ResultTable", *, progress: ProgressOption = None) -> "Why":
        """The verdict with the tree of its reasons: old and new state, by which method each was
        compared, when it was observed. TableNotFound; DependencyCycle."""
        subject = self._services.lookup.verdict_subject(name)
        return self._services.freshness.why(*subject, self._services.progress.callback(progress))

    def status(self, *, deep: bool = False, progress: ProgressOption = None) -> "Status":
        """Every recipe with its verdict, from one observation of all inputs. A shallow one leaves
        expensive inputs undecided and reports so. DependencyCycle."""
        return self._services.recomputation.status(deep=deep, progress=progress)

    def plan(
        self, names: str | Iterable[str] | None = None, *, progress: ProgressOption = None
    ) -> "Plan":
        """What must be recomputed to bring these recipes (or all) up to date; runs nothing.
        TableNotFound; DependencyCycle."""
        return self._services.recomputation.plan(names, progress)

    def recompute(
        self, names: str | Iterable[str] | None = None, *, progress: ProgressOption = None
    ) -> "RunReport":
        """Plan and apply for some recipes and what they need, or for everything. Raises as `plan`;
        NotRecomputable for rows that were computed elsewhere."""
        return self._services.recomputation.recompute(names, progress)

    def what_if(
        self, changed: str | Iterable[str] = (), redefine: Mapping[str, str] | None = None
    ) -> "Status":
        """The status as it would be if these sources, tables or recipes changed, or recipes had
        these statements. Writes nothing.

        A redefined recipe keeps its key and its bound values. TableNotFound, with near names;
        DependencyCycle; InvalidArgument; SqlError.
        """
        return self._services.freshness.what_if(changed, redefine or {})

    def lineage(
        self,
        name: "str | ResultTable | None" = None,
        *,
        direction: Literal["both", "up", "down"] = "both",
        depth: int | None = None,
        columns: bool = False,
    ) -> "Lineage":
        """The graph around a recipe, table or source, or all of it; with `columns` by column, too.
        TableNotFound; InvalidArgument."""
        return self._services.tables.lineage(name, direction, depth, columns=columns)

    def derives_from(self, name: "str | ResultTable") -> list[Edge]:
        """The edges to the tables that read `name` directly. TableNotFound."""
        return self.lineage(name, direction="down", depth=1).edges

    def derives_from_closure(self, name: "str | ResultTable") -> list[Edge]:
        """The edges to everything that derives from `name`. TableNotFound."""
        return self.lineage(name, direction="down").edges

    def export_openlineage(
        self, target: str | os.PathLike[str], *, namespace: str = "jammi_lab"
    ) -> int:
        """Write every run of the visible tables as OpenLineage events to a file, one JSON object a
        line. Returns their number. ExtensionMissing; SourceUnavailable; InvalidArgument.
        """
        return self._services.run_events.export(target, namespace)

    # -- maintenance
    # ----------------------------------------------------------------------------------------------

    @property
    def recovery(self) -> RecoveryReport:
        """The recovery report of opening the workspace; while a tenant is bound, of its own and the
        shared tables."""
        return self._services.maintenance.recovery_at_open()

    def relocate(self, old: str | os.PathLike[str], new: str | os.PathLike[str]) -> list[str]:
        """Tell the workspace that the files at or below the path `old` are now at `new`. Returns
        the names of the sources that follow; tables stay fresh when the content is the same.
        Of quoted paths in statements those change that a copy takes from its original.
        InvalidArgument."""
        return relocation.relocate(self._services, old, new)

    def recover(self, *, progress: ProgressOption = None) -> RecoveryReport:
        """Repair what terminated writers left and check every ready table. Idempotent. It covers
        the tables of all tenants; a bound tenant's report has its own and the shared ones."""
        return self._services.maintenance.recover(progress)

    def expire(self, name: str, keep: int = 1) -> list[str]:
        """Remove old versions of a recipe: all but the `keep` newest, pinned ones, and those that
        the newest version of some recipe is anchored on.

        Returns the physical names that were removed. Raises TableNotFound, InvalidArgument,
        TenantForbidden.
        """
        return self._services.maintenance.expire(name, keep)

    def fsck(
        self,
        *,
        repair: bool = False,
        deep: bool = False,
        grace: float | datetime.timedelta = 3600,
        progress: ProgressOption = None,
    ) -> "FsckReport":
        """Check that the catalog matches the files, both ways; `deep` reads all bytes again.
        Without `repair` nothing is changed.

        A repair restores lost manifests from the catalog's copy, repairs what terminated kernels
        left, and removes orphaned files older than `grace` seconds, files in quarantine for 30 days
        and checkpoints older than 7 days. It covers the files of all tenants; a bound tenant's
        report has its own and the shared ones. InvalidArgument; WorkspaceReadOnly for a repair.
        """
        maintenance = self._services.maintenance
        return maintenance.fsck(repair=repair, deep=deep, grace=grace, progress=progress)

    def check(self, names: str | Iterable[str] | None = None) -> "CheckResults":
        """Run the checks that are due on the newest versions: all, or those named by check or by
        table. A result stays while the columns that the check reads are equal; then no statement is
        run. TableNotFound; WorkspaceReadOnly when one must be run."""
        return self._services.check_service.run(None if names is None else list_of_names(names))

    def find_value(self, number: "float | Decimal | str") -> "FoundValues":
        """Where a number stands in the result tables, newest versions first: each
        `jl.ValueLocation` with table, version, row, column and value. It may be rounded, as in
        0.364, or a text as people write it, as in '36.4 %' or '1.2 million'. InvalidArgument."""
        return self._services.prose.find_value(number)

    def backup(self, path: str | os.PathLike[str]) -> Path:
        """Copy the catalog, without tables of sessions, to one SQLite file, as of one moment while
        others may write; result files stay. Returns the path.

        An earlier backup under that name is replaced, and no other file. InvalidArgument,
        ResourceExhausted; TenantForbidden while a tenant is bound.
        """
        return self._services.maintenance.backup(path)


def workspace_of(result: "Result") -> "Workspace":
    """The open workspace whose statement gave a result. InvalidArgument when it is closed."""
    workspace = next((ws for ws in _open if ws._services.badges is result._badges), None)
    if workspace is None:
        raise InvalidArgument(
            "The workspace of this result is closed.", hint="Open it and run the statement again."
        )
    return workspace

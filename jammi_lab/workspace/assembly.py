"""The composition root: builds the services of one workspace."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jammi_lab.core.clock import Clock
from jammi_lab.core.records import (
    RecoveryReport,
)
from jammi_lab.core.settings import Settings
from jammi_lab.core.tenancy import TenantScope
from jammi_lab.freshness.catalog_relations import CatalogRelations
from jammi_lab.freshness.queries import FreshnessQueries
from jammi_lab.inputs.path_names import PathResolver
from jammi_lab.inputs.source_names import JAMMI, ResultTableResolver
from jammi_lab.live.mutable_handles import MutableTables
from jammi_lab.producers.recompute_check import verify_by_recomputation
from jammi_lab.search.search import SearchService
from jammi_lab.search.source_rows import SearchContext
from jammi_lab.search.sql_functions import SearchFunctions
from jammi_lab.search.word_search import WordSearch
from jammi_lab.storage.files import StoragePath
from jammi_lab.storage.space_reserve import SpaceReserve
from jammi_lab.workspace.arguments import ProgressReporter, check_writable
from jammi_lab.workspace.badge import BadgeService
from jammi_lab.workspace.checks import CheckContext, Checks, CheckService
from jammi_lab.workspace.infrastructure import Infrastructure, build_infrastructure
from jammi_lab.workspace.lookup import TableLookup
from jammi_lab.workspace.maintenance import Maintenance, Recomputation
from jammi_lab.workspace.materialize import JobFactory, Materializer
from jammi_lab.workspace.model_lookup import ModelEncoders
from jammi_lab.workspace.models import Models
from jammi_lab.workspace.recordings import Searches
from jammi_lab.workspace.result_table import TableHandles, TableService
from jammi_lab.workspace.retrieval_evaluation import RetrievalEvaluator
from jammi_lab.workspace.sources import SourceContext, Sources
from jammi_lab.workspace.stamps import StampMaker
from jammi_lab.workspace.statements import StatementRunner
from jammi_lab.workspace.vector_views import VectorViews

if TYPE_CHECKING:
    from jammi_lab.engine.name_resolution import TableFunctionResolver

    # As in `sources/registry.py`: `isinstance` asks for this protocol.
    _TABLE_FUNCTION_RESOLVERS: tuple[type[TableFunctionResolver], ...] = (
        PathResolver,
        ResultTableResolver,
        SearchFunctions,
    )


@dataclass(frozen=True, kw_only=True)
class Services(Infrastructure):
    """The services that a Workspace calls."""

    path: str
    """The folder as passed by the caller, or the URL without credentials."""
    sources: Sources
    models: Models
    checks: Checks
    check_service: CheckService
    mutable_tables: MutableTables
    progress: ProgressReporter
    badges: BadgeService
    lookup: TableLookup
    statements: StatementRunner
    freshness: FreshnessQueries
    tables: TableService
    handles: TableHandles
    search: SearchService
    materializer: Materializer
    maintenance: Maintenance
    recomputation: Recomputation
    views: VectorViews
    evaluation: RetrievalEvaluator
    searches: Searches

    def file_identity(self) -> tuple[int, int] | None:
        """The device and inode of a local workspace's catalog (of its folder when the catalog is a
        server), which change when it is replaced. None when the files are missing or remote."""
        if not isinstance(self.folder, Path):
            return None
        on_server = self.settings["catalog.url"]
        try:
            status = (self.folder if on_server else self.folder / "catalog.sqlite3").stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino


def build_services(
    folder: StoragePath,
    *,
    display_path: str,
    scope: TenantScope,
    settings: Settings,
    clock: Clock,
    read_only: bool,
    create: bool,
    executor: Any = None,
) -> Services:
    """Open the workspace in a folder, run recovery, and build its services. Raises what opening
    the catalog raises."""
    open_once = functools.partial(
        _open_services,
        folder,
        display_path=display_path,
        scope=scope,
        settings=settings,
        clock=clock,
        read_only=read_only,
        create=create,
        executor=executor,
    )
    if read_only:
        return open_once()
    reserve = SpaceReserve(folder)
    services = reserve.run(open_once)
    reserve.fill()
    return services


def _open_services(
    folder: StoragePath,
    *,
    display_path: str,
    scope: TenantScope,
    settings: Settings,
    clock: Clock,
    read_only: bool,
    create: bool,
    executor: Any,
) -> Services:
    parts = build_infrastructure(
        folder,
        scope=scope,
        settings=settings,
        clock=clock,
        read_only=read_only,
        create=create,
        executor=executor,
    )
    try:
        recovery_at_open = RecoveryReport() if read_only else parts.recover(ready_too=False)
        services = _add_services(parts, display_path, recovery_at_open)
        if not read_only:
            parts.sessions.watch()
        return services
    except BaseException:
        parts.close(clean=False)
        raise


def _add_services(
    parts: Infrastructure, display_path: str, recovery_at_open: RecoveryReport
) -> Services:
    """Build the services over the parts of an open workspace."""
    catalog, scope, engine = parts.catalog, parts.scope, parts.engine
    check = functools.partial(check_writable, read_only=catalog.read_only)
    sources, models = _sources_and_models(parts, parts.local_folder)
    freshness = _freshness_queries(parts, parts.local_folder)
    progress = ProgressReporter()
    badges = _badge_service(parts, freshness)
    lookup = TableLookup(catalog, scope, parts.retention)
    statements = StatementRunner(
        engine,
        scope,
        parts.dml_committer,
        parts.frames,
        badges,
        progress,
        parts.removal.try_remove_pending,
    )
    checks = CheckService(context := _check_context(parts, lookup, statements, check))
    tables = _table_service(parts, lookup, statements, freshness, progress, checks, check)
    handles, search = TableHandles(tables), _search_service(parts, tables, statements)
    materializer, recomputation = _recipe_services(
        parts, lookup, freshness, progress, checks, check
    )
    engine.register(_search_functions(parts, search, lookup))
    engine.register(_catalog_relations(parts, recomputation, checks))
    parts.producers.python.open_input = statements.step_input
    return Services(
        **vars(parts),
        path=display_path,
        checks=Checks(context),
        check_service=checks,
        sources=sources,
        models=models,
        mutable_tables=MutableTables(parts.mutable, engine, catalog.scope, parts.dml_committer),
        progress=progress,
        badges=badges,
        lookup=lookup,
        statements=statements,
        freshness=freshness,
        tables=tables,
        handles=handles,
        search=search,
        materializer=materializer,
        maintenance=_maintenance(parts, lookup, progress, recovery_at_open, check),
        recomputation=recomputation,
        views=VectorViews(
            search, statements, handles, materializer, parts.producers, catalog, badges, lookup
        ),
        searches=Searches(search, lookup, statements, parts.topics, badges),
        evaluation=RetrievalEvaluator(search, handles, models, materializer, lookup),
    )


def _badge_service(parts: Infrastructure, freshness: FreshnessQueries) -> BadgeService:
    stamps = StampMaker(parts.catalog.metadata.workspace_id, parts.clock.now_ns, parts.observe)
    return BadgeService(freshness.current_verdicts, lambda: parts.scope.current, stamps)


def _check_context(
    parts: Infrastructure,
    lookup: TableLookup,
    statements: StatementRunner,
    check: Callable[[], None],
) -> CheckContext:
    return CheckContext(
        parts.catalog,
        parts.scope,
        parts.engine,
        parts.results,
        parts.check_runner,
        lookup,
        statements,
        parts.observe,
        check,
    )


def _catalog_relations(
    parts: Infrastructure, recomputation: Recomputation, checks: CheckService
) -> CatalogRelations:
    """`jammi_catalog.*`."""
    relations = CatalogRelations(
        parts.catalog, parts.scope, recomputation.status, parts.column_lineage
    )
    relations.set_rows("checks", checks.catalog_rows)
    return relations


def _table_service(
    parts: Infrastructure,
    lookup: TableLookup,
    statements: StatementRunner,
    freshness: FreshnessQueries,
    progress: ProgressReporter,
    checks: CheckService,
    check: Callable[[], None],
) -> TableService:
    return TableService(
        parts.catalog,
        parts.results,
        lookup,
        statements,
        freshness,
        parts.retention,
        parts.removal,
        progress,
        parts.check_runner.audit,
        checks.of_version,
        check,
        functools.partial(verify_by_recomputation, parts.producer_context, parts.producers),
    )


def _freshness_queries(parts: Infrastructure, local: Path | None) -> FreshnessQueries:
    return FreshnessQueries(
        parts.evaluator,
        parts.catalog,
        parts.observe,
        parts.scope,
        parts.clock,
        parts.column_lineage,
        local,
    )


def _recipe_services(
    parts: Infrastructure,
    lookup: TableLookup,
    freshness: FreshnessQueries,
    progress: ProgressReporter,
    checks: CheckService,
    check: Callable[[], None],
) -> tuple[Materializer, Recomputation]:
    """The services that run single recipes and plans."""
    catalog, producers = parts.catalog, parts.producers
    materializer = Materializer(
        JobFactory(producers, lookup, parts.frames),
        producers,
        parts.producer_context,
        catalog,
        parts.observe,
        lookup,
        freshness,
        progress,
        check,
    )
    recomputation = Recomputation(
        freshness,
        lookup,
        catalog,
        producers,
        parts.results,
        progress,
        checks.run_steps,
        check,
    )
    return materializer, recomputation


def _sources_and_models(parts: Infrastructure, local: Path | None) -> tuple[Sources, Models]:
    """`ws.sources` and `ws.models`."""
    sources = Sources(
        SourceContext(
            parts.catalog,
            parts.scope,
            parts.settings,
            parts.clock,
            parts.engine,
            parts.source_directory,
            parts.observation_cache,
            parts.observe,
            parts.retention,
        ),
        local,
    )
    # Model files stay on this machine, also for a workspace at a URL.
    folder = local or Path("/")
    encoders = ModelEncoders(parts.catalog, folder)
    parts.producers.encoders = encoders
    return sources, Models(parts.catalog, parts.scope, parts.clock, folder, encoders)


def _search_service(
    parts: Infrastructure, tables: TableService, statements: StatementRunner
) -> SearchService:
    context = SearchContext(
        scope=parts.scope,
        engine=parts.engine,
        tables=parts.catalog.result_tables,
        observe=parts.observe,
        source_address=parts.producers.embedding.from_text,
        manifest=tables.read_manifest,
        start=statements.start,
    )
    words = WordSearch(context, parts.words)
    return SearchService(context, parts.vectors, words, parts.producers, parts.settings)


def _search_functions(
    parts: Infrastructure, search: SearchService, lookup: TableLookup
) -> SearchFunctions:
    relations = ResultTableResolver(parts.catalog, parts.results)
    return SearchFunctions(
        search, lambda name: lookup.find(name).record, lambda name: relations.resolve((JAMMI, name))
    )


def _maintenance(
    parts: Infrastructure,
    lookup: TableLookup,
    progress: ProgressReporter,
    recovery_at_open: RecoveryReport,
    check: Callable[[], None],
) -> Maintenance:
    return Maintenance(
        parts.catalog,
        parts.results,
        parts.scope,
        parts.observation_cache,
        parts.fsck,
        parts.retention,
        parts.removal,
        lookup,
        progress,
        lambda on_progress: parts.recover(ready_too=True, on_progress=on_progress),
        recovery_at_open,
        check,
    )

"""The composition root: builds the services of one workspace."""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jammi_lab.core.clock import Clock
from jammi_lab.core.recovery_report import RecoveryReport
from jammi_lab.core.settings import Settings
from jammi_lab.core.tenancy import TenantScope
from jammi_lab.freshness.catalog_relations import CatalogRelations
from jammi_lab.freshness.queries import FreshnessQueries
from jammi_lab.inputs.path_names import PathResolver
from jammi_lab.inputs.source_names import JAMMI, ResultTableResolver
from jammi_lab.live.mutable_handles import MutableTables
from jammi_lab.search.context import SearchContext
from jammi_lab.search.search import SearchService
from jammi_lab.search.sql_functions import SearchFunctions
from jammi_lab.search.word_search import WordSearch
from jammi_lab.storage.files import StoragePath
from jammi_lab.storage.space_reserve import SpaceReserve
from jammi_lab.workspace.arguments import ProgressReporter
from jammi_lab.workspace.badge import BadgeService
from jammi_lab.workspace.checks import CheckContext, Checks, CheckService
from jammi_lab.workspace.infrastructure import Infrastructure, build_infrastructure
from jammi_lab.workspace.lookup import TableLookup
from jammi_lab.workspace.maintenance import Maintenance, Recomputation
from jammi_lab.workspace.materialize import Materializer
from jammi_lab.workspace.model_lookup import ModelEncoders
from jammi_lab.workspace.models import Models
from jammi_lab.workspace.result_table import TableHandles, TableService
from jammi_lab.workspace.retrieval_evaluation import RetrievalEvaluator
from jammi_lab.workspace.searches import Searches
from jammi_lab.workspace.sources import Sources
from jammi_lab.workspace.stamps import StampMaker
from jammi_lab.workspace.statement_runner import StatementRunner
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
    catalog, engine = parts.catalog, parts.engine
    models = _models(parts)
    freshness = FreshnessQueries(
        parts.evaluator,
        catalog,
        parts.observe,
        parts.scope,
        parts.clock,
        parts.column_lineage,
        parts.local_folder,
    )
    progress, badges = ProgressReporter(), _badge_service(parts, freshness)
    lookup = TableLookup(catalog, parts.scope, parts.retention)
    statements = StatementRunner(parts, badges, progress)
    checks = CheckService(context := _check_context(parts, lookup, statements))
    tables = TableService(parts, lookup, statements, freshness, progress, checks.of_version)
    handles, search = TableHandles(tables), _search_service(parts, tables, statements)
    materializer = Materializer(parts, lookup, freshness, progress)
    recomputation = Recomputation(parts, freshness, lookup, progress, checks.run_steps)
    engine.register(_search_functions(parts, search, lookup))
    engine.register(_catalog_relations(parts, recomputation, checks))
    parts.producers.python.open_input = statements.step_input
    return Services(
        **vars(parts),
        path=display_path,
        checks=Checks(context),
        check_service=checks,
        sources=Sources(parts),
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
        maintenance=Maintenance(parts, lookup, progress, recovery_at_open),
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
    parts: Infrastructure, lookup: TableLookup, statements: StatementRunner
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
        parts.check_writable,
    )


def _catalog_relations(
    parts: Infrastructure, recomputation: Recomputation, checks: CheckService
) -> CatalogRelations:
    """`jammi_catalog.*`."""
    relations = CatalogRelations(
        parts.catalog, parts.scope, recomputation.status_of, parts.column_lineage
    )
    relations.set_rows("checks", checks.catalog_rows)
    return relations


def _models(parts: Infrastructure) -> Models:
    """`ws.models`."""
    # Model files stay on this machine, also for a workspace at a URL.
    folder = parts.local_folder or Path("/")
    encoders = ModelEncoders(parts.catalog, folder)
    parts.producers.encoders = encoders
    return Models(parts.catalog, parts.scope, parts.clock, folder, encoders)


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

"""The composition root: builds the services of one workspace."""

import contextlib
import functools
import secrets
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.core.anchors import InputKind
from jammi_lab.core.clock import Clock
from jammi_lab.core.errors import (
    ResourceExhausted,
    SourceUnavailable,
    VersionConflict,
    WorkspaceNotFound,
)
from jammi_lab.core.records import (
    MutableRecord,
    OnProgress,
    RecoveryReport,
    TableRecord,
    TableStatus,
)
from jammi_lab.core.settings import Settings
from jammi_lab.core.tenancy import TenantScope
from jammi_lab.core.version import __version__
from jammi_lab.engine.engine import Engine
from jammi_lab.engine.sql import foreign_views
from jammi_lab.freshness.catalog_relations import CatalogRelations
from jammi_lab.freshness.check_verdicts import CheckJudge
from jammi_lab.freshness.plan import FreshnessService
from jammi_lab.freshness.queries import FreshnessQueries
from jammi_lab.freshness.table_column_lineage import ColumnLineage
from jammi_lab.inputs.last_seen import LastObservations
from jammi_lab.inputs.mutable_names import MutableTableResolver
from jammi_lab.inputs.observation import Observation
from jammi_lab.inputs.observers import Observers
from jammi_lab.inputs.path_names import PathResolver
from jammi_lab.inputs.source_names import JAMMI, FrameResolver, ResultTableResolver, SourceResolver
from jammi_lab.inputs.topic_names import TopicResolver
from jammi_lab.live.dml_commits import DmlCommitter
from jammi_lab.live.ephemeral_sessions import EphemeralSessions
from jammi_lab.live.mutable_handles import MutableTables
from jammi_lab.live.mutable_tables import MutableTableService
from jammi_lab.live.topics import Topics
from jammi_lab.producers.build import ProducerContext
from jammi_lab.producers.checks import CheckRunner
from jammi_lab.producers.registry import Producers
from jammi_lab.producers.single_flight import SingleFlight
from jammi_lab.search.search import SearchService
from jammi_lab.search.source_rows import SearchContext
from jammi_lab.search.sql_functions import SearchFunctions
from jammi_lab.search.word_search import WordSearch
from jammi_lab.sources.databases import duckdb as duckdb_files
from jammi_lab.storage.files import StoragePath
from jammi_lab.storage.space_reserve import SpaceReserve
from jammi_lab.store.fsck import Fsck
from jammi_lab.store.publish import Publisher
from jammi_lab.store.recovery import Recovery
from jammi_lab.store.removal import Removal
from jammi_lab.store.result_files import ResultFiles
from jammi_lab.store.retention import VersionRetention
from jammi_lab.store.storage_errors import translate_storage_errors
from jammi_lab.store.workspace_identity import bind_workspace, catalog_required
from jammi_lab.vectors.encoders.executor import Executor, to_executor
from jammi_lab.vectors.index.indexes import Indexes
from jammi_lab.words.word_tables import WordTables
from jammi_lab.workspace.arguments import check_writable
from jammi_lab.workspace.badge import BadgeService
from jammi_lab.workspace.base_services import (
    Foundation,
    build_foundation,
    build_observers,
    observation_factory,
)
from jammi_lab.workspace.checks import CheckContext, Checks, CheckService
from jammi_lab.workspace.lookup import TableLookup
from jammi_lab.workspace.maintenance import Maintenance, Recomputation
from jammi_lab.workspace.materialize import Materializer
from jammi_lab.workspace.model_lookup import ModelEncoders
from jammi_lab.workspace.models import Models
from jammi_lab.workspace.progress import ProgressReporter
from jammi_lab.workspace.recipe_jobs import JobFactory
from jammi_lab.workspace.recordings import Searches
from jammi_lab.workspace.result_table import TableHandles
from jammi_lab.workspace.retrieval_evaluation import RetrievalEvaluator
from jammi_lab.workspace.sources import SourceContext, Sources
from jammi_lab.workspace.stamps import StampMaker
from jammi_lab.workspace.statements import StatementRunner
from jammi_lab.workspace.table_service import TableService
from jammi_lab.workspace.vector_views import VectorViews

if TYPE_CHECKING:
    from jammi_lab.engine.name_resolution import TableFunctionResolver

    # As in `sources/registry.py`: `isinstance` asks for this protocol.
    _TABLE_FUNCTION_RESOLVERS: tuple[type[TableFunctionResolver], ...] = (
        PathResolver,
        ResultTableResolver,
        SearchFunctions,
    )

RUN_ID = secrets.token_hex(16)
"""The run id recorded in manifests; one per process."""


@dataclass(frozen=True, kw_only=True)
class Infrastructure(Foundation):
    """The parts of one open workspace below its services."""

    frames: FrameResolver
    recovery: Recovery
    removal: Removal
    retention: VersionRetention
    fsck: Fsck
    producer_context: ProducerContext
    producers: Producers
    check_runner: CheckRunner
    vectors: Indexes
    words: WordTables
    evaluator: FreshnessService
    column_lineage: ColumnLineage
    observe: Callable[[bool], Observation]
    """Begins an observation of inputs; True makes it a deep one."""
    writer_id: str
    executor: Executor
    topics: Topics
    sessions: EphemeralSessions
    mutable: MutableTableService
    dml_committer: DmlCommitter

    def recover(self, *, ready_too: bool, on_progress: OnProgress | None = None) -> RecoveryReport:
        """Repair what terminated writers left; with `ready_too` also check every ready table."""
        self.producer_context.publisher.retry_cleanup()
        self.removal.try_remove_pending()
        report = self.recovery.run(ready_too=ready_too, on_progress=on_progress)
        self.retention.expire_rejected(self.clock)
        if self.sessions.sweep():
            self.engine.clear_spills()  # they may hold values of those sessions
        self.observation_cache.flush()
        return report

    def close(self, *, clean: bool) -> None:
        """Release all resources; `clean` also retires the writer and records the state of the
        results folders."""
        context = self.producer_context
        # The stack runs every step even if one fails, the last one pushed first.
        with contextlib.ExitStack() as steps:
            if clean and not self.catalog.read_only:
                steps.callback(SpaceReserve(self.folder).fill)  # closing freed the catalog's log
            for step in (self.catalog.close, self.executor.close):
                steps.callback(step)
            if clean:
                steps.callback(self._retire_writer)
            for step in (
                context.single_flight.close,
                self.removal.try_remove_pending,
                self._fail_unfinished,
                self.engine.close,
                self.topics.close,
                self.sessions.close_all,
                self.vectors.close,
                self.words.close,
                context.single_flight.stop,
                context.publisher.stop,
            ):
                steps.callback(step)

    def _fail_unfinished(self) -> None:
        """Wait, while the catalog is still open, until the builds of other threads have failed."""
        context = self.producer_context
        context.publisher.wait_idle(context.single_flight.active_definitions())

    def _retire_writer(self) -> None:
        # A writer that leaves unfinished work stays registered, so that the next open recovers it.
        # The same holds on a full disk or when the catalog is gone.
        with contextlib.suppress(
            ResourceExhausted, VersionConflict, SourceUnavailable, WorkspaceNotFound
        ):
            if self.producer_context.publisher.retry_cleanup():
                self.observation_cache.flush()
                self.recovery.record_folder_times()
                self.catalog.writers.retire(self.writer_id)


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
    parts = _build_infrastructure(
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


def _build_infrastructure(
    folder: StoragePath,
    *,
    scope: TenantScope,
    settings: Settings,
    clock: Clock,
    read_only: bool,
    create: bool,
    executor: Any = None,
) -> Infrastructure:
    """Open the catalog and build the parts of the workspace in a folder. Raises what opening the
    catalog raises."""
    with translate_storage_errors(str(folder)), contextlib.ExitStack() as undo:
        encoder_executor = to_executor(executor)
        undo.callback(encoder_executor.close)
        url = settings["catalog.url"]
        catalog = Catalog(
            url or _catalog_file(folder),
            scope=scope,
            clock=clock,
            read_only=read_only,
            create=create,
        )
        undo.callback(catalog.close)
        if url:
            settings.set(
                "catalog.url", catalog.label
            )  # from here on only the URL without the password is shown
            bind_workspace(catalog, folder, str(folder), clock.token(16))
        parts = _wire(
            folder,
            catalog,
            scope,
            settings,
            clock,
            "" if read_only else catalog.writers.register(),
            encoder_executor,
        )
        undo.pop_all()
        return parts


def _catalog_file(folder: StoragePath) -> Path:
    """The path of a file catalog: in the workspace's folder, or for `memory://`, which lives as
    long as this process, in a temporary folder."""
    if isinstance(folder, Path):
        return folder / "catalog.sqlite3"
    if folder.scheme != "memory":
        raise catalog_required(str(folder))
    temporary_folder = _memory_folders.get(str(folder)) or _memory_folders.setdefault(
        str(folder), tempfile.TemporaryDirectory(prefix="jammi-", ignore_cleanup_errors=True)
    )
    return Path(temporary_folder.name) / "catalog.sqlite3"


_memory_folders: dict[str, "tempfile.TemporaryDirectory[str]"] = {}


def _wire(
    folder: StoragePath,
    catalog: Catalog,
    scope: TenantScope,
    settings: Settings,
    clock: Clock,
    writer_id: str,
    executor: Executor,
) -> Infrastructure:
    """Connect the parts of a workspace over an open catalog."""
    base = build_foundation(folder, catalog, scope, settings, clock)
    engine, results, cache = base.engine, base.results, base.observation_cache
    observers = build_observers(base)
    topics = _topic_service(catalog, scope, engine, clock, observers)
    mutable = _mutable_table_service(catalog, scope, settings, engine, observers, folder)
    # Topics and mutable tables have added their observers by now; observations use all of them.
    observe = observation_factory(base, observers)
    _register_name_resolvers(
        engine,
        catalog,
        SourceResolver(catalog, base.source_directory, LastObservations(cache)),
        results,
        PathResolver(scope, base.local_folder),
    )
    frames = FrameResolver(base.source_directory)
    vectors, words = _indexes(catalog, results, settings)
    recovery = Recovery(catalog, results, clock)
    removal = Removal(catalog, results, writer_id, SpaceReserve(folder))
    checks = CheckRunner(catalog, engine, scope, clock, lambda: observe(True))
    mutable.check_rows = checks.check_rows
    context = _producer_context(base, observe, recovery, writer_id, checks)
    producers = Producers(engine, scope, [frames], catalog, results, executor, settings, vectors)
    return Infrastructure(
        **vars(base),
        frames=frames,
        recovery=recovery,
        removal=removal,
        retention=VersionRetention(catalog, scope, results, removal),
        fsck=Fsck(catalog, results, recovery, clock),
        producer_context=context,
        producers=producers,
        vectors=vectors,
        words=words,
        check_runner=checks,
        evaluator=FreshnessService(context, producers, CheckJudge(catalog, checks)),
        column_lineage=ColumnLineage(catalog, scope, engine, [frames], cache, clock),
        observe=observe,
        writer_id=writer_id,
        executor=executor,
        topics=topics,
        sessions=EphemeralSessions(catalog, scope, mutable, topics, clock, writer_id),
        mutable=mutable,
        dml_committer=DmlCommitter(mutable, catalog),
    )


def _producer_context(
    base: Foundation,
    observe: Callable[[bool], Observation],
    recovery: Recovery,
    writer_id: str,
    checks: CheckRunner,
) -> ProducerContext:
    """The parts of the workspace that producers use."""
    catalog, settings, clock = base.catalog, base.settings, base.clock
    return ProducerContext(
        catalog=catalog,
        scope=base.scope,
        engine=base.engine,
        publisher=Publisher(catalog, base.results, clock, writer_id, RUN_ID, __version__),
        results=base.results,
        settings=settings,
        clock=clock,
        observe=lambda: observe(True),
        single_flight=SingleFlight(
            catalog,
            clock,
            lambda: settings["flight.wait_seconds"],
            lambda: recovery.run(ready_too=False),
        ),
        audit=checks.audit,
    )


def _register_name_resolvers(
    engine: Engine,
    catalog: Catalog,
    sources: SourceResolver,
    results: ResultFiles,
    paths: PathResolver,
) -> None:
    """Register the resolvers of the names that FROM accepts for sources, results and paths."""
    duckdb_files.register_view_check(foreign_views.read_view)
    engine.register(sources)
    engine.register(ResultTableResolver(catalog, results))
    engine.register(paths)


def _mutable_table_service(
    catalog: Catalog,
    scope: TenantScope,
    settings: Settings,
    engine: Engine,
    observers: Observers,
    folder: StoragePath,
) -> MutableTableService:
    """The service of mutable tables, registered as SQL names and as inputs."""
    tables = MutableTableService(catalog, settings)

    def remove_checkpoints(record: MutableRecord) -> None:
        from jammi_lab.producers.checkpoint_removal import remove_checkpoints_of_table

        remove_checkpoints_of_table(folder, record.table_id)

    tables.on_drop = remove_checkpoints
    resolver = MutableTableResolver(tables, scope)
    engine.register(resolver)
    observers.add(InputKind.MUTABLE, resolver.observe)
    return tables


def _topic_service(
    catalog: Catalog, scope: TenantScope, engine: Engine, clock: Clock, observers: Observers
) -> Topics:
    """The topics, registered as SQL names and as inputs."""
    topics = Topics(catalog, scope, engine, clock)
    resolver = TopicResolver(topics)
    engine.register(resolver)
    observers.add(InputKind.TOPIC, resolver.observe)
    return topics


def _indexes(
    catalog: Catalog, results: ResultFiles, settings: Settings
) -> tuple[Indexes, WordTables]:
    """The indexes of vectors and of words, registered as sidecars of the result tables."""

    def earlier_versions(record: TableRecord) -> list[TableRecord]:
        versions = [
            r
            for v, r in catalog.result_tables.versions(record.recipe)
            if r.tenant == record.tenant and r.created_at < record.created_at
        ]
        return [r for r in versions if r.status is TableStatus.READY]

    def is_still_ready(record: TableRecord) -> bool:
        with catalog.all_tenants():
            current = catalog.result_tables.get(record.table_name)
        return current is not None and current.status is TableStatus.READY

    build_locks, read_only = catalog.writers, catalog.read_only
    indexes = Indexes(
        results,
        catalog.metadata,
        settings,
        read_only=read_only,
        earlier_versions=earlier_versions,
        is_still_ready=is_still_ready,
        build_locks=build_locks,
    )
    words = WordTables(results, read_only=read_only, is_still_ready=is_still_ready)
    results.sidecars.register(indexes)
    results.sidecars.register(words)
    return indexes, words

"""The parts of one open workspace below its services, and how they are built: catalog, engine,
results and sources first, then the observers of inputs and the producers."""

import contextlib
import secrets
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.core.anchors import Input, InputKind
from jammi_lab.core.clock import Clock
from jammi_lab.core.errors import (
    ResourceExhausted,
    SourceUnavailable,
    VersionConflict,
    WorkspaceNotFound,
    WorkspaceReadOnly,
)
from jammi_lab.core.records import (
    MutableRecord,
    OnProgress,
    TableRecord,
    TableStatus,
)
from jammi_lab.core.recovery_report import RecoveryReport
from jammi_lab.core.settings import Settings
from jammi_lab.core.tenancy import TenantScope
from jammi_lab.core.version import __version__
from jammi_lab.engine.engine import Engine, EngineSourceAccess
from jammi_lab.engine.sql import foreign_views
from jammi_lab.freshness.check_verdicts import CheckJudge
from jammi_lab.freshness.service import FreshnessService
from jammi_lab.freshness.table_column_lineage import ColumnLineage
from jammi_lab.inputs.live_names import MutableTableResolver, TopicResolver
from jammi_lab.inputs.observation import Observation
from jammi_lab.inputs.observation_cache import LastObservations, ObservationCache
from jammi_lab.inputs.observers import Observers
from jammi_lab.inputs.path_names import PathResolver
from jammi_lab.inputs.row_comparison import RowComparison
from jammi_lab.inputs.source_names import (
    FrameResolver,
    ResultTableResolver,
    SourceDirectory,
    SourceResolver,
)
from jammi_lab.live.dml_commits import DmlCommitter
from jammi_lab.live.ephemeral_sessions import EphemeralSessions
from jammi_lab.live.mutable_tables import MutableTableService
from jammi_lab.live.topics import Topics
from jammi_lab.producers.build import ProducerContext
from jammi_lab.producers.checks import CheckRunner
from jammi_lab.producers.registry import Producers
from jammi_lab.producers.single_flight import SingleFlight
from jammi_lab.sources.base import ReadPlan, Relation, Requirements
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
from jammi_lab.vectors.index.indexes import VectorIndexes
from jammi_lab.words.word_tables import WordTables


@dataclass(frozen=True, kw_only=True)
class Foundation:
    """The parts of an open workspace that all other parts use."""

    folder: StoragePath
    catalog: Catalog
    scope: TenantScope
    settings: Settings
    clock: Clock
    engine: Engine
    observation_cache: ObservationCache
    results: ResultFiles
    source_directory: SourceDirectory

    @property
    def local_folder(self) -> Path | None:
        """The folder of the workspace on this machine; None for a workspace at a URL."""
        return self.folder if isinstance(self.folder, Path) else None


def build_foundation(
    folder: StoragePath, catalog: Catalog, scope: TenantScope, settings: Settings, clock: Clock
) -> Foundation:
    """Start the engine and connect it with the results and sources of the workspace."""
    engine = Engine(settings)
    settings.freeze("engine.", "catalog.", "look.racy_seconds")
    cache = ObservationCache(catalog)
    local = folder if isinstance(folder, Path) else None
    return Foundation(
        folder=folder,
        catalog=catalog,
        scope=scope,
        settings=settings,
        clock=clock,
        engine=engine,
        observation_cache=cache,
        results=ResultFiles(folder, cache, clock, settings["look.racy_seconds"]),
        source_directory=SourceDirectory(catalog, local, EngineSourceAccess(engine, scope)),
    )


def build_observers(base: Foundation) -> Observers:
    """The observers of inputs that every workspace has."""
    engine, scope = base.engine, base.scope
    return Observers(
        base.catalog,
        base.source_directory,
        base.observation_cache,
        base.settings,
        lambda body: engine.describe(body, scope.current),
        lambda sql: engine.query(sql, scope.current),
    )


def observation_factory(base: Foundation, observers: Observers) -> Callable[[bool], Observation]:
    """A function that begins an observation of inputs; True makes it a deep one."""
    by_kind = observers.by_kind()
    engine, scope, settings = base.engine, base.scope, base.settings
    # Rows of results are compared through their own filesystem, which may be an object store.
    result_files = Relation(
        Input(InputKind.RESULT, ""),
        ReadPlan(body=""),
        requirements=Requirements(filesystem=base.results.filesystem),
    )
    row_comparison = RowComparison(
        base.results,
        base.observation_cache,
        settings,
        lambda sql: engine.query(sql, scope.current, result_files),
    )

    def begin_observation(deep: bool) -> Observation:
        return Observation(
            by_kind,
            scope=scope,
            results=base.results.for_one_pass(),
            cache=base.observation_cache,
            clock=base.clock,
            deep=deep,
            timeout=settings["look.timeout_seconds"],
            compare=observers.has_same_rows,
            note_rows=observers.note_rows,
            text_bytes=observers.text_bytes,
            row_comparison=row_comparison,
        )

    return begin_observation


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
    vectors: VectorIndexes
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

    def check_writable(self) -> None:
        """Raise WorkspaceReadOnly when the workspace is open read-only."""
        if self.catalog.read_only:
            raise WorkspaceReadOnly(
                "This workspace is open read-only; nothing can be created or changed.",
                hint="Open it without read_only=True.",
            )

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
                # after a power failure the next open inspects the folders
                with self.catalog.database.write_without_fsync():
                    self.observation_cache.flush()
                    self.recovery.record_folder_times()
                self.catalog.writers.retire(self.writer_id)


def build_infrastructure(
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
) -> tuple[VectorIndexes, WordTables]:
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
    indexes = VectorIndexes(
        results,
        catalog.metadata,
        settings,
        read_only=read_only,
        earlier_versions=earlier_versions,
        is_still_ready=is_still_ready,
        build_locks=build_locks,
    )
    words = WordTables(
        results,
        read_only=read_only,
        is_still_ready=is_still_ready,
        earlier_versions=earlier_versions,
    )
    results.sidecars.register(indexes)
    results.sidecars.register(words)
    return indexes, words

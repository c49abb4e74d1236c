"""The parts of one open workspace below its services, and how they are built: catalog, engine,
results and sources first, then the observers of inputs and the producers."""

import contextlib
import functools
import secrets
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.core.anchors import Input, InputKind
from jammi_lab.core.checks import CheckRecord
from jammi_lab.core.clock import Clock
from jammi_lab.core.errors import (
    CheckFailed,
    ResourceExhausted,
    SessionClosed,
    SourceUnavailable,
    VersionConflict,
    WorkspaceNotFound,
    WorkspaceReadOnly,
)
from jammi_lab.core.records import MutableRecord, OnProgress, TableRecord, TableStatus
from jammi_lab.core.recovery_report import RecoveryReport
from jammi_lab.core.settings import Settings
from jammi_lab.core.tenancy import TenantScope
from jammi_lab.core.version import __version__
from jammi_lab.engine.engine import Engine, EngineSourceAccess
from jammi_lab.engine.sql import foreign_views
from jammi_lab.features.live.ephemeral_sessions import EphemeralSessions
from jammi_lab.features.live.live_names import MutableTableResolver, TopicResolver
from jammi_lab.features.live.mutable_tables import MutableTableService
from jammi_lab.features.live.topics import Topics
from jammi_lab.features.vectors.index.indexes import VectorIndexes
from jammi_lab.features.words.word_tables import WordTables
from jammi_lab.inputs.observation import Observation
from jammi_lab.inputs.observation_cache import LastObservations, ObservationCache
from jammi_lab.inputs.observers import Observers
from jammi_lab.inputs.path_names import PathResolver
from jammi_lab.inputs.result_names import ResultTableResolver
from jammi_lab.inputs.row_comparison import RowComparison
from jammi_lab.inputs.source_names import FrameResolver, SourceDirectory, SourceResolver
from jammi_lab.sources.base import ReadPlan, Relation, Requirements
from jammi_lab.sources.databases import duckdb as duckdb_files
from jammi_lab.sources.outside_access import OutsideAccess
from jammi_lab.steps.executor import Executor, to_executor
from jammi_lab.storage.files import StoragePath
from jammi_lab.storage.own_files import check_folder
from jammi_lab.storage.space_reserve import SpaceReserve
from jammi_lab.store.publish import Publisher
from jammi_lab.store.recovery import Recovery
from jammi_lab.store.removal import Removal
from jammi_lab.store.result_files import ResultFiles
from jammi_lab.store.retention import VersionRetention
from jammi_lab.store.storage_errors import translate_storage_errors
from jammi_lab.store.workspace_identity import bind_workspace, catalog_required
from jammi_lab.workspace.first_use import first_use

if TYPE_CHECKING:
    import pyarrow as pa

    from jammi_lab.engine.prepared_statement import PreparedStatement
    from jammi_lab.features.checks.runner import CheckRunner
    from jammi_lab.features.checks.verdicts import CheckJudge
    from jammi_lab.features.live.dml_commits import DmlCommitter
    from jammi_lab.features.pictures.openlineage import RunEvents
    from jammi_lab.features.vectors.model_lookup import ModelEncoders
    from jammi_lab.freshness.service import FreshnessService
    from jammi_lab.freshness.table_column_lineage import ColumnLineage
    from jammi_lab.steps.build import ProducerContext
    from jammi_lab.steps.registry import Producers
    from jammi_lab.store.fsck import Fsck


@dataclass(kw_only=True)
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
    folder: StoragePath,
    catalog: Catalog,
    scope: TenantScope,
    settings: Settings,
    clock: Clock,
    outside: OutsideAccess | None,
) -> Foundation:
    """Start the engine and connect it with the results and sources of the workspace."""
    engine = Engine(settings)
    settings._freeze("engine.", "catalog.", "look.racy_seconds")
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
        source_directory=SourceDirectory(
            catalog, local, EngineSourceAccess(engine, scope), cache, outside
        ),
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


@dataclass(kw_only=True)
class Infrastructure(Foundation):
    """The parts of one open workspace below its services. Those that opening and closing it do
    without are built, and their rooms loaded, when they are first used."""

    frames: FrameResolver
    recovery: Recovery
    removal: Removal
    retention: VersionRetention
    publisher: Publisher
    vectors: VectorIndexes
    words: WordTables
    observe: Callable[[bool], Observation]
    """Begins an observation of inputs; True makes it a deep one."""
    writer_id: str
    executor: Executor
    topics: Topics
    sessions: EphemeralSessions
    mutable: MutableTableService
    open_input: "Callable[[PreparedStatement], Any] | None" = None
    """Opens a bound input as the object that a Python step receives; set with the services."""
    building: threading.RLock = field(default_factory=threading.RLock, repr=False)
    is_closing: bool = False

    def __post_init__(self) -> None:
        self.mutable.check_rows = self._check_rows

    @first_use
    def fsck(self) -> "Fsck":
        """The comparison of catalog and files."""
        from jammi_lab.store.fsck import Fsck

        return Fsck(self.catalog, self.results, self.recovery, self.clock)

    @first_use
    def check_runner(self) -> "CheckRunner":
        """Runs the checks of rows."""
        from jammi_lab.features.checks.runner import CheckRunner

        return CheckRunner(
            self.catalog,
            self.engine,
            self.scope,
            self.clock,
            lambda: self.observe(True),
            self.read_table,
        )

    def read_table(self, record: TableRecord) -> Relation:
        """The rows of a version. TableDamaged."""
        resolver = ResultTableResolver(self.catalog, self.results)
        return resolver.relation(record, record.recipe, record.version)

    @first_use
    def producer_context(self) -> "ProducerContext":
        """The parts of the workspace that producers use. SessionClosed once it is being closed:
        nothing would end a build that begins then."""
        if self.is_closing:
            raise SessionClosed(
                "The workspace is closed.", hint="Open it again: jammi_lab.open(path)."
            )
        from jammi_lab.steps.build import ProducerContext
        from jammi_lab.steps.single_flight import SingleFlight

        settings = self.settings
        return ProducerContext(
            catalog=self.catalog,
            scope=self.scope,
            engine=self.engine,
            publisher=self.publisher,
            results=self.results,
            settings=settings,
            clock=self.clock,
            observe=lambda: self.observe(True),
            single_flight=SingleFlight(
                self.catalog,
                self.clock,
                lambda: settings["flight.wait_seconds"],
                lambda: self.recovery.run(ready_too=False),
            ),
            audit=self.check_runner.audit,
        )

    @first_use
    def producers(self) -> "Producers":
        """All producers."""
        from jammi_lab.steps.registry import Producers

        producers = Producers(
            self.engine,
            self.scope,
            [self.frames],
            self.catalog,
            self.results,
            self.executor,
            self.settings,
            self.vectors,
            lambda: self.encoders,
            self.source_directory.outside,
        )
        producers.python.open_input = self.open_input
        return producers

    @first_use
    def encoders(self) -> "ModelEncoders":
        """The encoders of the workspace in this kernel. Files of models stay on this machine, also
        for a workspace at a URL."""
        from jammi_lab.features.vectors.model_lookup import ModelEncoders

        return ModelEncoders(self.catalog, self.model_folder, self.source_directory.outside)

    @property
    def model_folder(self) -> Path:
        """The folder that paths of models are relative to."""
        return self.local_folder or Path("/")

    @first_use
    def check_judge(self) -> "CheckJudge":
        """Verdicts on results of checks."""
        from jammi_lab.features.checks.verdicts import CheckJudge

        return CheckJudge(self.catalog, self.check_runner)

    @first_use
    def evaluator(self) -> "FreshnessService":
        """Evaluates verdicts."""
        from jammi_lab.freshness.service import FreshnessService

        return FreshnessService(self.producer_context, self.producers, self.check_judge)

    @first_use
    def column_lineage(self) -> "ColumnLineage":
        """Which column was computed from which."""
        from jammi_lab.freshness.table_column_lineage import ColumnLineage

        return ColumnLineage(
            self.catalog,
            self.scope,
            self.engine,
            [self.frames],
            self.observation_cache,
            self.clock,
        )

    @first_use
    def run_events(self) -> "RunEvents":
        """The runs of tables as events of OpenLineage."""
        from jammi_lab.features.pictures.openlineage import RunEvents

        return RunEvents(self.catalog, self.column_lineage, self.local_folder, self.results.root)

    @first_use
    def dml_committer(self) -> "DmlCommitter":
        """Commits changes of mutable tables that statements make."""
        from jammi_lab.features.live.dml_commits import DmlCommitter

        return DmlCommitter(self.mutable, self.catalog)

    def _check_rows(self, checks: Sequence[CheckRecord], rows: "pa.Table") -> CheckFailed | None:
        return self.check_runner.check_rows(checks, rows)

    def recover(self, *, ready_too: bool, on_progress: OnProgress | None = None) -> RecoveryReport:
        """Repair what terminated writers left; with `ready_too` also check every ready table."""
        self.publisher.retry_cleanup()
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
        with self.building:
            self.is_closing = True
            context: ProducerContext | None = vars(self).get("producer_context")
        # The stack runs every step even if one fails, the last one pushed first.
        with contextlib.ExitStack() as steps:
            if clean and not self.catalog.read_only:
                steps.callback(SpaceReserve(self.folder).fill)  # closing freed the catalog's log
            for step in (self.catalog.close, self.executor.close):
                steps.callback(step)
            if clean:
                steps.callback(self._retire_writer)
            if context is not None:
                steps.callback(context.single_flight.close)
            steps.callback(self.removal.try_remove_pending)
            if context is not None:
                steps.callback(self._fail_unfinished, context)
            for step in (
                self.engine.close,
                self.topics.close,
                self.sessions.close_all,
                self.vectors.close,
                self.words.close,
            ):
                steps.callback(step)
            if context is not None:
                steps.callback(context.single_flight.stop)
            steps.callback(self.publisher.stop)

    def _fail_unfinished(self, context: "ProducerContext") -> None:
        """Wait, while the catalog is still open, until the builds of other threads have failed."""
        self.publisher.wait_idle(context.single_flight.active_definitions())

    def _retire_writer(self) -> None:
        # A writer that leaves unfinished work stays registered, so that the next open recovers it.
        # The same holds on a full disk or when the catalog is gone.
        with contextlib.suppress(
            ResourceExhausted, VersionConflict, SourceUnavailable, WorkspaceNotFound
        ):
            if self.publisher.retry_cleanup():
                # after a power failure the next open inspects the folders
                with self.catalog.database.write_without_fsync():
                    self.observation_cache.flush()
                    self.recovery.record_folder_times()
                self.catalog.writers.retire(self.writer_id)


Parts = TypeVar("Parts", bound=Infrastructure)


def build_infrastructure(
    kind: type[Parts],
    folder: StoragePath,
    *,
    scope: TenantScope,
    settings: Settings,
    clock: Clock,
    read_only: bool,
    create: bool,
    executor: Any = None,
    outside: OutsideAccess | None = None,
    **options: Any,
) -> Parts:
    """Open the catalog and build the parts of the workspace in a folder, as a `kind` with these
    options; `outside` is what its sources may open, None for everything. Raises what opening the
    catalog raises."""
    with translate_storage_errors(str(folder)), contextlib.ExitStack() as undo:
        encoder_executor = to_executor(executor)
        undo.callback(encoder_executor.close)
        if isinstance(folder, Path):
            check_folder(folder / "results")
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
            functools.partial(kind, **options),
            folder,
            catalog,
            scope,
            settings,
            clock,
            "" if read_only else catalog.writers.register(),
            encoder_executor,
            outside,
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
    make: Callable[..., Parts],
    folder: StoragePath,
    catalog: Catalog,
    scope: TenantScope,
    settings: Settings,
    clock: Clock,
    writer_id: str,
    executor: Executor,
    outside: OutsideAccess | None,
) -> Parts:
    """Connect the parts of a workspace over an open catalog."""
    base = build_foundation(folder, catalog, scope, settings, clock, outside)
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
        PathResolver(scope, base.local_folder, cache, base.source_directory.outside),
    )
    frames = FrameResolver(base.source_directory)
    vectors, words = _indexes(catalog, results, settings)
    recovery = Recovery(catalog, results, clock)
    removal = Removal(catalog, results, writer_id, SpaceReserve(folder))
    return make(
        **vars(base),
        frames=frames,
        recovery=recovery,
        removal=removal,
        retention=VersionRetention(catalog, scope, results, removal),
        publisher=Publisher(catalog, results, clock, writer_id, RUN_ID, __version__),
        vectors=vectors,
        words=words,
        observe=observe,
        writer_id=writer_id,
        executor=executor,
        topics=topics,
        sessions=EphemeralSessions(catalog, scope, mutable, topics, clock, writer_id),
        mutable=mutable,
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
        from jammi_lab.steps.checkpoint_removal import remove_checkpoints_of_table

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

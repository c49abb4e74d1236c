"""The parts of one open workspace that opening builds: catalog, engine, results and sources first,
then the observers of inputs, the names in FROM and the indexes."""

import contextlib
import secrets
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.catalog.logs import LogRecord
from jammi_lab.core.anchors import result_input
from jammi_lab.core.checks import Audit
from jammi_lab.core.clock import Clock
from jammi_lab.core.errors import (
    ResourceExhausted,
    SessionClosed,
    SourceUnavailable,
    VersionConflict,
    WorkspaceNotFound,
    WorkspaceReadOnly,
)
from jammi_lab.core.manifest import Manifest
from jammi_lab.core.module_imports import import_modules
from jammi_lab.core.recipes import import_with
from jammi_lab.core.records import OnProgress, TableRecord, TableStatus
from jammi_lab.core.settings import Settings
from jammi_lab.core.tenancy import TenantScope
from jammi_lab.core.version import __version__
from jammi_lab.engine.engine import Engine, EngineSourceAccess
from jammi_lab.engine.sql import foreign_views
from jammi_lab.features.live.ephemeral_sessions import EphemeralSessions
from jammi_lab.features.live.live_names import MutableKind, TopicKind
from jammi_lab.features.live.mutable_tables import MutableTableService
from jammi_lab.features.live.topics import Topics
from jammi_lab.features.vectors.index.indexes import VectorIndexes
from jammi_lab.features.words.word_tables import WordTables
from jammi_lab.inputs.clock import ClockKind
from jammi_lab.inputs.observation import Kind, Observation
from jammi_lab.inputs.observation_cache import ObservationCache
from jammi_lab.inputs.path_names import PathResolver
from jammi_lab.inputs.result_names import ResultKind
from jammi_lab.inputs.row_comparison import RowComparison
from jammi_lab.inputs.source_names import FrameKind, SourceDirectory, SourceKind
from jammi_lab.sources.base import ReadPlan, Relation, Requirements
from jammi_lab.sources.databases import duckdb as duckdb_files
from jammi_lab.sources.outside_access import OutsideAccess
from jammi_lab.steps.executor import Executor
from jammi_lab.storage.files import StoragePath
from jammi_lab.storage.space_reserve import SpaceReserve
from jammi_lab.store.publish import Publisher
from jammi_lab.store.recovery import Recovery
from jammi_lab.store.removal import Removal
from jammi_lab.store.reports import RecoveryReport
from jammi_lab.store.result_files import ResultFiles
from jammi_lab.store.retention import VersionRetention
from jammi_lab.store.workspace_identity import bind_workspace, catalog_required
from jammi_lab.workspace.first_use import first_use

if TYPE_CHECKING:
    from jammi_lab.features.checks.runner import CheckRunner
    from jammi_lab.features.live.dml_commits import DmlCommitter
    from jammi_lab.features.outputs.badge import BadgeService
    from jammi_lab.features.pictures.openlineage import RunEvents
    from jammi_lab.features.vectors.model_lookup import ModelEncoders
    from jammi_lab.freshness.table_column_lineage import ColumnLineage
    from jammi_lab.steps.build import BuildContext
    from jammi_lab.steps.step_functions import StepFunctions

RUN_ID = secrets.token_hex(16)
"""The run id recorded in manifests; one per process."""


def _import_recipes() -> None:
    with import_modules():
        from jammi_lab.workspace import recipe_values  # noqa: F401


import_with(_import_recipes)


class Infrastructure:
    """The parts of one open workspace that opening and closing it use."""

    def __init__(
        self,
        catalog: Catalog,
        scope: TenantScope,
        folder: StoragePath,
        settings: Settings,
        clock: Clock,
        executor: Executor,
        outside: OutsideAccess | None,
    ) -> None:
        """Connect the parts of a workspace over its open catalog."""
        self.catalog, self.scope, self.folder = catalog, scope, folder
        self.settings, self.clock, self.executor = settings, clock, executor
        self.building, self.is_closing = threading.RLock(), False
        self.writer_id = "" if catalog.read_only else catalog.writers.register()
        self.engine = engine = Engine(settings)
        settings._freeze("engine.", "catalog.", "look.racy_seconds")
        self.observation_cache = cache = ObservationCache(catalog, outside)
        self.results = results = ResultFiles(folder, cache, clock, settings["look.racy_seconds"])
        self.source_directory = SourceDirectory(
            catalog,
            self.local_folder,
            EngineSourceAccess(engine, scope),
            cache,
            outside,
            settings["engine.timezone"],
        )
        self.topics = Topics(catalog, scope, engine, clock)
        self.mutable = MutableTableService(catalog, settings)
        self.mutable.on_drop = self._remove_checkpoints
        self._kinds: dict[str, Kind] = {}
        self._connect_inputs()
        self.row_comparison = self._compare_rows()
        self.vectors, self.words = self._indexes(), WordTables(self.results)
        self.recovery = Recovery(catalog, results, clock)
        self.removal = Removal(catalog, results, self.writer_id, SpaceReserve(folder))
        self.retention = VersionRetention(catalog, scope, results, self.removal)
        self.publisher = Publisher(catalog, results, clock, self.writer_id, RUN_ID, __version__)
        self.sessions = EphemeralSessions(
            catalog, scope, self.mutable, self.topics, clock, self.writer_id
        )

    @property
    def local_folder(self) -> Path | None:
        """The folder of the workspace on this machine; None for a workspace at a URL."""
        return self.folder if isinstance(self.folder, Path) else None

    def add_kind(self, kind: Kind) -> None:
        """Add a kind of input. Of a name that two kinds know, the earlier one wins."""
        self._kinds[kind.kind] = kind
        self.engine.register(kind)

    def _connect_inputs(self) -> None:
        """Add the kinds of input: one line each."""
        engine, scope = self.engine, self.scope
        duckdb_files.register_view_check(foreign_views.read_view)
        sources = (
            self.source_directory,
            self.observation_cache,
            self.settings,
            lambda body: engine.describe(body, scope.current),
        )
        self.add_kind(TopicKind(self.topics))
        self.add_kind(MutableKind(self.mutable, scope))
        self.add_kind(SourceKind(*sources))
        self.result_kind = ResultKind(self.catalog, self.results)
        self.add_kind(self.result_kind)
        self.add_kind(ClockKind(self.settings))
        engine.register(PathResolver(scope, self.source_directory.paths))
        # not registered: statements of the library know no variables of a notebook
        self.frames = self._kinds[FrameKind.kind] = FrameKind(*sources)

    def _compare_rows(self) -> RowComparison:
        # Rows of results are compared through their own filesystem, which may be an object store.
        result_files = Relation(
            result_input(""),
            ReadPlan(body=""),
            requirements=Requirements(filesystem=self.results.filesystem),
        )
        engine, scope = self.engine, self.scope
        return RowComparison(
            self.results,
            self.observation_cache,
            self.settings,
            lambda sql: engine.query(sql, scope.current, result_files),
        )

    def observe(self, deep: bool) -> Observation:
        """Begin an observation of inputs; a deep one may read all their data."""
        return Observation(
            self._kinds,
            scope=self.scope,
            results=self.results.for_one_pass(),
            cache=self.observation_cache,
            clock=self.clock,
            deep=deep,
            timeout=self.settings["look.timeout_seconds"],
            row_comparison=self.row_comparison,
        )

    def _remove_checkpoints(self, record: LogRecord) -> None:
        from jammi_lab.steps.checkpoint import remove_checkpoints_of_table

        remove_checkpoints_of_table(self.folder, record.log_id)

    def _indexes(self) -> VectorIndexes:
        """The indexes of vectors, registered as sidecars of the result tables."""
        catalog, results = self.catalog, self.results

        def earlier_versions(record: TableRecord) -> list[TableRecord]:
            versions = []
            for _, r in catalog.result_tables.versions(record.recipe):
                if r.tenant == record.tenant and r.created_at < record.created_at:
                    versions.append(r)
            return [r for r in versions if r.status is TableStatus.READY]

        def is_still_ready(record: TableRecord) -> bool:
            with catalog.all_tenants():
                current = catalog.result_tables.get(record.table_name)
            return current is not None and current.status is TableStatus.READY

        indexes = VectorIndexes(
            results,
            self.settings,
            read_only=catalog.read_only,
            earlier_versions=earlier_versions,
            is_still_ready=is_still_ready,
        )
        results.vector_indexes = indexes
        return indexes

    # -- what is built, and its rooms loaded, at its first use
    # ----------------------------------------------------------------------------------------------

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

    def audit(self, record: TableRecord, sealed: Relation | None = None) -> Audit:
        """Run all checks on the recipe of a table, over the sealed rows if it is not published."""
        checks = self.catalog.checks.of_recipe(record.tenant, record.recipe)
        return self.check_runner.audit(checks, record, sealed) if checks else Audit()

    def read_table(self, record: TableRecord) -> Relation:
        """The rows of a version. TableDamaged."""
        return self.result_kind.relation(record, record.recipe, record.version)

    def read_manifest(self, record: TableRecord) -> Manifest | None:
        """The manifest of a table of any tenant: that beside the file, else the catalog's copy.
        TableDamaged for one whose descriptor no call could have given."""
        from jammi_lab.steps.registry import recipe_of
        from jammi_lab.store import manifests
        from jammi_lab.store.verify import read_manifest_bytes

        found = manifests.parse(read_manifest_bytes(self.results, record)) or manifests.parse(
            self.catalog.result_tables.manifest(record.table_name)
        )
        if found is not None:
            recipe_of(found.descriptor)
        return found

    @first_use
    def build_context(self) -> "BuildContext":
        """The parts of the workspace that builds use. SessionClosed once it is being closed:
        nothing would end a build that begins then."""
        if self.is_closing:
            raise SessionClosed(
                "The workspace is closed.", hint="Open it again: jammi_lab.open(path)."
            )
        from jammi_lab.steps.build import BuildContext
        from jammi_lab.steps.single_flight import SingleFlight

        settings = self.settings
        return BuildContext(
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
            audit=self.audit,
        )

    @first_use
    def step_functions(self) -> "StepFunctions":
        """The functions of steps in this kernel."""
        from jammi_lab.steps.cell_step import build_step
        from jammi_lab.steps.step_functions import StepFunctions

        return StepFunctions(self.source_directory.outside, build_step)

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

    # -- recovery and closing
    # ----------------------------------------------------------------------------------------------

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

    def _has_results_folder(self) -> bool:
        # without it the workspace was removed while it was open, or has nothing to make room for
        return self.local_folder is not None and (self.local_folder / "results").is_dir()

    def close(self, *, clean: bool) -> None:
        """Release all resources; `clean` also retires the writer and records the state of the
        results folders."""
        with self.building:
            self.is_closing = True
            context: BuildContext | None = vars(self).get("build_context")
            badges: BadgeService | None = vars(self).get("badges")
        # The stack runs every step even if one fails, the last one pushed first.
        with contextlib.ExitStack() as steps:
            if clean and not self.catalog.read_only and self._has_results_folder():
                steps.callback(SpaceReserve(self.folder).fill)  # closing freed the catalog's log
            for step in (self.catalog.close, self.executor.close):
                steps.callback(step)
            if clean:
                steps.callback(self._retire_writer)
            if context is not None:
                steps.callback(context.single_flight.heartbeat.close)
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
                steps.callback(context.single_flight.heartbeat.stop)
            steps.callback(self.publisher.stop)
            if badges is not None:
                steps.callback(badges.close)

    def _fail_unfinished(self, context: "BuildContext") -> None:
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


def open_catalog(
    folder: StoragePath,
    settings: Settings,
    scope: TenantScope,
    clock: Clock,
    *,
    read_only: bool,
    create: bool,
) -> Catalog:
    """Open the catalog of the workspace in a folder. Raises what opening it raises."""
    url = settings["catalog.url"]
    catalog = Catalog(
        url or _catalog_file(folder), scope=scope, clock=clock, read_only=read_only, create=create
    )
    if url:
        try:
            # From here on only the URL without the password is shown.
            settings.set("catalog.url", catalog.label)
            bind_workspace(catalog, folder, str(folder), clock.token(16))
        except BaseException:
            catalog.close()
            raise
    return catalog


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

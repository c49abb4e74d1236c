"""The composition root: builds the services of one workspace. A service is built, and the rooms
that it needs are loaded, when it is first used: opening a workspace loads those that opening uses.
"""

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.core.clock import Clock
from jammi_lab.core.settings import Settings
from jammi_lab.core.tenancy import TenantScope
from jammi_lab.engine.name_resolution import DeferredResolver
from jammi_lab.features.vectors.index.indexes import VectorIndexes
from jammi_lab.inputs.source_names import JAMMI_CATALOG
from jammi_lab.sources.outside_access import OutsideAccess
from jammi_lab.steps.executor import Executor, to_executor
from jammi_lab.storage.files import StoragePath
from jammi_lab.storage.own_files import check_folder
from jammi_lab.storage.space_reserve import SpaceReserve
from jammi_lab.store.reports import RecoveryReport
from jammi_lab.store.result_files import ResultFiles
from jammi_lab.store.storage_errors import translate_storage_errors
from jammi_lab.workspace.arguments import ProgressReporter
from jammi_lab.workspace.first_use import first_use
from jammi_lab.workspace.infrastructure import Infrastructure, open_catalog
from jammi_lab.workspace.relocation import moved_sources

if TYPE_CHECKING:
    from jammi_lab.features.checks.checks import Checks
    from jammi_lab.features.checks.service import CheckService
    from jammi_lab.features.live.mutable_handles import MutableTables
    from jammi_lab.features.outputs.badge import BadgeService
    from jammi_lab.features.prose.text_check import ProseChecker
    from jammi_lab.features.search.search import SearchService
    from jammi_lab.features.search.sql_functions import SearchFunctions
    from jammi_lab.features.vectors.models import Models
    from jammi_lab.freshness.catalog_relations import CatalogRelations
    from jammi_lab.freshness.queries import FreshnessQueries
    from jammi_lab.freshness.service import FreshnessService
    from jammi_lab.steps.registry import RecordedRecipes
    from jammi_lab.workspace.lookup import TableLookup
    from jammi_lab.workspace.maintenance import Maintenance, Recomputation
    from jammi_lab.workspace.materialize import Materializer
    from jammi_lab.workspace.result_table import Tables
    from jammi_lab.workspace.retrieval_evaluation import RetrievalEvaluator
    from jammi_lab.workspace.searches import Searches
    from jammi_lab.workspace.sources import Sources
    from jammi_lab.workspace.statement_runner import StatementRunner
    from jammi_lab.workspace.vector_views import VectorViews


class Services(Infrastructure):
    """The services that a Workspace calls."""

    def __init__(self, path: str, *parts: Any) -> None:
        """`path`: the folder as passed by the caller, or the URL without credentials; `parts` as
        for Infrastructure."""
        super().__init__(*parts)
        self.path, self.progress = path, ProgressReporter()
        self.recovery_at_open = RecoveryReport()
        self.engine.register(
            DeferredResolver(self._search_functions, functions=("search", "neighbors"))
        )
        self.engine.register(DeferredResolver(self._catalog_relations, schema=JAMMI_CATALOG))

    @first_use
    def sources(self) -> "Sources":
        """`ws.sources`."""
        from jammi_lab.workspace.sources import Sources

        return Sources(self)

    @first_use
    def models(self) -> "Models":
        """`ws.models`."""
        from jammi_lab.features.vectors.models import Models

        return Models(self.catalog, self.scope, self.clock, self.model_folder, self.encoders)

    @first_use
    def mutable_tables(self) -> "MutableTables":
        """`ws.mutable`."""
        from jammi_lab.features.live.mutable_handles import MutableAccess, MutableTables

        wrap = self.statements.mutable_rows
        return MutableTables(
            MutableAccess(self.mutable, self.engine, self.catalog.scope, self.dml_committer, wrap)
        )

    @first_use
    def checks(self) -> "Checks":
        """`ws.checks`."""
        from jammi_lab.features.checks.checks import Checks

        return Checks(
            self.check_service,
            self.check_runner,
            self.catalog.checks,
            self.lookup.find,
            self.statements.result,
            self.lookup.not_found,
        )

    @first_use
    def badges(self) -> "BadgeService":
        """Verdicts on the tables that a result read, and the stamps of results."""
        from jammi_lab.features.outputs.badge import BadgeService
        from jammi_lab.features.outputs.stamps import StampMaker

        stamps = StampMaker(
            self.catalog.metadata.workspace_id,
            self.clock.now_ns,
            self.observe,
            lambda: str(self.settings["engine.timezone"]),
        )
        return BadgeService(
            lambda *asked: self.freshness.current_verdicts(*asked),  # noqa: PLW0108  built then
            lambda: self.scope.current,
            stamps,
        )

    @first_use
    def prose(self) -> "ProseChecker":
        """Compares numbers in texts with the tables."""
        from jammi_lab.features.prose.text_check import ProseChecker

        return ProseChecker(self.catalog, self.results)

    @first_use
    def lookup(self) -> "TableLookup":
        """Names of recipes, versions and tables."""
        from jammi_lab.workspace.lookup import TableLookup

        # Agents and checks open a workspace to read it: they are told of nothing outside of it.
        place = None if self.catalog.read_only else self.local_folder
        return TableLookup(self.catalog, self.scope, self.retention, place)

    @first_use
    def statements(self) -> "StatementRunner":
        """Runs SQL statements."""
        from jammi_lab.workspace.statement_runner import StatementRunner

        return StatementRunner(self)

    @first_use
    def recipe_parts(self) -> "Mapping[type, Callable[[], Any]]":
        """What recipes need of the workspace, by class; each is made when a recipe asks for it."""
        from jammi_lab.features.vectors.embedding import EncoderSource
        from jammi_lab.steps.python import InputOpener
        from jammi_lab.steps.step_functions import StepFunctions

        return {
            Catalog: lambda: self.catalog,
            ResultFiles: lambda: self.results,
            Executor: lambda: self.executor,
            Settings: lambda: self.settings,
            VectorIndexes: lambda: self.vectors,
            EncoderSource: lambda: EncoderSource(lambda: self.encoders),
            StepFunctions: lambda: self.step_functions,
            InputOpener: lambda: InputOpener(self.statements.step_input),
        }

    @first_use
    def recorded_recipes(self) -> "RecordedRecipes":
        """The recipes of the catalog, as they are now."""
        from jammi_lab.steps.registry import RecordedRecipes

        return RecordedRecipes(self.engine, self.scope, [self.frames], self.recipe_parts)

    @first_use
    def check_service(self) -> "CheckService":
        """What checks found."""
        from jammi_lab.features.checks.service import CheckService

        return CheckService(
            self.catalog,
            self.check_runner,
            self.observe,
            self.check_writable,
            lambda: self.evaluator,
        )

    @first_use
    def evaluator(self) -> "FreshnessService":
        """Evaluates verdicts."""
        from jammi_lab.freshness.service import FreshnessService

        return FreshnessService(self.build_context, self.recorded_recipes, self.check_service)

    @first_use
    def freshness(self) -> "FreshnessQueries":
        """Verdicts, reasons, plans and lineage."""
        from jammi_lab.freshness.queries import FreshnessQueries

        return FreshnessQueries(
            self.evaluator,
            self.observe,
            self.column_lineage,
            self.check_service,
        )

    @first_use
    def tables(self) -> "Tables":
        """Finds versions of tables."""
        from jammi_lab.workspace.result_table import Tables

        return Tables(self)

    @first_use
    def materializer(self) -> "Materializer":
        """Defines and runs recipes."""
        from jammi_lab.workspace.materialize import Materializer

        return Materializer(self)

    @first_use
    def maintenance(self) -> "Maintenance":
        """Recovery, expiry, backup, and what becomes of recipes."""
        from jammi_lab.workspace.maintenance import Maintenance

        return Maintenance(self)

    @first_use
    def recomputation(self) -> "Recomputation":
        """Status, plans and runs."""
        from jammi_lab.workspace.maintenance import Recomputation

        return Recomputation(self)

    @first_use
    def search(self) -> "SearchService":
        """Search by meaning and by words."""
        from jammi_lab.features.search.context import SearchContext
        from jammi_lab.features.search.search import SearchService
        from jammi_lab.features.search.word_search import WordSearch

        context = SearchContext(
            scope=self.scope,
            engine=self.engine,
            tables=self.catalog.result_tables,
            observe=self.observe,
            source_address=self.from_text,
            manifest=self.read_manifest,
            start=self.statements.start,
            frames=self.frames,
        )
        words = WordSearch(context, self.words)
        return SearchService(context, self.vectors, words, lambda: self.encoders, self.settings)

    def from_text(self, source: str) -> str:
        """What stands in FROM for a source, table or SQL. Raises as binding does."""
        from jammi_lab.steps.from_clause import from_text

        return from_text(self.recorded_recipes.bind_context(), source)

    @first_use
    def searches(self) -> "Searches":
        """Searches whose hits are results."""
        from jammi_lab.workspace.searches import Searches

        return Searches(self)

    @first_use
    def views(self) -> "VectorViews":
        """Maps, neighbours and graphs of vectors."""
        from jammi_lab.workspace.vector_views import VectorViews

        return VectorViews(self)

    @first_use
    def evaluation(self) -> "RetrievalEvaluator":
        """How well searches find what they should."""
        from jammi_lab.workspace.retrieval_evaluation import RetrievalEvaluator

        return RetrievalEvaluator(self)

    # What these call is built no earlier than they are called.

    def _search_functions(self) -> "SearchFunctions":
        """`search(…)` and `neighbors(…)` in FROM."""
        from jammi_lab.features.search.sql_functions import SearchFunctions
        from jammi_lab.inputs.result_names import JAMMI

        return SearchFunctions(
            self.search,
            lambda name: self.lookup.find(name).record,
            lambda name: self.result_kind.resolve((JAMMI, name)),
        )

    def _catalog_relations(self) -> "CatalogRelations":
        """`jammi_catalog.*`."""
        from jammi_lab.freshness.catalog_relations import CatalogRelations

        relations = CatalogRelations(
            self.catalog, self.scope, self.recomputation.status, self.column_lineage
        )
        relations.set_rows("checks", self.check_service.catalog_rows)
        return relations

    def recover_at_open(self) -> None:
        """Run recovery unless the workspace is open read-only, and report moved sources. That looks
        for files outside of the folder: only in one that is trusted."""
        if not self.catalog.read_only:
            self.recovery_at_open = self.recover(ready_too=False)
            self.sessions.watch()
        folder = self.local_folder
        if folder is None or not self.source_directory.outside.trusts_folder:
            return
        if moved := moved_sources(self.catalog, folder):
            self.recovery_at_open = self.recovery_at_open.with_values(moved=moved)

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
    outside: OutsideAccess | None = None,
) -> Services:
    """Open the workspace in a folder, run recovery, and build its services; `outside` is what its
    sources may open, None for everything. Raises what opening the catalog raises."""

    def open_once() -> Services:
        with translate_storage_errors(str(folder)), contextlib.ExitStack() as undo:
            encoder_executor = to_executor(executor)
            undo.callback(encoder_executor.close)
            if isinstance(folder, Path):
                check_folder(folder / "results")
            catalog = open_catalog(
                folder, settings, scope, clock, read_only=read_only, create=create
            )
            undo.callback(catalog.close)
            services = Services(
                display_path, catalog, scope, folder, settings, clock, encoder_executor, outside
            )
            undo.pop_all()
        try:
            services.recover_at_open()
        except BaseException:
            services.close(clean=False)
            raise
        return services

    if read_only:
        return open_once()
    reserve = SpaceReserve(folder)
    services = reserve.run(open_once)
    reserve.fill()
    return services

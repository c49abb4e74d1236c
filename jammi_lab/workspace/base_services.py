"""The foundation of an open workspace: its engine, results and sources, and the observers of its
inputs."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.core.anchors import Input, InputKind
from jammi_lab.core.clock import Clock
from jammi_lab.core.settings import Settings
from jammi_lab.core.tenancy import TenantScope
from jammi_lab.engine.engine import Engine, EngineSourceAccess
from jammi_lab.inputs.connectors import SourceDirectory
from jammi_lab.inputs.observation import Observation
from jammi_lab.inputs.observation_cache import ObservationCache
from jammi_lab.inputs.observers import Observers
from jammi_lab.inputs.result_comparison import RowComparison
from jammi_lab.sources.base import ReadPlan, Relation, Requirements
from jammi_lab.storage.files import StoragePath
from jammi_lab.store.result_files import ResultFiles


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
            row_comparison=row_comparison,
        )

    return begin_observation

"""Putting the rooms of one workspace together."""

import contextlib
import secrets
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jammi_lab
from jammi_lab.catalog.catalog import Catalog
from jammi_lab.clock import Clock
from jammi_lab.config import Settings
from jammi_lab.engine import foreign
from jammi_lab.engine.reaching import Reaching
from jammi_lab.engine.session import Engine
from jammi_lab.errors import ResourceExhausted, SourceUnavailable, VersionConflict, WorkspaceNotFound
from jammi_lab.execution.executor import Executor, executor_of
from jammi_lab.live.committing import Committing
from jammi_lab.live.mutable import Tables
from jammi_lab.live.sessions import Sessions
from jammi_lab.live.topics import Topics
from jammi_lab.observing.look import Look
from jammi_lab.observing.memo import ObservationMemo
from jammi_lab.observing.mutables import MutableProvider
from jammi_lab.observing.observers import Observers
from jammi_lab.observing.opinions import Opinions
from jammi_lab.observing.outside import Outside
from jammi_lab.observing.paths import Paths
from jammi_lab.observing.providers import FrameProvider, ResultProvider, SourceProvider
from jammi_lab.observing.seen import LastSeen
from jammi_lab.observing.topics import TopicProvider
from jammi_lab.producers.base import Kitchen
from jammi_lab.producers.flight import Flight
from jammi_lab.producers.registry import Producers
from jammi_lab.sensing.columns import ColumnLineage
from jammi_lab.sensing.plan import Sensor
from jammi_lab.sources import duckdb_files
from jammi_lab.sources.base import Relation
from jammi_lab.storage.files import Place
from jammi_lab.store.check import Check
from jammi_lab.store.claim import claim
from jammi_lab.store.failures import explained
from jammi_lab.store.funnel import Funnel
from jammi_lab.store.recovery import Recovery
from jammi_lab.store.removal import Removal
from jammi_lab.store.results import Results
from jammi_lab.store.upkeep import Upkeep
from jammi_lab.tenancy import TenantScope
from jammi_lab.values.anchors import Input, InputKind
from jammi_lab.values.mutables import MutableRecord
from jammi_lab.values.records import Progress, RecoveryReport, TableRecord, TableStatus
from jammi_lab.vectors.indexes import Indexes
from jammi_lab.versions import without_catalog

RUN_ID = secrets.token_hex(16)
"""The run that manifests name: one for each process."""


@dataclass(frozen=True)
class Rooms:
    """The parts of one open workspace."""

    catalog: Catalog
    scope: TenantScope
    settings: Settings
    clock: Clock
    engine: Engine
    memo: ObservationMemo
    results: Results
    outside: Outside
    frames: FrameProvider
    recovery: Recovery
    removal: Removal
    upkeep: Upkeep
    check: Check
    kitchen: Kitchen
    producers: Producers
    vectors: Indexes
    sensor: Sensor
    column_lineage: ColumnLineage
    look: Callable[[bool], Look]
    writer_id: str
    executor: Executor
    topics: Topics
    sessions: Sessions
    mutable: Tables
    committing: Committing

    def recover(self, *, ready_too: bool, on_progress: Callable[[Progress], None] | None = None) -> RecoveryReport:
        """Settle what dead writers left."""
        self.kitchen.funnel.tidy()
        self.removal.settle()
        report = self.recovery.run(ready_too=ready_too, on_progress=on_progress)
        if self.sessions.sweep():
            self.engine.clear_spills()  # there may be values of those sessions
        self.memo.flush()
        return report

    def close(self, *, clean: bool) -> None:
        """Let go of everything; `clean` also retires the writer and notes how the results folders are left."""
        with contextlib.ExitStack() as last:  # whatever of it fails, the rest is done
            for let_go in (self.catalog.close, self.executor.close):
                last.callback(let_go)
            if clean:
                last.callback(self._retire)
            kitchen, live = (self.kitchen.flight.close, self.removal.settle, self._ended), (self.topics.close, self.sessions.shut)
            for let_go in (*kitchen, self.engine.close, *live, self.vectors.close, self.kitchen.flight.stop, self.kitchen.funnel.stop):
                last.callback(let_go)

    def _ended(self) -> None:
        """What other threads were making has failed and is settled, while the catalog is still there."""
        self.kitchen.funnel.ended(self.kitchen.flight.own())

    def _retire(self) -> None:
        """A writer that leaves something unsettled is left as a dead one, for the next open; so is one on a full disk, or whose catalog is gone."""
        with contextlib.suppress(ResourceExhausted, VersionConflict, SourceUnavailable, WorkspaceNotFound):
            if self.kitchen.funnel.tidy():
                self.memo.flush()
                self.recovery.stamp()
                self.catalog.writers.retire(self.writer_id)


def connect(folder: Place, *, scope: TenantScope, settings: Settings, clock: Clock, read_only: bool, create: bool, executor: Any = None) -> Rooms:
    """The rooms of the workspace in a folder. Raises as opening the catalog does."""
    with explained(str(folder)), contextlib.ExitStack() as undo:
        runs = executor_of(executor)
        undo.callback(runs.close)
        url = settings["catalog.url"]
        catalog = Catalog(url or _file(folder), scope=scope, clock=clock, read_only=read_only, create=create)
        undo.callback(catalog.close)
        if url:
            settings.set("catalog.url", catalog.label)  # what is shown from here on holds no password
            claim(catalog, folder, str(folder), clock.token(16))
        rooms = _wire(folder, catalog, scope, settings, clock, "" if read_only else catalog.writers.register(), runs)
        undo.pop_all()
        return rooms


def _file(folder: Place) -> Path:
    """Where a catalog that is on no server lies: in its folder; that of `memory://`, which ends with this process, in a temporary one."""
    if isinstance(folder, Path):
        return folder / "catalog.sqlite3"
    if folder.scheme != "memory":
        raise without_catalog(str(folder))
    made = _in_memory.get(str(folder)) or _in_memory.setdefault(str(folder), tempfile.TemporaryDirectory(prefix="jammi-", ignore_cleanup_errors=True))
    return Path(made.name) / "catalog.sqlite3"


_in_memory: dict[str, "tempfile.TemporaryDirectory[str]"] = {}


def _looks(
    observers: Observers, opinions: Opinions, scope: TenantScope, results: Results, memo: ObservationMemo, clock: Clock, settings: Settings
) -> Callable[[bool], Look]:
    """What begins a look; a deep one when it is told True."""
    by_kind = observers.by_kind()

    def look(deep: bool) -> Look:
        return Look(
            by_kind,
            scope=scope,
            results=results.listing(),
            memo=memo,
            clock=clock,
            deep=deep,
            timeout=settings["look.timeout_seconds"],
            compare=observers.same_rows,
            note=observers.note_rows,
            opinions=opinions,
        )

    return look


def _wire(folder: Place, catalog: Catalog, scope: TenantScope, settings: Settings, clock: Clock, writer_id: str, executor: Executor) -> Rooms:
    engine = Engine(settings)
    settings.fix("engine.", "catalog.", "look.racy_seconds")
    memo = ObservationMemo(catalog)
    results = Results(folder, memo, clock, settings["look.racy_seconds"])
    reach = Reaching(engine, scope)
    local = folder if isinstance(folder, Path) else None
    outside = Outside(catalog, local, reach)
    observers = Observers(
        catalog, outside, memo, settings, lambda body: engine.describe(body, scope.current), lambda sql: engine.query(sql, scope.current)
    )
    stored = Relation(Input(InputKind.RESULT, ""), body="", filesystem=results.filesystem)
    opinions = Opinions(results, memo, settings, lambda sql: engine.query(sql, scope.current, stored))
    topics = _topics(catalog, scope, engine, clock, observers)
    mutable = _mutable(catalog, scope, settings, engine, observers, folder)
    look = _looks(observers, opinions, scope, results, memo, clock, settings)
    _names(engine, catalog, SourceProvider(catalog, outside, LastSeen(memo)), results, Paths(scope, local))
    frames = FrameProvider(outside)
    vectors = _vectors(catalog, results, settings)
    recovery = Recovery(catalog, results, clock)
    removal = Removal(catalog, results, writer_id)
    kitchen = Kitchen(
        catalog=catalog,
        scope=scope,
        engine=engine,
        funnel=Funnel(catalog, results, clock, writer_id, RUN_ID, jammi_lab.__version__),
        results=results,
        settings=settings,
        clock=clock,
        look=lambda: look(True),
        flight=Flight(catalog, clock, lambda: settings["flight.wait_seconds"], lambda: recovery.run(ready_too=False)),
    )
    producers = Producers(engine, scope, [frames], catalog, results, executor, settings, vectors)
    return Rooms(
        catalog=catalog,
        scope=scope,
        settings=settings,
        clock=clock,
        engine=engine,
        memo=memo,
        results=results,
        outside=outside,
        frames=frames,
        recovery=recovery,
        removal=removal,
        upkeep=Upkeep(catalog, scope, results, removal),
        check=Check(catalog, results, recovery, clock),
        kitchen=kitchen,
        producers=producers,
        vectors=vectors,
        sensor=Sensor(kitchen, producers),
        column_lineage=ColumnLineage(catalog, scope, engine, [frames], memo, clock),
        look=look,
        writer_id=writer_id,
        executor=executor,
        topics=topics,
        sessions=Sessions(catalog, scope, mutable, topics, clock, writer_id),
        mutable=mutable,
        committing=Committing(mutable, catalog),
    )


def _names(engine: Engine, catalog: Catalog, sources: SourceProvider, results: Results, paths: Paths) -> None:
    """What FROM can name beside what changes."""
    duckdb_files.let_views_pass(foreign.view_reading)
    engine.register(sources)
    engine.register(ResultProvider(catalog, results))
    engine.register(paths)


def _mutable(catalog: Catalog, scope: TenantScope, settings: Settings, engine: Engine, observers: Observers, folder: Place) -> Tables:
    """The mutable tables, as SQL names and inputs too."""
    tables = Tables(catalog, settings)

    def dropped(record: MutableRecord) -> None:
        from jammi_lab.producers.checkpoint import forget_reading

        forget_reading(folder, record.table_id)

    tables.on_drop = dropped
    provider = MutableProvider(tables, scope)
    engine.register(provider)
    observers.add(InputKind.MUTABLE, provider.observe)
    return tables


def _topics(catalog: Catalog, scope: TenantScope, engine: Engine, clock: Clock, observers: Observers) -> Topics:
    """The topics, as SQL names and inputs too."""
    topics = Topics(catalog, scope, engine, clock)
    provider = TopicProvider(topics)
    engine.register(provider)
    observers.add(InputKind.TOPIC, provider.observe)
    return topics


def _vectors(catalog: Catalog, results: Results, settings: Settings) -> Indexes:
    """The vectors and indexes, which follow the tables that have them."""

    def earlier(record: TableRecord) -> list[TableRecord]:
        found = [r for v, r in catalog.tables.versions(record.recipe) if r.tenant == record.tenant and r.created_at < record.created_at]
        return [r for r in found if r.status is TableStatus.READY]

    def still(record: TableRecord) -> bool:
        with catalog.everyone():
            now = catalog.tables.get(record.table_name)
        return now is not None and now.status is TableStatus.READY

    turns, read_only = catalog.writers, catalog.read_only
    indexes = Indexes(results, catalog.meta, settings, read_only=read_only, earlier=earlier, still=still, turns=turns)
    results.sidecars.register(indexes)
    return indexes

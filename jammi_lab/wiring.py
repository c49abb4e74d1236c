"""Putting the rooms of one workspace together."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jammi_lab
from jammi_lab.catalog.catalog import Catalog
from jammi_lab.clock import Clock
from jammi_lab.config import Settings
from jammi_lab.engine.session import Engine
from jammi_lab.observing.look import Look
from jammi_lab.observing.memo import ObservationMemo
from jammi_lab.observing.observers import Observers
from jammi_lab.observing.outside import Outside
from jammi_lab.observing.providers import FrameProvider, ResultProvider, SourceProvider
from jammi_lab.producers.base import Kitchen
from jammi_lab.producers.flight import Flight
from jammi_lab.producers.registry import Producers
from jammi_lab.sensing.plan import Sensor
from jammi_lab.store.check import Check
from jammi_lab.store.funnel import Funnel
from jammi_lab.store.recovery import Recovery
from jammi_lab.store.removal import Removal
from jammi_lab.store.results import Results
from jammi_lab.store.upkeep import Upkeep
from jammi_lab.tenancy import TenantScope
from jammi_lab.values.records import RecoveryReport

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
    sensor: Sensor
    look: Callable[[bool], Look]
    writer_id: str

    def recover(self, *, ready_too: bool) -> RecoveryReport:
        """Settle what dead writers left."""
        self.kitchen.funnel.tidy()
        self.removal.settle()
        report = self.recovery.run(ready_too=ready_too)
        self.memo.flush()
        return report

    def close(self, *, clean: bool) -> None:
        """Let go of everything; `clean` also retires the writer and notes how the results folders are left."""
        try:
            self.engine.close()
            self.removal.settle()
            if clean and self.kitchen.funnel.tidy():  # a writer that leaves something unsettled is left as a dead one, for the next open
                self.memo.flush()
                self.recovery.stamp()
                self.catalog.writers.retire(self.writer_id)
        finally:
            self.catalog.close()


def connect(folder: Path, *, scope: TenantScope, settings: Settings, clock: Clock, read_only: bool, create: bool) -> Rooms:
    """The rooms of the workspace in a folder. Raises as opening the catalog does."""
    catalog = Catalog(folder / "catalog.sqlite3", scope=scope, clock=clock, read_only=read_only, create=create)
    try:
        return _wire(folder, catalog, scope, settings, clock, "" if read_only else catalog.writers.register())
    except BaseException:
        catalog.close()
        raise


def _wire(folder: Path, catalog: Catalog, scope: TenantScope, settings: Settings, clock: Clock, writer_id: str) -> Rooms:
    engine = Engine(settings)
    settings.fix("engine.")
    memo = ObservationMemo(catalog)
    results = Results(folder, memo, clock, settings["look.racy_seconds"])
    outside = Outside(catalog, folder)
    observers = Observers(
        catalog, outside, memo, settings, lambda body: engine.describe(body, scope.current), lambda sql: engine.query(sql, scope.current)
    ).by_kind()

    def look(deep: bool) -> Look:
        return Look(observers, scope=scope, results=results, memo=memo, clock=clock, deep=deep, timeout=settings["look.timeout_seconds"])

    engine.register(SourceProvider(catalog, outside))
    engine.register(ResultProvider(catalog, results))
    frames = FrameProvider(outside)
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
        flight=Flight(catalog, clock, settings["flight.wait_seconds"], lambda: recovery.run(ready_too=False)),
    )
    producers = Producers(engine, scope, [frames], catalog, results)
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
        sensor=Sensor(kitchen, producers),
        look=look,
        writer_id=writer_id,
    )

"""What every producer brings, and the one way in which a job becomes a ready table: look → reuse or build → look again → publish."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.clock import Clock, rfc3339
from jammi_lab.config import Settings
from jammi_lab.engine.session import Engine
from jammi_lab.errors import DuplicateKey, JammiError, LostOwnership, SchemaMismatch, TableNotFound
from jammi_lab.names import fold, near, quote
from jammi_lab.observing.look import Look, Pinned
from jammi_lab.observing.observers import CURRENT_DATE
from jammi_lab.producers.flight import Flight
from jammi_lab.sources.base import Relation
from jammi_lab.store.funnel import BuiltElsewhere, Funnel
from jammi_lab.store.results import Results, body_of
from jammi_lab.tenancy import TenantScope
from jammi_lab.values.anchors import Anchor, Input, InputKind, Snapshot, unpinned
from jammi_lab.values.descriptors import Descriptor, definition_hash
from jammi_lab.values.records import Progress, RecipeRecord, Reuse, TableKind, TableRecord, TableStatus, VersionRecord

OnProgress = Callable[[Progress], None]
_TRIES = 3


class Rows(Protocol):
    """A producer's output while it comes."""

    @property
    def schema(self) -> pa.Schema:
        """Names and types."""
        ...

    def batches(self, rows: int = 65536) -> Iterator[pa.RecordBatch]:
        """The rows, in their final order."""
        ...

    def close(self) -> None:
        """Let go of whatever is open."""
        ...


@dataclass(frozen=True)
class Bound:
    """Something that a job reads, as its name resolved just now."""

    relation: Relation
    columns: tuple[str, ...]
    """The columns read, sorted."""


@dataclass(frozen=True)
class Running:
    """A computation that has begun."""

    rows: Rows
    reuse: Reuse | None = None
    """What it took over from an earlier version; None for producers that reuse no rows."""
    published: Callable[[], None] = lambda: None
    """Called when its rows are ready."""
    lost: Callable[[], None] = lambda: None
    """Called when they will never be."""


@dataclass(frozen=True)
class Job:
    """One definition, bound to its inputs, ready to be run."""

    kind: TableKind
    descriptor: Descriptor
    environment: Mapping[str, Any]
    inputs: Sequence[Bound]
    rows: Callable[[OnProgress | None], Running]
    """Begins the computation; called when the building row is there."""
    again: "Callable[[], Job]"
    """The same definition, bound anew."""
    key: Sequence[str] = ()
    volatile: Sequence[str] = ()
    """Functions whose value is no function of the inputs."""
    clock: bool = False
    """Whether it reads the date."""
    order_sensitive: bool = False
    dimensions: int | None = None
    model_id: str | None = None
    model_key: str | None = None
    """The registered model that it is made with."""

    @property
    def reads(self) -> frozenset[tuple[tuple[str, str, str], tuple[str, ...]]]:
        """What it reads: inputs with their columns."""
        return frozenset((bound.relation.input.identity, bound.columns) for bound in self.inputs)

    @property
    def definition(self) -> str:
        """The definition hash."""
        return definition_hash(self.descriptor, self.environment)

    def recipe(self, name: str, tenant: str | None, now: str) -> RecipeRecord:
        """The catalog's record of the definition."""
        return RecipeRecord(
            name=name,
            kind=self.kind,
            tenant=tenant,
            descriptor=self.descriptor.to_dict(),
            environment=dict(self.environment),
            definition_hash=self.definition,
            inputs=[bound.relation.input.identity for bound in self.inputs],
            created_at=now,
            updated_at=now,
        )


@dataclass(frozen=True)
class Made:
    """What a run gave."""

    version: VersionRecord
    record: TableRecord
    outcome: str
    """computed or reused."""
    reuse: Reuse | None = None
    """What was taken over row by row."""


@dataclass(frozen=True)
class Kitchen:
    """What producing needs of a workspace."""

    catalog: Catalog
    scope: TenantScope
    engine: Engine
    funnel: Funnel
    results: Results
    settings: Settings
    clock: Clock
    look: Callable[[], Look]
    """A new deep look."""
    flight: Flight


def anchors_of(job: Job, look: Look, tenant: str | None) -> list[Anchor]:
    """The states of everything that the job reads, one anchor an input with the columns united, as the look sees them."""
    united: dict[tuple[str, str, str], tuple[Relation, set[str]]] = {}
    for bound in job.inputs:
        united.setdefault(bound.relation.input.identity, (bound.relation, set()))[1].update(bound.columns)
    anchors = [look.anchor(relation, tuple(sorted(columns)), tenant) for relation, columns in united.values()]
    for name in job.volatile:
        what = Input(kind=InputKind.CLOCK, name=f"{name}()")
        anchors += [unpinned(what, look.instant, f"{name}() gives another value each time")]
    if job.clock and isinstance(today := look.observe(CURRENT_DATE, tenant), Snapshot):
        anchors.append(today.anchor(CURRENT_DATE))
    return anchors


@dataclass(frozen=True)
class Sighting:
    """What one look saw of all that a job reads."""

    anchors: list[Anchor]
    stamps: Mapping[tuple[str, str, str], str]
    """By input, what moves even when an input is changed and changed back."""


def _sight(job: Job, look: Look, tenant: str | None) -> Sighting:
    stamps = {bound.relation.input.identity: look.stamp(bound.relation, tenant) for bound in job.inputs}
    return Sighting(anchors_of(job, look, tenant), stamps)


def same_set(one: Sequence[Anchor], other: Sequence[Anchor]) -> bool:
    """Whether two anchor sets name the same states of the same inputs; the order does not matter, an unpinned anchor equals nothing."""
    theirs = {a.input.identity: a for a in other}
    return len(one) == len(other) == len(theirs) and all((t := theirs.get(a.input.identity)) is not None and a.same_state(t) for a in one)


def find_reusable(kitchen: Kitchen, definition: str, anchors: Sequence[Anchor]) -> TableRecord | None:
    """A ready table of this tenant made by the same definition over the same states, with its bytes intact; the newest such one."""
    if not all(a.pinned for a in anchors):
        return None
    candidates = kitchen.catalog.tables.by_definition(definition)
    return next((c for c in candidates if same_set(c.anchors, anchors) and kitchen.results.intact(c)), None)


def produce(kitchen: Kitchen, name: str, job: Job, *, bypass: bool, on_progress: OnProgress | None) -> Made:
    """Make the job's table ready as the next version of the recipe, or answer with a ready table that is the same.

    Raises what the producer raises; LostOwnership; DependencyCycle; KeyboardInterrupt. Whatever is raised leaves no files, no half-made table, and no
    recipe where there was none.
    """
    before = kitchen.catalog.recipes.get(name)
    try:
        return _produce(kitchen, name, job, bypass=bypass, on_progress=on_progress)
    except BaseException:
        if before is None or before.tenant != kitchen.scope.current:
            _forget_new(kitchen, name)
        raise


def _forget_new(kitchen: Kitchen, name: str) -> None:
    """Take away the recipe that a first run made and did not finish, unless another call has given it a version meanwhile."""
    made = kitchen.catalog.recipes.get(name)
    if made is not None and made.tenant == kitchen.scope.current and kitchen.catalog.tables.newest_of(made.tenant, name) is None:
        with contextlib.suppress(JammiError):
            kitchen.catalog.recipes.remove(name)


def _produce(kitchen: Kitchen, name: str, job: Job, *, bypass: bool, on_progress: OnProgress | None) -> Made:
    tenant = kitchen.scope.current
    may_wait, tries = not bypass, 0
    while True:
        kitchen.catalog.recipes.put(job.recipe(name, tenant, rfc3339(kitchen.clock.now_ns())))
        job, before = _bind_between(kitchen, name, job, tenant)
        if not bypass and (found := find_reusable(kitchen, job.definition, before.anchors)) is not None:
            try:
                return Made(kitchen.funnel.reuse(name, found.table_name), found, "reused")
            except TableNotFound:
                continue  # it was dropped between the look and here
        try:
            with (
                kitchen.funnel.begun(_order(name, job, flight=may_wait), _source_part(name, job), job.model_key) as begun,
                kitchen.flight.mine(job.definition),
            ):
                tries += 1
                return _build(kitchen, begun, job, before, on_progress, last=tries == _TRIES)
        except BuiltElsewhere as other:
            may_wait = kitchen.flight.wait(other.record, on_progress)
        except InputMoved:
            continue


def _bind_between(kitchen: Kitchen, name: str, job: Job, tenant: str | None) -> tuple[Job, Sighting]:
    """The job bound *after* its inputs were observed, with that observation: what is read is no older than what is recorded."""
    tried = 0
    while True:
        look = kitchen.look()
        for bound in job.inputs:
            if not isinstance(bound.relation.token, Pinned):
                look.observe(bound.relation.input, tenant)
        fresh = job.again()
        if (fresh.reads == job.reads and fresh.definition == job.definition) or tried == _TRIES:
            break
        job, tried = fresh, tried + 1
        kitchen.catalog.recipes.put(job.recipe(name, tenant, rfc3339(kitchen.clock.now_ns())))
    sighting = _sight(fresh, look, tenant)
    look.close()
    return fresh, sighting


def _build(kitchen: Kitchen, begun: TableRecord, job: Job, before: Sighting, on_progress: OnProgress | None, *, last: bool) -> Made:
    """Run a begun job to ready. InputMoved when an input moved meanwhile and another try is due."""
    stage = f"materialize {begun.recipe}"
    if on_progress:
        on_progress(Progress(stage=stage, done=0, total=None, unit="rows"))
    running = job.rows(on_progress)
    rows = running.rows
    try:
        with kitchen.funnel.build(begun, rows.schema) as building:
            for batch in rows.batches():
                building.write(batch)
                if on_progress:
                    on_progress(Progress(stage=stage, done=building.rows, total=None, unit="rows"))
            rows.close()
            body = body_of(building.seal(), begun.dimensions)
            check_key(kitchen, begun, body)
            settled = _settle(kitchen, job, before, last=last)
            types = kitchen.engine.describe(body, begun.tenant)
            _still_wanted(kitchen, begun)
            record = building.publish(types, job.descriptor.to_dict(), dict(job.environment), settled)
    except BaseException:
        running.lost()
        raise
    finally:
        rows.close()
    version = VersionRecord(
        recipe=record.recipe, version=record.version, table_name=record.table_name, tenant=record.tenant, created_at=record.created_at
    )
    running.published()
    return Made(version, record, "computed", running.reuse)


def _still_wanted(kitchen: Kitchen, begun: TableRecord) -> None:
    """Nothing, while the recipe is there. LostOwnership when it was dropped meanwhile: no version without a recipe is published."""
    recipe = kitchen.catalog.recipes.get(begun.recipe)
    if recipe is None or recipe.tenant != begun.tenant:
        raise LostOwnership(
            f"The recipe {begun.recipe!r} was dropped while it was being built; nothing was published.", hint="Run it again if it is still wanted."
        )


class InputMoved(Exception):
    """An input was changed while it was being read; internal."""


def _settle(kitchen: Kitchen, job: Job, before: Sighting, *, last: bool) -> list[Anchor]:
    """The anchors, seen again after the rows were read. InputMoved when one differs, or was written and put back in between, and another try is
    worth it; at last it is unpinned."""
    look = kitchen.look()
    sighting = _sight(job, look, kitchen.scope.current)
    look.close()
    after = {a.input.identity: a for a in sighting.anchors}
    settled = []
    for anchor in before.anchors:
        at = anchor.input.identity
        moved = anchor.pinned and not (anchor.same_state(after[at]) and before.stamps.get(at) == sighting.stamps.get(at))
        if moved and not last:
            raise InputMoved(f"{anchor.input.label} was changed while it was being read")
        settled.append(unpinned(anchor.input, look.instant, f"{anchor.input.label} kept changing while it was being read") if moved else anchor)
    return settled


class Built:
    """Provides the table that has just been built, under a name that nothing else has."""

    NAME = "__jammi_built"

    def __init__(self, body: str) -> None:
        self._relation = Relation(input=Input(kind=InputKind.RESULT, name=self.NAME), body=body)

    def resolve(self, parts: tuple[str, ...]) -> Relation | None:
        """The built table, when it is meant."""
        return self._relation if parts == (self.NAME,) else None

    def names(self) -> list[str]:
        """None: nobody is to be offered it."""
        return []


def key_columns(names: Sequence[str], key: Sequence[str]) -> list[str]:
    """The key's columns as the output spells them. SchemaMismatch, with the near name, for one that is not in the output."""
    spelt = {fold(n): n for n in names}
    for wanted in key:
        if fold(wanted) not in spelt:
            close = near(wanted, names)
            raise SchemaMismatch(
                f"The key column {wanted!r} is not in the output.",
                column=wanted,
                expected=wanted,
                actual=", ".join(names),
                hint=f"Did you mean {close[0]}?" if close else "",
            )
    return list(dict.fromkeys(spelt[fold(wanted)] for wanted in key))


def check_key(kitchen: Kitchen, begun: TableRecord, body: str) -> None:
    """Nothing, when the key columns are unique and never NULL. DuplicateKey with the first few offending keys."""
    if not begun.key:
        return
    columns = ", ".join(map(quote, begun.key))
    nulls = " OR ".join(f"{quote(c)} IS NULL" for c in begun.key)
    statement = f"SELECT {columns} FROM {Built.NAME} GROUP BY {columns} HAVING count(*) > 1 OR {nulls} ORDER BY {columns} LIMIT 5"
    [prepared] = kitchen.engine.prepare(statement, tenant=begun.tenant, extra=[Built(body)])
    found = prepared.run().table().to_pylist()
    if found:
        keys = [next(iter(row.values())) if len(row) == 1 else tuple(row.values()) for row in found]
        raise DuplicateKey(
            f"The key {', '.join(begun.key)} of {begun.recipe!r} must be unique and never NULL; not so: {', '.join(map(repr, keys))}.",
            keys=keys,
            hint="Name more columns in key=, or group the rows first.",
        )


def _order(name: str, job: Job, *, flight: bool) -> TableRecord:
    return TableRecord(
        table_name="",
        kind=job.kind,
        status=TableStatus.BUILDING,
        recipe=name,
        version=0,
        definition_hash=job.definition,
        source_id=_source_of(job),
        model_id=job.model_id,
        key=list(job.key),
        dimensions=job.dimensions,
        order_sensitive=job.order_sensitive,
        flight=flight,
    )


def _source_of(job: Job) -> str | None:
    """Whose rows these are: the one source behind all inputs, or None."""
    names: set[str | None] = set()
    for bound in job.inputs:
        token = bound.relation.token
        names.add(token.record.source_id if isinstance(token, Pinned) and token.record else bound.relation.input.name)
    return names.pop() if len(names) == 1 else None


def _source_part(name: str, job: Job) -> str:
    return _source_of(job) or name

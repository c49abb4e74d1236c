"""What every producer brings, and the one way in which a job becomes a ready table: look → reuse or build → look again → publish."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec
import pyarrow as pa

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.clock import Clock, rfc3339
from jammi_lab.config import Settings
from jammi_lab.engine.session import Engine
from jammi_lab.errors import LostOwnership, TableNotFound
from jammi_lab.observing.look import Look, Pinned
from jammi_lab.observing.observers import CURRENT_DATE
from jammi_lab.producers.claim import Claim
from jammi_lab.producers.flight import Flight, InputMoved
from jammi_lab.producers.keys import check_key
from jammi_lab.sources.base import Relation
from jammi_lab.store.funnel import BuiltElsewhere, Funnel, ReadyMeanwhile
from jammi_lab.store.results import Results, body_of
from jammi_lab.tenancy import TenantScope
from jammi_lab.values.anchors import Anchor, Input, InputKind, Observed, Snapshot, unpinned
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
    lost: Callable[[BaseException], None] = lambda _: None
    """Called when they will never be."""
    witnesses: Mapping[tuple[str, str, str], Observed] = field(default_factory=dict)
    """When all rows are read: the states of inputs, by identity, as the transaction that read them saw them."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """When all rows are read: what the manifest tells beside them (what of the inputs has no part in them, what was taken over), and how many."""


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

    @functools.cached_property
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


def united(job: Job) -> list[tuple[Relation, tuple[str, ...]]]:
    """Each input once, with all the columns that are read of it."""
    inputs: dict[tuple[str, str, str], tuple[Relation, set[str]]] = {}
    for bound in job.inputs:
        inputs.setdefault(bound.relation.input.identity, (bound.relation, set()))[1].update(bound.columns)
    return [(relation, tuple(sorted(columns))) for relation, columns in inputs.values()]


def anchors_of(job: Job, look: Look, tenant: str | None) -> list[Anchor]:
    """The states of everything that the job reads, one anchor an input with the columns united, as the look sees them."""
    anchors = [look.anchor(relation, columns, tenant) for relation, columns in united(job)]
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
    anchors = anchors_of(job, look, tenant)
    return Sighting(anchors, {bound.relation.input.identity: look.stamp(bound.relation, tenant) for bound in job.inputs})


def same_set(one: Sequence[Anchor], other: Sequence[Anchor]) -> bool:
    """Whether two anchor sets name the same states of the same inputs; the order does not matter, an unpinned anchor equals nothing."""
    theirs = {a.input.identity: a for a in other}
    return len(one) == len(other) == len(theirs) and all((t := theirs.get(a.input.identity)) is not None and a.same_state(t) for a in one)


def find_reusable(
    kitchen: Kitchen, definition: str, anchors: Sequence[Anchor], candidates: Sequence[TableRecord] | None = None
) -> TableRecord | None:
    """A ready table of this tenant made by the same definition over the same states, with its bytes intact; the newest such one. `candidates`: the
    ready tables of that definition, if they were looked up."""
    if not all(a.pinned for a in anchors):
        return None
    if candidates is None:
        candidates = kitchen.catalog.tables.by_definition(definition)
    return next((c for c in candidates if same_set(c.anchors, anchors) and kitchen.results.intact(c)), None)


def produce(kitchen: Kitchen, name: str, job: Job, *, bypass: bool, on_progress: OnProgress | None, instead_of: str | None = None) -> Made:
    """Make the job's table ready as the next version of the recipe, or answer with a ready table that is the same.

    The recipe gets the job's definition; with `instead_of`, a definition hash, only while it has that one, else Redefined.
    Raises what the producer raises; LostOwnership; DependencyCycle; KeyboardInterrupt. Whatever is raised leaves no files, no half-made table, and no
    recipe where there was none.
    """
    claim = Claim(kitchen.catalog, name, instead_of)
    try:
        return _produce(kitchen, claim, job, bypass=bypass, on_progress=on_progress)
    except BaseException:
        claim.forget()
        raise


def _produce(kitchen: Kitchen, claim: Claim, job: Job, *, bypass: bool, on_progress: OnProgress | None) -> Made:
    name, may_wait, tries, give_up = claim.name, not bypass, 0, None
    while True:
        claim.put(_recipe(kitchen, claim, job))
        job, before = _bind_between(kitchen, claim, job)
        ready = kitchen.catalog.tables.by_definition(job.definition)
        if not bypass and (found := find_reusable(kitchen, job.definition, before.anchors, ready)) is not None:
            try:
                return Made(kitchen.funnel.reuse(name, found.table_name), found, "reused")
            except TableNotFound:
                continue  # it was dropped between the look and here
        try:
            seen = None if bypass else {each.table_name for each in ready}
            with (
                kitchen.funnel.begun(_order(name, job, flight=may_wait), _source_of(job) or name, job.model_key, seen) as begun,
                kitchen.flight.mine(begun, on_progress) as tell,
            ):
                claim.hold(_recipe(kitchen, claim, job))
                tries += 1
                return _build(kitchen, begun, job, before, tell, last=tries == _TRIES, closely=on_progress is not None)
        except BuiltElsewhere as other:
            give_up = kitchen.flight.patience() if give_up is None else give_up  # one for all that this call waits for
            may_wait = kitchen.flight.wait(other.record, give_up, on_progress)
        except (InputMoved, ReadyMeanwhile) as moved:
            if moved.args[1:] == (True,) and tries == _TRIES - 1:
                kitchen.flight.rest()


def _recipe(kitchen: Kitchen, claim: Claim, job: Job) -> RecipeRecord:
    return job.recipe(claim.name, claim.tenant, rfc3339(kitchen.clock.now_ns()))


def _bind_between(kitchen: Kitchen, claim: Claim, job: Job) -> tuple[Job, Sighting]:
    """The job bound *after* its inputs were observed, with that observation: what is read is no older than what is recorded. When what it reads
    changes with every try, what was not observed before the last binding is recorded as unpinned."""
    tried = 0
    while True:
        look = kitchen.look()
        observed = set()
        for relation, columns in united(job):
            observed.add(relation.input.identity)
            if not isinstance(relation.token, Pinned):
                look.observe(msgspec.structs.replace(relation.input, columns=columns), claim.tenant)
        fresh = job.again()
        if (fresh.reads == job.reads and fresh.definition == job.definition) or tried == _TRIES:
            break
        job, tried = fresh, tried + 1
        claim.put(_recipe(kitchen, claim, job))
    if fresh.definition != job.definition:
        claim.put(_recipe(kitchen, claim, fresh))
    sighting = _sight(fresh, look, claim.tenant)
    look.close()
    late = {b.relation.input.identity for b in fresh.inputs if not isinstance(b.relation.token, Pinned)} - observed
    anchors = [_late(a, look) if a.input.identity in late else a for a in sighting.anchors]
    return fresh, Sighting(anchors, sighting.stamps)


def _late(anchor: Anchor, look: Look) -> Anchor:
    return unpinned(anchor.input, look.instant, f"what is read of {anchor.input.label} kept changing while it was bound")


def _build(kitchen: Kitchen, begun: TableRecord, job: Job, before: Sighting, tell: OnProgress, *, last: bool, closely: bool) -> Made:
    """Run a begun job to ready; `closely` lets an engine be asked all along how far it is. InputMoved when an input moved and another try is due."""
    stage = f"materialize {begun.recipe}"
    tell(Progress(stage=stage, done=0, total=None, unit="rows"))
    since = kitchen.clock.monotonic()  # a statement may do most of its work before its first row comes
    running = job.rows(tell if closely or job.kind is not TableKind.SQL else None)
    rows = running.rows
    try:
        with kitchen.funnel.build(begun, rows.schema, since) as building:
            for batch in rows.batches():
                building.write(batch)
                tell(Progress(stage=stage, done=building.rows, total=None, unit="rows"))
            rows.close()
            body = body_of(building.seal(), begun.dimensions)
            check_key(kitchen.engine, begun, body)
            settled = _settle(kitchen, job, before, running.witnesses, last=last)
            types = kitchen.engine.describe(body, begun.tenant)
            wanted = functools.partial(_still_wanted, kitchen, begun)
            record = building.publish(types, job.descriptor.to_dict(), dict(job.environment), settled, running.counts, wanted)
    except BaseException as error:
        running.lost(error)
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
            f"The recipe {begun.recipe!r} was dropped or renamed while it was being built; nothing was published.",
            hint="Run it again if it is still wanted.",
        )


def _settle(kitchen: Kitchen, job: Job, before: Sighting, witnesses: Mapping[tuple[str, str, str], Observed], *, last: bool) -> list[Anchor]:
    """The anchors, seen again after the rows were read, or witnessed by the transaction that read them. InputMoved when one differs that was not
    witnessed, or was written and put back in between, and another try is worth it; at last it is unpinned."""
    look = kitchen.look()
    for identity, seen in witnesses.items():
        look.saw(identity, kitchen.scope.current, seen)
    sighting = _sight(job, look, kitchen.scope.current)
    look.close()
    after = {a.input.identity: a for a in sighting.anchors}
    settled = []
    for anchor in before.anchors:
        at = anchor.input.identity
        if at in witnesses:
            settled.append(after[at])
            continue
        moved = anchor.pinned and not (anchor.same_state(after[at]) and before.stamps.get(at) == sighting.stamps.get(at))
        if moved and not last:
            raise InputMoved(f"{anchor.input.label} was changed while it was being read", anchor.same_state(after[at]))
        settled.append(unpinned(anchor.input, look.instant, f"{anchor.input.label} kept changing while it was being read") if moved else anchor)
    if not job.order_sensitive:  # else no bag of rows will ever speak for it
        look.note_rows(settled)
    return settled


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

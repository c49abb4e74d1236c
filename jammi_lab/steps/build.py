"""The one way to run a job: observe the inputs → reuse or build → observe again → publish."""

import contextlib
import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.core.anchors import Anchor, Identity, Observed, result_input
from jammi_lab.core.checks import Audit
from jammi_lab.core.clock import Clock, rfc3339
from jammi_lab.core.errors import JammiError, LostOwnership, TableDamaged, TableNotFound
from jammi_lab.core.manifest import Increment, InputFiles
from jammi_lab.core.records import (
    OnProgress,
    Progress,
    RecipeRecord,
    Reuse,
    TableRecord,
    TableStatus,
    VersionRecord,
)
from jammi_lab.core.settings import Settings
from jammi_lab.core.tenancy import TenantScope
from jammi_lab.engine.engine import Engine
from jammi_lab.engine.sql.append_algebra import NotIncremental
from jammi_lab.inputs.observation import Observation, PinnedState
from jammi_lab.sources.base import ReadPlan, Relation, Requirements
from jammi_lab.steps.anchor_confirmation import (
    MAX_ATTEMPTS,
    InputChanged,
    InputState,
    bind_after_observing,
    confirm_anchors,
    same_anchors,
    with_own_versions_resolved,
)
from jammi_lab.steps.increment import (
    PartialSums,
    PlannedIncrement,
    base_relation,
    find_increment,
)
from jammi_lab.steps.jobs import Job, RowStream, RunningJob
from jammi_lab.steps.key_check import check_key
from jammi_lab.steps.single_flight import SingleFlight
from jammi_lab.store.publish import (
    AlreadyBuilding,
    AlreadyReady,
    Derivation,
    Publisher,
    TableWriter,
)
from jammi_lab.store.result_files import ResultFiles, result_snapshot, select_file_sql
from jammi_lab.store.storage_errors import translate_storage_errors

_log = logging.getLogger("jammi_lab")


class RecipeRedefined(Exception):
    """The recipe was redefined or dropped meanwhile. `produce` raises it only when its caller
    expects a certain definition."""


class RecipeReservation:
    """The reservation of a recipe name by one call. The call owns the definition until another call
    defines the recipe; from then on the other call owns it."""

    def __init__(self, catalog: Catalog, name: str, expected_hash: str | None) -> None:
        self._catalog, self.name, self.tenant = catalog, name, catalog.scope.tenant
        self._stored: RecipeRecord | None = None
        self._stored_hash = expected_hash
        self._has_expected_hash = expected_hash is not None
        self._owns_definition = True
        self._synced = catalog.recipes.get(name)
        self._is_new = self._synced is None or self._synced.tenant != self.tenant

    def define(self, record: RecipeRecord) -> None:
        """Store the definition of the recipe, which is durable when a version of it is published,
        or after `sync`. Raises DependencyCycle, RecipeRedefined."""
        if not self._owns_definition:
            return
        stored = self._catalog.recipes.define(
            record,
            expected_hash=self._stored_hash,
            create_missing=not self._has_expected_hash,
            is_durable=False,
        )
        if stored is not None:
            self._stored, self._stored_hash = stored, stored.definition_hash
        elif self._has_expected_hash:
            raise RecipeRedefined(self.name)
        else:
            # a later call redefined the recipe and owns it; this call still builds its own table
            self._owns_definition = False

    def sync(self) -> None:
        """Make a changed definition durable. Raises ResourceExhausted."""
        if self._stored not in (None, self._synced):
            with translate_storage_errors(self.name):
                if (sync := self._catalog.database.start_sync()) is not None:
                    sync.wait()
            self._synced = self._stored

    def keep(self, record: RecipeRecord) -> None:
        """Store the definition again if the recipe was removed before this call's building row
        existed, as by the call that created it and failed. (Removal spares recipes that have such
        a row.) Raises as `define`."""
        stored = self._catalog.recipes.get(self.name)
        if stored is None or stored.tenant != self.tenant:
            self._is_new = True
            self.define(record)

    def rollback(self) -> None:
        """Undo: remove the recipe that this call created, unless another call has defined it, is
        building it or has published a version of it."""
        if self._is_new and self._owns_definition and self._stored_hash is not None:
            with contextlib.suppress(JammiError):
                self._catalog.recipes.remove_unbuilt(self.name, self._stored_hash)


@dataclass(frozen=True)
class Outcome:
    """The result of `produce`."""

    version: VersionRecord
    record: TableRecord
    outcome: str
    """"computed" or "reused"."""
    reuse: Reuse | None = None
    """The rows taken over from an earlier version."""
    increment: Increment | None = None
    """The increment by which it was computed."""
    full_run_reason: str = ""
    """Why a table that has an earlier version was computed in full, as one clause; empty where an
    increment is not expected."""
    damaged_versions: Sequence[int] = ()
    """Earlier versions whose rows would have been taken over, if they were not damaged."""


@dataclass(frozen=True)
class BuildContext:
    """The services of a workspace that builds need."""

    catalog: Catalog
    scope: TenantScope
    engine: Engine
    publisher: Publisher
    results: ResultFiles
    settings: Settings
    clock: Clock
    observe: Callable[[], Observation]
    """Starts a new deep observation."""
    single_flight: SingleFlight
    audit: Callable[..., Audit]
    """Runs the checks on the recipe of a table, over its rows or, before it is published, over a
    relation."""

    def sealed_relation(self, record: TableRecord, body: str, types: dict[str, str]) -> Relation:
        """The rows of a table that is not published yet, read by `body`."""
        return Relation(
            input=result_input(record.recipe),
            read=ReadPlan(body=body),
            columns=types,
            requirements=Requirements(filesystem=self.results.filesystem),
            token=PinnedState(result_snapshot(record), record),
        )


def find_reusable(
    ctx: BuildContext,
    definition: str,
    anchors: Sequence[Anchor],
    candidates: Sequence[TableRecord] | None = None,
) -> TableRecord | None:
    """The newest ready table of this tenant with the same definition, the same input states and
    intact bytes; None when there is none.

    `candidates`: the ready tables of that definition, when the caller has them already."""
    # An unpinned input may have changed without anybody noticing.
    if not all(a.pinned for a in anchors):
        return None
    if candidates is None:
        candidates = ctx.catalog.result_tables.by_definition(definition)
    return next(
        (c for c in candidates if same_anchors(c.anchors, anchors) and ctx.results.is_intact(c)),
        None,
    )


def produce(
    ctx: BuildContext,
    name: str,
    job: Job,
    *,
    bypass_cache: bool,
    on_progress: OnProgress | None,
    expected_hash: str | None = None,
) -> Outcome:
    """Publish the job's table as the next version of the recipe, or reuse an equal ready table.

    The recipe gets the job's definition. With `expected_hash` (a definition hash) it does so only
    while its current definition has that hash; otherwise RecipeRedefined is raised. Also raises
    what the producer raises, LostOwnership, DependencyCycle and KeyboardInterrupt. On any error no
    file, no partial table and no new recipe remains.

    Tells the logger `jammi_lab` what came of it.
    """
    reservation = RecipeReservation(ctx.catalog, name, expected_hash)
    try:
        made = _produce_with_retries(
            ctx, reservation, job, bypass_cache=bypass_cache, on_progress=on_progress
        )
    except BaseException as error:
        reservation.rollback()
        _log.info("%s failed: %s: %s", name, type(error).__name__, error)
        raise
    rows = made.record.row_count
    _log.info("%s version %s %s, rows: %s", name, made.version.version, made.outcome, rows)
    return made


def _produce_with_retries(
    ctx: BuildContext,
    reservation: RecipeReservation,
    job: Job,
    *,
    bypass_cache: bool,
    on_progress: OnProgress | None,
) -> Outcome:
    name, may_wait, attempts, deadline = reservation.name, not bypass_cache, 0, None
    while True:
        reservation.define(_recipe_record(ctx, reservation, job))
        job, state_before = bind_after_observing(
            ctx.observe,
            reservation.tenant,
            job,
            lambda rebound: reservation.define(_recipe_record(ctx, reservation, rebound)),
        )
        anchors = with_own_versions_resolved(ctx.catalog, name, state_before.anchors)
        state_before = replace(state_before, anchors=anchors)
        ready = ctx.catalog.result_tables.by_definition(job.definition)
        if (
            not bypass_cache
            and (reusable := find_reusable(ctx, job.definition, state_before.anchors, ready))
            is not None
            and (audited := _audit_reuse(ctx, name, reusable)).failure is None
        ):
            try:
                version = ctx.publisher.reuse(name, reusable.table_name, audited)
                reservation.sync()  # a table that is the newest version already commits nothing
                return Outcome(version, reusable, "reused")
            except TableNotFound:
                pass  # the table was dropped after the observation
        try:
            return _lead_build(
                ctx,
                reservation,
                job,
                state_before,
                None if bypass_cache else ready,
                on_progress,
                is_shared=may_wait,
                is_last_attempt=attempts == MAX_ATTEMPTS - 1,
            )
        except AlreadyBuilding as concurrent:
            may_wait = False
            if not ctx.publisher.has_failed(concurrent.record):
                # one deadline for all builds that this call waits for
                deadline = deadline or ctx.clock.monotonic() + ctx.single_flight.wait_seconds()
                may_wait = ctx.single_flight.wait(concurrent.record, deadline, on_progress)
        except AlreadyReady:
            continue  # the next pass reuses that table, or rejects it as well
        except InputChanged as change:
            attempts += 1
            # (True,): only the change token moved, which a server with whole-second times reports
            # for any recent write; let the inputs age before the last attempt
            if change.args[1:] == (True,) and attempts == MAX_ATTEMPTS - 1:
                ctx.single_flight.wait_for_distinct_timestamps()


def _lead_build(
    ctx: BuildContext,
    reservation: RecipeReservation,
    job: Job,
    state_before: InputState,
    ready: Sequence[TableRecord] | None,
    on_progress: OnProgress | None,
    *,
    is_shared: bool,
    is_last_attempt: bool,
) -> Outcome:
    """Build the table under a building row of this call, which others may wait for if `is_shared`.
    `ready`: the tables of the definition that this call rejected; None to build in any case.

    Raises AlreadyBuilding while another call builds the same, AlreadyReady when one has just done
    so, and as `_build`."""
    # Between the look at the ready tables and the building row another kernel may begin and end the
    # same build; the row is therefore refused when a ready table is there that was not known here.
    known_tables = None if ready is None else {record.table_name for record in ready}
    with (
        ctx.publisher.build_row(
            _build_request(reservation.name, job, is_shared=is_shared),
            _single_source(job) or reservation.name,
            job.model_key,
            known_tables,
            lambda: reservation.keep(_recipe_record(ctx, reservation, job)),
        ) as build_record,
        ctx.single_flight.lead(build_record, on_progress) as report_progress,
    ):
        return _build(
            ctx,
            build_record,
            job,
            state_before,
            report_progress,
            ready,
            is_last_attempt=is_last_attempt,
            poll_progress=on_progress is not None,
        )


def _audit_reuse(ctx: BuildContext, name: str, reusable: TableRecord) -> Audit:
    """The checks of a recipe on the ready table of another version or recipe. Nothing is checked
    when the table is the newest version already."""
    newest = ctx.catalog.result_tables.newest_of_owner(reusable.tenant, name)
    if newest is not None and newest[1].table_name == reusable.table_name:
        return Audit()
    return ctx.audit(reusable.with_values(recipe=name, version=0))  # no number yet


def _recipe_record(ctx: BuildContext, reservation: RecipeReservation, job: Job) -> RecipeRecord:
    return job.recipe(reservation.name, reservation.tenant, rfc3339(ctx.clock.now_ns()))


def _build(
    ctx: BuildContext,
    build_record: TableRecord,
    job: Job,
    state_before: InputState,
    report_progress: OnProgress,
    bases: Sequence[TableRecord] | None,
    *,
    is_last_attempt: bool,
    poll_progress: bool,
) -> Outcome:
    """Build, seal, check and publish the table of a building row.

    `bases`: the earlier tables that an increment may extend; None for a full computation.
    `poll_progress`: poll the engine for progress while it runs. Raises InputChanged when an input
    changed during the build and another attempt remains."""
    stage = f"materialize {build_record.recipe}"
    report_progress(Progress(stage=stage, done=0, total=None, unit="rows"))
    started_at = ctx.clock.monotonic()  # a statement may do most of its work before its first row
    polled = report_progress if poll_progress or not job.descriptor.is_statement else None
    running, full_run_reason = _start(ctx, job, state_before, bases, polled)
    rows = running.rows
    try:
        with ctx.publisher.open_writer(build_record, rows.schema, started_at) as writer:
            _write_rows(writer, rows, stage, report_progress)
            sealed = writer.seal()
            if build_record.key:
                check_key(ctx.engine, build_record, sealed)
            body = select_file_sql(sealed, build_record.dimensions)
            anchors = confirm_anchors(
                ctx.observe,
                ctx.scope.current,
                job,
                state_before,
                running.snapshots,
                is_last_attempt=is_last_attempt,
            )
            types = ctx.engine.describe(body, build_record.tenant)
            record = writer.publish(
                types,
                job.stored_form,
                dict(job.environment),
                anchors,
                running.counts,
                Derivation(
                    _confirmed_files(state_before, anchors),
                    running.increment,
                    running.partial_sums(),
                ),
                functools.partial(_check_still_wanted, ctx, build_record),
                lambda record: ctx.audit(record, ctx.sealed_relation(record, body, types)),
            )
    except BaseException as error:
        running.on_lost(error)
        raise
    finally:
        rows.close()
    running.on_published()
    return _computed_outcome(record, running, full_run_reason)


def _write_rows(
    writer: TableWriter, rows: RowStream, stage: str, report_progress: OnProgress
) -> None:
    """Write all rows of a job, and report how many there are by now."""
    for batch in rows.batches():
        writer.write(batch)
        report_progress(Progress(stage=stage, done=writer.rows, total=None, unit="rows"))
    rows.close()


def _computed_outcome(record: TableRecord, running: RunningJob, full_run_reason: str) -> Outcome:
    """The outcome of a build that was published."""
    version = VersionRecord(
        recipe=record.recipe,
        version=record.version,
        table_name=record.table_name,
        tenant=record.tenant,
        created_at=record.created_at,
    )
    return Outcome(
        version,
        record,
        "computed",
        running.reuse,
        running.increment,
        full_run_reason,
        running.damaged_versions,
    )


def _start(
    ctx: BuildContext,
    job: Job,
    state: InputState,
    bases: Sequence[TableRecord] | None,
    on_progress: OnProgress | None,
) -> tuple[RunningJob, str]:
    """Start an increment where one is proved to give the same rows, else the full computation; and
    why it is a full one, empty where nothing else is expected."""
    try:
        planned = plan_increment(ctx, job, state.anchors, state.files, bases or ())
        base = base_relation(ctx.results, planned)
        assert job.incremental is not None, "an increment was planned"
        states: dict[Identity, Observed] = {}
        rows = job.incremental().start(planned, base, states)
        kept = rows.file_body if isinstance(rows, PartialSums) else lambda: None
        increment = planned.record
        running = RunningJob(rows, snapshots=states, increment=increment, partial_sums=kept)
        return running, ""
    except (NotIncremental, TableDamaged) as error:
        reason = str(error) if bases else ""
    # outside the handler, whose error would stand before each error of the full computation
    return job.start(on_progress), reason


def plan_increment(
    ctx: BuildContext,
    job: Job,
    anchors: Sequence[Anchor],
    files: Mapping[Identity, InputFiles],
    bases: Sequence[TableRecord],
) -> PlannedIncrement:
    """The increment by which a job can be computed. Raises NotIncremental."""
    check_incremental(ctx, job)
    assert job.incremental is not None, "it was checked"
    if not bases:
        raise NotIncremental("there is no earlier version with this definition")
    return find_increment(ctx.results, job.incremental(), anchors, files, bases)


def check_incremental(ctx: BuildContext, job: Job) -> None:
    """Raise NotIncremental for a job that is always computed in full."""
    if job.incremental is None or job.volatile or job.reads_date:
        raise NotIncremental("its rows do not depend on the rows of its inputs alone")
    if job.order_sensitive:
        raise NotIncremental("its rows depend on the order of its inputs")
    if ctx.settings["recompute.incremental"] == "never":
        raise NotIncremental('the setting recompute.incremental is "never"')


def _confirmed_files(state: InputState, anchors: Sequence[Anchor]) -> list[InputFiles]:
    """The files of the inputs that did not change while they were read."""
    pinned = {anchor.input.identity for anchor in anchors if anchor.pinned}
    return [files for identity, files in state.files.items() if identity in pinned]


def _check_still_wanted(ctx: BuildContext, build_record: TableRecord) -> None:
    """Raise LostOwnership when the recipe was dropped meanwhile: a version is never published
    without its recipe."""
    recipe = ctx.catalog.recipes.get(build_record.recipe)
    if recipe is None or recipe.tenant != build_record.tenant:
        raise LostOwnership(
            f"The recipe {build_record.recipe!r} was dropped or renamed while it was being built; "
            "nothing was published.",
            hint="Run it again if it is still wanted.",
        )


def _build_request(name: str, job: Job, *, is_shared: bool) -> TableRecord:
    return TableRecord(
        table_name="",
        kind=job.kind,
        status=TableStatus.BUILDING,
        recipe=name,
        version=0,
        definition_hash=job.definition,
        source_id=_single_source(job),
        model_id=job.model_id,
        key=list(job.key),
        dimensions=job.dimensions,
        order_sensitive=job.order_sensitive,
        flight=is_shared,
    )


def _single_source(job: Job) -> str | None:
    """The one source behind all inputs; None when there are several."""
    names: set[str | None] = set()
    for bound in job.inputs:
        token = bound.relation.token
        names.add(
            token.record.source_id
            if isinstance(token, PinnedState) and token.record
            else bound.relation.input.name
        )
    return names.pop() if len(names) == 1 else None

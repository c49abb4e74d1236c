"""Runs one check on one version of a table, published or sealed and not yet published; and judges
its earlier results.

A check is run as the count of its rows, which reads only the columns that decide whether a row
fails. Its result belongs to the states of what it read: while the verdict on it is fresh, it is
taken over and no statement is run.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.core.anchors import (
    Anchor,
    Input,
    Snapshot,
    Unknown,
    origin_inputs,
    result_input,
)
from jammi_lab.core.checks import Audit, CheckOutcome, CheckRecord, CheckResult
from jammi_lab.core.clock import Clock, rfc3339
from jammi_lab.core.errors import CheckFailed, InvalidArgument, JammiError, SessionClosed
from jammi_lab.core.html import count_noun
from jammi_lab.core.identifiers import fold, quoted_name
from jammi_lab.core.recipes import decode_params
from jammi_lab.core.records import TableRecord, TableStatus
from jammi_lab.core.tenancy import TenantScope
from jammi_lab.core.verdicts import DefinitionChanged, Fresh, Stale, Verdict
from jammi_lab.engine.engine import Engine
from jammi_lab.engine.name_resolution import NameResolver
from jammi_lab.engine.prepared_statement import PreparedStatement
from jammi_lab.freshness.table_verdict import (
    Evidence,
    State,
    evaluate_table,
    with_changed_meaning,
)
from jammi_lab.inputs.observation import Observation, PinnedState
from jammi_lab.inputs.result_names import JAMMI
from jammi_lab.sources.base import ReadPlan, Relation
from jammi_lab.steps.anchor_confirmation import bind_after_observing, confirm_anchors, same_anchors
from jammi_lab.steps.recipe import BindContext, statement_environment
from jammi_lab.steps.sql import Sql
from jammi_lab.store.result_files import result_snapshot

PREVIOUS = "previous"
"""In the statement of a check: the newest ready version before the one that is checked, without
rows at the first. In anchors it is a table of the checked recipe."""
_SAMPLE_ROWS = 5


class CheckedTable(NameResolver):
    """Resolves the names of the checked table in the statement of a check, among them the aliases
    of its recipe, to one version of it, and `previous` to the version before."""

    def __init__(
        self,
        check: CheckRecord,
        relation: Relation,
        resolve_alias: Callable[[str], str],
        read_previous: Callable[[Relation], Relation],
    ) -> None:
        self._check, self._resolve_alias = check, resolve_alias
        self._read_previous = read_previous
        # The name in the statement, so that results stay comparable after a rename.
        self._relation = dataclasses.replace(relation, input=result_input(check.subject))

    def resolve(self, parts: tuple[str, ...]) -> Relation | None:
        """The version, for `jammi.<table>`; the one before for `previous`."""
        if len(parts) == 1 and fold(parts[0]) == PREVIOUS:
            return self._read_previous(self._relation)
        schema, _, table = ".".join(parts).partition(".")
        if fold(schema) != JAMMI:
            return None
        named = (fold(table), fold(self._resolve_alias(table)))
        is_subject = fold(self._check.subject) == named[0] or fold(self._check.recipe) == named[1]
        return self._relation if is_subject else None


class CheckRunner:
    """Runs checks, and judges earlier results."""

    def __init__(
        self,
        catalog: Catalog,
        engine: Engine,
        scope: TenantScope,
        clock: Clock,
        observe: Callable[[], Observation],
        read_table: Callable[[TableRecord], Relation],
    ) -> None:
        """`read_table` returns the rows of a version. TableDamaged."""
        self._catalog, self._engine, self.scope = catalog, engine, scope
        self._clock, self._observe, self._read_table = clock, observe, read_table
        self.select_text = engine.select_text
        self._definitions: dict[tuple[str, bytes], str] = {}

    @functools.cached_property
    def _environment(self) -> dict[str, Any]:
        return statement_environment(self._engine)

    def definition_hash(self, check: CheckRecord) -> str:
        """The current definition of a check."""
        key = (check.statement, msgspec.json.encode(check.params))
        if key not in self._definitions:
            self._definitions[key] = check.definition_hash(self._environment)
        return self._definitions[key]

    # -- running
    # ----------------------------------------------------------------------------------------------

    def audit(
        self, checks: Sequence[CheckRecord], record: TableRecord, sealed: Relation | None
    ) -> Audit:
        """Run checks on the recipe of a table, over the sealed rows if it is not published."""
        observation, relation = self._observe(), sealed or self._read_table(record)
        results = [
            self.find_known(check, record, observation) or self.run(check, record, relation)
            for check in checks
        ]
        observation.close()
        blocking = [pair for pair in zip(checks, results, strict=True) if pair[1].blocks]
        if not blocking:
            return Audit(checks, results)
        [(check, result), *others] = blocking
        names = ", ".join(repr(other.name) for other, _ in others)
        subject = f"Version {record.version} of {record.recipe!r} cannot become the newest"
        hint = f"{record.recipe!r} keeps its newest version, if it has one."
        if record.version:
            hint += f" ws.checks[{check.name!r}].rows({record.version}) shows the failing rows."
        else:  # a table of before, restored or reused, which has no number in this recipe
            subject = f"That table cannot become the newest version of {record.recipe!r}"
        also = f"; it also fails {names}" if others else ""
        return Audit(checks, results, self._failure(check, relation, result, subject, also, hint))

    def run(
        self, check: CheckRecord, record: TableRecord, relation: Relation | None = None
    ) -> CheckResult:
        """Run a check on a version, which `relation` reads if it is not published."""
        relation, started = relation or self._read_table(record), self._clock.monotonic()
        failing, anchors, error = None, list[Anchor](), None
        try:
            with self.scope.use(check.tenant):
                failing, anchors = self.count_failing(check, record, relation)
        except SessionClosed:
            raise
        except JammiError as failure:
            error = self._error_text(check, failure)
        outcome = CheckOutcome.FAIL if failing else CheckOutcome.PASS
        return CheckResult(
            check=check.name,
            table_name=record.table_name,
            tenant=check.tenant,
            definition_hash=self.definition_hash(check),
            severity=check.severity,
            outcome=CheckOutcome.ERROR if failing is None else outcome,
            failing=failing,
            error=error,
            anchors=anchors,
            checked_at=rfc3339(self._clock.now_ns()),
            seconds=round(self._clock.monotonic() - started, 6),
        )

    def count_failing(
        self, check: CheckRecord, record: TableRecord, relation: Relation
    ) -> tuple[int, list[Anchor]]:
        """The number of failing rows, and the states of what was read. Raises what the statement
        raises."""
        resolvers = self._overriding_resolvers(check, relation)
        ctx = BindContext(self._engine, self.scope, overriding_resolvers=resolvers)
        statement = _wrap_statement(check, "count(*) AS failing")
        job = Sql(statement, decode_params(check.params)).bind(ctx)
        job, before = bind_after_observing(self._observe, check.tenant, job)
        _check_reads_subject(check, [bound.relation.input for bound in job.inputs])
        for anchor in before.anchors:
            for table in origin_inputs(anchor):
                raise InvalidArgument(
                    f"The check {check.name!r} reads the frame {anchor.input.label!r}, "
                    f"which was made from {table.input.label!r}.",
                    hint=f"ws.materialize('name', 'FROM {anchor.input.label}'); read jammi.name.",
                )
        for earlier in self.earlier_results(check, record):
            if earlier.failing is not None and same_anchors(earlier.anchors, before.anchors):
                return earlier.failing, before.anchors
        running = job.start(None)
        with contextlib.closing(running.rows) as rows:
            [failing] = [n for batch in rows.batches() for n in batch.column(0).to_pylist()]
        return failing, confirm_anchors(
            self._observe, check.tenant, job, before, running.snapshots, is_last_attempt=True
        )

    def _failure(
        self,
        check: CheckRecord,
        relation: Relation,
        result: CheckResult,
        subject: str,
        also: str,
        hint: str,
    ) -> CheckFailed:
        """The error of rows that do not pass a blocking check, with the first of them."""
        rule, sample = f"the check {check.name!r} ({check.text})", list[Any]()
        failing = result.failing
        if failing is None:
            problem = f"{rule} could not be run: {result.error}"
            hint = f"Correct the check, or remove it: ws.checks.remove({check.name!r})"
        else:
            problem = f"{count_noun(failing, 'row')} fail{'s' * (failing == 1)} {rule}"
            with contextlib.suppress(JammiError):
                rows = self._prepare(check, relation, "*", f" LIMIT {_SAMPLE_ROWS}")
                sample = rows.run_ordered().table().to_pylist()
        return CheckFailed(
            f"{subject}: {problem}{also}.",
            check=check.name,
            table=check.recipe,
            failing=failing,
            sample=sample,
            hint=hint,
        )

    def _error_text(self, check: CheckRecord, error: JammiError) -> str:
        """The recorded reason of an error. It may quote a row, so only its class is recorded while
        the tenant has ephemeral sessions, of which nothing may remain."""
        if check.tenant is not None and self._catalog.sessions.list():
            return type(error).__name__
        return error.message.rstrip(".")

    # -- statements
    # ----------------------------------------------------------------------------------------------

    def prepare_rows(
        self, check: CheckRecord, record: TableRecord, limit: int | None = None
    ) -> PreparedStatement:
        """The statement of the failing rows of a version. Raises as binding does."""
        relation = self._read_table(record)
        if limit is None:
            return self._prepare(check, relation)
        return self._prepare(check, relation, "*", f" LIMIT {limit}")

    def _prepare(
        self, check: CheckRecord, relation: Relation, columns: str = "", suffix: str = ""
    ) -> PreparedStatement:
        """The statement as written, or some columns of it."""
        with self.scope.use(check.tenant):
            [prepared] = self._engine.prepare(
                _wrap_statement(check, columns, suffix) if columns else check.statement,
                decode_params(check.params),
                tenant=check.tenant,
                overriding_resolvers=self._overriding_resolvers(check, relation),
            )
        _check_reads_subject(check, [read.relation.input for read in prepared.inputs])
        return prepared

    def _overriding_resolvers(self, check: CheckRecord, relation: Relation) -> list[CheckedTable]:
        resolve_alias = self._catalog.aliases.resolve
        return [CheckedTable(check, relation, resolve_alias, self._read_previous)]

    def _read_previous(self, checked: Relation) -> Relation:
        """The rows of the version before the checked one; none at the first."""
        assert isinstance(checked.token, PinnedState)
        assert checked.token.record is not None
        named = checked.input.with_values(table=PREVIOUS)
        previous = self._previous_version(checked.token.record)
        if previous is not None:
            return dataclasses.replace(self._read_table(previous), input=named)
        return dataclasses.replace(
            checked,
            input=named,
            read=ReadPlan(body=f"SELECT * FROM ({checked.read.body}) WHERE false"),
            token=PinnedState(_state_without_rows(checked.token.record)),
        )

    def _previous_version(self, checked: TableRecord) -> TableRecord | None:
        """The newest ready version before a version of a recipe; None for the first."""
        tables = self._catalog.result_tables
        with self.scope.use(checked.tenant):
            versions = list(tables.versions(checked.recipe))
        numbers = [v.version for v, r in versions if r.table_name == checked.table_name]
        is_numbered = checked.version > 0 and bool(numbers)
        for version, record in versions:  # the newest first
            is_before = not is_numbered or version.version < max(numbers)
            is_other = record.table_name != checked.table_name
            if is_before and is_other and record.status is TableStatus.READY:
                return record
        return None

    # -- earlier results
    # ----------------------------------------------------------------------------------------------

    def find_known(
        self, check: CheckRecord, record: TableRecord, observation: Observation
    ) -> CheckResult | None:
        """An earlier result, found on this or another version, as the result on a table for which
        it holds, too: it is fresh there. Runs no statement."""
        for earlier in self.earlier_results(check, record):
            if isinstance(self.verdict(check, record, earlier, observation), Fresh):
                found = {"table_name": record.table_name, "severity": check.severity}
                return earlier.with_values(**found)
        return None

    def verdict(
        self,
        check: CheckRecord,
        record: TableRecord,
        result: CheckResult | None,
        observation: Observation,
        parents: Iterable[tuple[str, Verdict]] = (),
    ) -> Verdict:
        """Whether a result holds for a table: its definition, the states of what it read, and the
        verdicts on the other tables that it read. A check without a result, or with an error, is
        stale: it has to be run."""
        current = self.definition_hash(check)
        if result is None or result.outcome is CheckOutcome.ERROR:
            return Stale([DefinitionChanged(recorded=None, current=current)])
        return evaluate_table(
            Evidence(
                recorded=result.definition_hash,
                current=current,
                anchors=tuple(result.anchors),
                current_states={
                    anchor.input.identity: self._state(anchor, check, record, observation)
                    for anchor in result.anchors
                },
                observed_at=observation.started_at,
            ),
            parents,
        )

    def _state(
        self,
        recorded: Anchor,
        check: CheckRecord,
        record: TableRecord,
        observation: Observation,
    ) -> State:
        """The present state of what a check read. Of other columns, the statement may mean
        something else, which only running it again can tell."""
        if not is_version_of_subject(check, recorded.input):
            state = observation.observe(recorded.input, check.tenant)
        else:
            is_previous = recorded.input.table == PREVIOUS
            read = self._previous_version(record) if is_previous else record
            state = _state_without_rows(record) if read is None else result_snapshot(read)
        if not isinstance(state, Snapshot):
            return state
        if not state.covers(recorded.columns):
            return Unknown(why="its columns were not observed")
        current = state.anchor(recorded.input, recorded.columns)
        return current if current.schema == recorded.schema else with_changed_meaning(current)

    def earlier_results(self, check: CheckRecord, record: TableRecord) -> list[CheckResult]:
        """The newest results of the current definition: those on the table, newest first, then
        those on other versions."""
        definition = self.definition_hash(check)
        results = self._catalog.checks.results(check, record.table_name, others=True)
        return [result for result in results if result.definition_hash == definition]


def is_version_of_subject(check: CheckRecord, input_: Input) -> bool:
    """Whether an input of a check is the checked version, or the one before."""
    return input_.kind_class.is_result and input_.name == check.subject


def _state_without_rows(checked: TableRecord) -> Snapshot:
    """The state of `previous` at the first version."""
    return result_snapshot(checked).with_values(
        whole="",
        by_column={column.name: "" for column in checked.columns},
        row_count=0,
        version=None,
    )


def _check_reads_subject(check: CheckRecord, inputs: Iterable[Input]) -> None:
    """Raise InvalidArgument for a statement that does not read what it is to check: its result
    would say nothing about that."""
    names = {fold(check.subject), fold(check.recipe)}
    if not any(i.kind_class.is_result and fold(i.label) in names for i in inputs):
        name = quoted_name(JAMMI, check.recipe)
        raise InvalidArgument(
            f"The check {check.name!r} does not read {check.recipe!r}, the table that it checks.",
            hint=f"In its statement, {name} means the version being checked.",
        )


def _wrap_statement(check: CheckRecord, columns: str, suffix: str = "") -> str:
    return f"SELECT {columns} FROM (\n{check.statement}\n){suffix}"

"""Runs checks on one version of a table: published, or sealed and not yet published.

A check is run as the count of its rows, which reads only the columns that decide whether a row
fails. Its result belongs to the states of what it read: while they are equal, it is taken over and
no statement is run.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.core.anchors import Anchor, Input, Observed, Snapshot
from jammi_lab.core.checks import Audit, CheckOutcome, CheckRecord, CheckResult
from jammi_lab.core.clock import Clock, rfc3339
from jammi_lab.core.definitions import decode_param
from jammi_lab.core.errors import CheckFailed, InvalidArgument, JammiError, SessionClosed
from jammi_lab.core.html import count_noun
from jammi_lab.core.identifiers import fold, quoted_name
from jammi_lab.core.records import TableRecord, TableStatus
from jammi_lab.core.tenancy import TenantScope
from jammi_lab.engine.engine import Engine
from jammi_lab.engine.name_resolution import NameResolver
from jammi_lab.engine.prepared_statement import PreparedStatement
from jammi_lab.inputs.observation import Observation, PinnedState
from jammi_lab.inputs.result_names import JAMMI
from jammi_lab.sources.base import ReadPlan, Relation
from jammi_lab.sources.scratch_duckdb import sql_types
from jammi_lab.steps.anchor_confirmation import bind_after_observing, confirm_anchors, same_anchors
from jammi_lab.steps.recipe import BindContext, statement_environment
from jammi_lab.steps.sql import Sql
from jammi_lab.store.result_files import result_snapshot

if TYPE_CHECKING:
    import pyarrow as pa

PREVIOUS = "previous"
"""In the statement of a check on a result table: the newest ready version before the one that is
checked, without rows at the first. In anchors it is a table of the checked recipe."""
_MAX_EARLIER_RESULTS = 4
"""How many earlier results of a check are compared with the present states."""
_SAMPLE_ROWS = 5


class KnownResult(NamedTuple):
    """An earlier result that still holds."""

    result: CheckResult
    is_latest: bool
    """Whether it is stored as the latest result on the table in question."""


class CheckedTableResolver(NameResolver):
    """Resolves the names of the checked table in the statement of a check, among them the aliases
    of its recipe, to one version of it, and `previous` to the version before."""

    def __init__(
        self,
        check: CheckRecord,
        relation: Relation,
        resolve_alias: Callable[[str], str],
        read_previous: Callable[[Relation], Relation],
    ) -> None:
        self._schema = check.name_parts[0]
        self._names = {fold(check.subject), fold(check.recipe)}
        self._recipe, self._resolve_alias = fold(check.recipe), resolve_alias
        # The name in the statement, so that results stay comparable after a rename.
        self._relation = dataclasses.replace(
            relation, input=Input(kind=check.kind, name=check.subject)
        )
        self._has_versions, self._read_previous = check.kind_class.is_result, read_previous

    def resolve(self, parts: tuple[str, ...]) -> Relation | None:
        """The version, for `jammi.<table>` or `mutable.<table>`; the one before for `previous`."""
        if self._has_versions and fold(parts[0]) == PREVIOUS and len(parts) == 1:
            return self._read_previous(self._relation)
        schema, _, table = ".".join(parts).partition(".")
        is_subject = fold(schema) == self._schema and (
            fold(table) in self._names
            or (self._schema == JAMMI and fold(self._resolve_alias(table)) == self._recipe)
        )
        return self._relation if is_subject else None


class CheckRunner:
    """Runs checks, and decides when an earlier result still holds."""

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

    def audit(self, record: TableRecord, relation: Relation) -> Audit:
        """Run all checks on the recipe of a table over its rows, which `relation` reads."""
        checks = self._catalog.checks.of_recipe(record.tenant, record.recipe)
        if not checks:
            return Audit()
        observation = self._observe()
        results = [self.run(check, record, relation, observation) for check in checks]
        observation.close()
        blocking = [pair for pair in zip(checks, results, strict=True) if pair[1].blocks]
        failure = self._failure(record, relation, blocking) if blocking else None
        return Audit(checks, results, failure)

    def run(
        self,
        check: CheckRecord,
        record: TableRecord | None,
        relation: Relation | None,
        observation: Observation,
    ) -> CheckResult:
        """The result of a check on a version, which `relation` reads, or with None on the present
        state of a source or a mutable table: an earlier one that still holds, else a new one."""
        known = self.find_known(check, record, observation)
        if known is None:
            return self._compute(check, record, relation)
        return result_for_table(known.result, check, record)

    def find_known(
        self, check: CheckRecord, record: TableRecord | None, observation: Observation
    ) -> KnownResult | None:
        """An earlier result of this definition, on this or another version, that holds for a table
        because the states of everything that it read are equal. Runs no statement."""
        for number, earlier in enumerate(self._earlier_results(check, record)):
            if earlier.outcome is CheckOutcome.ERROR:
                continue
            current = [self._current_anchor(a, check, record, observation) for a in earlier.anchors]
            if all(
                now is not None
                and anchor.same_state(now)
                and anchor.schema == now.schema
                and anchor.same_server_types(now)
                for anchor, now in zip(earlier.anchors, current, strict=True)
            ):
                is_own = earlier.table_name == checked_name(check, record)
                return KnownResult(earlier, is_own and number == 0)
        return None

    def prepare_rows(
        self, check: CheckRecord, relation: Relation | None, limit: int | None = None
    ) -> PreparedStatement:
        """The statement of the failing rows of a version, or with None of the present state of a
        source or a mutable table. Raises as binding does."""
        statement = (
            check.statement if limit is None else _wrap_statement(check, "*", f" LIMIT {limit}")
        )
        return self._prepare(check, statement, relation)

    def _prepare(
        self, check: CheckRecord, statement: str, relation: Relation | None
    ) -> PreparedStatement:
        with self.scope.use(check.tenant):
            [prepared] = self._engine.prepare(
                statement,
                _params(check),
                tenant=check.tenant,
                overriding_resolvers=self._overriding_resolvers(check, relation),
            )
        _check_reads_subject(check, [read.relation.input for read in prepared.inputs])
        return prepared

    def _overriding_resolvers(
        self, check: CheckRecord, relation: Relation | None
    ) -> list[CheckedTableResolver]:
        if relation is None:
            return []
        resolve_alias = self._catalog.aliases.resolve
        return [CheckedTableResolver(check, relation, resolve_alias, self._read_previous)]

    def _read_previous(self, checked: Relation) -> Relation:
        """The rows of the version before the checked one; none at the first."""
        assert isinstance(checked.token, PinnedState)
        assert checked.token.record is not None
        named = msgspec.structs.replace(checked.input, table=PREVIOUS)
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

    def check_rows(self, checks: Sequence[CheckRecord], rows: "pa.Table") -> CheckFailed | None:
        """The error of rows that a mutable table is about to have and that do not pass all of these
        checks; None when they do."""
        for check in checks:
            relation = Relation(
                Input(kind=check.kind, name=check.subject),
                ReadPlan(frame=rows),
                columns=sql_types(rows.schema),
            )
            failing, problem = None, ""
            try:
                counted = self._prepare(check, _wrap_statement(check, "count(*)"), relation)
                [[failing]] = counted.run().table().columns
                failing = failing.as_py()
            except SessionClosed:
                raise
            except JammiError as error:
                problem = self._error_text(check, error)
            if failing != 0:
                return CheckFailed(
                    f"{check.label!r} was not changed: "
                    f"{_describe_problem(check, failing, problem)}.",
                    check=check.name,
                    table=check.recipe,
                    failing=failing,
                    sample=self._sample(check, relation) if failing else [],
                    hint=f"At most {_SAMPLE_ROWS} of the failing rows are in .sample."
                    if failing
                    else _removal_hint(check),
                )
        return None

    def _sample(self, check: CheckRecord, relation: Relation) -> list[Any]:
        """The first failing rows."""
        sample: list[Any] = []
        with contextlib.suppress(JammiError):
            rows = self.prepare_rows(check, relation, _SAMPLE_ROWS).run_ordered()
            sample = rows.table().to_pylist()
        return sample

    def _earlier_results(
        self, check: CheckRecord, record: TableRecord | None
    ) -> Sequence[CheckResult]:
        """The newest results of the current definition: those on the table, newest first, then
        those on other versions."""
        return self._catalog.checks.results(
            check, self.definition_hash(check), checked_name(check, record), _MAX_EARLIER_RESULTS
        )

    def observe_input(
        self,
        recorded: Anchor,
        check: CheckRecord,
        record: TableRecord | None,
        observation: Observation,
    ) -> Observed:
        """The present state of an input of a check on a table."""
        if record is not None and is_version_of_subject(check, recorded.input):
            if recorded.input.table != PREVIOUS:
                return result_snapshot(record)
            previous = self._previous_version(record)
            return _state_without_rows(record) if previous is None else result_snapshot(previous)
        return observation.observe(recorded.input, check.tenant)

    def _current_anchor(
        self,
        recorded: Anchor,
        check: CheckRecord,
        record: TableRecord | None,
        observation: Observation,
    ) -> Anchor | None:
        """The anchor of that state; None when it is unknown."""
        state = self.observe_input(recorded, check, record, observation)
        if isinstance(state, Snapshot) and state.covers(recorded.columns):
            return state.anchor(recorded.input, recorded.columns)
        return None

    def _compute(
        self, check: CheckRecord, record: TableRecord | None, relation: Relation | None
    ) -> CheckResult:
        started = self._clock.monotonic()
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
            table_name=checked_name(check, record),
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
        self, check: CheckRecord, record: TableRecord | None, relation: Relation | None
    ) -> tuple[int, list[Anchor]]:
        """The number of failing rows, and the states of what was read. Raises what the statement
        raises."""
        resolvers = self._overriding_resolvers(check, relation)
        ctx = BindContext(self._engine, self.scope, overriding_resolvers=resolvers)
        job = Sql(_wrap_statement(check, "count(*) AS failing"), _params(check)).bind(ctx)
        job, before = bind_after_observing(self._observe, check.tenant, job)
        _check_reads_subject(check, [bound.relation.input for bound in job.inputs])
        for earlier in self._earlier_results(check, record):
            if earlier.failing is not None and same_anchors(earlier.anchors, before.anchors):
                return earlier.failing, before.anchors
        running = job.start(None)
        with contextlib.closing(running.rows) as rows:
            [failing] = [n for batch in rows.batches() for n in batch.column(0).to_pylist()]
        return failing, confirm_anchors(
            self._observe, check.tenant, job, before, running.snapshots, is_last_attempt=True
        )

    def _error_text(self, check: CheckRecord, error: JammiError) -> str:
        """The recorded reason of an error. It may quote a row, so only its class is recorded while
        the tenant has ephemeral sessions, of which nothing may remain."""
        if check.tenant is not None and self._catalog.sessions.list():
            return type(error).__name__
        return error.message.rstrip(".")

    def _failure(
        self,
        record: TableRecord,
        relation: Relation,
        blocking: Sequence[tuple[CheckRecord, CheckResult]],
    ) -> CheckFailed:
        """The error of a version that does not pass some blocking checks."""
        check, result = blocking[0]
        problem = _describe_problem(check, result.failing, result.error)
        others = ", ".join(repr(other.name) for other, _ in blocking[1:])
        return CheckFailed(
            f"Version {record.version} of {record.recipe!r} cannot become the newest: {problem}"
            f"{f'; it also fails {others}' if others else ''}.",
            check=check.name,
            table=record.recipe,
            failing=result.failing,
            sample=self._sample(check, relation) if result.failing else [],
            hint=f"{record.recipe!r} keeps its newest version, if it has one. "
            + (
                f"ws.checks[{check.name!r}].rows({record.version}) shows the failing rows."
                if result.failing
                else _removal_hint(check)
            ),
        )


def is_version_of_subject(check: CheckRecord, input_: Input) -> bool:
    """Whether an input of a check is the checked version, or the one before."""
    return (
        check.kind_class.is_result and input_.kind_class.is_result and input_.name == check.subject
    )


def _state_without_rows(checked: TableRecord) -> Snapshot:
    """The state of `previous` at the first version."""
    return msgspec.structs.replace(
        result_snapshot(checked),
        whole="",
        by_column={column.name: "" for column in checked.columns},
        row_count=0,
        version=None,
    )


def checked_name(check: CheckRecord, record: TableRecord | None) -> str:
    """What the results of a check on a version, or on a source or a mutable table, belong to."""
    return check.result_name if record is None else record.table_name


def result_for_table(
    result: CheckResult, check: CheckRecord, record: TableRecord | None
) -> CheckResult:
    """A result that holds for a table, as the result on that table; unchanged when it is that."""
    table_name = checked_name(check, record)
    return msgspec.structs.replace(result, table_name=table_name, severity=check.severity)


def _check_reads_subject(check: CheckRecord, inputs: Iterable[Input]) -> None:
    """Raise InvalidArgument for a statement that does not read what it is to check: its result
    would say nothing about that."""
    names = {fold(check.subject), fold(check.recipe)}
    if not any(i.kind == check.kind and fold(i.label) in names for i in inputs):
        name = quoted_name(*check.name_parts)
        raise InvalidArgument(
            f"The check {check.name!r} does not read {check.label!r}, the table that it checks.",
            hint=f"In its statement, {name} means the version being checked.",
        )


def _removal_hint(check: CheckRecord) -> str:
    return f"Correct the check, or remove it: ws.checks.remove({check.name!r})"


def _describe_problem(check: CheckRecord, failing: int | None, error: str | None) -> str:
    """Why a check did not pass, as a clause."""
    rule = f"the check {check.name!r} ({check.text})"
    if failing is None:
        return f"{rule} could not be run: {error}"
    return f"{count_noun(failing, 'row')} fail{'s' * (failing == 1)} {rule}"


def _wrap_statement(check: CheckRecord, columns: str, suffix: str = "") -> str:
    return f"SELECT {columns} FROM (\n{check.statement}\n){suffix}"


def _params(check: CheckRecord) -> dict[str, Any]:
    return {name: decode_param(value) for name, value in check.params.items()}

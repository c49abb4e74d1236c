"""Verdicts on results of checks: whether what a check found in a version still holds. Runs no
check."""

from collections.abc import Callable, Iterable

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.core.anchors import Input, InputKind, Snapshot, Unknown
from jammi_lab.core.checks import CheckOutcome, CheckRecord, CheckResult, CheckSummary, Severity
from jammi_lab.core.html import count_noun
from jammi_lab.core.identifiers import fold
from jammi_lab.core.records import TableRecord, VersionRecord
from jammi_lab.core.verdicts import DefinitionChanged, Fresh, Stale, Verdict
from jammi_lab.features.checks.runner import CheckRunner, checked_name, is_version_of_subject
from jammi_lab.freshness.table_verdict import Evidence, State, evaluate_table
from jammi_lab.inputs.observation import Observation

VerdictOn = Callable[[str, str | None], Verdict | None]
"""Returns the verdict on a table, by the name of its recipe or its physical name, for a tenant;
None for one that was dropped."""


class CheckJudge:
    """Finds and judges the stored results of checks."""

    def __init__(self, catalog: Catalog, runner: CheckRunner) -> None:
        self._catalog, self._runner = catalog, runner

    def stored_results(self, check: CheckRecord, record: TableRecord | None) -> list[CheckResult]:
        """The results of a check on a table, or with None on the states of a source or a mutable
        table, oldest first."""
        return [
            result
            for result in self._catalog.checks.results_of_table(checked_name(check, record))
            if fold(result.check) == fold(check.name) and result.tenant == check.tenant
        ]

    def stored_result(self, check: CheckRecord, record: TableRecord | None) -> CheckResult | None:
        """The latest of them, of the current definition if there is one."""
        definition = self._runner.definition_hash(check)
        results = self.stored_results(check, record)
        return max(
            results, key=lambda r: (r.definition_hash == definition, r.checked_at), default=None
        )

    def verdict(
        self,
        check: CheckRecord,
        record: TableRecord | None,
        result: CheckResult | None,
        observation: Observation,
        verdict_on: VerdictOn = lambda _name, _tenant: None,
    ) -> Verdict:
        """Whether a result still holds: its definition, the states of what it read, and the
        verdicts on the other tables that it read. A check without a result, or with an error, is
        stale: it has to be run."""
        current = self._runner.definition_hash(check)
        if result is None or result.outcome is CheckOutcome.ERROR:
            return Stale([DefinitionChanged(recorded=None, current=current)])
        states: dict[tuple[str, str, str], State] = {}
        for anchor in result.anchors:
            state = self._runner.observe_input(anchor, check, record, observation)
            if not isinstance(state, Snapshot):
                states[anchor.input.identity] = state
            elif state.covers(anchor.columns):
                states[anchor.input.identity] = state.anchor(anchor.input, anchor.columns)
            else:
                states[anchor.input.identity] = Unknown(why="its columns were not observed")
        return evaluate_table(
            Evidence(
                recorded=result.definition_hash,
                current=current,
                anchors=tuple(result.anchors),
                current_states=states,
                observed_at=observation.started_at,
            ),
            self._upstream_verdicts(check, result, verdict_on),
        )

    def _upstream_verdicts(
        self, check: CheckRecord, result: CheckResult, verdict_on: VerdictOn
    ) -> list[tuple[str, Verdict]]:
        """The verdicts on the tables that a check read besides the checked one."""
        names = [
            anchor.input.name
            for anchor in result.anchors
            if anchor.input.kind is InputKind.RESULT
            and not is_version_of_subject(check, anchor.input)
        ]
        verdicts = [(name, verdict_on(name, check.tenant)) for name in names]
        return [(name, verdict) for name, verdict in verdicts if verdict is not None]

    def passes(self, record: TableRecord, observation: Observation) -> bool | None:
        """Whether a table passes the blocking checks on its recipe; None when one has to be run to
        tell. Runs no check."""
        checks = self._catalog.checks.of_recipe(record.tenant, record.recipe)
        known = [
            self._runner.find_known(check, record, observation)
            for check in checks
            if check.severity is Severity.BLOCK
        ]
        if any(k is not None and k.result.outcome is not CheckOutcome.PASS for k in known):
            return False
        return None if None in known else True

    def checked_recipes(self) -> frozenset[tuple[str | None, str]]:
        """Owner and folded name of each recipe with checks."""
        checks = self._catalog.checks.list()
        return frozenset((c.tenant, fold(c.recipe)) for c in checks if c.kind is InputKind.RESULT)

    def tables_read(self, tenant: str | None, recipe: str) -> list[str]:
        """The other result tables that the checks on a recipe read when they were run last, by
        name."""
        checks = self._catalog.checks
        inputs = [
            input_ for check in checks.of_recipe(tenant, recipe) for input_ in checks.inputs(check)
        ]
        names = {i.name for i in inputs if i.kind is InputKind.RESULT}
        return sorted(names - {recipe})

    def summary(
        self,
        version: VersionRecord,
        record: TableRecord,
        observation: Observation,
        verdict_on: VerdictOn,
    ) -> CheckSummary | None:
        """What the checks on a version found; None without any."""
        checks = self._catalog.checks.of_recipe(version.tenant, version.recipe)
        return self.summarize(checks, record, observation, verdict_on)

    def summarize(
        self,
        checks: Iterable[CheckRecord],
        record: TableRecord | None,
        observation: Observation,
        verdict_on: VerdictOn,
    ) -> CheckSummary | None:
        """The same for checks on a version, or with None on a source or a mutable table."""
        passed_count, failed_count, due_count = 0, 0, 0
        for check in checks:
            result = self.stored_result(check, record)
            if result is not None and result.outcome is not CheckOutcome.PASS:
                failed_count += 1
            elif isinstance(self.verdict(check, record, result, observation, verdict_on), Fresh):
                passed_count += 1
            else:
                due_count += 1
        summary = CheckSummary(passed_count, failed_count, due_count)
        return summary if summary != CheckSummary() else None

    def input_summaries(
        self, observation: Observation, verdict_on: VerdictOn
    ) -> dict[tuple[InputKind, str], CheckSummary]:
        """The same for each source and mutable table with checks, by kind and folded name."""
        by_input: dict[tuple[InputKind, str], list[CheckRecord]] = {}
        for check in self._catalog.checks.list():
            if check.kind is not InputKind.RESULT:
                by_input.setdefault((check.kind, fold(check.recipe)), []).append(check)
        return {
            key: summary
            for key, checks in by_input.items()
            if (summary := self.summarize(checks, None, observation, verdict_on)) is not None
        }

    def warnings(
        self,
        checks: Iterable[CheckRecord],
        tenant: str | None,
        inputs: Iterable[Input],
        observation: Observation,
    ) -> list[str]:
        """Those of some checks that sources and mutable tables do not pass now, as clauses, for the
        verdicts on what is made from these inputs by that tenant. Runs no check."""
        clauses = []
        for check in checks:
            if not any(self._is_subject(check, input_, tenant) for input_ in inputs):
                continue
            result = self.stored_result(check, None)
            if (
                result is not None
                and result.outcome is CheckOutcome.FAIL
                and isinstance(self.verdict(check, None, result, observation), Fresh)
            ):
                number = result.failing or 0
                clauses.append(
                    f"{count_noun(number, 'row')} of {check.label} "
                    f"fail{'s' * (number == 1)} the check {check.name}"
                )
        return clauses

    def _is_subject(self, check: CheckRecord, input_: Input, tenant: str | None) -> bool:
        """Whether a check is on an input as that tenant reads it: its own before a shared one."""
        if check.kind is not input_.kind or fold(check.recipe) != fold(input_.label):
            return False
        records = (
            self._catalog.sources
            if check.kind is InputKind.SOURCE
            else self._catalog.mutable_tables
        )
        with self._runner.scope.use(tenant):
            record = records.get(input_.name)
        return record is not None and record.tenant == check.tenant

    def failing(self, version: VersionRecord, record: TableRecord) -> str:
        """How many checks do not pass on a version, for its badge; empty when all pass."""
        checks = self._catalog.checks.of_recipe(version.tenant, version.recipe)
        results = [self.stored_result(check, record) for check in checks]
        number = sum(r is not None and r.outcome is not CheckOutcome.PASS for r in results)
        return f"{count_noun(number, 'check')} fail{'s' * (number == 1)}" if number else ""

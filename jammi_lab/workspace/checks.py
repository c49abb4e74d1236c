"""`ws.checks`: rules about the rows of result tables, and runs of them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.core import reprs
from jammi_lab.core.check_rules import Rule
from jammi_lab.core.checks import CheckOutcome, CheckRecord, CheckResult, Severity
from jammi_lab.core.definitions import encode_param
from jammi_lab.core.errors import CheckNotFound, InvalidArgument
from jammi_lab.core.html import Rendered, ReprMixin, count_noun
from jammi_lab.core.identifiers import check_name, fold, near_names
from jammi_lab.core.records import TableRecord, TableStatus
from jammi_lab.core.tenancy import TenantScope
from jammi_lab.core.verdicts import verdict_code
from jammi_lab.engine.engine import Engine
from jammi_lab.engine.sql import credential_check
from jammi_lab.freshness.check_verdicts import CheckJudge
from jammi_lab.inputs.observation import Observation
from jammi_lab.inputs.source_names import ResultTableResolver
from jammi_lab.producers.checks import CheckRunner, result_for_table
from jammi_lab.sources.base import Relation
from jammi_lab.store.result_files import ResultFiles
from jammi_lab.workspace.check_results import CheckResults, CheckRow
from jammi_lab.workspace.lookup import TableLookup, TableVersion
from jammi_lab.workspace.result import Result
from jammi_lab.workspace.statements import StatementRunner


@dataclass(frozen=True)
class CheckContext:
    """The services that checks need."""

    catalog: Catalog
    scope: TenantScope
    engine: Engine
    results: ResultFiles
    runner: CheckRunner
    lookup: TableLookup
    statements: StatementRunner
    observe: Callable[[bool], Observation]
    check_writable: Callable[[], None]

    def relation(self, record: TableRecord) -> Relation:
        """The rows of a version for its checks. TableDamaged."""
        resolver = ResultTableResolver(self.catalog, self.results)
        return resolver.relation(record, record.recipe, record.version)


class Check(ReprMixin):
    """One check: a rule about the rows of a table."""

    def __init__(self, context: CheckContext, record: CheckRecord) -> None:
        self._context, self._record = context, record

    @property
    def name(self) -> str:
        """Its name."""
        return self._record.name

    @property
    def table(self) -> str:
        """The recipe whose versions it checks."""
        return self._record.recipe

    @property
    def severity(self) -> str:
        """Block or warn."""
        return self._record.severity.value

    @property
    def rule(self) -> str:
        """The rule in words, else its statement."""
        return self._record.text

    @property
    def definition(self) -> str:
        """The SELECT of the failing rows."""
        return self._record.statement

    @property
    def tenant(self) -> str | None:
        """The owner; None is shared."""
        return self._record.tenant

    def rows(self, version: int | None = None) -> Result:
        """The failing rows of a version, by default the newest; also of a rejected one. Raises
        TableNotFound, and what its statement raises."""
        context = self._context
        record = context.lookup.find(self._record.recipe, version).record
        prepared = context.runner.prepare_rows(self._record, context.relation(record))
        return context.statements.result(prepared)

    def _rendered(self) -> Rendered:
        return _checks_table([self])


class CheckList(list[Check], ReprMixin):
    """A list of checks, displayed with one line each."""

    __repr__ = ReprMixin.__repr__

    def _rendered(self) -> Rendered:
        return _checks_table(self)


class Checks(ReprMixin):
    """The checks of a workspace: `ws.checks["name"]`, iterable, `in`, `len()`."""

    def __init__(self, context: CheckContext) -> None:
        self._context = context

    def add(
        self,
        name: str,
        rule: str | Rule,
        *,
        on: str,
        severity: str = "block",
        params: Mapping[str, Any] | None = None,
        description: str = "",
    ) -> Check:
        """Add a check on a recipe, or replace the check of that name on it.

        `rule`: the SELECT of the failing rows, in which `jammi.<on>` is the version that is
        checked, with `params`; or a rule such as `jl.checks.unique("id")`. `severity="block"` keeps
        a version that does not pass from becoming the newest; `"warn"` reports it. `description` is
        the rule in words. Nothing is run; a version that is the newest already stays it.

        Raises TableNotFound, InvalidArgument, NameInvalid, TenantForbidden, and as `ws.sql` for the
        statement.
        """
        context = self._context
        record = self._new_record(name, rule, on, severity, params, description)
        newest = context.catalog.result_tables.newest_of_owner(record.tenant, record.recipe)
        if newest is not None:
            context.runner.prepare_rows(record, context.relation(newest[1]))
        context.check_writable()
        return Check(context, context.catalog.checks.put(record))

    def _new_record(
        self,
        name: str,
        rule: str | Rule,
        on: str,
        severity: str,
        params: Mapping[str, Any] | None,
        description: str,
    ) -> CheckRecord:
        context = self._context
        recipe = context.catalog.recipes.get(on)
        if recipe is None:
            raise context.lookup.not_found(on)
        if severity not in [*Severity]:
            raise InvalidArgument(
                f'severity must be "block" or "warn", got {severity!r}.',
                near=near_names(str(severity), [*Severity]),
            )
        if isinstance(rule, Rule) and params is None:
            text, values = rule.statement(recipe.name), dict(rule.params)
            description = description or rule.words
        elif isinstance(rule, str):
            text, values = rule, dict(params or {})
        else:
            raise InvalidArgument(
                "A check must be a SELECT of the failing rows, with its params, or a rule such as "
                'jl.checks.unique("id").'
            )
        credential_check.check_text("The description of a check", description)
        credential_check.check_statement(text)
        for parameter, value in values.items():
            credential_check.check_value(parameter, value)
        return CheckRecord(
            name=check_name(name, "check"),
            recipe=recipe.name,
            subject=recipe.name,
            severity=Severity(severity),
            rule=description,
            statement=context.engine.select_text(text),
            params={key: encode_param(value) for key, value in sorted(values.items())},
            tenant=recipe.tenant,
        )

    def __getitem__(self, name: str) -> Check:
        """The check of that name. CheckNotFound, with near names."""
        record = self._context.catalog.checks.get(name)
        if record is None:
            raise self._not_found(name)
        return Check(self._context, record)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._context.catalog.checks.get(name) is not None

    def __iter__(self) -> Iterator[Check]:
        return iter(self.list())

    def __len__(self) -> int:
        return len(self._context.catalog.checks.list())

    def list(self, on: str | None = None) -> CheckList:
        """All checks, or those on one recipe, by name."""
        return CheckList(
            Check(self._context, record)
            for record in self._context.catalog.checks.list()
            if on is None or fold(record.recipe) == fold(on)
        )

    def remove(self, name: str) -> None:
        """Remove a check with its results. CheckNotFound, TenantForbidden."""
        self._context.check_writable()
        if not self._context.catalog.checks.remove(name):
            raise self._not_found(name)

    def _not_found(self, name: str) -> CheckNotFound:
        names = [record.name for record in self._context.catalog.checks.list()]
        return CheckNotFound(f"There is no check {name!r}.", near=near_names(name, names))

    def _rendered(self) -> Rendered:
        return self.list()._rendered()


class CheckService:
    """Runs checks that are due, and judges earlier results."""

    def __init__(self, context: CheckContext) -> None:
        self._context = context
        self._judge = CheckJudge(context.catalog, context.runner)

    def run(self, names: Sequence[str] | None) -> CheckResults:
        """The results of checks on the newest versions: of all, or of those named by check or by
        table. What has no result that holds is run. CheckNotFound."""
        context = self._context
        observation, rows = context.observe(True), []
        for check in self._select_checks(names):
            newest = context.catalog.result_tables.newest_of_owner(check.tenant, check.recipe)
            if newest is not None:
                version = TableVersion(*newest)
                result = self._current_result(check, version.record, observation)
                rows.append(self._row(check, version, result, observation))
        observation.close()
        return CheckResults(rows)

    def _current_result(
        self, check: CheckRecord, record: TableRecord, observation: Observation
    ) -> CheckResult:
        runner, stored = self._context.runner, self._context.catalog.checks
        known = runner.find_known(check, record, observation)
        if known is None:
            self._context.check_writable()
            result = runner.run(check, record, self._context.relation(record), observation)
        else:
            result = result_for_table(known, check, record)
        if result != known and not self._context.catalog.read_only:
            stored.add_results([result])
        return result

    def of_version(self, version: TableVersion) -> CheckResults:
        """The results that were found in one version. Runs nothing."""
        checks = self._context.catalog.checks.of_recipe(
            version.version.tenant, version.version.recipe
        )
        observation = self._context.observe(False)
        rows = [
            self._row(check, version, result, observation)
            for check in checks
            if (result := self._judge.stored_result(check, version.record)) is not None
        ]
        observation.close()
        return CheckResults(rows)

    def catalog_rows(self) -> Iterator[Sequence[Any]]:
        """The rows of `jammi_catalog.checks`: what each check found in each version."""
        observation = self._context.observe(False)
        for check in self._context.catalog.checks.list():
            for version, record in self._context.catalog.result_tables.versions(check.recipe):
                result = self._judge.stored_result(check, record)
                if version.tenant != check.tenant or result is None:
                    continue
                verdict = self._judge.verdict(check, record, result, observation)
                yield (
                    check.name,
                    record.table_name,
                    version.recipe,
                    version.version,
                    check.severity.value,
                    result.outcome.value,
                    result.failing,
                    result.checked_at,
                    verdict_code(verdict),
                )
        observation.close()

    def _select_checks(self, names: Sequence[str] | None) -> list[CheckRecord]:
        checks = self._context.catalog.checks.list()
        if names is None:
            return checks
        for name in names:
            if not any(fold(name) in (fold(c.name), fold(c.recipe)) for c in checks):
                self._context.lookup.check_recipes([name])
        wanted = {fold(name) for name in names}
        return [c for c in checks if wanted & {fold(c.name), fold(c.recipe)}]

    def _row(
        self,
        check: CheckRecord,
        version: TableVersion,
        result: CheckResult,
        observation: Observation,
    ) -> CheckRow:
        passes = result.outcome is CheckOutcome.PASS
        return CheckRow(
            check=check.name,
            rule=check.text,
            table=version.version.recipe,
            version=version.version.version,
            severity=check.severity.value,
            outcome=result.outcome.value,
            failing=result.failing,
            verdict=self._judge.verdict(check, version.record, result, observation),
            error=result.error,
            previous="" if passes else self._describe_previous(check, version, result),
        )

    def _describe_previous(
        self, check: CheckRecord, version: TableVersion, result: CheckResult
    ) -> str:
        """What the check found in the version before, and what changed since."""
        versions = self._context.catalog.result_tables.versions(version.version.recipe)
        for earlier, record in versions:
            if (
                earlier.version >= version.version.version
                or earlier.tenant != version.version.tenant
                or record.status not in (TableStatus.READY, TableStatus.REJECTED)
            ):
                continue
            previous = self._judge.stored_result(check, record)
            if previous is None:
                return ""
            changed = "data" if previous.definition_hash == result.definition_hash else "rule"
            found = (
                "error"
                if previous.failing is None
                else f"{count_noun(previous.failing, 'row')} failed"
                if previous.failing
                else "pass"
            )
            return f"version {earlier.version}: {found}; the {changed} changed"
        return ""


def _checks_table(checks: Sequence[Check]) -> Rendered:
    rows = [(c.name, c.table, c.severity, c.rule) for c in checks]
    return reprs.listing_table(["check", "table", "severity", "rule"], rows, aligned="llll")

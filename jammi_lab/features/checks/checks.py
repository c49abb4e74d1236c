"""`ws.checks`: rules about the rows of result tables, and runs of them."""

import functools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.core import reprs
from jammi_lab.core.anchors import Input, InputKind
from jammi_lab.core.argument_suggestions import answer_calls
from jammi_lab.core.checks import CheckRecord, CheckResult, CheckSummary, Severity
from jammi_lab.core.command_hints import cell_or_python
from jammi_lab.core.definitions import encode_param
from jammi_lab.core.errors import CheckNotFound, InvalidArgument, TableNotFound
from jammi_lab.core.html import Rendered, ReprMixin, count_noun
from jammi_lab.core.identifiers import check_name, fold, near_names
from jammi_lab.core.records import RunStep, TableRecord, TableStatus
from jammi_lab.core.tenancy import TenantScope
from jammi_lab.core.verdicts import verdict_code
from jammi_lab.engine.engine import Engine
from jammi_lab.engine.prepared_statement import PreparedStatement
from jammi_lab.engine.sql import credential_check
from jammi_lab.features.checks.results import CheckResults, CheckRow
from jammi_lab.features.checks.rules import Rule, leading_comment
from jammi_lab.features.checks.runner import CheckRunner, result_for_table
from jammi_lab.features.checks.verdicts import CheckJudge
from jammi_lab.features.live.mutable_tables import MUTABLE
from jammi_lab.freshness.evaluated_graph import EvaluatedGraph, VerdictOn
from jammi_lab.inputs.observation import Observation
from jammi_lab.inputs.result_names import JAMMI
from jammi_lab.sources.base import Relation
from jammi_lab.workspace.lookup import TableLookup, TableVersion
from jammi_lab.workspace.result import Result
from jammi_lab.workspace.statement_runner import StatementRunner

if TYPE_CHECKING:
    import pyarrow as pa

MAX_RESULTS = 16
"""How many results of a check on one version, source or mutable table are kept."""


@dataclass(frozen=True)
class CheckContext:
    """The services that checks need."""

    catalog: Catalog
    scope: TenantScope
    engine: Engine
    runner: CheckRunner
    lookup: TableLookup
    statements: StatementRunner
    observe: Callable[[bool], Observation]
    check_writable: Callable[[], None]
    relation: Callable[[TableRecord], Relation]
    """The rows of a version for its checks. TableDamaged."""
    evaluate: Callable[[Sequence[str], Observation], EvaluatedGraph]
    """As `FreshnessService.evaluate`."""

    def subject_name(self, name: str) -> str:
        """The name of what checks are on: that of the recipe for an alias."""
        schema, dot, table = str(name).rpartition(".")
        return (
            schema + dot + self.lookup.resolve_alias(table)
            if fold(schema) == JAMMI
            else (self.lookup.resolve_alias(name))
        )


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
        """What it checks: a recipe, a source, or `mutable.<name>`."""
        return self._record.label

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

    @property
    def inputs(self) -> list[Input]:
        """What its statement reads: the checked table, and others. Raises as `rows`."""
        return [read.relation.input for read in self._prepare(None).inputs]

    def rows(self, version: int | None = None) -> Result:
        """The failing rows of a version, by default the newest; also of a rejected one. Of a source
        or a mutable table those that it has now. Raises TableNotFound, InvalidArgument, and what
        its statement raises."""
        return self._context.statements.result(self._prepare(version))

    def _prepare(self, version: int | None) -> PreparedStatement:
        context, relation = self._context, None
        if self._record.kind is InputKind.RESULT:
            record = context.lookup.find(self._record.recipe, version).record
            relation = context.relation(record)
        elif version is not None:
            raise InvalidArgument(f"{self.table} has no versions.", hint="Omit version=.")
        return context.runner.prepare_rows(self._record, relation)

    def _rendered(self) -> Rendered:
        return _checks_table([self])


class CheckList(list[Check], ReprMixin):
    """A list of checks, displayed with one line each."""

    __repr__ = ReprMixin.__repr__

    def _rendered(self) -> Rendered:
        return _checks_table(self)


@answer_calls
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
        severity: str | None = None,
        params: Mapping[str, Any] | None = None,
        description: str = "",
    ) -> Check:
        """Add a check on a recipe, a source (`on="papers"`) or a mutable table
        (`on="mutable.orders"`), or replace the check of that name on it.

        `rule`: the SELECT of the failing rows, in which `jammi.<on>` is the version that is
        checked, with `params`; or a rule such as `jl.checks.unique("id")`. `severity="block"`, the
        default, keeps a version that does not pass from becoming the newest, and refuses the commit
        on a mutable table; `"warn"` reports it. A check on a source can only warn, in the verdicts
        on what is made from it. `description` is the rule in words; without it, a comment at the
        beginning of the SELECT is. Nothing is run; a version that is the newest already stays it.

        Raises TableNotFound, InvalidArgument, NameInvalid, TenantForbidden, and as `ws.sql` for the
        statement.
        """
        context = self._context
        record = self._new_record(name, rule, on, severity, params, description)
        newest = newest_version(context, record)
        if newest is not None:
            context.runner.prepare_rows(record, context.relation(newest.record))
        elif record.kind is not InputKind.RESULT:
            context.runner.prepare_rows(record, None)
        context.check_writable()
        return Check(context, context.catalog.checks.put(record))

    def _new_record(
        self,
        name: str,
        rule: str | Rule,
        on: str,
        severity: str | None,
        params: Mapping[str, Any] | None,
        description: str,
    ) -> CheckRecord:
        context, subject = self._context, self._find_subject(name, on)
        if isinstance(rule, Rule) and params is None:
            text, values = rule.statement(*subject.name_parts), dict(rule.params)
            description = description or rule.words
        elif isinstance(rule, str):
            text, values = rule, dict(params or {})
            description = description or leading_comment(rule)
        else:
            raise InvalidArgument(
                "A check must be a SELECT of the failing rows, with its params, or a rule such as "
                'jl.checks.unique("id").'
            )
        credential_check.check_text("The description of a check", description)
        credential_check.check_statement(text)
        for parameter, value in values.items():
            credential_check.check_value(parameter, value)
        return msgspec.structs.replace(
            subject,
            severity=_to_severity(severity, subject),
            rule=description,
            statement=context.engine.select_text(text),
            params={key: encode_param(value) for key, value in sorted(values.items())},
        )

    def _find_subject(self, name: str, on: str) -> CheckRecord:
        """A check without a rule on what `on` names: a recipe, else a source, else a mutable table.
        TableNotFound."""
        catalog = self._context.catalog
        parts = str(on).split(".", 1)
        schema, table = (fold(parts[0]), parts[1]) if len(parts) == 2 else ("", parts[0])
        asked = table
        if schema in ("", JAMMI):
            table = self._context.lookup.resolve_alias(table)
        target: tuple[InputKind, str, str | None] | None = None
        if schema in ("", JAMMI) and (recipe := catalog.recipes.get(table)) is not None:
            target = InputKind.RESULT, recipe.name, recipe.tenant
        elif (source := catalog.sources.get(parts[0])) is not None:
            target = InputKind.SOURCE, ".".join([source.name, *parts[1:]]), source.tenant
        elif schema in ("", MUTABLE) and (mutable := catalog.mutable_tables.get(table)) is not None:
            target = InputKind.MUTABLE, mutable.name, mutable.tenant
        if target is None:
            raise self._context.lookup.not_found(on)
        return CheckRecord(
            name=check_name(name, "check"),
            kind=target[0],
            recipe=target[1],
            subject=target[1] if table == asked else asked,
            tenant=target[2],
            severity=Severity.BLOCK,
            rule="",
            statement="",
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
        """All checks, or those on one table, by name."""
        subject = None if on is None else self._context.subject_name(on)
        return CheckList(
            Check(self._context, record)
            for record in self._context.catalog.checks.list()
            if subject is None or record.is_on(subject)
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


FoundResult = tuple[CheckRecord, TableVersion | None, CheckResult]
"""A check, the version that it was run on (None for a source or a mutable table), the result."""


class CheckService:
    """Runs checks that are due, and judges earlier results."""

    def __init__(self, context: CheckContext) -> None:
        self._context = context
        self._judge = CheckJudge(context.catalog, context.runner)

    def run(self, names: Sequence[str] | None) -> CheckResults:
        """The results of checks on the newest versions: of all, or of those named by check or by
        table. What has no result that holds is run. TableNotFound."""
        context = self._context
        observation, waiting = context.observe(True), list[str]()
        found = list[FoundResult]()
        for check in self._select_checks(names):
            version = newest_version(context, check)
            if version is None and check.kind is InputKind.RESULT:
                waiting.append(check.name)
            else:
                result = self._current_result(check, version, observation)
                found.append((check, version, result))
        rows = self._rows(found, observation)
        note = f"Not run, because the table has no version yet: {', '.join(waiting)}"
        return CheckResults(rows, note if waiting else "")

    def run_steps(self, names: Sequence[str], tables: Sequence[str]) -> list[RunStep]:
        """Run the checks of these names that still exist, as steps of a plan, and add those that
        the publication of these physical tables ran and that did not pass."""
        existing = [name for name in names if self._context.catalog.checks.get(name) is not None]
        rows = [
            row
            for row in (self.run(existing) if existing else ())
            if fold(row.check) in map(fold, existing)
        ]
        shown = {row.check for row in rows}
        for name in tables:
            published = self.of_version(self._context.lookup.find(name))
            rows += [row for row in published.failed if row.check not in shown]
        return [
            RunStep(
                name=row.check,
                outcome=row.outcome,
                seconds=row.seconds,
                error=None if row.passes else row.summary,
            )
            for row in rows
        ]

    def _current_result(
        self, check: CheckRecord, version: TableVersion | None, observation: Observation
    ) -> CheckResult:
        runner, stored = self._context.runner, self._context.catalog.checks
        record = None if version is None else version.record
        known = runner.find_known(check, record, observation)
        if known is None:
            self._context.check_writable()
            relation = None if record is None else self._context.relation(record)
            result = runner.run(check, record, relation, observation)
        else:
            result = result_for_table(known.result, check, record)
        is_stored = known is not None and known.is_latest and result == known.result
        if not is_stored and not self._context.catalog.read_only:
            stored.add_results([result])
            stored.trim_results(check, result.table_name, MAX_RESULTS)
        return result

    def of_version(self, version: TableVersion) -> CheckResults:
        """The results that were found in one version. Runs nothing."""
        checks = self._context.catalog.checks.of_recipe(
            version.version.tenant, version.version.recipe
        )
        found = self._stored_results([(check, version) for check in checks])
        run_names = {check.name for check, _, _ in found}
        due_names = [check.name for check in checks if check.name not in run_names]
        note = f"Not run on this version: {', '.join(due_names)}. ws.check() runs what is due"
        return CheckResults(
            self._rows(found, self._context.observe(False)), note if due_names else ""
        )

    def newest_results(self) -> CheckResults:
        """The latest results on the newest versions, and on sources and mutable tables. Runs
        nothing."""
        checks = self._context.catalog.checks.list()
        found = self._stored_results(
            [(check, newest_version(self._context, check)) for check in checks]
        )
        return CheckResults(self._rows(found, self._context.observe(False)))

    def _stored_results(
        self, checked: Iterable[tuple[CheckRecord, TableVersion | None]]
    ) -> "list[FoundResult]":
        """What is stored of some checks on some versions, or with None on what has none."""
        found = list[FoundResult]()
        for check, version in checked:
            if version is None and check.kind is InputKind.RESULT:
                continue
            record = None if version is None else version.record
            result = self._judge.stored_result(check, record)
            if result is not None:
                found.append((check, version, result))
        return found

    def of_input(self, kind: InputKind, name: str) -> CheckResults:
        """The latest results on a source or a mutable table. Runs nothing."""
        checks = self._context.catalog.checks.list()
        on_input = [(check, None) for check in checks if check.kind is kind and check.is_on(name)]
        found = self._stored_results(on_input)
        return CheckResults(self._rows(found, self._context.observe(False)))

    def _rows(self, found: "Iterable[FoundResult]", observation: Observation) -> list[CheckRow]:
        """Results with the verdicts of one observation pass."""
        verdict_on = self._verdict_on(observation)
        rows = [self._row(*each, observation, verdict_on) for each in found]
        observation.close()
        return rows

    def _verdict_on(self, observation: Observation) -> VerdictOn:
        """The verdicts on the tables that checks read besides the checked ones, in one graph that
        is loaded for the first of them."""
        load_graph = functools.cache(lambda: self._context.evaluate([], observation))
        return lambda name, tenant: load_graph().verdict_on(name, tenant)

    def input_summaries(self) -> dict[tuple[InputKind, str], CheckSummary]:
        """What the checks on each source and mutable table found, by kind and folded name. Runs
        nothing."""
        observation = self._context.observe(False)
        verdict_on = self._verdict_on(observation)
        summaries = self._judge.input_summaries(observation, verdict_on)
        observation.close()
        return summaries

    def catalog_rows(
        self, texts: Callable[[str], Collection[str] | None]
    ) -> Iterator[Sequence[Any]]:
        """The rows of `jammi_catalog.checks`: what each check found in each version. `texts` as
        in `CatalogRelations`."""
        names, checks = texts("check_name"), self._context.catalog.checks.list()
        checked = [
            (check, version)
            for check in checks
            if names is None or check.name in names
            for version in self._checked_versions(check)
        ]
        found = self._stored_results(checked)
        rows = self._rows(found, self._context.observe(False))
        for (_, _, result), row in zip(found, rows, strict=True):
            yield (
                row.check,
                result.table_name,
                row.table,
                row.version,
                row.severity,
                row.outcome,
                row.failing,
                result.checked_at,
                verdict_code(row.verdict),
            )

    def _checked_versions(self, check: CheckRecord) -> list[TableVersion | None]:
        """The published and rejected versions of a result table, newest first; None for a source
        or a mutable table."""
        if check.kind is not InputKind.RESULT:
            return [None]
        versions = self._context.catalog.result_tables.versions(check.recipe)
        return [
            TableVersion(version, record)
            for version, record in versions
            if version.tenant == check.tenant
            and record.status in (TableStatus.READY, TableStatus.REJECTED)
        ]

    def _select_checks(self, names: Sequence[str] | None) -> list[CheckRecord]:
        checks = self._context.catalog.checks.list()
        if names is None:
            return checks
        subjects = {name: self._context.subject_name(name) for name in names}

        def is_named(check: CheckRecord, name: str) -> bool:
            return fold(name) == fold(check.name) or check.is_on(subjects[name])

        for name in names:
            if not any(is_named(check, name) for check in checks):
                self._check_subject(name, checks)
        return [check for check in checks if any(is_named(check, name) for name in names)]

    def _check_subject(self, name: str, checks: Sequence[CheckRecord]) -> None:
        """Raise TableNotFound for the name of nothing that could have checks."""
        catalog, subject = self._context.catalog, self._context.subject_name(name)
        schema, _, table = subject.partition(".")
        known = (
            catalog.recipes.get(table if fold(schema) == JAMMI else subject),
            catalog.sources.get(schema),
            catalog.mutable_tables.get(table if fold(schema) == MUTABLE else subject),
        )
        if not any(known):
            names = [c.name for c in checks] + [r.name for r in catalog.recipes.list()]
            raise TableNotFound(
                f"There is no check or table {name!r}.",
                near=near_names(name, names),
                hint=f"{cell_or_python('%jammi check', 'ws.checks')} lists the checks.",
            )

    def _row(
        self,
        check: CheckRecord,
        version: TableVersion | None,
        result: CheckResult,
        observation: Observation,
        verdict_on: VerdictOn,
    ) -> CheckRow:
        record = None if version is None else version.record
        return CheckRow(
            check=check.name,
            rule=check.text,
            table=check.label if version is None else version.version.recipe,
            version=_version_number(check, version, result),
            severity=check.severity.value,
            outcome=result.outcome.value,
            failing=result.failing,
            verdict=self._judge.verdict(check, record, result, observation, verdict_on),
            error=result.error,
            seconds=result.seconds,
            find_previous=functools.partial(self._describe_previous, check, version, result),
            find_rows=functools.partial(self._failing_rows, check, record),
        )

    def _failing_rows(
        self, check: CheckRecord, record: TableRecord | None, limit: int
    ) -> "pa.Table":
        context = self._context
        relation = None if record is None else context.relation(record)
        return context.runner.prepare_rows(check, relation, limit).run_ordered().table()

    def _describe_previous(
        self, check: CheckRecord, version: TableVersion | None, result: CheckResult
    ) -> str:
        """What the check found in the version before, or in the earlier state of a source or a
        mutable table, and what changed since; empty where both passed."""
        name, previous = self._previous_result(check, version, result)
        if previous is None or (previous.passes and result.passes):
            return ""
        found = (
            "error"
            if previous.failing is None
            else f"{count_noun(previous.failing, 'row')} failed"
            if previous.failing
            else "pass"
        )
        changed = "data" if previous.definition_hash == result.definition_hash else "rule"
        return f"{name}: {found}; the {changed} changed"

    def _previous_result(
        self, check: CheckRecord, version: TableVersion | None, result: CheckResult
    ) -> tuple[str, CheckResult | None]:
        """The result before this one, and the name of what it is on."""
        if version is None:
            earlier = [
                r
                for r in self._judge.stored_results(check, None)
                if r.checked_at < result.checked_at
            ]
            return "before", earlier[-1] if earlier else None
        for candidate in self._checked_versions(check):
            if candidate is not None and candidate.version.version < version.version.version:
                name = f"version {candidate.version.version}"
                return name, self._judge.stored_result(check, candidate.record)
        return "", None


def newest_version(context: CheckContext, check: CheckRecord) -> TableVersion | None:
    """The newest version of the recipe of a check; None when there is none, and for a source or a
    mutable table."""
    if check.kind is not InputKind.RESULT:
        return None
    newest = context.catalog.result_tables.newest_of_owner(check.tenant, check.recipe)
    return None if newest is None else TableVersion(*newest)


def _version_number(
    check: CheckRecord, version: TableVersion | None, result: CheckResult
) -> int | None:
    """The number of the version that was checked; None for a source."""
    if version is not None:
        return version.version.version
    numbers = [a.version for a in result.anchors if fold(a.input.label) == fold(check.recipe)]
    return numbers[0] if numbers and check.kind is InputKind.MUTABLE else None


def _to_severity(severity: str | None, subject: CheckRecord) -> Severity:
    is_source = subject.kind is InputKind.SOURCE
    if severity is None:
        return Severity.WARN if is_source else Severity.BLOCK
    if severity not in [*Severity]:
        raise InvalidArgument(
            f'severity must be "block" or "warn", got {severity!r}.',
            near=near_names(str(severity), [*Severity]),
        )
    if is_source and severity == Severity.BLOCK:
        raise InvalidArgument(
            f"A check on the source {subject.label!r} cannot block: its rows are written outside.",
            hint="Omit severity=, or put the check on a table computed from it.",
        )
    return Severity(severity)


def _checks_table(checks: Sequence[Check]) -> Rendered:
    rows = [(c.name, c.table, c.severity, c.rule) for c in checks]
    return reprs.listing_table(["check", "table", "severity", "rule"], rows, aligned="llll")

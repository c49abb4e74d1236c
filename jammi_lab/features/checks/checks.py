"""Runs of checks that are due, and the results of all."""

import functools
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.core.checks import CheckRecord, CheckResult, CheckSummary
from jammi_lab.core.command_hints import cell_or_python
from jammi_lab.core.errors import TableNotFound
from jammi_lab.core.html import count_noun
from jammi_lab.core.identifiers import fold, near_names
from jammi_lab.core.records import RunStep, TableRecord, TableStatus, TableVersion
from jammi_lab.core.verdicts import verdict_code
from jammi_lab.engine.prepared_statement import PreparedStatement
from jammi_lab.features.checks.results import CheckResults, CheckRow
from jammi_lab.features.checks.runner import CheckRunner, result_for_table
from jammi_lab.features.checks.verdicts import CheckJudge
from jammi_lab.freshness.evaluated_graph import EvaluatedGraph, VerdictOn
from jammi_lab.inputs.observation import Observation
from jammi_lab.inputs.result_names import JAMMI
from jammi_lab.sources.base import Relation

if TYPE_CHECKING:
    import pyarrow as pa

MAX_RESULTS = 16
"""How many results of a check on one version, source or mutable table are kept."""


FoundResult = tuple[CheckRecord, TableVersion | None, CheckResult]
"""A check, the version that it was run on (None for a source or a mutable table), the result."""


class CheckService:
    """Runs checks that are due, and judges earlier results."""

    def __init__(
        self,
        catalog: Catalog,
        runner: CheckRunner,
        judge: CheckJudge,
        find: Callable[[str, int | None], TableVersion],
        observe: Callable[[bool], Observation],
        check_writable: Callable[[], None],
        read_table: Callable[[TableRecord], Relation],
        evaluate: Callable[[Sequence[str], Observation], EvaluatedGraph],
    ) -> None:
        """`find` as `TableLookup.find`; `read_table` returns the rows of a version, or raises
        TableDamaged; `evaluate` as `FreshnessService.evaluate`."""
        self._catalog, self._runner, self._judge = catalog, runner, judge
        self.find, self._observe, self.check_writable = find, observe, check_writable
        self._read_table, self._evaluate = read_table, evaluate
        self.select_text = runner.select_text

    # -- what checks are on
    # ----------------------------------------------------------------------------------------------

    def subject_name(self, name: str) -> str:
        """The name of what checks are on: that of the recipe for an alias. InvalidArgument."""
        fold(name)  # refuses what is no text
        schema, dot, table = name.rpartition(".")
        resolved = self._catalog.aliases.resolve(table)
        return schema + dot + resolved if fold(schema) in ("", JAMMI) else name

    def find_subject(self, name: str) -> tuple[str, str, str | None] | None:
        """What a name means to a check: a recipe, else a source, else a mutable table, as kind,
        name and owner."""
        catalog, parts = self._catalog, self.subject_name(name).split(".", 1)
        schema, table = (fold(parts[0]), parts[1]) if len(parts) == 2 else ("", parts[0])
        if schema in ("", JAMMI) and (recipe := catalog.recipes.get(table)) is not None:
            return "result", recipe.name, recipe.tenant
        if (source := catalog.sources.get(parts[0])) is not None:
            return "source", ".".join([source.name, *parts[1:]]), source.tenant
        is_mutable = schema in ("", "mutable")
        if is_mutable and (mutable := catalog.mutable_tables.get(table)) is not None:
            return "mutable", mutable.name, mutable.tenant
        return None

    def newest_version(self, check: CheckRecord) -> TableVersion | None:
        """The newest version of the recipe of a check; None when there is none, and for a source or
        a mutable table."""
        if not check.kind_class.is_result:
            return None
        newest = self._catalog.result_tables.newest_of_owner(check.tenant, check.recipe)
        return None if newest is None else TableVersion(*newest)

    def prepare_rows(
        self, check: CheckRecord, record: TableRecord | None, limit: int | None = None
    ) -> PreparedStatement:
        """The statement of the failing rows of a version, or with None of the present state of a
        source or a mutable table. Raises as binding does."""
        relation = None if record is None else self._read_table(record)
        return self._runner.prepare_rows(check, relation, limit)

    def check_statement(self, check: CheckRecord) -> None:
        """Bind the statement of a check, to what it is on now. Raises as binding does."""
        newest = self.newest_version(check)
        if newest is not None or not check.kind_class.is_result:
            self.prepare_rows(check, None if newest is None else newest.record)

    # -- results
    # ----------------------------------------------------------------------------------------------

    def run(self, names: Sequence[str] | None) -> CheckResults:
        """The results of checks on the newest versions: of all, or of those named by check or by
        table. What has no result that holds is run. TableNotFound."""
        observation, waiting = self._observe(True), list[str]()
        found = list[FoundResult]()
        for check in self._select_checks(names):
            version = self.newest_version(check)
            if version is None and check.kind_class.is_result:
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
        existing = [name for name in names if self._catalog.checks.get(name) is not None]
        rows = [
            row
            for row in (self.run(existing) if existing else ())
            if fold(row.check) in map(fold, existing)
        ]
        shown = {row.check for row in rows}
        for name in tables:
            published = self.of_version(self.find(name, None))
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
        runner, stored = self._runner, self._catalog.checks
        record = None if version is None else version.record
        known = runner.find_known(check, record, observation)
        if known is None:
            self.check_writable()
            relation = None if record is None else self._read_table(record)
            result = runner.run(check, record, relation, observation)
        else:
            result = result_for_table(known.result, check, record)
        is_stored = known is not None and known.is_latest and result == known.result
        if not is_stored and not self._catalog.read_only:
            stored.add_results([result])
            stored.trim_results(check, result.table_name, MAX_RESULTS)
        return result

    def of_version(self, version: TableVersion) -> CheckResults:
        """The results that were found in one version. Runs nothing."""
        checks = self._catalog.checks.of_recipe(version.version.tenant, version.version.recipe)
        found = self._stored_results([(check, version) for check in checks])
        run_names = {check.name for check, _, _ in found}
        due_names = [check.name for check in checks if check.name not in run_names]
        note = f"Not run on this version: {', '.join(due_names)}. ws.check() runs what is due"
        return CheckResults(self._rows(found, self._observe(False)), note if due_names else "")

    def newest_results(self) -> CheckResults:
        """The latest results on the newest versions, and on sources and mutable tables. Runs
        nothing."""
        checks = self._catalog.checks.list()
        found = self._stored_results([(check, self.newest_version(check)) for check in checks])
        return CheckResults(self._rows(found, self._observe(False)))

    def _stored_results(
        self, checked: Iterable[tuple[CheckRecord, TableVersion | None]]
    ) -> "list[FoundResult]":
        """What is stored of some checks on some versions, or with None on what has none."""
        found = list[FoundResult]()
        for check, version in checked:
            if version is None and check.kind_class.is_result:
                continue
            record = None if version is None else version.record
            result = self._judge.stored_result(check, record)
            if result is not None:
                found.append((check, version, result))
        return found

    def of_input(self, kind: str, name: str) -> CheckResults:
        """The latest results on a source or a mutable table. Runs nothing."""
        checks = self._catalog.checks.list()
        on_input = [(check, None) for check in checks if check.kind == kind and check.is_on(name)]
        found = self._stored_results(on_input)
        return CheckResults(self._rows(found, self._observe(False)))

    def _rows(self, found: "Iterable[FoundResult]", observation: Observation) -> list[CheckRow]:
        """Results with the verdicts of one observation pass."""
        verdict_on = self._verdict_on(observation)
        rows = [self._row(*each, observation, verdict_on) for each in found]
        observation.close()
        return rows

    def _verdict_on(self, observation: Observation) -> VerdictOn:
        """The verdicts on the tables that checks read besides the checked ones, in one graph that
        is loaded for the first of them."""
        load_graph = functools.cache(lambda: self._evaluate([], observation))
        return lambda name, tenant: load_graph().verdict_on(name, tenant)

    def input_summaries(self) -> dict[tuple[str, str], CheckSummary]:
        """What the checks on each source and mutable table found, by kind and folded name. Runs
        nothing."""
        observation = self._observe(False)
        verdict_on = self._verdict_on(observation)
        summaries = self._judge.input_summaries(observation, verdict_on)
        observation.close()
        return summaries

    def catalog_rows(
        self, texts: Callable[[str], Collection[str] | None]
    ) -> Iterator[Sequence[Any]]:
        """The rows of `jammi_catalog.checks`: what each check found in each version. `texts` as
        in `CatalogRelations`."""
        names, checks = texts("check_name"), self._catalog.checks.list()
        checked = [
            (check, version)
            for check in checks
            if names is None or check.name in names
            for version in self._checked_versions(check)
        ]
        found = self._stored_results(checked)
        rows = self._rows(found, self._observe(False))
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
        if not check.kind_class.is_result:
            return [None]
        versions = self._catalog.result_tables.versions(check.recipe)
        return [
            TableVersion(version, record)
            for version, record in versions
            if version.tenant == check.tenant
            and record.status in (TableStatus.READY, TableStatus.REJECTED)
        ]

    def _select_checks(self, names: Sequence[str] | None) -> list[CheckRecord]:
        checks = self._catalog.checks.list()
        if names is None:
            return checks
        subjects = {name: self.subject_name(name) for name in names}

        def is_named(check: CheckRecord, name: str) -> bool:
            return fold(name) == fold(check.name) or check.is_on(subjects[name])

        for name in names:
            if not any(is_named(check, name) for check in checks) and not self.find_subject(name):
                known = [check.name for check in checks]
                known += [recipe.name for recipe in self._catalog.recipes.list()]
                raise TableNotFound(
                    f"There is no check or table {name!r}.",
                    near=near_names(name, known),
                    hint=f"{cell_or_python('%jammi check', 'ws.checks')} lists the checks.",
                )
        return [check for check in checks if any(is_named(check, name) for name in names)]

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
        return self.prepare_rows(check, record, limit).run_ordered().table()

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


def _version_number(
    check: CheckRecord, version: TableVersion | None, result: CheckResult
) -> int | None:
    """The number of the version that was checked; None for a source."""
    if version is not None:
        return version.version.version
    numbers = [a.version for a in result.anchors if fold(a.input.label) == fold(check.recipe)]
    return numbers[0] if numbers and not check.kind_class.is_result else None

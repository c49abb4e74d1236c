"""What checks found, for all who ask: runs of those that are due, results with their verdicts, and
the checks of statuses, plans and lineage. Only `run` and `run_steps` run one."""

import functools
import graphlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.core.checks import (
    CheckMark,
    CheckOutcome,
    CheckRecord,
    CheckResult,
    CheckStatus,
    Severity,
)
from jammi_lab.core.command_hints import cell_or_python
from jammi_lab.core.errors import TableNotFound
from jammi_lab.core.html import count_noun
from jammi_lab.core.identifiers import fold, near_names
from jammi_lab.core.input_kinds import input_kind, schemas
from jammi_lab.core.records import (
    RecipeRecord,
    RunStep,
    Step,
    TableRecord,
    TableStatus,
    TableVersion,
)
from jammi_lab.core.verdicts import Fresh, Reason, Stale, Verdict, verdict_code
from jammi_lab.features.checks.results import CheckResults, CheckRow
from jammi_lab.features.checks.runner import CheckRunner, is_version_of_subject
from jammi_lab.freshness.evaluated_graph import EvaluatedGraph
from jammi_lab.freshness.plan import PlannedStep, Planner, StepKind
from jammi_lab.freshness.recipe_graph import RecipeGraph, RecipeKey, RecipeNode
from jammi_lab.freshness.service import FreshnessService
from jammi_lab.inputs.observation import Observation
from jammi_lab.inputs.result_names import JAMMI

if TYPE_CHECKING:
    import pyarrow as pa

CHECK_ACTION = "check"
_MAKES_A_VERSION = (StepKind.CERTAIN, StepKind.REUSED)
Checked = tuple[CheckRecord, TableVersion]
"""A check, and the version that it is about."""


class CheckService:
    """Runs checks that are due, and judges earlier results."""

    def __init__(
        self,
        catalog: Catalog,
        runner: CheckRunner,
        observe: Callable[[bool], Observation],
        check_writable: Callable[[], None],
        evaluator: Callable[[], FreshnessService],
    ) -> None:
        """`evaluator` uses this service in turn."""
        self._catalog, self.runner = catalog, runner
        self._observe, self._evaluator = observe, evaluator
        self.check_writable = check_writable

    def _look(self, *, deep: bool = False) -> EvaluatedGraph:
        """An observation pass. Its graph loads the tables that checks read when it is asked."""
        return self._evaluator().evaluate([], self._observe(deep))

    # -- what checks are on
    # ----------------------------------------------------------------------------------------------

    def subject_name(self, name: str) -> str:
        """The name of what checks are on: that of the recipe for an alias. InvalidArgument."""
        fold(name)  # refuses what is no text
        schema, dot, table = name.rpartition(".")
        resolved = self._catalog.aliases.resolve(table)
        return schema + dot + resolved if fold(schema) in ("", JAMMI) else name

    def find_recipe(self, name: str) -> RecipeRecord | None:
        """The recipe that a name means to a check."""
        first, dot, rest = self.subject_name(name).partition(".")
        if not dot:
            return self._catalog.recipes.get(first)
        return self._catalog.recipes.get(rest) if fold(first) == JAMMI else None

    def input_name(self, name: str) -> str | None:
        """The name in FROM of the source, mutable table or topic that a name means."""
        first, _, rest = name.partition(".")
        if rest and fold(first) in schemas():
            found = self._catalog.find_input(rest)
            return name if found and input_kind(found[0]).schema == fold(first) else None
        found = self._catalog.find_input(first)
        if found is None:
            return None
        schema = input_kind(found[0]).schema
        return f"{schema}.{first}" if schema else name

    def _select_checks(self, names: Sequence[str]) -> list[CheckRecord]:
        """The checks that are named by check or by table. TableNotFound."""
        checks, selected = self._catalog.checks.list(), list[CheckRecord]()
        for name in names:
            subject = self.subject_name(name)
            named = [c for c in checks if fold(name) == fold(c.name) or c.is_on(subject)]
            if not named and not self.find_recipe(name):
                known = [check.name for check in checks]
                known += [recipe.name for recipe in self._catalog.recipes.list()]
                raise TableNotFound(
                    f"There is no check or table {name!r}.",
                    near=near_names(name, known),
                    hint=f"{cell_or_python('%jammi check', 'ws.checks')} lists the checks; "
                    "ws.checks.add(name, rule, on=table) adds one.",
                )
            selected += named
        return [check for check in checks if check in selected]

    def newest(self, check: CheckRecord) -> list[TableVersion]:
        """What a check is about now: the newest version of its recipe, if there is one."""
        newest = self._catalog.result_tables.newest_of_owner(check.tenant, check.recipe)
        return [] if newest is None else [TableVersion(*newest)]

    def _all_versions(self, check: CheckRecord) -> list[TableVersion]:
        """The same with all published and rejected versions, newest first."""
        versions = self._catalog.result_tables.versions(check.recipe)
        return [
            TableVersion(version, record)
            for version, record in versions
            if version.tenant == check.tenant
            and record.status in (TableStatus.READY, TableStatus.REJECTED)
        ]

    # -- results
    # ----------------------------------------------------------------------------------------------

    def run(self, names: Sequence[str] | None) -> CheckResults:
        """The results of checks on the newest versions: of all, or of those named by check or by
        table. What has no result that holds is run. TableNotFound."""
        checks = self._catalog.checks.list() if names is None else self._select_checks(names)
        rows = [row for row, _ in self._run(checks)]
        run_names = {row.check for row in rows}
        waiting = ", ".join(check.name for check in checks if check.name not in run_names)
        note = f"Not run, because the table has no version yet: {waiting}" if waiting else ""
        return CheckResults(rows, note)

    def _run(self, checks: Iterable[CheckRecord]) -> list[tuple[CheckRow, bool]]:
        """The result of each check, and whether it was run for it now."""
        look = self._look(deep=True)
        found = []
        for check, version in _pairs(checks, self.newest):
            record = version.record
            known = self.runner.find_known(check, record, look.observation)
            if known is None:
                self.check_writable()
            result = known or self.runner.run(check, record)
            is_stored = self.runner.earlier_results(check, record)[:1] == [result]
            if not is_stored and not self._catalog.read_only:
                self._catalog.checks.add_results([result])
            found.append((self._row(check, version, result, look), known is None))
        look.observation.close()
        return found

    def run_steps(self, names: Collection[str], recipes: Collection[str]) -> list[RunStep]:
        """Run the checks of these names that still exist, as steps of a plan, and add those that
        the publication of these recipes of the bound tenant ran and that did not pass. A check that
        passed before, on a table that was not computed, is no step of this run."""
        checks = self._catalog.checks.list()
        named = [check for check in checks if check.name in names]
        published = []
        for check in checks:
            if (
                check.recipe in recipes
                and check.tenant == self._catalog.scope.tenant
                and check not in named
            ):
                published.append(check)
        rows = [
            row
            for row, is_run_now in (self._run(named) if named else ())
            if is_run_now or not row.passes or row.table in recipes
        ]
        rows += [row for row in self._stored_rows(_pairs(published, self.newest)) if not row.passes]
        return [
            RunStep(
                name=row.check,
                outcome=row.outcome,
                seconds=row.seconds,
                error=None if row.passes else row.summary,
            )
            for row in rows
        ]

    def of_version(self, version: TableVersion) -> CheckResults:
        """The results that were found in one version. Runs nothing."""
        checks = self._catalog.checks.of_recipe(version.version.tenant, version.version.recipe)
        rows = self._stored_rows([(check, version) for check in checks])
        run_names = {row.check for row in rows}
        due_names = ", ".join(check.name for check in checks if check.name not in run_names)
        note = f"Not run on this version: {due_names}. ws.check() runs what is due"
        return CheckResults(rows, note if due_names else "")

    def newest_results(self) -> CheckResults:
        """The latest results on the newest versions. Runs nothing."""
        return CheckResults(self._stored_rows(_pairs(self._catalog.checks.list(), self.newest)))

    def never_run(self) -> list[CheckRecord]:
        """The checks without a result on the newest version of their table. Runs nothing."""
        pairs = _pairs(self._catalog.checks.list(), self.newest)
        return [
            check for check, version in pairs if self._stored_result(check, version.record) is None
        ]

    def catalog_rows(self) -> Iterator[Sequence[Any]]:
        """The rows of `jammi_catalog.checks`: what each check found in each version."""
        for row in self._stored_rows(_pairs(self._catalog.checks.list(), self._all_versions)):
            yield (
                row.check,
                row.table_name,
                row.table,
                row.version,
                row.severity,
                row.outcome,
                row.failing,
                row.checked_at,
                verdict_code(row.verdict),
            )

    def _stored_rows(self, checked: Iterable[Checked]) -> list[CheckRow]:
        """What is stored of some checks, with the verdicts of one look."""
        look = self._look()
        stored = [(pair, self._stored_result(pair[0], pair[1].record)) for pair in checked]
        rows = [self._row(*pair, result, look) for pair, result in stored if result is not None]
        look.observation.close()
        return rows

    def _stored_result(self, check: CheckRecord, record: TableRecord) -> CheckResult | None:
        """The latest result on a version: one of the current definition if there is one."""
        definition = self.runner.definition_hash(check)
        results = self._catalog.checks.results(check, record.table_name)
        return max(
            results, key=lambda r: (r.definition_hash == definition, r.checked_at), default=None
        )

    def _verdict(
        self,
        check: CheckRecord,
        record: TableRecord,
        result: CheckResult | None,
        look: EvaluatedGraph,
    ) -> Verdict:
        """Whether a result still holds, with the verdicts on the other tables that it read."""
        names = []
        for anchor in result.anchors if result is not None else ():
            if anchor.input.kind_class.is_result and not is_version_of_subject(check, anchor.input):
                names.append(anchor.input.name)
        verdicts = [(name, look.verdict_on(name, check.tenant)) for name in names]
        parents = [(name, verdict) for name, verdict in verdicts if verdict is not None]
        return self.runner.verdict(check, record, result, look.observation, parents)

    def _row(
        self,
        check: CheckRecord,
        version: TableVersion,
        result: CheckResult,
        look: EvaluatedGraph,
    ) -> CheckRow:
        return CheckRow(
            check=check.name,
            rule=check.text,
            table=version.version.recipe,
            version=version.version.version,
            severity=check.severity.value,
            outcome=result.outcome.value,
            failing=result.failing,
            verdict=self._verdict(check, version.record, result, look),
            error=result.error,
            seconds=result.seconds,
            table_name=result.table_name,
            checked_at=result.checked_at,
            find_previous=functools.partial(self._describe_previous, check, version, result),
            find_rows=functools.partial(self._failing_rows, check, version.record),
        )

    def _failing_rows(self, check: CheckRecord, record: TableRecord, limit: int) -> "pa.Table":
        return self.runner.prepare_rows(check, record, limit).run_ordered().table()

    def _describe_previous(
        self, check: CheckRecord, version: TableVersion, result: CheckResult
    ) -> str:
        """What the check found in the version before, and what changed since; empty where both
        passed."""
        earlier = (
            other
            for other in self._all_versions(check)
            if other.version.version < version.version.version
        )
        before = next(earlier, None)
        previous = None if before is None else self._stored_result(check, before.record)
        if before is None or previous is None or (previous.passes and result.passes):
            return ""
        found = previous.outcome.value
        if previous.failing:
            found = f"{count_noun(previous.failing, 'row')} failed"
        changed = "data" if previous.definition_hash == result.definition_hash else "rule"
        return f"version {before.version.version}: {found}; the {changed} changed"

    # -- statuses and verdicts on tables
    # ----------------------------------------------------------------------------------------------

    def mark(self, node: RecipeNode, look: EvaluatedGraph) -> CheckMark | None:
        """How the checks on the newest version of a recipe stand; None without any."""
        if node.record is None:
            return None
        checks = self._catalog.checks.of_recipe(node.tenant, node.name)
        return CheckMark.from_statuses(self._status(check, node.record, look) for check in checks)

    def _status(self, check: CheckRecord, record: TableRecord, look: EvaluatedGraph) -> CheckStatus:
        result = self._stored_result(check, record)
        if result is not None and not result.passes:
            return CheckStatus.FAIL
        verdict = self._verdict(check, record, result, look)
        return CheckStatus.PASS if isinstance(verdict, Fresh) else CheckStatus.DUE

    def passes(self, record: TableRecord, observation: Observation) -> bool | None:
        """Whether a table passes the blocking checks on its recipe; None when one has to be run to
        tell."""
        known = []
        for check in self._catalog.checks.of_recipe(record.tenant, record.recipe):
            if check.severity is Severity.BLOCK:
                known.append(self.runner.find_known(check, record, observation))
        if any(result is not None and not result.passes for result in known):
            return False
        return None if None in known else True

    # -- plans
    # ----------------------------------------------------------------------------------------------

    def order(
        self,
        steps: list[PlannedStep],
        graph: RecipeGraph,
        nearest: Mapping[RecipeKey, frozenset[RecipeKey]],
    ) -> list[PlannedStep]:
        """The steps, each after those that make what the checks on its table read, unless these run
        after it already: a new version is checked against the tables as the same run leaves them.
        `nearest` has the step that makes each recipe, or those upstream of it."""
        by_key, repository = {step.node.key: step for step in steps}, self._catalog.checks
        positions = {key: position for position, key in enumerate(by_key)}
        checks = [
            check
            for check in (repository.list() if len(steps) > 1 else ())
            if check.recipe_key in by_key
        ]
        for check in sorted(checks, key=lambda check: positions[check.recipe_key]):
            step = by_key[check.recipe_key]
            for name in {input_.name for input_ in repository.inputs(check)} - {step.node.name}:
                node = graph.find(name, check.tenant)
                makers = frozenset() if node is None else nearest.get(node.key, frozenset())
                step.predecessors |= {
                    maker for maker in makers if not _runs_after(by_key, maker, check.recipe_key)
                }
        if not checks:
            return steps
        sorter = graphlib.TopologicalSorter(
            {key: step.predecessors for key, step in by_key.items()}
        )
        return [by_key[key] for key in sorter.static_order()]

    def due(self, evaluated: EvaluatedGraph, planner: Planner) -> list[Step]:
        """The steps for the checks on what a plan is about, by name: those without a result that
        holds, and those that read a table which the plan recomputes. The checks of a table that the
        plan is certain to make are none of them: they are part of its publication."""
        nodes = {node.key: node for node in planner.order}
        steps = []
        for check in self._catalog.checks.list():
            node = nodes.get(check.recipe_key)
            planned = None if node is None else planner.planned.get(node.key)
            is_made = planned is not None and planned.kind in _MAKES_A_VERSION
            if node is None or node.record is None or is_made:
                continue
            result = self._stored_result(check, node.record)
            if reasons := self._due_reasons(check, node.record, result, evaluated, planner):
                seconds = None if result is None else result.seconds
                steps.append(
                    Step(name=check.name, action=CHECK_ACTION, reasons=reasons, seconds=seconds)
                )
        return steps

    def _due_reasons(
        self,
        check: CheckRecord,
        record: TableRecord,
        result: CheckResult | None,
        evaluated: EvaluatedGraph,
        planner: Planner,
    ) -> list[Reason | str]:
        """Why a check is due, or may be after the steps before it."""
        if result is None:
            return ["it has not been run yet"]
        if result.outcome is CheckOutcome.ERROR:
            return ["it could not be run"]
        verdict = self._verdict(check, record, result, evaluated)
        if isinstance(verdict, Stale):
            return [*verdict.reasons]
        nodes = []
        for anchor in result.anchors:
            if anchor.input.kind_class.is_result:
                nodes.append(
                    (anchor.input.label, evaluated.graph.find(anchor.input.name, check.tenant))
                )
        return [
            f"{label} is recomputed first"
            for label, node in nodes
            if node is not None
            and (planned := planner.planned.get(node.key)) is not None
            and planned.kind is not StepKind.BLOCKED
        ]


def _pairs(
    checks: Iterable[CheckRecord], versions: Callable[[CheckRecord], Iterable[TableVersion]]
) -> list[Checked]:
    return [(check, version) for check in checks for version in versions(check)]


def _runs_after(by_key: Mapping[RecipeKey, PlannedStep], key: RecipeKey, other: RecipeKey) -> bool:
    """Whether a step is another one, or waits for it."""
    waiting, seen = [key], {key}
    while waiting:
        current = waiting.pop()
        if current == other:
            return True
        new = by_key[current].predecessors - seen
        seen |= new
        waiting += new
    return False

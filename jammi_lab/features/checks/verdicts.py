"""Verdicts on results of checks: whether what a check found in a version still holds, and the
checks of a plan. Runs no check."""

import graphlib
from collections.abc import Iterable, Mapping

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.core.anchors import Input, Snapshot, Unknown
from jammi_lab.core.checks import CheckOutcome, CheckRecord, CheckResult, CheckSummary, Severity
from jammi_lab.core.html import count_noun
from jammi_lab.core.identifiers import fold
from jammi_lab.core.records import Step, TableRecord
from jammi_lab.core.verdicts import DefinitionChanged, Fresh, Reason, Stale, Verdict
from jammi_lab.features.checks.runner import CheckRunner, checked_name, is_version_of_subject
from jammi_lab.freshness.evaluated_graph import EvaluatedGraph, VerdictOn
from jammi_lab.freshness.plan import PlannedStep, Planner, StepKind
from jammi_lab.freshness.recipe_graph import RecipeGraph, RecipeKey, RecipeNode
from jammi_lab.freshness.table_verdict import Evidence, State, evaluate_table
from jammi_lab.inputs.observation import Observation

CHECK_ACTION = "check"
_MAKES_A_VERSION = (StepKind.CERTAIN, StepKind.REUSED)


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
            if anchor.input.kind_class.is_result and not is_version_of_subject(check, anchor.input)
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

    def summary(self, node: RecipeNode, evaluated: EvaluatedGraph) -> CheckSummary | None:
        """What the checks on the newest version of a recipe found; None without any."""
        if node.record is None:
            return None
        checks = self._catalog.checks.of_recipe(node.tenant, node.name)
        return self.summarize(checks, node.record, evaluated.observation, evaluated.verdict_on)

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
    ) -> dict[tuple[str, str], CheckSummary]:
        """The same for each source and mutable table with checks, by kind and folded name."""
        by_input: dict[tuple[str, str], list[CheckRecord]] = {}
        for check in self._catalog.checks.list():
            if not check.kind_class.is_result:
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
        if check.kind != input_.kind or fold(check.recipe) != fold(input_.label):
            return False
        with self._runner.scope.use(tenant):
            record = self._catalog.inputs[check.kind].get(input_.name)
        return record is not None and record.tenant == check.tenant

    def failing(self, node: RecipeNode) -> str:
        """How many checks do not pass on the newest version of a recipe, for its badge; empty when
        all pass."""
        checks = self._catalog.checks.of_recipe(node.tenant, node.name)
        results = [self.stored_result(check, node.record) for check in checks]
        number = sum(r is not None and r.outcome is not CheckOutcome.PASS for r in results)
        return f"{count_noun(number, 'check')} fail{'s' * (number == 1)}" if number else ""

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
        by_key = {step.node.key: step for step in steps}
        checked = {
            (check.tenant, fold(check.recipe))
            for check in (self._catalog.checks.list() if len(steps) > 1 else ())
            if check.kind_class.is_result
        }
        has_changed = False
        for key in [key for key in by_key if key in checked]:
            step = by_key[key]
            for name in self._tables_read(step.node):
                node = graph.find(name, step.node.tenant)
                makers = frozenset() if node is None else nearest.get(node.key, frozenset())
                added = {maker for maker in makers if not _runs_after(by_key, maker, key)}
                if not added <= step.predecessors:
                    step.predecessors, has_changed = step.predecessors | added, True
        if not has_changed:
            return steps
        sorter = graphlib.TopologicalSorter(
            {key: step.predecessors for key, step in by_key.items()}
        )
        return [by_key[key] for key in sorter.static_order()]

    def _tables_read(self, node: RecipeNode) -> set[str]:
        """The other result tables that the checks on a recipe read when they were run last."""
        checks = self._catalog.checks
        inputs = [
            input_
            for check in checks.of_recipe(node.tenant, node.name)
            for input_ in checks.inputs(check)
        ]
        return {i.name for i in inputs if i.kind_class.is_result} - {node.name}

    def due(self, evaluated: EvaluatedGraph, planner: Planner) -> list[Step]:
        """The steps for the checks on what a plan is about, by name: those without a result that
        holds, and those that read a table which the plan recomputes. The checks of a table that the
        plan is certain to make are none of them: they are part of its publication."""
        nodes = {node.key: node for node in planner.order}
        inputs = {
            (anchor.input.kind, fold(anchor.input.label))
            for node in planner.order
            for anchor in (node.record.anchors if node.record else ())
        }
        steps = []
        for check in self._catalog.checks.list():
            node = nodes.get((check.tenant, fold(check.recipe)))
            if not check.kind_class.is_result:
                if planner.is_complete or (check.kind, fold(check.recipe)) in inputs:
                    steps.append(self._due_step(check, None, evaluated, planner))
            elif node is not None and node.record is not None:
                planned = planner.planned.get(node.key)
                if planned is None or planned.kind not in _MAKES_A_VERSION:
                    steps.append(self._due_step(check, node.record, evaluated, planner))
        return [step for step in steps if step is not None]

    def _due_step(
        self,
        check: CheckRecord,
        record: TableRecord | None,
        evaluated: EvaluatedGraph,
        planner: Planner,
    ) -> Step | None:
        """The step for a check that is due, or may be after the steps before it; else None."""
        result = self.stored_result(check, record)
        reasons: list[Reason | str] = []
        if result is None:
            reasons = ["it has not been run yet"]
        elif result.outcome is CheckOutcome.ERROR:
            reasons = ["it could not be run"]
        else:
            verdict = self.verdict(
                check, record, result, evaluated.observation, evaluated.verdict_on
            )
            reasons += verdict.reasons if isinstance(verdict, Stale) else []
            reasons = reasons or [
                f"{input_.label} is recomputed first"
                for input_ in _recomputed_inputs(check, result, evaluated, planner)
            ]
        if not reasons:
            return None
        seconds = None if result is None else result.seconds
        return Step(name=check.name, action=CHECK_ACTION, reasons=reasons, seconds=seconds)


def _recomputed_inputs(
    check: CheckRecord, result: CheckResult, evaluated: EvaluatedGraph, planner: Planner
) -> list[Input]:
    """The tables read by a check that the plan recomputes."""
    return [
        anchor.input
        for anchor in result.anchors
        if anchor.input.kind_class.is_result
        and (node := evaluated.graph.find(anchor.input.name, check.tenant)) is not None
        and (planned := planner.planned.get(node.key)) is not None
        and planned.kind is not StepKind.BLOCKED
    ]


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

"""The evaluation of freshness: the verdicts on recipes, from one observation pass."""

from collections.abc import Sequence
from dataclasses import dataclass

from jammi_lab.freshness.evaluated_graph import EvaluatedGraph, KnownChecks
from jammi_lab.freshness.recipe_graph import RecipeGraph
from jammi_lab.inputs.observation import Observation
from jammi_lab.steps.build import BuildContext
from jammi_lab.steps.registry import RecordedRecipes

_MAX_REPEATS = 4
"""Passes that are made anew because another kernel published a newer version meanwhile."""


@dataclass
class FreshnessService:
    """Evaluates the freshness of recipes."""

    ctx: BuildContext
    recorded_recipes: RecordedRecipes
    checks: KnownChecks

    def evaluate(
        self, names: Sequence[str] | None = None, observation: Observation | None = None
    ) -> EvaluatedGraph:
        """The verdicts on the named recipes and everything upstream, or on all recipes, from one
        observation pass (a deep one unless `observation` is given). Unknown names are ignored."""
        observation = observation or self.ctx.observe()
        evaluated = self._evaluate(names, observation)
        for _ in range(_MAX_REPEATS):
            if not evaluated.superseded_during_pass():
                break
            observation.restart()
            evaluated = self._evaluate(names, observation)
        return evaluated

    def _evaluate(self, names: Sequence[str] | None, observation: Observation) -> EvaluatedGraph:
        catalog, scope = self.ctx.catalog, self.ctx.scope
        graph = (
            catalog.database.cached(
                ("recipe graph", scope.current), lambda: RecipeGraph(catalog, scope)
            )
            if names is None
            else RecipeGraph(catalog, scope, names)
        )
        evaluated = self.evaluated_graph(graph, observation)
        if names is None:
            evaluated.evaluate_all()
        else:
            found = [graph.find(name, graph.tenant) for name in names]
            evaluated.evaluate_all([node for node in found if node is not None])
        return evaluated

    def evaluated_graph(self, graph: RecipeGraph, observation: Observation) -> EvaluatedGraph:
        """A graph without verdicts yet."""
        return EvaluatedGraph(self.ctx, self.recorded_recipes, observation, graph, self.checks)

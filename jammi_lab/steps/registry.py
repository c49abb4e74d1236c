"""Recorded recipes as they are now: their definition hash, a job bound to the current inputs, and
the inputs that they read."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from jammi_lab.core.anchors import Unknown, result_input
from jammi_lab.core.errors import ExtensionMissing, TableNotFound
from jammi_lab.core.manifest import ManifestColumn
from jammi_lab.core.recipes import RecipeValue, definition_hash, parse_descriptor, recipe_class
from jammi_lab.core.records import RecipeRecord, TableRecord, TableStatus
from jammi_lab.core.tenancy import TenantScope
from jammi_lab.engine.engine import Engine
from jammi_lab.engine.name_resolution import NameResolver
from jammi_lab.inputs.observation import PinnedState
from jammi_lab.inputs.result_names import reading_unbuilt
from jammi_lab.sources.base import InputRead, Relation
from jammi_lab.steps import sql
from jammi_lab.steps.jobs import Job
from jammi_lab.steps.recipe import BindContext, RunnableRecipe, statement_environment
from jammi_lab.store.result_files import result_snapshot


class RecordedRecipes:
    """The recipes of one workspace."""

    def __init__(
        self,
        engine: Engine,
        scope: TenantScope,
        resolvers: Sequence[NameResolver],
        parts: Mapping[type, Callable[[], Any]],
    ) -> None:
        """`parts`: what recipes need of the workspace, by class; each is made when a recipe asks
        for it."""
        self._engine, self._scope = engine, scope
        self._resolvers, self._parts = resolvers, parts

    def bind_context(self, name: str = "", resolvers: Sequence[NameResolver] = ()) -> BindContext:
        """What the recipe of a table is bound with."""
        return BindContext(self._engine, self._scope, self._parts, name, resolvers)

    def job(self, name: str, descriptor: Mapping[str, Any]) -> Job:
        """The job of a recorded definition, bound to the current inputs. Raises what binding
        raises, and NotRecomputable for rows that come from outside."""
        return recipe_of(descriptor).bind(self.bind_context(name, self._resolvers))

    def current_definition(
        self, recipe: RecipeRecord, *, import_modules: bool = True
    ) -> str | Unknown:
        """The definition hash of a recipe in today's environment.

        Unknown for a Python step whose function is not loaded (with `import_modules`, its module is
        imported), and for a model that was registered again and is not in this kernel."""
        ctx, recorded = self.bind_context(), recipe_of(recipe.descriptor)
        environment = recorded.environment(ctx, recipe.environment)
        current = recorded.current(ctx, import_modules)
        if isinstance(current, Unknown):
            return current
        if environment == recipe.environment and current == recorded:
            return recipe.definition_hash
        return definition_hash(current, environment)

    def current_descriptor(self, recipe: RecipeRecord) -> Mapping[str, Any] | Unknown:
        """The descriptor of a recipe with the encoder or function as it is now. Unknown as for
        `current_definition`."""
        current = recipe_of(recipe.descriptor).current(self.bind_context(), True)
        return current if isinstance(current, Unknown) else current.to_descriptor()

    def current_definitions(
        self, *, import_modules: bool = True
    ) -> Callable[[RecipeRecord], str | Unknown]:
        """`current_definition` for the recipes of one pass."""
        of_statements = statement_environment(self._engine)

        def find(recipe: RecipeRecord) -> str | Unknown:
            is_statement = recipe.descriptor.get("producer") == sql.Sql.kind
            if is_statement and recipe.environment == of_statements:
                return recipe.definition_hash
            return self.current_definition(recipe, import_modules=import_modules)

        return find

    def reading_unbuilt(self) -> AbstractContextManager[None]:
        """A block in which definitions may read recipes that have no version yet. What is bound in
        it is stored or bound again, not run."""
        return reading_unbuilt(self._unbuilt_relation)

    def _unbuilt_relation(self, recipe: RecipeRecord) -> Relation:
        """A recipe as an input of which only the columns are known. TableNotFound when its
        definition does not tell them; raises what binding raises."""
        with self._scope.use(recipe.tenant):
            job = self.job(recipe.name, recipe.descriptor)
        if job.columns is None:
            raise TableNotFound(
                f"The columns of {recipe.name!r} are known only after it has run: it is a "
                f"{'row map without schema=' if job.descriptor.reuses_rows else 'Python step'}.",
                hint=f"ws.recompute({recipe.name!r}) runs it.",
            )
        record = TableRecord(
            table_name=recipe.name,
            kind=job.kind,
            status=TableStatus.BUILDING,
            recipe=recipe.name,
            version=0,
            tenant=recipe.tenant,
            key=[*job.key],
            dimensions=job.dimensions,
            model_id=job.model_id,
            columns=[ManifestColumn(name, kind) for name, kind in job.columns.items()],
        )
        return Relation(
            result_input(recipe.name),
            columns=job.columns,
            token=PinnedState(result_snapshot(record), record),
        )

    def job_with_statement(self, descriptor: Mapping[str, Any], statement: str) -> Job:
        """The job of a recorded SQL definition with another statement. It keeps the key and those
        bound values that the new statement names. Raises what binding raises."""
        recorded = parse_descriptor(descriptor)
        assert isinstance(recorded, sql.Sql), "only a statement can be put in the place of one"
        names = self._engine.parameters(statement)
        params = {n: value for n, value in (recorded.params or {}).items() if n in names}
        recipe = recorded.with_values(text=statement, params=params)
        return recipe.bind(self.bind_context("", self._resolvers))

    def current_inputs(self, descriptor: Mapping[str, Any]) -> tuple[list[InputRead], bool] | None:
        """The inputs of a recorded definition with the columns read today, and whether its
        statements still mean the same; None when the producer reads whole inputs. Raises what
        binding raises."""
        return recipe_of(descriptor).current_inputs(self.bind_context("", self._resolvers))


def recipe_of(descriptor: Mapping[str, Any]) -> RunnableRecipe:
    """The recipe of a descriptor. Raises TableDamaged."""
    if recipe_class(descriptor.get("producer")) is RecipeValue:
        return UnknownRecipe(descriptor)
    recipe = parse_descriptor(descriptor)
    assert isinstance(recipe, RunnableRecipe), "every recipe makes a table"
    return recipe


@dataclass(frozen=True)
class UnknownRecipe(RunnableRecipe):
    """A recorded recipe of a kind that this kernel does not know."""

    descriptor: Mapping[str, Any]
    """What is recorded."""

    def bind(self, ctx: BindContext) -> Job:
        """Raises ExtensionMissing."""
        raise ExtensionMissing(
            f"{ctx.name!r} cannot be run: {self._reason}.",
            hint="Run the code that defines it, or install the package that brings it.",
        )

    @property
    def _reason(self) -> str:
        kind = self.descriptor.get("producer")
        return f"tables of kind {kind!r} are made by a class that is not in this kernel"

    def environment(
        self, _ctx: BindContext, recorded: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """That which is recorded."""
        return dict(recorded or {})

    def current(self, _ctx: BindContext, _import_modules: bool) -> Unknown:
        """What the kind is today is not known."""
        return Unknown(self._reason)

    def missing_requirement(self, _: BindContext) -> str | None:
        """The class."""
        return self._reason

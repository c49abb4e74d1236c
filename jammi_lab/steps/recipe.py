"""Recipes as producers: the protocol of what makes a table, and what a recipe is bound with. A
recipe is one class: its fields, their checks, its inputs and the rows that it gives."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

from jammi_lab.core.anchors import Unknown
from jammi_lab.core.definitions import StepInput
from jammi_lab.core.errors import InvalidArgument
from jammi_lab.core.recipes import RecipeValue, Table

if TYPE_CHECKING:
    from jammi_lab.core.tenancy import TenantScope
    from jammi_lab.engine.engine import Engine
    from jammi_lab.engine.name_resolution import NameResolver
    from jammi_lab.engine.prepared_statement import PreparedStatement
    from jammi_lab.engine.sql.column_lineage import ColumnReads
    from jammi_lab.steps.input_tables import InputLoader, InputTable
    from jammi_lab.steps.jobs import BoundInput, Job

T = TypeVar("T")
OUTPUT_VERSION = 1
"""Increment when equal statements over equal inputs would give other rows than before."""


def statement_environment(engine: "Engine") -> dict[str, Any]:
    """Everything besides the descriptor that shapes the rows of a statement."""
    return {"revision": OUTPUT_VERSION, "engine": engine.environment()}


@dataclass(frozen=True)
class Producer(RecipeValue):
    """What makes a table: its fields are what a person writes, and what is stored."""

    reads_sql: ClassVar[bool] = False
    """Whether its rows depend on how the engine runs statements."""
    revision: ClassVar[int] = 1
    """Increment when equal definitions over equal inputs would give other rows than before."""

    def bind(self, ctx: "BindContext") -> "Job":
        """Check the fields and find the inputs as they are now. The descriptor of the job is this
        recipe with its inputs bound; binding it again gives a job over the inputs of then. Raises
        what the verb of the recipe raises."""
        raise NotImplementedError

    def environment(self, ctx: "BindContext", _: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Everything besides the descriptor that shapes the rows. The second
        argument is the recorded environment, which fills in for libraries that this kernel
        lacks."""
        environment: dict[str, Any] = {"revision": self.revision}
        if self.reads_sql:
            environment["select"] = statement_environment(ctx.engine)
        return environment

    def recorded_inputs(self) -> list[StepInput]:
        """The inputs of a bound recipe, each as a statement. Empty where whole inputs are read."""
        values = [getattr(self, each.name) for each in dataclasses.fields(self)]
        return [value for value in values if isinstance(value, StepInput)]

    def column_reads(
        self, _: Sequence[str], __: "Sequence[Sequence[ColumnReads]]"
    ) -> "list[ColumnReads] | None":
        """The column lineage of a bound recipe: an entry for each of the table's columns, from
        those of the inputs. None where each column may depend on every column read."""
        return None

    def current_inputs(self, ctx: "BindContext") -> "tuple[list[BoundInput], bool] | None":
        """The inputs with the columns that are read today, and whether their statements still mean
        the same; None when whole inputs are read. Raises what binding raises."""
        inputs = self.recorded_inputs()
        return ctx.inputs.current_inputs(inputs, ctx.resolvers) if inputs else None

    def current(self, _ctx: "BindContext", _import_modules: bool) -> Self | Unknown:
        """The recipe with the function or encoder as it is now; Unknown where that is not in this
        kernel. The second argument: whether its module is imported if needed."""
        return self

    def missing_requirement(self, _: "BindContext") -> str | None:
        """What this kernel lacks to run the recipe, as one sentence; None when nothing is
        missing."""
        return None

    def verdict_grounds(self) -> list[str]:
        """What a fresh verdict relies on when not everything that shapes the rows is compared."""
        return []


@dataclass(frozen=True)
class BindContext:
    """What a recipe is bound with: the name of its table, and the parts of the workspace."""

    engine: "Engine"
    scope: "TenantScope"
    parts: Mapping[type, Callable[[], Any]] = field(default_factory=dict)
    """Further parts of the workspace, by class; each is made when a recipe asks for it."""
    name: str = ""
    resolvers: "Sequence[NameResolver]" = ()
    """Names in SQL besides those of sources and tables."""
    overriding_resolvers: "Sequence[NameResolver]" = ()
    """Names in SQL before those of sources and tables."""
    bypass_cache: bool = False
    """Whether no row of an earlier version is taken over."""

    def part(self, kind: type[T]) -> T:
        """The part of that class."""
        found: T = self.parts[kind]()
        return found

    @property
    def inputs(self) -> "InputLoader":
        """Binds names and SQL."""
        from jammi_lab.steps.input_tables import InputLoader

        return InputLoader(self.engine, self.scope)

    def prepare(
        self, statement: str, params: Mapping[str, Any] | None = None
    ) -> "list[PreparedStatement]":
        """Bind the statements of a text. Raises what binding raises."""
        return self.engine.prepare(
            statement,
            params or {},
            tenant=self.scope.current,
            extra_resolvers=self.resolvers,
            overriding_resolvers=self.overriding_resolvers,
        )

    def load_vectors(self, table: Table) -> "InputTable":
        """An embedding table. Raises TableNotFound, SchemaMismatch for a table without vectors,
        InvalidArgument."""
        return self.inputs.load(
            table.reference if isinstance(table, StepInput) else self.inputs.find_vectors(table)
        )

    def load_table(
        self, table: Table, columns: Sequence[str] | None = None, purpose: str = "to read"
    ) -> "InputTable":
        """Some columns, or all, of a source, `source.table`, recipe or SQL text. Raises
        TableNotFound, SchemaMismatch with near names for a missing column, and what binding SQL
        raises."""
        reference = (
            table.reference
            if isinstance(table, StepInput)
            else self.inputs.select_columns(table, columns, self.resolvers, purpose=purpose)
        )
        return self.inputs.load(reference, self.resolvers)

    def load_whole(self, table: Table) -> "InputTable":
        """All columns of a source, `source.table`, recipe or SQL text, SQL as a subquery. Raises as
        `load_table`."""
        if isinstance(table, StepInput):
            return self.load_table(table)
        return self.inputs.load(self.inputs.select_all(table, self.resolvers), self.resolvers)

    def job(self, recipe: Producer, **fields: Any) -> "Job":
        """The job of a recipe whose inputs are bound. `fields`: those of Job that are not its
        recipe's."""
        from jammi_lab.steps.jobs import Job

        return Job(
            descriptor=recipe,
            environment=recipe.environment(self),
            rebind=lambda: recipe.bind(self),
            **fields,
        )


def check_choices(recipe: Producer, **choices: Sequence[str]) -> None:
    """Raise InvalidArgument for the first field whose value is none of its choices."""
    for name, values in choices.items():
        value = getattr(recipe, name)
        if value not in values:
            raise InvalidArgument(
                f"{name} must be {', '.join(values[:-1])} or {values[-1]}, got {value!r}."
            )

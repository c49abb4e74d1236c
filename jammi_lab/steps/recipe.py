"""Recipes that run: the protocol of what makes a table, and what a recipe is bound with. A
recipe is one class: its fields, their checks, its inputs and the rows that it gives."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

from jammi_lab.core.anchors import Unknown
from jammi_lab.core.definitions import StepInput
from jammi_lab.core.errors import InvalidArgument, SchemaMismatch, TableNotFound
from jammi_lab.core.identifiers import check_choice, fold, quote_identifier
from jammi_lab.core.recipes import RecipeValue, Table

if TYPE_CHECKING:
    from jammi_lab.core.tenancy import TenantScope
    from jammi_lab.engine.engine import Engine
    from jammi_lab.engine.name_resolution import NameResolver
    from jammi_lab.engine.prepared_statement import PreparedStatement
    from jammi_lab.engine.sql.column_lineage import ColumnReads
    from jammi_lab.sources.base import InputRead
    from jammi_lab.steps.input_tables import InputTable
    from jammi_lab.steps.jobs import Job

T = TypeVar("T")
OUTPUT_VERSION = 1
"""Increment when equal statements over equal inputs would give other rows than before."""


def statement_environment(engine: "Engine") -> dict[str, Any]:
    """Everything besides the descriptor that shapes the rows of a statement."""
    return {"revision": OUTPUT_VERSION, "engine": engine.environment()}


@dataclass(frozen=True)
class RunnableRecipe(RecipeValue):
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

    def current_inputs(self, ctx: "BindContext") -> "tuple[list[InputRead], bool] | None":
        """The inputs with the columns that are read today, and whether their statements still mean
        the same; None when whole inputs are read. Raises what binding raises."""
        from jammi_lab.steps.input_tables import merged_inputs

        recorded = self.recorded_inputs()
        if not recorded:
            return None
        tables = [ctx.load(each.asked, each.statement) for each in recorded]
        current = [table.step_input.canonical for table in tables]
        return merged_inputs(tables), current == [each.canonical for each in recorded]

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

    def known_names(self) -> list[str]:
        """All names that can be used in FROM now."""
        return self.engine.known_names(self.resolvers)

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

    def load(self, source: Any, statement: str) -> "InputTable":
        """Bind the statement that reads an input. Raises what binding raises."""
        from jammi_lab.steps.input_tables import InputTable

        [prepared] = self.prepare(statement)
        return InputTable(StepInput(source, statement, prepared.canonical()), prepared)

    def load_vectors(self, table: Table) -> "InputTable":
        """An embedding table. Raises TableNotFound, SchemaMismatch for a table without vectors,
        InvalidArgument."""
        if isinstance(table, StepInput):
            return self.load(table.asked, table.statement)
        if not isinstance(table, str) or not table.strip():
            raise InvalidArgument(
                f"The name of an embedding table must be a string, got {table!r}."
            )
        is_prefixed = fold(table).startswith("jammi.")
        name = quote_identifier(table[len("jammi.") :].strip('"') if is_prefixed else table)
        try:
            record = self.load(table, f"SELECT 1 FROM jammi.{name}").record
        except TableNotFound as error:
            if error.hint:
                raise
            record = self.load_whole(table).record
        if record is None or not record.recipe_class.has_vectors:
            actual = f"a table of kind {record.kind}" if record else "no embedding table"
            raise SchemaMismatch(
                f"{table!r} is {actual} and has no vectors.",
                table=table,
                column="vector",
                expected="an embedding table",
                actual=actual,
                hint="Create an embedding table with ws.embed.",
            )
        return self.load(table, f'SELECT "key", "vector" FROM jammi.{name}')

    def load_table(
        self, table: Table, columns: Sequence[str] | None = None, purpose: str = "to read"
    ) -> "InputTable":
        """Some columns, or all, of a source, `source.table`, recipe or SQL text, which keeps its
        own order. Raises TableNotFound, SchemaMismatch with near names for a missing column, and
        what binding SQL raises."""
        from jammi_lab.steps.from_clause import from_text
        from jammi_lab.steps.input_tables import find_column

        if isinstance(table, StepInput):
            return self.load(table.asked, table.statement)
        from_sql = from_text(self, table, purpose)
        is_sql = from_sql.startswith("(\n")
        whole = self.load(table, from_sql[2:-2] if is_sql else f"SELECT * FROM {from_sql}")
        if columns is None:
            return whole
        names = dict.fromkeys(find_column(str(table), whole.columns, column) for column in columns)
        return self.load(table, f"SELECT {', '.join(map(quote_identifier, names))} FROM {from_sql}")

    def load_whole(self, table: Table) -> "InputTable":
        """All columns of a source, `source.table`, recipe or SQL text, SQL as a subquery. Raises as
        `load_table`."""
        from jammi_lab.steps.from_clause import from_text

        if isinstance(table, StepInput):
            return self.load(table.asked, table.statement)
        return self.load(table, f"SELECT * FROM {from_text(self, table)}")

    def job(
        self, recipe: RunnableRecipe, reads: "Sequence[PreparedStatement]" = (), **fields: Any
    ) -> "Job":
        """The job of a recipe that is bound and reads these statements. `fields`: those of Job that
        follow from neither."""
        from jammi_lab.steps.input_tables import input_fields
        from jammi_lab.steps.jobs import Job

        return Job(
            descriptor=recipe,
            environment=recipe.environment(self),
            rebind=lambda: recipe.bind(self),
            **input_fields(reads) | fields,
        )


def check_choices(recipe: RunnableRecipe, **choices: Sequence[str]) -> None:
    """Raise InvalidArgument for the first field whose value is none of its choices."""
    for name, values in choices.items():
        check_choice(name, getattr(recipe, name), values)

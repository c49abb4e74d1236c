"""Inputs of producers that read several tables: embedding tables by name, and columns of any
source, table or SQL statement."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jammi_lab.core.definitions import StepInput
from jammi_lab.core.errors import InvalidArgument, JammiError, SchemaMismatch, TableNotFound
from jammi_lab.core.identifiers import fold, near_names, quote_identifier
from jammi_lab.core.records import TableRecord
from jammi_lab.core.tenancy import TenantScope
from jammi_lab.engine.engine import Engine
from jammi_lab.engine.name_resolution import NameResolver
from jammi_lab.engine.prepared_statement import PreparedStatement
from jammi_lab.inputs.observation import PinnedState
from jammi_lab.steps.from_clause import from_text
from jammi_lab.steps.jobs import BoundInput

InputReference = tuple[str, str]
"""An input as the caller wrote it, and the statement that reads it."""


@dataclass(frozen=True)
class InputTable:
    """One bound input."""

    step_input: StepInput
    """The input as descriptors record it."""
    prepared: PreparedStatement
    """The prepared statement."""

    @property
    def record(self) -> TableRecord | None:
        """The record of the result table that the input names; None for anything else."""
        tokens = [i.relation.token for i in self.prepared.inputs]
        return tokens[0].record if len(tokens) == 1 and isinstance(tokens[0], PinnedState) else None

    @property
    def key_type(self) -> str:
        """The SQL type of the first output column, which is the key of an embedding table."""
        return self.prepared.output[0][1]

    @property
    def columns(self) -> list[str]:
        """The output columns of the statement."""
        return [name for name, _ in self.prepared.output]


class InputLoader:
    """Binds inputs and reads them."""

    def __init__(self, engine: Engine, scope: TenantScope) -> None:
        self._engine, self._scope = engine, scope

    def find_vectors(self, table: Any) -> InputReference:
        """Bind an embedding table by its recipe name or physical name.

        Raises TableNotFound, SchemaMismatch for a table without vectors, InvalidArgument."""
        if not isinstance(table, str) or not table.strip():
            raise InvalidArgument(
                f"The name of an embedding table must be a string, got {table!r}."
            )
        name = table[len("jammi.") :].strip('"') if fold(table).startswith("jammi.") else table
        try:
            input_table = self.load((table, f"SELECT 1 FROM jammi.{quote_identifier(name)}"))
        except TableNotFound as error:
            if self._is_other_input(table):
                raise _no_vectors_error(table, "no embedding table") from None
            table_names = [
                n.partition(".")[2] for n in self._engine.known_names() if n.startswith("jammi.")
            ]
            suggestions = near_names(name, table_names)
            hint = error.hint or ("" if suggestions else "ws.recipes() lists all recipes.")
            raise TableNotFound(
                error.message if error.hint else f"There is no table {table!r}.",
                near=suggestions,
                hint=hint,
            ) from None
        record = input_table.record
        if record is None or not record.recipe_class.has_vectors:
            raise _no_vectors_error(
                table, f"a table of kind {record.kind if record else 'unknown'}"
            )
        return table, f'SELECT "key", "vector" FROM jammi.{quote_identifier(name)}'

    def find_whole(self, names: Sequence[str]) -> list[BoundInput]:
        """Sources, tables or SQL with all their columns, each once. Raises what binding raises."""
        return merged_inputs([self.load(self.select_all(name, ())) for name in names])

    def select_columns(
        self,
        source: Any,
        columns: Sequence[str] | None,
        resolvers: Sequence[NameResolver],
        *,
        purpose: str = "to read",
    ) -> InputReference:
        """The statement that reads some columns of a source, `source.table`, recipe or SQL text.

        Without `columns` it reads all of them; SQL then keeps its own order. Raises TableNotFound,
        SchemaMismatch with near names for a missing column, and what binding SQL raises."""
        from_sql = from_text(self._engine, self._scope.current, source, resolvers, purpose=purpose)
        select_all = from_sql[2:-2] if from_sql.startswith("(\n") else f"SELECT * FROM {from_sql}"
        if columns is None:
            return source, select_all
        names = self.load((source, select_all), resolvers).columns
        exact_names = dict.fromkeys(find_column(source, names, column) for column in columns)
        return source, f"SELECT {', '.join(map(quote_identifier, exact_names))} FROM {from_sql}"

    def select_all(self, source: Any, resolvers: Sequence[NameResolver]) -> InputReference:
        """The statement that reads a source, `source.table`, recipe or SQL text as a whole. Raises
        what binding SQL raises."""
        from_sql = from_text(self._engine, self._scope.current, source, resolvers)
        return source, f"SELECT * FROM {from_sql}"

    def load(self, reference: InputReference, resolvers: Sequence[NameResolver] = ()) -> InputTable:
        """Bind one input. Raises what binding raises."""
        [prepared] = self._engine.prepare(
            reference[1], tenant=self._scope.current, extra_resolvers=resolvers
        )
        return InputTable(StepInput(reference[0], reference[1], prepared.canonical()), prepared)

    def current_inputs(
        self, inputs: Sequence[StepInput], resolvers: Sequence[NameResolver]
    ) -> tuple[list[BoundInput], bool]:
        """Bind the inputs of a recorded definition to today's tables. Returns them, and whether
        their statements still mean the same. Raises what binding raises."""
        tables = [self.load(recorded.reference, resolvers) for recorded in inputs]
        return merged_inputs(tables), all(
            table.step_input.canonical == recorded.canonical
            for table, recorded in zip(tables, inputs, strict=True)
        )

    def _is_other_input(self, name: str) -> bool:
        try:
            from_text(self._engine, self._scope.current, name)
        except JammiError:
            return False
        return True


def merged_inputs(tables: Sequence[InputTable]) -> list[BoundInput]:
    """The bound inputs, each once with the union of its columns."""
    merged: dict[tuple[str, str, str], BoundInput] = {}
    for bound_input in (read for table in tables for read in table.prepared.inputs):
        existing = merged.get(bound_input.relation.input.identity)
        columns = {*bound_input.columns, *(existing.columns if existing else ())}
        merged[bound_input.relation.input.identity] = BoundInput(
            existing.relation if existing else bound_input.relation, tuple(sorted(columns))
        )
    return list(merged.values())


def input_fields(tables: Sequence[InputTable]) -> dict[str, Any]:
    """The arguments of `Job` that follow from its inputs."""
    return {
        "inputs": merged_inputs(tables),
        "volatile": sorted({function for table in tables for function in table.prepared.volatile}),
        "reads_date": any(table.prepared.reads_clock for table in tables),
        "order_sensitive": any(table.prepared.depends_on_order for table in tables),
    }


def find_column(table: str, names: Sequence[str], column: str) -> str:
    """The column's name as the table spells it. Raises SchemaMismatch with the near name, and
    InvalidArgument when `column` is not a name."""
    if not isinstance(column, str) or not column:
        raise InvalidArgument(f"A column name must be a non-empty string, got {column!r}.")
    match = next((n for n in names if n == column), None) or next(
        (n for n in names if fold(n) == fold(column)), None
    )
    if match is None:
        suggestions = near_names(column, names)
        raise SchemaMismatch(
            f"{table!r} has no column {column!r}.",
            table=table,
            column=column,
            expected=column,
            actual=", ".join(names),
            hint=f"Did you mean {suggestions[0]}?" if suggestions else "",
        )
    return match


def _no_vectors_error(table: str, actual: str) -> SchemaMismatch:
    return SchemaMismatch(
        f"{table!r} is {actual} and has no vectors.",
        table=table,
        column="vector",
        expected="an embedding table",
        actual=actual,
        hint="Create an embedding table with ws.embed.",
    )

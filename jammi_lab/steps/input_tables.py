"""Inputs of producers that read several tables: embedding tables by name, and columns of any
source, table or SQL statement."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from jammi_lab.core.definitions import StepInput
from jammi_lab.core.errors import InvalidArgument, SchemaMismatch
from jammi_lab.core.identifiers import find_name, near_or_all
from jammi_lab.core.records import TableRecord
from jammi_lab.engine.prepared_statement import PreparedStatement
from jammi_lab.inputs.observation import PinnedState
from jammi_lab.sources.base import InputRead, merged_reads


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


def merged_inputs(tables: Iterable[InputTable]) -> list[InputRead]:
    """What the tables read, each input once with the union of its columns."""
    return merged_reads(read for table in tables for read in table.prepared.inputs)


def input_fields(statements: Sequence[PreparedStatement]) -> dict[str, Any]:
    """The fields of `Job` that follow from the statements that it reads."""
    return {
        "inputs": merged_reads(read for each in statements for read in each.inputs),
        "volatile": sorted({function for each in statements for function in each.volatile}),
        "reads_date": any(each.reads_clock for each in statements),
        "order_sensitive": any(each.depends_on_order for each in statements),
    }


def find_column(table: str, names: Sequence[str], column: str) -> str:
    """The column's name as the table spells it. Raises SchemaMismatch with the near name, and
    InvalidArgument when `column` is not a name."""
    if not isinstance(column, str) or not column:
        raise InvalidArgument(f"A column name must be a non-empty string, got {column!r}.")
    match = find_name(column, names)
    if match is None:
        raise SchemaMismatch(
            f"{table!r} has no column {column!r}.",
            table=table,
            column=column,
            expected=column,
            actual=", ".join(names),
            **near_or_all(column, names),
        )
    return match

"""The outputs of a row map: what a function returned for a row or a batch of rows, as typed
columns."""

import copy
import datetime
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import pyarrow as pa

from jammi_lab.core.errors import InvalidArgument, JammiError, SchemaMismatch, first_line
from jammi_lab.core.identifiers import fold, near_names
from jammi_lab.sources.frames import as_arrow, canonical_table, is_frame
from jammi_lab.steps.row_wise import ERROR_COLUMN
from jammi_lab.storage.arrow_values import cast_losslessly, to_arrow_array

INPUT_DIGEST_COLUMN = "_input_digest"
SCALAR_COLUMN = "value"
"""The output column of a function that returns one value, without a schema."""
Row = Mapping[str, Any]
_IMMUTABLE_TYPES = (str, bytes, int, float, type(None), Decimal, datetime.date, datetime.time)


class RowOutputs:
    """Converts what a function returns, for the row map `name` with the key column `key`."""

    def __init__(self, name: str, key: str, schema: pa.Schema | None) -> None:
        """`schema`: names and types of the outputs; None when they follow from the values."""
        self._name, self._schema = name, schema
        self._reserved = {fold(n) for n in (key, ERROR_COLUMN, INPUT_DIGEST_COLUMN)}

    def row(self, value: Any) -> Row:
        """The outputs of one row: those of a dict, or the one value. Raises SchemaMismatch."""
        if not isinstance(value, Mapping):
            if is_frame(value):
                raise self._mismatch(
                    "returned a frame for one row", hint="Return a dict or one value; or set batch."
                )
            names = [SCALAR_COLUMN] if self._schema is None else self._schema.names
            if value is None:
                return {} if self._schema is not None else {SCALAR_COLUMN: None}
            if len(names) > 1:
                raise self._mismatch(
                    f"returned {type(value).__name__}, not a dict of {', '.join(names)}"
                )
            return {names[0]: _own_value(value)}
        if invalid := [name for name in value if not isinstance(name, str)]:
            raise self._mismatch(
                f"returned a dict with the key {invalid[0]!r}, which is not a column name"
            )
        self._check_names(list(value))
        return {name: _own_value(each) for name, each in value.items()}

    def rows(self, value: Any, count: int) -> list[Row]:
        """The outputs of a batch of `count` rows, from a frame, or a list of dicts or of values.
        Raises SchemaMismatch."""
        if isinstance(value, list | tuple):
            rows = [self.row(each) for each in value]
        else:
            try:
                rows = as_arrow(value).to_pylist()
            except InvalidArgument:
                raise self._mismatch(
                    f"returned {type(value).__name__} for a batch",
                    hint="Return a frame or a list with an element for each row of the batch.",
                ) from None
            for name in rows[:1]:
                self._check_names(list(name))
        if len(rows) != count:
            raise self._mismatch(f"returned {len(rows):,} rows for a batch of {count:,}")
        return rows

    def columns(self, rows: Sequence[Row]) -> dict[str, pa.Array]:
        """The outputs of some rows by column; a missing one is NULL. Raises SchemaMismatch for
        values that are not of one type, or not of the type in the schema."""
        if self._schema is None:
            names = list(dict.fromkeys(name for row in rows for name in row))
            types: list[pa.DataType | None] = [None] * len(names)
        else:
            names, types = self._schema.names, list(self._schema.types)
        columns = {}
        for name, arrow_type in zip(names, types, strict=True):
            try:
                columns[name] = to_arrow_array([row.get(name) for row in rows], arrow_type)
            except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
                reason = first_line(error)
                wanted = "no common SQL type" if arrow_type is None else f"not type {arrow_type}"
                raise self._mismatch(
                    f"returned values in {name!r} that have {wanted} ({reason})", name
                ) from None
        return columns

    def merged_types(self, types: pa.Schema, part: pa.Table) -> pa.Schema:
        """The types that `merge_tables` gives tables of these types and another one. Raises
        SchemaMismatch for types that have nothing in common."""
        if self._schema is not None or not len(part):
            return types
        try:
            part_types = _without_empty_types(part).schema
            return pa.unify_schemas([types, part_types], promote_options="permissive")
        except pa.ArrowException as error:
            raise self._no_common_type(error) from None

    def merge_tables(self, parts: Sequence[pa.Table]) -> pa.Table:
        """The rows of several tables. Without a schema, types are widened to what all values need.
        Raises SchemaMismatch for types that have nothing in common."""
        if self._schema is None:
            parts = [_without_empty_types(part) for part in parts if len(part)] or list(parts[:1])
        else:
            parts = [self._schema.empty_table(), *parts]
        try:
            schemas = [part.schema for part in parts]
            schema = pa.unify_schemas(schemas, promote_options="permissive")
            fields = {field.name: field.type for field in schema}
            return canonical_table(pa.concat_tables([_with_types(part, fields) for part in parts]))
        except (pa.ArrowException, JammiError) as error:
            raise self._no_common_type(error) from None

    def _check_names(self, names: Sequence[str]) -> None:
        by_folded_name: dict[str, str] = {}
        for name in names:
            if not name:
                raise self._mismatch("returned a column without a name")
            if fold(name) in self._reserved or by_folded_name.setdefault(fold(name), name) != name:
                raise self._mismatch(
                    f"returned the column {name!r}, a name that the table has already",
                    name,
                    hint="Rename it.",
                )
            if self._schema is not None and name not in self._schema.names:
                raise self._mismatch(
                    f"returned the column {name!r}, which is not in its schema",
                    name,
                    near=near_names(name, self._schema.names),
                )

    def _no_common_type(self, error: Exception) -> SchemaMismatch:
        return self._mismatch(
            f"returned values that have no common SQL type ({first_line(error)})",
            hint='Pass schema={"column": "type", …}, and return values of these types.',
        )

    def _mismatch(self, what: str, column: str = "", **advice: Any) -> SchemaMismatch:
        return SchemaMismatch(
            f"The function of {self._name!r} {what}.", table=self._name, column=column, **advice
        )


def _own_value(value: Any) -> Any:
    """A value that the function cannot change any more: outputs of several calls are converted
    together, and a function may fill the same list each time."""
    if isinstance(value, _IMMUTABLE_TYPES):
        return value
    try:
        return copy.deepcopy(value)
    except Exception:  # noqa: BLE001  it cannot be stored either
        return value


def _with_types(table: pa.Table, types: Mapping[str, pa.DataType]) -> pa.Table:
    """The table with columns of these names and types; a missing one is NULL. Raises
    ArrowException."""
    columns = []
    for name, kind in types.items():
        missing = pa.chunked_array([pa.nulls(len(table), kind)])
        column = table[name] if name in table.column_names else missing
        columns.append(cast_losslessly(column, kind))
    return pa.table(columns, names=list(types))


def _without_empty_types(table: pa.Table) -> pa.Table:
    """The table with columns of NULL alone as the null type, which every other type may replace."""
    for position, field in enumerate(table.schema):
        column = table.column(position)
        if len(column) and column.null_count == len(column):
            table = table.set_column(position, field.name, pa.nulls(len(column)))
    return table

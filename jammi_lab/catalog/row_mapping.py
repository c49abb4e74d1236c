"""Conversion between rows of the catalog and records."""

import enum
import types
import typing
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from jammi_lab.catalog.schema import (
    Table,
    check_results,
    checks,
    evaluations,
    models,
    recipes,
    result_tables,
    sources,
    trainings,
    versions,
)
from jammi_lab.core.checks import CheckRecord, CheckResult
from jammi_lab.core.errors import invalid_row_error
from jammi_lab.core.identifiers import fold
from jammi_lab.core.model_records import Evaluation, ModelRecord, Training
from jammi_lab.core.records import RecipeRecord, SourceRecord, TableRecord, VersionRecord
from jammi_lab.core.value import Value

T = TypeVar("T")
E = TypeVar("E", bound=enum.Enum)
R = TypeVar("R", bound=Value)
Convert = Callable[[Any], Any]


class JsonColumn(Generic[T]):
    """Decodes a JSON column of one type. Raises TableDamaged for invalid content."""

    def __init__(self, kind: Any) -> None:
        self._decoder = msgspec.json.Decoder(kind)

    def decode(self, text: Any) -> T:
        """The value of a column."""
        try:
            decoded: T = self._decoder.decode(text)
        except (msgspec.DecodeError, TypeError, RecursionError):
            raise invalid_row_error() from None
        return decoded


class EnumColumn(dict[str, E]):
    """The members of an enum by their values in a column. Raises TableDamaged for an unknown
    value."""

    def __init__(self, kinds: type[E]) -> None:
        super().__init__({str(kind): kind for kind in kinds})

    def __missing__(self, word: str) -> E:
        raise invalid_row_error()


class _DecodedTexts(dict[Any, Any]):
    """The values of a column by what is stored."""

    def __init__(self, decode: Convert) -> None:
        super().__init__()
        self._decode = decode

    def __missing__(self, stored: Any) -> Any:
        self[stored] = decoded = self._decode(stored)
        return decoded


class RowMapping(Generic[R]):
    """Converts the rows of one table of the catalog to records and back.

    A column has the name and the value of its field, except that an enum is stored as its value,
    a truth value as 0 or 1, and a list or dict as JSON.
    """

    def __init__(
        self,
        table: Table,
        record: type[R],
        *,
        renamed: Mapping[str, str] | None = None,
        derived: Mapping[str, Callable[[R], Any]] | None = None,
    ) -> None:
        """`renamed`: the fields of columns with another name; `derived`: the columns by which rows
        are found, from the record."""
        self._record, self._derived = record, derived or {}
        self._columns = [column for column in table.columns if column not in self._derived]
        self.columns = ", ".join(f"{table.name}.{column}" for column in self._columns)
        """The columns that `decode` takes, in order, for a SELECT."""
        self.width = len(self._columns)
        field_of = {"tenant_id": "tenant", **(renamed or {})}
        self._fields = [field_of.get(column, column) for column in self._columns]
        kinds = {field.name: field.type for field in msgspec.structs.fields(record)}
        self._conversions = [
            (column, field, *conversion)
            for column, field in zip(self._columns, self._fields, strict=True)
            if (conversion := _conversion(kinds[field])) is not None
        ]

    def decode(self, row: Sequence[Any]) -> R:
        """The record of a row of a `Statement`, which has checked the types of its values. Raises
        TableDamaged for values that its fields cannot have."""
        values = dict(zip(self._fields, row, strict=True))
        for _, field, decode, _ in self._conversions:
            values[field] = decode(values[field])
        return self._record(**values)

    def first(self, rows: Sequence[Sequence[Any]]) -> R | None:
        """The record of the first row; None when there is none. Raises as `decode`."""
        return self.decode(rows[0]) if rows else None

    def decode_many(self, rows: Sequence[Sequence[Any]]) -> list[R]:
        """`decode` for many rows of a `Statement`, which has checked their types, by column
        instead of by row, for records that take their fields by position. Columns with equal JSON
        share its value, so that a large workspace has fewer objects: many tables read the same
        columns of the same input. Raises as `decode`."""
        if not rows:
            return []
        by_column = zip(self._fields, zip(*rows, strict=True), strict=True)
        columns: dict[str, Iterable[Any]] = dict(by_column)
        for _, field, decode, _ in self._conversions:
            columns[field] = map(_DecodedTexts(decode).__getitem__, columns[field])
        return list(map(self._record, *(columns[f] for f in self._record.__struct_fields__)))

    def encode(self, record: R) -> dict[str, Any]:
        """The row of a record, by column."""
        row = {
            column: getattr(record, field)
            for column, field in zip(self._columns, self._fields, strict=True)
        }
        for column, _, _, encode in self._conversions:
            row[column] = encode(row[column])
        return row | {column: derive(record) for column, derive in self._derived.items()}


def _conversion(kind: Any) -> tuple[Convert, Convert] | None:
    """How the values of a type are read from a column and written to it; None: as they are."""
    if isinstance(kind, types.UnionType):
        [kind, *others] = [member for member in kind.__args__ if member is not types.NoneType]
        if others or (conversion := _conversion(kind)) is None:
            return None
        decode, encode = conversion
        return (
            lambda stored: None if stored is None else decode(stored),
            lambda value: None if value is None else encode(value),
        )
    if typing.get_origin(kind) in (list, dict):
        return JsonColumn(kind).decode, lambda value: msgspec.json.encode(value).decode()
    if kind is bool:
        return bool, int
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return EnumColumn(kind).__getitem__, lambda member: member.value
    return None


class DecodedRows(Generic[T]):
    """The records of one statement's rows, so that a row that did not change is decoded once in a
    kernel and stays the same object.

    Rows are known again by their hash, because the rows themselves take as much memory as the
    records. It is seeded and has 64 bits: two contents of a row do not meet in practice."""

    def __init__(self, decode_many: Callable[[Sequence[Sequence[Any]]], list[T]]) -> None:
        self._decode_many = decode_many
        self._known: dict[Hashable, dict[int, T]] = {}

    def decode(self, rows: Iterable[Any], scope: Mapping[str, Hashable]) -> list[T]:
        """The records of all rows in a scope. Those of its earlier rows are forgotten. Raises
        TableDamaged."""
        group = tuple(scope.values())
        known = self._known.get(group, {})
        by_hash = {hash(values): values for values in map(tuple, rows)}
        new = [key for key in by_hash if key not in known]
        decoded = dict(zip(new, self._decode_many([by_hash[key] for key in new]), strict=True))
        self._known[group] = known = {
            key: decoded[key] if key in decoded else known[key] for key in by_hash
        }
        return [*known.values()]


TABLE = RowMapping(
    result_tables,
    TableRecord,
    renamed={"key_columns": "key"},
    derived={"table_fold": lambda record: fold(record.table_name)},
)
VERSION = RowMapping(
    versions,
    VersionRecord,
    # `table_status` marks it once its table is ready
    derived={"recipe_fold": lambda record: fold(record.recipe), "newest": lambda _: 0},
)
RECIPE = RowMapping(
    recipes,
    RecipeRecord,
    # `holds` sets the others
    derived={
        "name_fold": lambda record: fold(record.name),
        **dict.fromkeys(("held_at", "held_by", "held_note"), lambda _: None),
    },
)
SOURCE = RowMapping(sources, SourceRecord, derived={"name_fold": lambda record: fold(record.name)})
MODEL = RowMapping(models, ModelRecord, derived={"name_fold": lambda record: fold(record.name)})
TRAINING = RowMapping(
    trainings, Training, derived={"output_fold": lambda record: fold(record.output)}
)
EVALUATION = RowMapping(evaluations, Evaluation)
CHECK = RowMapping(
    checks,
    CheckRecord,
    derived={
        "name_fold": lambda record: fold(record.name),
        "recipe_fold": lambda record: fold(record.recipe),
    },
)
CHECK_RESULT = RowMapping(
    check_results,
    CheckResult,
    renamed={"check_name": "check"},
    derived={
        "check_fold": lambda result: fold(result.check),
        "anchors_digest": lambda result: result.anchors_digest,
    },
)
RECIPE_INPUTS = JsonColumn[list[tuple[str, str, str]]](list[tuple[str, str, str]])
"""The inputs of a recipe, from their column."""

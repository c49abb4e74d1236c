"""Connector for in-memory frames: pandas, polars, pyarrow, and Arrow C streams."""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from jammi_lab.core import identifiers
from jammi_lab.core.anchors import (
    Cost,
    FrameOrigin,
    MissingFrame,
    Observed,
    Snapshot,
    Unknown,
    Vanished,
    frame_input,
)
from jammi_lab.core.canonical_json import digest_of
from jammi_lab.core.errors import (
    InvalidArgument,
    SchemaMismatch,
    SourceUnavailable,
    TableNotFound,
    first_line,
)
from jammi_lab.core.identifiers import has_surrogate, quoted_name
from jammi_lab.sources.base import ObservationContext, ReadPlan, Relation
from jammi_lab.sources.frame_origins import origins
from jammi_lab.sources.scratch_duckdb import sql_types
from jammi_lab.storage.arrow_digests import arrow_digests, table_digest
from jammi_lab.storage.arrow_values import (
    cast_losslessly,
    check_preserved,
    has_periods,
    with_sql_precision,
)
from jammi_lab.storage.parquet import decoded_column, foreign_types

_FRAME_CLASSES = {
    "pandas": {"DataFrame"},
    "polars": {"DataFrame", "LazyFrame"},
    "pyarrow": {"Table", "RecordBatch", "RecordBatchReader"},
}
_CONVERSION_ERRORS = (pa.ArrowException, TypeError, ValueError, RuntimeError)
"""What polars raises for a column without a type of Arrow."""
_VALUE_ERRORS = (pa.ArrowException, TypeError, ValueError, OverflowError)
"""What Arrow raises for values without a common type."""
METHOD = "digest of the frame"
MAX_COMPARED_VALUES = 250_000
"""Values of a frame whose rows are compared with those that were read: about 5 ms."""


def is_frame(obj: object) -> bool:
    """Whether `as_arrow` accepts the object. Checks type names only and imports nothing."""
    return _library(obj) is not None or _has_arrow_stream(obj)


def _has_arrow_stream(obj: object) -> bool:
    # A Series has a stream, too, but is not a frame. Attributes of classes, since those of objects
    # may be code of the user; a proxy has those of its object only.
    owner: Any = obj if type(obj) in weakref.ProxyTypes else type(obj)
    is_library_object = type(obj).__module__.split(".")[0] in _FRAME_CLASSES
    return (
        hasattr(owner, "__arrow_c_stream__") and not isinstance(obj, type) and not is_library_object
    )


_libraries: weakref.WeakKeyDictionary[type, str | None] = weakref.WeakKeyDictionary()
"""The library of each class whose objects were examined; a notebook's classes are not kept."""


def _library(obj: object) -> str | None:
    kind: Any = type(obj)
    try:
        return _libraries[kind]
    except KeyError:
        return _libraries.setdefault(kind, _library_of(kind))


def _library_of(kind: Any) -> str | None:
    for base in kind.__mro__:
        root: str = base.__module__.split(".")[0]
        if base.__name__ in _FRAME_CLASSES.get(root, ()):
            return root
    return None


def as_arrow(obj: object) -> pa.Table:
    """The rows of a frame as a plain Arrow table.

    A named pandas index becomes a column; a lazy frame is collected; a reader or stream is
    consumed. Categories become their values. Raises InvalidArgument for an object that is not a
    frame, and SchemaMismatch for a column without an SQL type or with mixed types.
    """
    return canonical_table(_rows_of(obj))


def _rows_of(obj: Any) -> pa.Table:
    library = _library(obj)
    if library == "pandas":
        return _from_pandas(obj)
    if library == "polars":
        return _from_polars(obj)
    if library is not None or _has_arrow_stream(obj):
        try:
            with foreign_types():
                return pa.table(obj)
        except pa.ArrowException as error:
            raise SchemaMismatch(f"The frame cannot be read: {first_line(error)}.") from error
    raise InvalidArgument(
        f"Expected a frame, got {type(obj).__name__}.",
        hint="Pass a pandas, polars or pyarrow frame, or ws.sql(statement).",
    )


def canonical_table(table: pa.Table) -> pa.Table:
    """The table in canonical form: without metadata, dictionaries and view types, with half floats
    widened. Raises SchemaMismatch."""
    names = table.schema.names
    if not names:
        raise SchemaMismatch(
            "The frame has no columns.", hint="Use a frame with at least one column."
        )
    names_so_far: set[str] = set()
    for name in names:
        if not name or "\0" in name:
            raise SchemaMismatch(
                f"{name!r} is not a valid column name.", column=name, hint="Rename the column."
            )
        if name in names_so_far:
            raise SchemaMismatch(
                f"Two columns are named {name!r}.",
                column=name,
                hint="Rename one of them; a named index of pandas counts as a column.",
            )
        names_so_far.add(name)
    columns = [*map(_sql_column, table.schema, table.columns)]
    return pa.table(columns, names=names)


def unique_names(table: pa.Table) -> pa.Table:
    """The table with column names that are unique without regard to case: `A` beside `a` becomes
    `A_1`, as DuckDB itself would rename it.

    The digest of a column must have the name that a statement reads.
    """
    names = identifiers.unique_names(table.column_names)
    return table if names == table.column_names else table.rename_columns(names)


def _sql_column(field: pa.Field, column: pa.ChunkedArray) -> pa.ChunkedArray:
    name, kind = field.name, column.type
    is_foreign = isinstance(kind, pa.BaseExtensionType) and kind.extension_name[:6] != "arrow."
    if is_foreign or has_periods(field):
        actual = "period of pandas" if has_periods(field) else str(kind)
        raise SchemaMismatch(
            f"Column {name!r} has type {actual}, which SQL does not support.",
            column=name,
            actual=actual,
            hint="Convert that column to text, numbers or timestamps.",
        )
    column = decoded_column(column)
    try:
        return cast_losslessly(column, with_sql_precision(column.type))
    except pa.ArrowInvalid as error:
        raise SchemaMismatch(
            f"Column {name!r} contains times that are finer than SQL has them ({error}).",
            column=name,
            actual=str(column.type),
            hint="Round timestamps with a time zone and durations to microseconds, and dates to "
            "days.",
        ) from None


def _from_polars(frame: Any) -> pa.Table:
    try:
        eager = frame.collect() if hasattr(frame, "collect") else frame
    except Exception as error:  # noqa: BLE001 — also of functions of the user in the frame
        raise SourceUnavailable(
            f"The lazy frame cannot be collected: {error}.", hint="See frame.collect()."
        ) from None
    # Arrow would get the memory addresses of Python objects.
    object_columns = [name for name, kind in eager.schema.items() if str(kind).startswith("Object")]
    if object_columns:
        raise SchemaMismatch(
            f"Column {object_columns[0]!r} contains Python objects, which SQL does not support.",
            column=object_columns[0],
            actual="Object",
            hint="Convert or remove that column.",
        )
    try:
        table: pa.Table = eager.to_arrow()
    except _CONVERSION_ERRORS:
        table = pa.table(
            [_polars_column(series) for series in eager.get_columns()], names=eager.columns
        )
    return table


def _polars_column(series: Any) -> Any:
    """Convert one column, after converting the whole frame failed, to name the one that fails."""
    try:
        return series.to_frame().to_arrow().column(0)
    except _CONVERSION_ERRORS:
        raise SchemaMismatch(
            f"Column {series.name!r} has type {series.dtype}, which SQL does not support.",
            column=series.name,
            actual=str(series.dtype),
            hint="Convert or remove that column.",
        ) from None


def _from_pandas(frame: Any) -> pa.Table:
    index_names = [name for name in frame.index.names if name is not None]
    columns = [
        *((str(name), frame.index.get_level_values(name)) for name in index_names),
        *((str(label), frame.iloc[:, i]) for i, label in enumerate(frame.columns)),
    ]
    return pa.table(
        [_pandas_column(name, values) for name, values in columns],
        names=[name for name, _ in columns],
    )


def _pandas_column(name: str, values: Any) -> pa.Array | pa.ChunkedArray:
    if has_surrogate(name):
        raise SchemaMismatch(f"The column name {name!r} is not valid text.", column=name)
    try:
        if str(values.dtype).startswith("Sparse"):
            values = values.astype(values.dtype.subtype)
        array = pa.array(values, from_pandas=True)
        if values.dtype == object:
            check_preserved(list(values), array)
        return array
    except _VALUE_ERRORS as error:
        raise SchemaMismatch(
            f"Column {name!r} contains values without a common SQL type ({first_line(error)}).",
            column=name,
            actual=str(values.dtype),
            hint="Convert it, for example with .astype(str).",
        ) from None


def frame_snapshot(table: pa.Table) -> Snapshot:
    """The state of these rows. Raises SchemaMismatch."""
    digests = arrow_digests(table)
    types = sql_types(table.schema)
    digest = digest_of({"columns": list(digests.items()), "rows": table.num_rows})
    return Snapshot(
        columns=types,
        whole=digest,
        method=METHOD,
        cost=Cost.SCAN,
        by_column=digests,
        row_count=table.num_rows,
    )


def rows_digest(frame: Any) -> str | None:
    """A digest of the rows of a pandas or polars frame; None for one that has too many values to be
    compared, or that has no SQL types."""
    if math.prod(frame.shape) > MAX_COMPARED_VALUES:
        return None
    try:
        return table_digest(as_arrow(frame))
    except SchemaMismatch:
        return None


def _deep_copy(table: pa.Table) -> pa.Table:
    """A deep copy of the rows: Arrow shares the arrays of a pandas frame, which may be changed in
    place during a read."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return pa.ipc.open_stream(sink.getvalue()).read_all()


_consumed_streams: weakref.WeakKeyDictionary[object, pa.Table] = weakref.WeakKeyDictionary()
"""The rows of consumed streams, so that a second connector of the same object can read them."""


def _consume_once(stream: Any) -> pa.Table:
    if (rows := _consumed_streams.get(stream)) is None:
        rows = _consumed_streams[stream] = as_arrow(stream)
    return rows


class FrameConnector:
    """A frame of this kernel under a name. It is converted on each use, so that changes in place
    take effect; a stream is read once."""

    kind = "frame"
    is_database = False

    def __init__(self, name: str, obj: object | None) -> None:
        self.name = name
        is_stream = obj is not None and (
            isinstance(obj, pa.RecordBatchReader) or _library(obj) is None
        )
        self._object = _consume_once(obj) if is_stream else obj

    @property
    def location(self) -> str:
        """The library of the frame, for display."""
        return (
            f"{_library(self._object)} frame of this kernel"
            if self._object is not None
            else "a frame of an earlier kernel"
        )

    def check(self) -> None:
        """Check that the frame exists and has SQL types. Raises SourceUnavailable,
        SchemaMismatch."""
        sql_types(self._table().schema)

    def tables(self) -> list[str]:
        """Empty: a frame is one table."""
        return []

    def find(self, parts: Sequence[str]) -> str | None:  # noqa: ARG002
        """None: it is no database."""
        return None

    def capture(self) -> tuple[pa.Table, Snapshot]:
        """The rows and their state from one conversion. Raises SourceUnavailable if the frame no
        longer exists, SchemaMismatch."""
        table = self._table()
        if _library(self._object) == "pandas":
            table = _deep_copy(table)
        return table, frame_snapshot(table)

    def origin(self) -> FrameOrigin | None:
        """What the frame was made from; None when that is not known."""
        return None if self._object is None else origins.origin(self._object)

    def relation(self, table: str | None) -> Relation:
        """The current rows. Raises SourceUnavailable if the frame no longer exists, TableNotFound
        if `table` is not None, SchemaMismatch."""
        if table is not None:
            raise TableNotFound(
                f"{self.name!r} is a frame and has no table {table!r}.",
                hint=f"Use FROM {quoted_name(self.name)}.",
            )
        rows = self._table()
        return Relation(
            frame_input(self.name), ReadPlan(frame=rows), columns=sql_types(rows.schema)
        )

    def observe(self, table: str | None, ctx: ObservationContext) -> Observed:
        """A Snapshot by column; Unknown when the frame no longer exists, cannot be converted, or
        exceeds the limits of the observation."""
        if table is not None:
            return Vanished()
        if self._object is None:
            return MissingFrame(
                f"the frame {self.name} is not in this kernel; create it again, and add it: "
                f"ws.sources.add({self.name!r}, frame, replace=True)"
            )
        try:
            rows = self._table()
            if ctx.scan_bytes is not None and rows.nbytes > ctx.scan_bytes:
                return Unknown(
                    f"would scan {rows.nbytes:,} bytes of a frame; run `ws.status(deep=True)`"
                )
            return frame_snapshot(rows)
        except (SchemaMismatch, SourceUnavailable) as error:
            return Unknown(error.message.rstrip("."))

    def _table(self) -> pa.Table:
        if self._object is None:
            raise SourceUnavailable(
                f"The frame {self.name!r} is not in this kernel.",
                hint=f"Create it again and call ws.sources.add({self.name!r}, frame, "
                "replace=True).",
            )
        return unique_names(as_arrow(self._object))

"""Frames of the kernel as sources: pandas, polars, pyarrow, and whatever speaks the Arrow C stream."""

from __future__ import annotations

import weakref
from collections import Counter
from typing import Any

import pyarrow as pa

from jammi_lab.canonical import digest_of
from jammi_lab.errors import InvalidArgument, SchemaMismatch, SourceUnavailable, TableNotFound
from jammi_lab.names import ascii_lower, written
from jammi_lab.sources.base import Looking, Relation
from jammi_lab.sources.scratch import sql_types
from jammi_lab.storage.digests import arrow_digests
from jammi_lab.storage.parquet import plain_column
from jammi_lab.values.anchors import Cost, Input, InputKind, Observed, Snapshot, Unknown, Vanished

_KNOWN = {
    "pandas": {"DataFrame"},
    "polars": {"DataFrame", "LazyFrame"},
    "pyarrow": {"Table", "RecordBatch", "RecordBatchReader"},
}
METHOD = "digest of the frame"


def is_frame(obj: object) -> bool:
    """Whether `as_arrow` takes the object. Looks at names of types only, and imports nothing."""
    return _library(obj) is not None or _streams(obj)


def _streams(obj: object) -> bool:
    known_part = type(obj).__module__.split(".")[0] in _KNOWN  # a Series streams too, and is no frame
    return hasattr(obj, "__arrow_c_stream__") and not isinstance(obj, type) and not known_part


def _library(obj: object) -> str | None:
    for base in type(obj).__mro__:
        root = base.__module__.split(".")[0]
        if base.__name__ in _KNOWN.get(root, ()):
            return root
    return None


def as_arrow(obj: object) -> pa.Table:
    """The rows of a frame as a plain Arrow table.

    A pandas index is kept where it has a name; a lazy frame is collected; a reader or stream is used up. Categories become their values.
    InvalidArgument for what is no frame, SchemaMismatch naming the column that has no SQL type or whose values are of several types.
    """
    library = _library(obj)
    if library == "pandas":
        return plain_table(_from_pandas(obj))
    if library == "polars":
        return plain_table(_from_polars(obj))
    if isinstance(obj, pa.RecordBatch):
        return plain_table(pa.Table.from_batches([obj]))
    if isinstance(obj, pa.RecordBatchReader):
        return plain_table(obj.read_all())
    if isinstance(obj, pa.Table):
        return plain_table(obj)
    if _streams(obj):
        return plain_table(pa.table(obj))
    raise InvalidArgument(f"A value of type {type(obj).__name__} is no frame.", hint="Give a pandas, polars or pyarrow frame.")


def plain_table(table: pa.Table) -> pa.Table:
    """The table with nothing that depends on who made it: no metadata, no dictionaries or views, half floats widened. SchemaMismatch."""
    names = table.schema.names
    if not names:
        raise SchemaMismatch("The frame has no columns.", hint="Give a frame with at least one column.")
    seen: set[str] = set()
    for name in names:
        if not name or "\0" in name:
            raise SchemaMismatch(f"A column is called {name!r}, which SQL cannot name.", column=name, hint="Name it.")
        if name in seen:
            raise SchemaMismatch(f"Two columns are called {name!r}.", column=name, hint="Give one of them another name.")
        seen.add(name)
    columns = [_sql_column(name, column) for name, column in zip(names, table.columns, strict=True)]
    return pa.table(columns, names=names)


def told_apart(table: pa.Table) -> pa.Table:
    """The table under the names that SQL has for its columns: beside `a`, `A` is `A_1`, as DuckDB would call it by itself.

    A digest has to stand under the name that a statement reads, else that statement's table rests on no digest of this column.
    """
    names = [*table.column_names]
    times: dict[str, int] = {}
    for at, name in enumerate(names):
        plain, called = ascii_lower(name), name
        while ascii_lower(called) in times:  # the name, or one that was made before, is taken
            called = f"{name}_{times[plain]}"
            times[plain] += ascii_lower(called) in times
        times[ascii_lower(called)] = 1
        names[at] = called
    return table if names == table.column_names else table.rename_columns(names)


def _sql_column(name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType) and not kind.extension_name.startswith("arrow."):
        hint = "Convert that column to text, numbers or timestamps."
        raise SchemaMismatch(f"Column {name!r} is {kind}, which SQL cannot hold.", column=name, actual=str(kind), hint=hint)
    if pa.types.is_float16(kind):
        return column.cast(pa.float32())
    if pa.types.is_timestamp(kind) and kind.unit == "ns" and kind.tz is not None:
        return _in_microseconds(name, column)
    return plain_column(column)


def _in_microseconds(name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Moments with a zone, of which SQL holds whole microseconds and would drop the rest without a word. SchemaMismatch when there is a rest."""
    try:
        return column.cast(pa.timestamp("us", column.type.tz))
    except pa.ArrowInvalid:
        said = f"Column {name!r} holds times with a zone that are finer than a microsecond, which SQL would cut off."
        raise SchemaMismatch(said, column=name, actual=str(column.type), hint="Round them to microseconds, or take the zone away.") from None


def _from_polars(frame: Any) -> pa.Table:
    eager = frame.collect() if hasattr(frame, "collect") else frame
    objects = [name for name, kind in eager.schema.items() if str(kind).startswith("Object")]  # these would go over as addresses
    if objects:
        said = f"Column {objects[0]!r} holds Python objects, which SQL cannot hold."
        raise SchemaMismatch(said, column=objects[0], actual="Object", hint="Convert or leave out that column.")
    try:
        table: pa.Table = eager.to_arrow()
    except (pa.ArrowException, TypeError, ValueError, RuntimeError):
        table = pa.table([_polars_column(series) for series in eager.get_columns()], names=eager.columns)
    return table


def _polars_column(series: Any) -> Any:
    """Called when a frame as a whole does not convert, to find the column that is to blame."""
    try:
        return series.to_frame().to_arrow().column(0)
    except (pa.ArrowException, TypeError, ValueError, RuntimeError):
        said = f"Column {series.name!r} is {series.dtype}, which SQL cannot hold."
        raise SchemaMismatch(said, column=series.name, actual=str(series.dtype), hint="Convert or leave out that column.") from None


def _from_pandas(frame: Any) -> pa.Table:
    labels = [str(label) for label in frame.columns]
    named = [name for name in frame.index.names if name is not None]
    both = next((label for label, times in Counter([*labels, *map(str, named)]).items() if times > 1), None)
    if both is not None:
        raise SchemaMismatch(f"Two columns are called {both!r}.", column=both, hint="Give one of them another name; a named index counts.")
    kept = [*((str(name), frame.index.get_level_values(name)) for name in named), *((label, frame.iloc[:, i]) for i, label in enumerate(labels))]
    return pa.table([_pandas_column(name, values) for name, values in kept], names=[name for name, _ in kept])


def _pandas_column(name: str, values: Any) -> pa.Array | pa.ChunkedArray:
    try:
        if str(values.dtype).startswith("Sparse"):
            values = values.astype(values.dtype.subtype)
        return pa.array(values, from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        said = str(error).splitlines()[0][:160]
        sentence = f"Column {name!r} holds values that have no common SQL type ({said})."
        raise SchemaMismatch(sentence, column=name, actual=str(values.dtype), hint="Convert it, for instance with .astype(str).") from None


def frame_snapshot(table: pa.Table, cost: Cost = Cost.SCAN) -> Snapshot:
    """The state of just these rows. SchemaMismatch."""
    digests = arrow_digests(table)
    types = sql_types(table.schema)
    whole = digest_of({"columns": list(digests.items()), "rows": table.num_rows})
    return Snapshot(columns=types, whole=whole, method=METHOD, cost=cost, by_column=digests, row_count=table.num_rows)


def _copied(table: pa.Table) -> pa.Table:
    """The same rows in memory of their own: those of a pandas frame are its own arrays, and these may be changed in place while they are read."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return pa.ipc.open_stream(sink.getvalue()).read_all()


_drained: weakref.WeakKeyDictionary[object, pa.Table] = weakref.WeakKeyDictionary()
"""The rows of streams that were read: a second connector of the same object must not find it empty."""


def _once(stream: Any) -> pa.Table:
    if (rows := _drained.get(stream)) is None:
        rows = _drained[stream] = as_arrow(stream)
    return rows


class FrameConnector:
    """A frame that lives with the kernel, under a name. It is converted at each use, so that a change in place is seen; a stream is read once."""

    kind = "frame"

    def __init__(self, name: str, obj: object | None) -> None:
        self.name = name
        one_use = obj is not None and (isinstance(obj, pa.RecordBatchReader) or _library(obj) is None)
        self._object = _once(obj) if one_use else obj

    @property
    def location(self) -> str:
        """Which library's frame, for people."""
        return f"{_library(self._object)} frame of this kernel" if self._object is not None else "a frame of an earlier kernel"

    def check(self) -> None:
        """Nothing, when the frame is there and SQL can hold it. SourceUnavailable, SchemaMismatch."""
        sql_types(self._table().schema)

    def tables(self) -> list[str]:
        """Empty: a frame is itself one table."""
        return []

    def capture(self) -> tuple[pa.Table, Snapshot]:
        """The rows and their state, from one conversion. SourceUnavailable when the frame is gone, SchemaMismatch."""
        table = self._table()
        if _library(self._object) == "pandas":
            table = _copied(table)
        return table, frame_snapshot(table)

    def relation(self, table: str | None) -> Relation:
        """The rows as they are now. SourceUnavailable when the frame is gone, TableNotFound for a table inside it, SchemaMismatch."""
        if table is not None:
            raise TableNotFound(f"{self.name!r} is a frame and holds no table {table!r}.", hint=f"Say FROM {written(self.name)}.")
        rows = self._table()
        return Relation(Input(InputKind.FRAME, self.name), frame=rows, columns=sql_types(rows.schema))

    def observe(self, table: str | None, looking: Looking) -> Observed:
        """A Snapshot by column; Unknown when the frame is gone, cannot be converted, or is more than the look may scan."""
        if table is not None:
            return Vanished()
        if self._object is None:
            return Unknown("the frame is not in this kernel")
        try:
            rows = self._table()
            if looking.scan_bytes is not None and rows.nbytes > looking.scan_bytes:
                return Unknown(f"would scan {rows.nbytes:,} bytes of a frame; `ws.status(deep=True)`")
            return frame_snapshot(rows)
        except (SchemaMismatch, SourceUnavailable) as error:
            return Unknown(error.message.rstrip("."))

    def _table(self) -> pa.Table:
        if self._object is None:
            hint = f'Add it again: ws.sources.add("{self.name}", frame, replace=True).'
            raise SourceUnavailable(f"The frame {self.name!r} is not in this kernel.", hint=hint)
        return told_apart(as_arrow(self._object))

"""Results as frames of other libraries: the methods that give them, and Arrow tables as pandas
frames and Python tuples in the types that people compute with.

SQL has integers of 128 bits, decimals, dates and intervals; numpy has none of them. Arrow keeps
them exactly, and so do `.arrow()` and `.polars()`. pandas shows them as Python objects, on which
`* 1.1`, `.dt` and `numpy.log` fail. The frames of this module hold numpy's nearest type instead.
"""

import contextlib
import datetime as dt
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from jammi_lab.core.attribute_suggestions import answer_item
from jammi_lab.core.errors import ExtensionMissing, InvalidArgument, SchemaMismatch
from jammi_lab.core.module_imports import import_modules

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import polars as pl
    import pyarrow as pa
    from numpy.typing import NDArray


_HUGEINT_PRECISION_DIGITS = 38
_MAX_EXACT_INTEGER = 2**53
_MAX_EXACT_SCALE = 22
_MONTH_DAYS = 30
_DAY_MICROSECONDS = 86_400_000_000
_NULLABLE_INTEGERS = "Int8 Int16 Int32 Int64 UInt8 UInt16 UInt32 UInt64".split()


def to_pandas(table: "pa.Table", *, exact: bool = False) -> "pd.DataFrame":
    """The rows as a pandas frame.

    By default integers and `sum` of integers are int64; with NULLs float64 if that holds each
    exactly, else Int64; beyond int64 uint64, UInt64, or Python's int. DECIMAL is float64, DATE and
    TIMESTAMP datetime64, INTERVAL timedelta64 (a month is 30 days, as in DuckDB). With `exact` they
    are nullable integers, Decimal and date objects. ExtensionMissing without pandas, SchemaMismatch
    for values that it cannot hold.
    """
    try:
        with import_modules():
            import pandas as pd  # noqa: F401
    except ImportError:
        raise ExtensionMissing(
            "pandas is not installed.",
            hint="pip install pandas; .polars() and .arrow() work without it.",
        ) from None
    import pyarrow as pa

    cannot_hold = (pa.ArrowException, TypeError)
    try:
        return _frame(table, exact)
    except cannot_hold:
        for field, column in zip(table.schema, table.columns, strict=True):
            try:
                _frame(pa.table([column], [field.name]), exact)
            except cannot_hold:
                raise _type_error(field, "pandas") from None
        raise


def _frame(table: "pa.Table", exact: bool) -> "pd.DataFrame":
    import pandas as pd
    import pyarrow as pa

    if exact:
        nullable = {getattr(pa, name.lower())(): getattr(pd, f"{name}Dtype")() for name in
                    _NULLABLE_INTEGERS}  # fmt: skip
        frame: pd.DataFrame = table.to_pandas(
            types_mapper={**nullable, pa.bool_(): pd.BooleanDtype()}.get,
            maps_as_pydicts="lossy",
            use_threads=False,
        )
        return frame
    columns = [_numpy_column(column) for column in table.columns]
    names = list(map(str, range(len(columns))))  # two columns of SQL may have one name
    frame = pa.table(columns, names).to_pandas(
        date_as_object=False,
        maps_as_pydicts="lossy",
        ignore_metadata=True,
        use_threads=False,  # where one of them cannot start, Arrow ends the process
    )
    nullable_types = {pa.int64(): pd.Int64Dtype(), pa.uint64(): pd.UInt64Dtype()}
    for name, column, original in zip(names, columns, table.columns, strict=True):
        kind = column.type
        if pa.types.is_interval(kind):
            frame[name] = _timedeltas(column)
        elif kind in nullable_types and column.null_count:
            frame[name] = column.to_pandas(types_mapper=nullable_types.get)
        elif kind == _hugeint() or (
            pa.types.is_nested(kind) and not all(map(_are_exact_floats, original.chunks))
        ):
            frame[name] = pd.Series(_integer_objects(original.to_pylist()), dtype=object)
    frame.columns = pd.Index(table.column_names)
    return frame


def nested_types(kind: "pa.DataType") -> "list[pa.DataType]":
    """The type and all types nested in it."""
    import pyarrow as pa

    if isinstance(kind, pa.BaseExtensionType):
        return nested_types(kind.storage_type)
    return [kind] + [
        part for i in range(kind.num_fields) for part in nested_types(kind.field(i).type)
    ]


def _type_error(field: "pa.Field", library: str) -> SchemaMismatch:
    """The error for a column of a type that a library does not have."""
    return SchemaMismatch(
        f"Column {field.name!r} has the type {field.type}, which {library} cannot hold.",
        column=field.name,
        actual=str(field.type),
        hint="Cast it to VARCHAR, or use .arrow().",
    )


def _is_of_polars(kind: "pa.DataType") -> bool:
    """Whether polars has a type, nested types apart."""
    import pyarrow as pa

    if pa.types.is_struct(kind):
        names = [field.name for field in kind]
        return len(set(names)) == len(names)
    return not any((pa.types.is_interval(kind), pa.types.is_union(kind)))


def _numpy_column(column: "pa.ChunkedArray") -> "pa.ChunkedArray":
    """The column in an Arrow type that pandas converts to a numpy type."""
    import pyarrow as pa
    from pyarrow import compute

    kind = column.type
    if pa.types.is_integer(kind) or kind == _hugeint():
        return _plain_integers(column)
    if pa.types.is_date32(kind):
        try:
            return column.cast(pa.timestamp("us"))
        except pa.ArrowInvalid:  # years that microseconds cannot reach
            return column.cast(pa.timestamp("s"))
    if pa.types.is_union(kind):
        return pa.chunked_array([pa.array([str(v) for v in column.to_pylist()], pa.string())])
    if pa.types.is_decimal128(kind) and (floats := _rounded_decimals(column)) is not None:
        return floats
    if (numeric := _numeric_type(kind)) != kind:
        return compute.cast(column, numeric, safe=False)
    return column


def _plain_integers(column: "pa.ChunkedArray") -> "pa.ChunkedArray":
    """Integers as int64 or uint64, and with NULLs as float64, where these hold every value."""
    import pyarrow as pa

    for kind in (pa.int64(), pa.uint64()):
        with contextlib.suppress(pa.ArrowInvalid):
            column = column.cast(kind)
            break
    if column.null_count and pa.types.is_integer(column.type):
        with contextlib.suppress(pa.ArrowInvalid):
            return column.cast(pa.float64())
    return column


def _are_exact_floats(values: "pa.Array") -> bool:
    """Whether the integers inside of nested values stay the same in numpy arrays, which are of
    float64 where there is a NULL."""
    import pyarrow as pa

    kind = values.type
    if pa.types.is_struct(kind):
        return all(map(_are_exact_floats, values.flatten()))
    if pa.types.is_map(kind):
        return _are_exact_floats(values.keys) and _are_exact_floats(values.items)
    if pa.types.is_nested(kind) and not pa.types.is_union(kind):
        return _are_exact_floats(values.flatten())
    if kind == _hugeint():
        return False
    if pa.types.is_integer(kind) and values.null_count:
        return bool(pa.types.is_floating(_plain_integers(pa.chunked_array([values])).type))
    return True


def _integer_objects(value: Any) -> Any:
    """Values with int in place of the decimals of HUGEINT, also inside lists and dicts."""
    if isinstance(value, list):
        return [_integer_objects(each) for each in value]
    if isinstance(value, dict):
        return {name: _integer_objects(each) for name, each in value.items()}
    if isinstance(value, Decimal) and value.as_tuple().exponent == 0:
        return int(value)
    return value


def _with_plain_numbers(table: "pa.Table") -> "pa.Table":
    """The rows with int64 or float64 in place of DECIMAL and HUGEINT."""
    import pyarrow as pa
    from pyarrow import compute as pc

    columns = []
    for column in table.columns:
        kind = _numeric_type(column.type)
        plain = column if kind == column.type else _numpy_column(column)
        columns.append(pc.cast(plain, _numeric_type(plain.type), safe=False))
    return pa.table(columns, table.column_names)


def _rounded_decimals(column: "pa.ChunkedArray") -> "pa.ChunkedArray | None":
    """The float64 nearest to each decimal, as Python's `float` gives; Arrow's cast may be one bit
    off. None where a float64 does not hold the digits or the scale exactly."""
    import numpy as np
    import pyarrow as pa

    array = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    words = np.frombuffer(array.buffers()[1] or b"", "<i8").reshape(-1, 2)[array.offset :]
    low, high = words[: len(array)].T
    is_null = array.is_null().to_numpy(zero_copy_only=False)
    is_exact = (high == low >> 63) & (low < _MAX_EXACT_INTEGER) & (low > -_MAX_EXACT_INTEGER)
    if column.type.scale > _MAX_EXACT_SCALE or not (is_exact | is_null).all():
        return None
    return pa.chunked_array([pa.array(low / 10.0**column.type.scale, mask=is_null)])


def _numeric_type(kind: "pa.DataType") -> "pa.DataType":
    """The type with float64 in place of each decimal, also inside lists and structs."""
    import pyarrow as pa

    if pa.types.is_decimal(kind):
        return pa.float64()
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_numeric_type(kind.value_type)))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(kind.value_field.with_type(_numeric_type(kind.value_type)), kind.list_size)
    if pa.types.is_struct(kind):
        return pa.struct([f.with_type(_numeric_type(f.type)) for f in kind])
    return kind


def _hugeint() -> "pa.DataType":
    """The Arrow type of HUGEINT, which is also what `sum` of integers has."""
    import pyarrow as pa

    return pa.decimal128(_HUGEINT_PRECISION_DIGITS, 0)


def _timedeltas(column: "pa.ChunkedArray") -> "NDArray[np.timedelta64]":
    import numpy as np

    parts = np.dtype([("months", "<i4"), ("days", "<i4"), ("nanoseconds", "<i8")])
    array = column.combine_chunks()
    values = np.frombuffer(array.buffers()[1] or b"", parts)[array.offset :][: len(array)]
    days = values["months"].astype(np.int64) * _MONTH_DAYS + values["days"]
    microseconds = days * _DAY_MICROSECONDS + values["nanoseconds"] // 1_000
    durations: NDArray[np.timedelta64] = microseconds.astype("timedelta64[us]")
    durations[array.is_null().to_numpy(zero_copy_only=False)] = np.timedelta64("NaT")
    return durations


def to_rows(table: "pa.Table") -> Iterator[tuple[Any, ...]]:
    """The rows as tuples of Python values: HUGEINT is int, and an INTERVAL without months a
    timedelta. OverflowError or ValueError for dates and times that Python cannot represent."""
    for batch in table.to_batches():
        yield from zip(*map(_python_values, batch.columns), strict=True)


def _python_values(column: "pa.Array") -> list[Any]:
    import pyarrow as pa

    if column.type == pa.time64("ns"):
        column = column.cast(pa.time64("us"))  # raises ArrowInvalid, which is a ValueError
    values: list[Any] = column.to_pylist()
    if column.type == _hugeint():
        return [None if value is None else int(value) for value in values]
    if pa.types.is_interval(column.type):
        return [
            value
            if value is None or value.months
            else dt.timedelta(days=value.days, microseconds=value.nanoseconds // 1_000)
            for value in values
        ]
    return values


def to_arrow(rows: Iterable[Sequence[Any]], /, **kinds: str) -> "pa.Table":
    """Rows as an Arrow table. `kinds`: its columns in order, with their types as Arrow names them;
    `texts` is a list of strings."""
    import pyarrow as pa

    types = {
        name: pa.list_(pa.string()) if kind == "texts" else pa.type_for_alias(kind)
        for name, kind in kinds.items()
    }
    named = [dict(zip(kinds, row, strict=True)) for row in rows]
    return pa.Table.from_pylist(named, pa.schema(types))


class ArrowExportMixin:
    """Adds `polars()` and `pandas()` to a class with `arrow()`.

    Instances are accepted by every reader of the Arrow C stream (`polars.DataFrame(rows)`,
    `pandas.DataFrame.from_arrow(rows)`, ibis, DuckDB) and by libraries that detect frames with
    narwhals (altair, plotly). For the latter, decimals are numbers: JSON has none.
    """

    __slots__ = ()

    def arrow(self) -> "pa.Table":
        """All rows as an Arrow table."""
        raise TypeError(f"{type(self).__name__} has no rows")

    def polars(self) -> "pl.DataFrame":
        """All rows as a polars frame. Raises SchemaMismatch when two columns share a name, and for
        a type that polars does not have."""
        with import_modules():
            import polars as pl

        table = self.arrow()
        duplicate = next(
            (
                name
                for index, name in enumerate(table.column_names)
                if name in table.column_names[:index]
            ),
            None,
        )
        if duplicate is not None:
            raise SchemaMismatch(
                f"Two columns are named {duplicate!r}, which polars does not support.",
                column=duplicate,
                hint="Rename one with AS, or use .arrow().",
            )
        for field in table.schema:
            if not all(map(_is_of_polars, nested_types(field.type))):
                raise _type_error(field, "polars")
        frame = pl.from_arrow(table)
        assert isinstance(frame, pl.DataFrame)
        return frame

    def pandas(self, *, exact: bool = False) -> "pd.DataFrame":
        """All rows as a pandas frame of numpy types: integers int64 (with NULLs float64, or Int64
        where that would change one), DECIMAL float64, DATE and TIMESTAMP datetime64, INTERVAL
        timedelta64. `exact`: nullable integers, Decimal and date objects. ExtensionMissing without
        pandas."""
        return to_pandas(self.arrow(), exact=exact)

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self.arrow().__arrow_c_stream__(requested_schema)

    def __narwhals_dataframe__(self) -> Any:
        with import_modules():
            import narwhals  # only narwhals calls this method, so it is installed

        return narwhals.from_native(_with_plain_numbers(self.arrow()))._compliant_frame


class TableMixin(ArrowExportMixin):
    """Adds what other libraries ask a table for: `pandas.DataFrame` its rows, numpy and
    scikit-learn its values, matplotlib (`plot("x", "y", data=table)`) and seaborn its columns."""

    __slots__ = ()

    def __getitem__(self, name: str) -> "pd.Series[Any]":
        """One column, as pandas has it. Raises InvalidArgument for a name that no column has, or
        two have."""
        if not isinstance(name, str):
            answer_item(self, name)
        names = self.arrow().column_names
        if names.count(name) != 1:
            raise InvalidArgument(f"One column must be named {name!r}, there are {names}.")
        return self.pandas()[name]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The rows, as pandas has their values. Raises TypeError where a frame of them would lose
        columns or digits: without rows, with two columns of one name, with NULLs beside integers
        beyond 2**53."""
        frame = self.pandas()
        is_exact = not any(str(kind) in ("Int64", "UInt64") for kind in frame.dtypes)
        if frame.empty or not frame.columns.is_unique or not is_exact:
            raise TypeError("Row by row, these columns cannot be kept. Use .pandas().")
        rows: list[dict[Any, Any]] = frame.to_dict("records")
        return iter(rows)

    def __dataframe__(self, nan_as_null: bool = False, allow_copy: bool = True) -> Any:
        # what makes an object a frame to seaborn
        return self.arrow().__dataframe__(nan_as_null, allow_copy)

    @property
    def __array_interface__(self) -> dict[str, Any]:
        # pandas prefers `__array__` to rows, and has no names then
        import numpy as np

        frame = self.pandas()
        for name, kind in frame.dtypes.items():
            if not isinstance(kind, np.dtype) or kind.kind not in "biuf":
                raise TypeError(f"The column {name!r} is not numeric. Use .pandas()[columns].")
        values = np.ascontiguousarray(frame.to_numpy())
        return {**values.__array_interface__, "data": values}

"""The mixin that exports Arrow rows as polars and pandas frames and over the Arrow C stream."""

from typing import TYPE_CHECKING, Any

from jammi_lab.core.errors import SchemaMismatch
from jammi_lab.core.python_values import to_pandas

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa


class ArrowExportMixin:
    """Adds `polars()` and `pandas()` to a class with `arrow()`.

    Instances are accepted by every reader of the Arrow C stream (`polars.DataFrame(rows)`,
    `pandas.DataFrame.from_arrow(rows)`, ibis, DuckDB) and by libraries that detect frames with
    narwhals (altair, plotly).
    """

    __slots__ = ()

    def arrow(self) -> "pa.Table":
        """All rows as an Arrow table."""
        raise TypeError(f"{type(self).__name__} has no rows")

    def polars(self) -> "pl.DataFrame":
        """All rows as a polars frame. Raises SchemaMismatch when two columns share a name."""
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
        frame = pl.from_arrow(table)
        assert isinstance(frame, pl.DataFrame)
        return frame

    def pandas(self, *, exact: bool = False) -> "pd.DataFrame":
        """All rows as a pandas frame of numpy types: integers int64 (float64 with NULLs), DECIMAL
        float64, DATE and TIMESTAMP datetime64, INTERVAL timedelta64. `exact`: nullable integers,
        Decimal and date objects. ExtensionMissing without pandas."""
        return to_pandas(self.arrow(), exact=exact)

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self.arrow().__arrow_c_stream__(requested_schema)

    def __narwhals_dataframe__(self) -> Any:
        import narwhals  # only narwhals calls this method, so it is installed

        return narwhals.from_native(self.arrow())._compliant_frame

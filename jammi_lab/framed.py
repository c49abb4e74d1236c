"""What has rows in Arrow has them as frames too, and is taken for one by other libraries."""

from typing import TYPE_CHECKING, Any

from jammi_lab.errors import SchemaMismatch

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa


class Framed:
    """Whoever has `arrow()` gets `polars()` and `pandas()`, and is taken as it is wherever the Arrow C stream is (`polars.DataFrame(rows)`,
    `pandas.DataFrame.from_arrow(rows)`, ibis, DuckDB) and by what asks narwhals whether something is a frame (altair, plotly)."""

    __slots__ = ()

    def arrow(self) -> "pa.Table":
        """All rows as an Arrow table."""
        raise TypeError(f"{type(self).__name__} has no rows")

    def polars(self) -> "pl.DataFrame":
        """All rows as a polars frame. SchemaMismatch when two columns have one name."""
        import polars as pl

        table = self.arrow()
        twice = next((name for at, name in enumerate(table.column_names) if name in table.column_names[:at]), None)
        if twice is not None:
            raise SchemaMismatch(
                f"Two columns are called {twice!r}, which polars does not take.",
                column=twice,
                hint="Rename one with AS, or take the rows as .arrow().",
            )
        frame = pl.from_arrow(table)
        assert isinstance(frame, pl.DataFrame)
        return frame

    def pandas(self) -> "pd.DataFrame":
        """All rows as a pandas frame."""
        frame: pd.DataFrame = self.arrow().to_pandas()
        return frame

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self.arrow().__arrow_c_stream__(requested_schema)

    def __narwhals_dataframe__(self) -> Any:
        import narwhals  # which alone calls this

        return narwhals.from_native(self.arrow())._compliant_frame

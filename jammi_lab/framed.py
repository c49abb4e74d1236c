"""What has rows in Arrow has them as frames too."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa


class Framed:
    """Whoever has `arrow()` gets `polars()` and `pandas()`."""

    __slots__ = ()

    def arrow(self) -> "pa.Table":
        """All rows as an Arrow table."""
        raise TypeError(f"{type(self).__name__} has no rows")

    def polars(self) -> "pl.DataFrame":
        """All rows as a polars frame."""
        import polars as pl

        frame = pl.from_arrow(self.arrow())
        assert isinstance(frame, pl.DataFrame)
        return frame

    def pandas(self) -> "pd.DataFrame":
        """All rows as a pandas frame."""
        frame: pd.DataFrame = self.arrow().to_pandas()
        return frame

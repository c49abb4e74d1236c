"""Rows by their keys as a page shows them."""

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from jammi_lab.errors import RowNotFound
from jammi_lab.markup import as_text

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray


class Shown:
    """The keys of a table's rows, and their places by the text that each is shown as."""

    def __init__(self, keys: "pa.Array") -> None:
        self.keys = keys

    @functools.cached_property
    def _texts(self) -> "pa.Array":
        import pyarrow as pa

        kind = self.keys.type
        if pa.types.is_string(kind):
            return self.keys
        return self.keys.cast(pa.string()) if pa.types.is_integer(kind) else pa.array([as_text(k) for k in self.keys.to_pylist()], pa.string())

    def _found(self, names: Sequence[str]) -> "NDArray[np.int64]":
        """The place of each; −1 for what is not there."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        found = pc.index_in(pa.array(names, pa.string()), value_set=self._texts).fill_null(-1)
        return np.asarray(found, np.int64)

    def places(self, names: Sequence[str], table: str) -> "NDArray[np.int64]":
        """Where these rows are, in ascending order, each once. RowNotFound for the first that is not in the `table`."""
        import numpy as np

        found = self._found(names)
        if (found < 0).any():
            raise RowNotFound(f"{table!r} has no row with the key {names[int((found < 0).argmax())]!r}.")
        return np.unique(found)

    def there(self, names: Sequence[str]) -> list[str]:
        """Those of the names that are rows."""
        return [name for name, at in zip(names, self._found(names), strict=True) if at >= 0]

    def texts_at(self, places: "NDArray[np.int64]") -> list[str]:
        """What rows are shown as."""
        import pyarrow as pa

        found: list[str] = self._texts.take(pa.array(places)).to_pylist()
        return found

    def keys_at(self, places: "NDArray[np.int64]") -> "pa.Array":
        """The keys of rows, in their own type."""
        import pyarrow as pa

        return self.keys.take(pa.array(places))

"""What an index is made from: the vectors in memory, or in their file, where some are read at a time."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from jammi_lab.errors import TableDamaged
from jammi_lab.storage.plain_rows import PlainRows
from jammi_lab.vectors.arrays import Floats
from jammi_lab.vectors.exact import Exact, Places

_BYTES = 8 << 20
"""Of vectors that are compared with others at a time."""


class Rows(Protocol):
    """The vectors of a table by their places."""

    @property
    def shape(self) -> tuple[int, int]:
        """How many, and of how many dimensions."""
        ...

    def at(self, rows: Places) -> Floats:
        """(rows, dimensions) float32. TableDamaged."""
        ...

    def pairs(self, queries: Floats, rows: Places) -> Floats:
        """Exact similarities of checked queries (q, d) to rows of their own (q, c); −2 for the row −1: none. TableDamaged."""
        ...

    def kth(self, queries: Floats, k: int, allow: NDArray[np.bool_]) -> Floats:
        """(q,): how similar the k-th best of the rows of a mask is to each checked query; of at least k rows. TableDamaged."""
        ...


class Streamed:
    """Vectors that stay in their file. What it says has the bits that `Exact` gives."""

    def __init__(self, rows: PlainRows, count: int, dimensions: int) -> None:
        self._rows, self._shape = rows, (count, dimensions)

    @property
    def shape(self) -> tuple[int, int]:
        """How many, and of how many dimensions."""
        return self._shape

    def at(self, rows: Places) -> Floats:
        """(rows, dimensions) float32. TableDamaged."""
        try:
            return self._rows.take(rows)
        except OSError as error:
            raise TableDamaged("The vectors cannot be read from their file any more.", hint="ws.check() compares catalog and files.") from error

    def pairs(self, queries: Floats, rows: Places) -> Floats:
        """Exact similarities of checked queries (q, d) to rows of their own (q, c); −2 for the row −1: none. TableDamaged."""
        known, places = np.unique(np.maximum(rows, 0), return_inverse=True)
        return Exact(self.at(known)).pairs(queries, np.where(rows < 0, -1, places.reshape(rows.shape)))

    def kth(self, queries: Floats, k: int, allow: NDArray[np.bool_]) -> Floats:
        """(q,): how similar the k-th best of the rows of a mask is to each checked query; of at least k rows. TableDamaged."""
        best = np.empty((len(queries), 0), np.float32)
        allowed, step = np.flatnonzero(allow), max(1, _BYTES // (4 * self._shape[1]))
        for at in range(0, len(allowed), step):
            found = Exact(self.at(allowed[at : at + step])).search(queries, k).similarities
            best = -np.sort(-np.concatenate([best, found], axis=1), axis=1)[:, :k]
        return best[:, -1]

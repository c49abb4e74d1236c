"""Matrices that stay in memory between searches: by the digest of their table, the least recently used go first."""

import threading
from collections import OrderedDict
from collections.abc import Callable

from jammi_lab.errors import InvalidArgument
from jammi_lab.vectors.matrix import Matrix


class MatrixCache:
    """At most `max_bytes` of matrices. A digest names one content for ever, so nothing in here can be out of date.

    Who holds a matrix keeps it, evicted or not. One that is larger than the whole budget is handed out and not kept.
    """

    def __init__(self, max_bytes: int) -> None:
        if max_bytes < 0:
            raise InvalidArgument(f"A cache holds from 0 bytes on, not {max_bytes}.")
        self._max = max_bytes
        self._lock = threading.Lock()
        self._held: OrderedDict[str, Matrix] = OrderedDict()
        self._loading: dict[str, threading.Lock] = {}

    @property
    def nbytes(self) -> int:
        """Bytes of what is held."""
        with self._lock:
            return sum(m.nbytes for m in self._held.values())

    def __contains__(self, digest: str) -> bool:
        with self._lock:
            return digest in self._held

    def get(self, digest: str, load: Callable[[], Matrix]) -> Matrix:
        """The matrix of that digest, loaded if it is not here; threads that ask for one at once load it once. Raises what `load` raises."""
        with self._lock:
            if (held := self._touched(digest)) is not None:
                return held
            turn = self._loading.setdefault(digest, threading.Lock())
        with turn:
            with self._lock:
                if (held := self._touched(digest)) is not None:
                    return held
            try:
                matrix = load()
                self._keep(digest, matrix)
            finally:
                with self._lock:
                    if self._loading.get(digest) is turn:
                        del self._loading[digest]
            return matrix

    def drop(self, digest: str) -> None:
        """Lets go of one, when it is here."""
        with self._lock:
            self._held.pop(digest, None)

    def clear(self) -> None:
        """Lets go of all."""
        with self._lock:
            self._held.clear()

    def _touched(self, digest: str) -> Matrix | None:
        held = self._held.get(digest)
        if held is not None:
            self._held.move_to_end(digest)
        return held

    def _keep(self, digest: str, matrix: Matrix) -> None:
        if matrix.nbytes > self._max:
            return
        with self._lock:
            self._held[digest] = matrix
            self._held.move_to_end(digest)
            total = sum(m.nbytes for m in self._held.values())
            while total > self._max:
                _, gone = self._held.popitem(last=False)
                total -= gone.nbytes

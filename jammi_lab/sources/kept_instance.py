"""A DuckDB instance that stays: opening one takes 10 ms, and closing it half of that."""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator

import duckdb


class KeptInstance:
    """One instance for all of a process, made by `opened` on first use, and anew after an error by which it `is_spoilt`."""

    def __init__(self, opened: Callable[[], duckdb.DuckDBPyConnection], is_spoilt: Callable[[BaseException], bool]) -> None:
        self._opened, self._is_spoilt = opened, is_spoilt
        self._left: list[duckdb.DuckDBPyConnection | None] = []
        self._begin()
        os.register_at_fork(after_in_child=self._forked)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._instance: duckdb.DuckDBPyConnection | None = None

    def _forked(self) -> None:
        self._left.append(self._instance)  # to let go of the parent's could wait for a lock that nobody holds here
        self._begin()

    @contextlib.contextmanager
    def lent(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """The instance, for a cursor of one's own."""
        with self._lock:
            instance = self._instance = self._instance or self._opened()
        try:
            yield instance
        except BaseException as error:
            if self._is_spoilt(error):
                with self._lock:
                    self._instance = None if self._instance is instance else self._instance
            raise

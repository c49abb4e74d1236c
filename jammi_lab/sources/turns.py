"""Who reads through what DuckDB remembers of a server's tables, and who makes it forget.

In DuckDB 1.5.5 `mysql_clear_cache` takes the definitions of tables away from under a statement that is bound to them, in whatever thread, which ends
the process (SIGSEGV; not so with `pg_clear_cache`, nor where a table is read by `mysql_query`).
"""

import threading
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

_PATIENCE = 0.5
"""Seconds for which readers are waited for."""


class Turns:
    """Any number of readers, or one that makes forget, in one DuckDB instance. Readers come first."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._readers = 0
        self._forgetting = False

    def read(self) -> Callable[[], None]:
        """Begin to read; what is returned says that it is over."""
        with self._changed:
            self._changed.wait_for(lambda: not self._forgetting)
            self._readers += 1

        def left() -> None:
            with self._changed:
                self._readers -= 1
                self._changed.notify_all()

        return left

    @contextmanager
    def forget(self, seconds: float = _PATIENCE) -> Iterator[bool]:
        """Whether nobody else reads, after waiting so long; then nobody does until the block ends, which must not wait for anything."""
        with self._changed:
            mine = self._changed.wait_for(lambda: not self._readers and not self._forgetting, seconds)
            self._forgetting = self._forgetting or mine
        try:
            yield mine
        finally:
            if mine:
                with self._changed:
                    self._forgetting = False
                    self._changed.notify_all()


def turns(memory: MutableMapping[str, Any], kind: str) -> Turns:
    """Those of one kind of server in the instance that the memory is of."""
    found: Turns = memory.setdefault(f"turns:{kind}", Turns())
    return found

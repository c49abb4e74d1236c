"""The DuckDB instance that only reads text: one in a process, for all workspaces. It holds nothing, and opening one for each was a quarter of what
the first statement took."""

import os
import threading
from collections.abc import Callable
from typing import TypeVar

import duckdb

from jammi_lab.engine import duck
from jammi_lab.engine.faults import is_fatal

T = TypeVar("T")


class _Kept:
    """The instance, once there is one."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.instance: duckdb.DuckDBPyConnection | None = None


_kept = _Kept()
_LEFT: list[_Kept] = []
"""Of parents that this process was forked from: to let go of one could wait for a lock that nobody holds here."""


def parsing(work: Callable[[duckdb.DuckDBPyConnection], T]) -> T:
    """What `work` returns, given the instance. Not to be called where an interrupt may fall into it: DuckDB would make an error of its own of it."""
    with _kept.lock:
        instance = _kept.instance = _kept.instance or duck.open_parser()
    try:
        return work(instance)
    except Exception as error:
        if is_fatal(error) or (error.__context__ is not None and is_fatal(error.__context__)):  # what is raised may be our word for it
            with _kept.lock:
                _kept.instance = None if _kept.instance is instance else _kept.instance
        raise


def _forked() -> None:
    global _kept
    _LEFT.append(_kept)
    _kept = _Kept()


os.register_at_fork(after_in_child=_forked)

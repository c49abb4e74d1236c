"""The DuckDB instance that only reads text: one in a process, for all workspaces. It holds nothing, and opening one for each was a quarter of what
the first statement took."""

from collections.abc import Callable
from typing import TypeVar

import duckdb

from jammi_lab.engine import duck
from jammi_lab.engine.faults import is_fatal
from jammi_lab.sources.kept_instance import KeptInstance

T = TypeVar("T")


def _is_spoilt(error: BaseException) -> bool:
    return is_fatal(error) or (error.__context__ is not None and is_fatal(error.__context__))  # what is raised may be our word for it


_parser = KeptInstance(duck.open_parser, _is_spoilt)


def parsing(work: Callable[[duckdb.DuckDBPyConnection], T]) -> T:
    """What `work` returns, given the instance. Not to be called where an interrupt may fall into it: DuckDB would make an error of its own of it."""
    with _parser.lent() as instance:
        return work(instance)

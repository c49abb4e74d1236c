"""The process-wide DuckDB instance that only parses. It holds no data, so all workspaces share it;
opening one per workspace took a quarter of the time of the first statement."""

from collections.abc import Callable
from typing import TypeVar

import duckdb

from jammi_lab.engine import duckdb_instances
from jammi_lab.engine.duckdb_errors import invalidates_instance
from jammi_lab.sources.scratch_duckdb import SharedInstance

T = TypeVar("T")


_parser = SharedInstance(duckdb_instances.open_parser, invalidates_instance)


def with_parser(work: Callable[[duckdb.DuckDBPyConnection], T]) -> T:
    """Run `work` with the instance and return its result. Call it only where no interrupt can occur
    (in a worker): DuckDB would turn the interrupt into an error of its own."""
    with _parser.borrow() as instance:
        return work(instance)

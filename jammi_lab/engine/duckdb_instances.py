"""DuckDB instances: how each kind is opened and configured, and the scratch database that a
statement runs in.

There are three kinds. The *parser* holds no data and only parses. A *replica* instance holds empty
replicas of the tables a statement names, to bind it; external access is off and the configuration
locked. A *main* instance reads data. Settings that affect results are equal in all of them;
`environment` returns them. What holds no data between two statements is shared by all workspaces of
a process: opening an instance for each took a quarter of the time of its first statement.
"""

import functools
import itertools
import os
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import duckdb

from jammi_lab.core.errors import InvalidArgument
from jammi_lab.core.identifiers import sql_literal
from jammi_lab.core.settings import Settings
from jammi_lab.engine.duckdb_messages import invalidates_instance
from jammi_lab.engine.sql import function_list, releases
from jammi_lab.sources.scratch_duckdb import SharedInstance, open_in_memory

T = TypeVar("T")
Config = dict[str, str | bool | int | float | list[str]]

BASE_CONFIG: Config = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "python_enable_replacements": "false",
}
"""How every instance is opened."""
_RESULT_SETTINGS: Config = {
    "default_null_order": "nulls_last",
    "default_order": "asc",
    "default_collation": "",
    "integer_division": False,
    "ieee_floating_point_ops": True,
    "old_implicit_casting": False,
    "scalar_subquery_error_on_multiple_rows": True,
    "disabled_optimizers": ",".join(releases.ALWAYS_OFF),
}
BOUND_CONFIG: Config = {
    **BASE_CONFIG,
    **_RESULT_SETTINGS,
    **releases.SETTINGS,
    "disabled_optimizers": ",".join((*releases.ALWAYS_OFF, *releases.NEW_OPTIMIZERS)),
    "errors_as_json": True,
}
"""How the instances that bind statements are opened: a statement for each setting would take a
quarter of a millisecond."""
# These optimizers are off while binding, so that every scan of the plan lists all the columns it
# reads: filters stay above the scans, and no branch is removed because a replica is empty.
# Constants are not folded either: the type of y affects `CASE WHEN false THEN y ELSE x END`.
_REPLICA_DISABLED_OPTIMIZERS = (
    "filter_pushdown,statistics_propagation,empty_result_pullup,expression_rewriter"
)
_SCAN_DISABLED_OPTIMIZERS = "statistics_propagation,empty_result_pullup,late_materialization"
"""Off where a plan shows what is pushed down to the scans."""
_scratch_numbers = itertools.count(1)


def environment(settings: Settings) -> dict[str, Any]:
    """The settings that affect a statement's rows, and DuckDB 2 where it runs them, as plain values
    for a definition hash."""
    own = {"float_sums": "fast"} if settings["engine.float_sums"] == "fast" else {}
    timezone = settings["engine.timezone"]
    return {"timezone": timezone, **own, **releases.ENVIRONMENT, **_RESULT_SETTINGS}


def open_parser() -> duckdb.DuckDBPyConnection:
    """Open an instance that only parses."""
    connection = open_in_memory({**BASE_CONFIG, "threads": 1, "enable_external_access": False})
    connection.execute("SET GLOBAL errors_as_json = true")
    return connection


def open_replicas(
    time_zone: str, *, pushes_filters_down: bool = False
) -> duckdb.DuckDBPyConnection:
    """Open an instance that binds statements and cannot read data. InvalidArgument for an unknown
    time zone."""
    connection = open_in_memory({**BOUND_CONFIG, "threads": 1})
    connection.execute("SET enable_external_access = false")
    _apply_result_settings(connection, time_zone)
    disabled = _SCAN_DISABLED_OPTIMIZERS if pushes_filters_down else _REPLICA_DISABLED_OPTIMIZERS
    names = ",".join((disabled, *releases.NEW_OPTIMIZERS))
    connection.execute(f"SET GLOBAL disabled_optimizers = '{names}'")
    connection.execute("SET lock_configuration = true")
    return connection


def open_main(settings: Settings, spill: Path) -> duckdb.DuckDBPyConnection:
    """Open an instance that reads data and spills into the folder `spill`. InvalidArgument for a
    setting that DuckDB rejects."""
    connection = open_in_memory(
        {
            **BOUND_CONFIG,
            "allow_persistent_secrets": "false",
            "temp_directory": str(spill),
            "preserve_insertion_order": True,
            # The cache can return the old footer of a file that was just rewritten with the same
            # size, whatever its validation mode (seen with 1.5.5).
            "enable_external_file_cache": False,
        }
    )
    _apply_result_settings(connection, settings["engine.timezone"])
    for key, option in (
        ("engine.threads", "threads"),
        ("engine.memory_limit", "memory_limit"),
        ("engine.temp_quota", "max_temp_directory_size"),
    ):
        if settings[key]:
            _set_option(connection, key, option, settings[key])
    return connection


def memory_limit(connection: duckdb.DuckDBPyConnection) -> int:
    """The memory limit of an instance, in bytes; at most what the machine has."""
    limit = "SELECT TRY(parse_formatted_bytes(current_setting('memory_limit')))"  # NULL: PiB
    [[limit_bytes]] = connection.cursor().execute(limit).fetchall()
    machine_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(limit_bytes or machine_bytes, machine_bytes)


def limit_memory(connection: duckdb.DuckDBPyConnection, limit: int) -> None:
    """Set the memory limit of an instance, in bytes; at least 1 MiB."""
    connection.cursor().execute(f"SET GLOBAL memory_limit = '{max(limit, 1 << 20)}B'")


def interrupt_function(connection: duckdb.DuckDBPyConnection) -> Callable[[], None]:
    """A function that interrupts the connection's statement. It does nothing when none runs or the
    connection is closed."""

    def interrupt() -> None:
        with suppress(duckdb.Error):
            connection.interrupt()

    return interrupt


@contextmanager
def scratch(cursor: duckdb.DuckDBPyConnection) -> Iterator[str]:
    """A scratch database for one block, the default for unqualified names on `cursor`. Yields its
    name."""
    name = open_scratch(cursor)
    try:
        yield name
    finally:
        close_scratch(cursor, name)


def open_scratch(cursor: duckdb.DuckDBPyConnection) -> str:
    """Attach an empty database under a unique name, make it the cursor's default, and return the
    name. The database `memory` comes second; it holds our aggregates and no table."""
    name = f"__jammi_{next(_scratch_numbers)}"
    cursor.execute(f"ATTACH ':memory:' AS {name}; SET search_path = '{name}.main,memory.main'")
    return name


def close_scratch(cursor: duckdb.DuckDBPyConnection, name: str) -> None:
    """Detach a scratch database."""
    cursor.execute(f"USE memory; DETACH DATABASE IF EXISTS {name}")


def _apply_result_settings(connection: duckdb.DuckDBPyConnection, time_zone: str) -> None:
    connection.execute("SET GLOBAL Calendar = 'gregorian'")
    _set_option(connection, "engine.timezone", "TimeZone", time_zone)
    connection.execute(";".join(function_list.VECTOR_AGGREGATES.values()))
    add_json_guards(connection)


def _set_option(connection: duckdb.DuckDBPyConnection, key: str, option: str, value: Any) -> None:
    try:
        connection.execute(f"SET GLOBAL {option} = {sql_literal(str(value))}")
    except duckdb.Error as error:
        body = re.search(r'"exception_message":"((?:[^"\\]|\\.)*)"', str(error))
        message = body[1].encode().decode("unicode_escape", "replace") if body else str(error)
        reason = message.split("\n")[0]

        raise InvalidArgument(
            f"The setting {key} cannot be {value!r}: {reason.rstrip('.')}."
        ) from None


MAX_JSON_PARTS = 10_000
"""JSON functions that recurse exhaust the stack on deep texts and end the process (seen with DuckDB
1.5.5 at 30 000 levels). No text is deeper than it has arrays and objects."""
_RECURSIVE_FUNCTIONS = {
    "json_structure": ("a",),
    "json_contains": ("a", "b"),
    "json_pretty": ("a",),
}


def add_json_guards(connection: duckdb.DuckDBPyConnection) -> None:
    """Shadow the recursive functions by macros of the same names that refuse large texts."""
    for name, parameters in _RECURSIVE_FUNCTIONS.items():
        arguments = ", ".join(map(_with_size_check, parameters))
        connection.execute(
            f"CREATE MACRO {name}({', '.join(parameters)}) AS system.main.{name}({arguments})"
        )


def _with_size_check(parameter: str) -> str:
    text = f"{parameter}::VARCHAR"
    return (
        f"CASE WHEN strlen({text}) - strlen(translate({text}, '[{{', '')) > {MAX_JSON_PARTS} THEN "
        f"error('JSON has more than {MAX_JSON_PARTS:,} arrays and objects') ELSE {parameter} END"
    )


@functools.cache
def _replicas(time_zone: str, pushes_filters_down: bool) -> SharedInstance:
    """Only tenants have instances of their own that read data: no message of DuckDB can name what
    another one reads. Replicas hold empty tables, each while one statement is bound."""
    opener = functools.partial(open_replicas, time_zone, pushes_filters_down=pushes_filters_down)
    return SharedInstance(opener, invalidates_instance)


def borrow_replicas(
    settings: Settings, *, pushes_filters_down: bool = False
) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
    """The instance that binds statements, for one block; callers use a cursor of their own. With
    `pushes_filters_down` its plans show the filters of each scan."""
    return _replicas(settings["engine.timezone"], pushes_filters_down).borrow()


_parser = SharedInstance(open_parser, invalidates_instance)


def with_parser(work: Callable[[duckdb.DuckDBPyConnection], T]) -> T:
    """Run `work` with the instance and return its result. Call it only where no interrupt can occur
    (in a worker): DuckDB would turn the interrupt into an error of its own."""
    with _parser.borrow() as instance:
        return work(instance)

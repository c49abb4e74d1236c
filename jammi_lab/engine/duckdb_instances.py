"""DuckDB instances: how each kind is opened and configured, and the scratch database that a
statement runs in.

There are three kinds. The *parser* holds no data and only parses. A *replica* instance holds empty
replicas of the tables a statement names, to bind it; external access is off and the configuration
locked. A *main* instance reads data. Settings that affect results are equal in all of them;
`environment` returns them.
"""

import itertools
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import duckdb

from jammi_lab.core.errors import InvalidArgument
from jammi_lab.core.identifiers import sql_literal
from jammi_lab.core.settings import Settings
from jammi_lab.engine.sql import function_list
from jammi_lab.engine.sql.json_nesting import add_json_guards

Config = dict[str, str | bool | int | float | list[str]]

BASE_CONFIG: Config = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "python_enable_replacements": "false",
}
"""How every instance is opened."""
_RESULT_SETTINGS: dict[str, str | bool] = {
    "default_null_order": "nulls_last",
    "default_order": "asc",
    "default_collation": "",
    "integer_division": False,
    "ieee_floating_point_ops": True,
    "old_implicit_casting": False,
    "scalar_subquery_error_on_multiple_rows": True,
}
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
    """The settings that affect a statement's rows, as plain values for a definition hash; no
    versions."""
    return {"timezone": settings["engine.timezone"], **_RESULT_SETTINGS}


def open_parser() -> duckdb.DuckDBPyConnection:
    """Open an instance that only parses."""
    connection = duckdb.connect(
        config={**BASE_CONFIG, "threads": 1, "enable_external_access": False}
    )
    connection.execute("SET GLOBAL errors_as_json = true")
    return connection


def open_replicas(
    settings: Settings, *, pushes_filters_down: bool = False
) -> duckdb.DuckDBPyConnection:
    """Open an instance that binds statements and cannot read data. InvalidArgument for an unknown
    time zone."""
    connection = duckdb.connect(config={**BASE_CONFIG, "threads": 1})
    connection.execute("SET enable_external_access = false")
    _apply_result_settings(connection, settings)
    disabled = _SCAN_DISABLED_OPTIMIZERS if pushes_filters_down else _REPLICA_DISABLED_OPTIMIZERS
    connection.execute(f"SET GLOBAL disabled_optimizers = '{disabled}'")
    connection.execute("SET lock_configuration = true")
    return connection


def open_main(settings: Settings, spill: Path) -> duckdb.DuckDBPyConnection:
    """Open an instance that reads data and spills into the folder `spill`. InvalidArgument for a
    setting that DuckDB rejects."""
    connection = duckdb.connect(config={**BASE_CONFIG, "allow_persistent_secrets": "false"})
    connection.execute(f"SET GLOBAL temp_directory = {sql_literal(str(spill))}")
    connection.execute("SET GLOBAL preserve_insertion_order = true")
    # The cache can return the old footer of a file that was just rewritten with the same size,
    # whatever its validation mode (seen with 1.5.5).
    connection.execute("SET GLOBAL enable_external_file_cache = false")
    _apply_result_settings(connection, settings)
    for key, option in (
        ("engine.threads", "threads"),
        ("engine.memory_limit", "memory_limit"),
        ("engine.temp_quota", "max_temp_directory_size"),
    ):
        if settings[key]:
            _set_option(connection, key, option, settings[key])
    return connection


def memory_limit(connection: duckdb.DuckDBPyConnection) -> int:
    """The memory limit of an instance, in bytes."""
    [[limit]] = (
        connection.cursor()
        .execute("SELECT parse_formatted_bytes(current_setting('memory_limit'))")
        .fetchall()
    )
    return int(limit)


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
    name. The database `memory` comes second; it holds the vector aggregates and no table."""
    name = f"__jammi_{next(_scratch_numbers)}"
    cursor.execute(f"ATTACH ':memory:' AS {name}; SET search_path = '{name}.main,memory.main'")
    return name


def close_scratch(cursor: duckdb.DuckDBPyConnection, name: str) -> None:
    """Detach a scratch database."""
    cursor.execute(f"USE memory; DETACH DATABASE IF EXISTS {name}")


def _apply_result_settings(connection: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    connection.execute("SET GLOBAL errors_as_json = true")
    connection.execute("SET GLOBAL Calendar = 'gregorian'")
    for option, value in _RESULT_SETTINGS.items():
        connection.execute(
            f"SET GLOBAL {option} = "
            f"{sql_literal(value) if isinstance(value, str) else str(value).lower()}"
        )
    _set_option(connection, "engine.timezone", "TimeZone", settings["engine.timezone"])
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

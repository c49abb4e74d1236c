"""DuckDB instances: how each kind is opened, what is set in all of them, and the scratch namespace that a statement runs in.

Three kinds exist. The *parser* holds nothing and only reads text. A *twins* instance holds empty copies of what a statement names; external access
is off and its configuration locked. A *main* instance reads data. What shapes results is set the same in all of them and told by `environment`.
"""

import itertools
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import duckdb

from jammi_lab.config import Settings
from jammi_lab.errors import InvalidArgument
from jammi_lab.names import literal

Config = dict[str, str | bool | int | float | list[str]]

_BARE: Config = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false", "python_enable_replacements": "false"}
_SHAPING: dict[str, str | bool] = {
    "default_null_order": "nulls_last",
    "default_order": "asc",
    "default_collation": "",
    "integer_division": False,
    "ieee_floating_point_ops": True,
    "old_implicit_casting": False,
    "scalar_subquery_error_on_multiple_rows": True,
}
# Filters stay above the scans, and nothing is proved away because a twin is empty: then every scan of the plan lists all the columns it reads.
# Nor is anything folded: of `CASE WHEN false THEN y ELSE x END` the type of y is part.
_TWINS_OPTIMIZERS = "filter_pushdown,statistics_propagation,empty_result_pullup,expression_rewriter"
_numbers = itertools.count(1)


def environment(settings: Settings) -> dict[str, Any]:
    """What shapes the rows of a statement beside its text and inputs, as plain values for a definition hash; no versions."""
    return {"timezone": settings["engine.timezone"], **_SHAPING}


def open_parser() -> duckdb.DuckDBPyConnection:
    """An instance that only parses."""
    connection = duckdb.connect(config={**_BARE, "threads": 1, "enable_external_access": False})
    connection.execute("SET GLOBAL errors_as_json = true")
    return connection


def open_twins(settings: Settings) -> duckdb.DuckDBPyConnection:
    """An instance that binds statements and can read nothing. InvalidArgument for a time zone that does not exist."""
    connection = duckdb.connect(config={**_BARE, "threads": 1})
    connection.execute("SET enable_external_access = false")
    _shape(connection, settings)
    connection.execute(f"SET GLOBAL disabled_optimizers = '{_TWINS_OPTIMIZERS}'")
    connection.execute("SET lock_configuration = true")
    return connection


def open_main(settings: Settings, spill: Path) -> duckdb.DuckDBPyConnection:
    """An instance that reads data and spills into `spill`. InvalidArgument for a setting that DuckDB does not take."""
    connection = duckdb.connect(config={**_BARE, "allow_persistent_secrets": "false"})
    connection.execute(f"SET GLOBAL temp_directory = {literal(str(spill))}")
    connection.execute("SET GLOBAL preserve_insertion_order = true")
    # It gives the former footer of a file of the same size that was rewritten just now, whatever its validation (measured with 1.5.5).
    connection.execute("SET GLOBAL enable_external_file_cache = false")
    _shape(connection, settings)
    for key, option in (("engine.threads", "threads"), ("engine.memory_limit", "memory_limit"), ("engine.temp_quota", "max_temp_directory_size")):
        if settings[key]:
            _set(connection, key, option, settings[key])
    return connection


def memory_limit(connection: duckdb.DuckDBPyConnection) -> int:
    """The bytes that an instance may use."""
    [[limit]] = connection.cursor().execute("SELECT parse_formatted_bytes(current_setting('memory_limit'))").fetchall()
    return int(limit)


def limit_memory(connection: duckdb.DuckDBPyConnection, limit: int) -> None:
    """Give an instance that many bytes."""
    connection.cursor().execute(f"SET GLOBAL memory_limit = '{max(limit, 1 << 20)}B'")


def interrupter(connection: duckdb.DuckDBPyConnection) -> Callable[[], None]:
    """What stops the statement of a connection; harmless when it has none, or is closed."""

    def interrupt() -> None:
        with suppress(duckdb.Error):
            connection.interrupt()

    return interrupt


@contextmanager
def scratch(cursor: duckdb.DuckDBPyConnection) -> Iterator[str]:
    """The quoted name of a database that exists for one block and is where `cursor` finds unqualified names."""
    name = open_scratch(cursor)
    try:
        yield name
    finally:
        close_scratch(cursor, name)


def open_scratch(cursor: duckdb.DuckDBPyConnection) -> str:
    """Attach an empty database under a name of its own, make it the cursor's default, and return the name."""
    name = f"__jammi_{next(_numbers)}"
    cursor.execute(f"ATTACH ':memory:' AS {name}; USE {name}")
    return name


def close_scratch(cursor: duckdb.DuckDBPyConnection, name: str) -> None:
    """Detach it."""
    cursor.execute(f"USE memory; DETACH DATABASE IF EXISTS {name}")


def _shape(connection: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    connection.execute("SET GLOBAL errors_as_json = true")
    connection.execute("SET GLOBAL Calendar = 'gregorian'")
    for option, value in _SHAPING.items():
        connection.execute(f"SET GLOBAL {option} = {literal(value) if isinstance(value, str) else str(value).lower()}")
    _set(connection, "engine.timezone", "TimeZone", settings["engine.timezone"])


def _set(connection: duckdb.DuckDBPyConnection, key: str, option: str, value: Any) -> None:
    try:
        connection.execute(f"SET GLOBAL {option} = {literal(str(value))}")
    except duckdb.Error as error:
        said = re.search(r'"exception_message":"((?:[^"\\]|\\.)*)"', str(error))
        reason = said[1].encode().decode("unicode_escape", "replace").split("\n")[0] if said else str(error).split("\n")[0]
        raise InvalidArgument(f"The setting {key} cannot be {value!r}: {reason.rstrip('.')}.") from None

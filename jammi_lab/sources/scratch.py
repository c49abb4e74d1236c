"""A DuckDB of a moment, for what a connector must know before or apart from the engine: types of Arrow data, whether a body can be read."""

import contextlib
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import duckdb
import pyarrow as pa

from jammi_lab.errors import SchemaMismatch
from jammi_lab.sources import attaching, extensions
from jammi_lab.sources.base import Relation
from jammi_lab.sources.kept_instance import KeptInstance

_CONFIG: dict[str, Any] = {
    "allow_persistent_secrets": "false",
    "threads": "1",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "python_enable_replacements": "false",
}


def _open_kept() -> duckdb.DuckDBPyConnection:
    # it would give the former bytes of a file that was rewritten just now (engine/duck.py)
    return duckdb.connect(config=_CONFIG | {"enable_external_file_cache": "false"})


_kept = KeptInstance(_open_kept, lambda _: True)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """An interrupt is raised as itself."""
    try:
        yield
    except RuntimeError as error:  # "Query interrupted", which is no duckdb.Error
        if isinstance(error.__cause__, KeyboardInterrupt):
            raise error.__cause__ from None
        raise


@contextlib.contextmanager
def opened_bare(needed: Sequence[str] = ()) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB of its own that holds nothing but the extensions that are needed. An interrupt is raised as itself. ExtensionMissing."""
    checked = bool(needed) and extensions.are_checked(needed)
    with _interruptible(), duckdb.connect(config=_CONFIG | extensions.UNSIGNED if checked else _CONFIG) as connection:
        extensions.load(connection, needed, checked=checked)
        yield connection


@contextlib.contextmanager
def lent_bare() -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection for what needs no instance of its own: nothing but what is temporary may be made in it. An interrupt is raised as itself."""
    with _interruptible(), _kept.lent() as instance, instance.cursor() as connection:
        yield connection


def _opened_for(relation: Relation) -> contextlib.AbstractContextManager[duckdb.DuckDBPyConnection]:
    beside = (relation.attachment and relation.attachment.extension, relation.scoped and relation.scoped.extension)
    needed = (*relation.extensions, *(name for name in beside if name))
    if needed or relation.attachment is not None or relation.filesystem is not None:
        return opened_bare(needed)
    return lent_bare()


@contextlib.contextmanager
def scratch(relation: Relation) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection in which the relation is the view `it`, with what its body needs. duckdb.Error when it does not bind; ExtensionMissing."""
    with _opened_for(relation) as connection:
        connection.execute("SET TimeZone='UTC'")
        if relation.attachment is not None:
            attaching.attach(connection, relation.attachment)
        if relation.scoped is not None:
            attaching.tell(connection, relation.scoped)
        if relation.filesystem is not None:
            connection.register_filesystem(relation.filesystem)
        if relation.frame is not None:
            connection.register("it", relation.frame)
        else:
            connection.execute(f"CREATE TEMP VIEW it AS {relation.body}")
        yield connection


def describe(relation: Relation) -> dict[str, str]:
    """Names and SQL types of a relation's columns, in order. duckdb.Error."""
    with scratch(relation) as connection:
        return {row[0]: row[1] for row in connection.execute("DESCRIBE it").fetchall()}


def preview(relation: Relation, rows: int) -> None:
    """Nothing, when the first rows can be read. duckdb.Error."""
    with scratch(relation) as connection:
        connection.execute(f"SELECT * FROM it LIMIT {rows:d}").to_arrow_reader().read_all()


def ask(relation: Relation, select: str) -> list[tuple[Any, ...]]:
    """All rows of a SELECT over the view `it`. duckdb.Error."""
    with scratch(relation) as connection:
        return connection.execute(select).fetchall()


@functools.lru_cache(maxsize=256)
def _type_of(kind: pa.DataType) -> str | None:
    with lent_bare() as connection:
        try:
            connection.register("it", pa.schema([pa.field("x", kind)]).empty_table())
            row = connection.execute("DESCRIBE it").fetchone()
        except (duckdb.Error, pa.ArrowException):
            return None
    return str(row[1]) if row else None


def sql_types(schema: pa.Schema) -> dict[str, str]:
    """The SQL type of each column of Arrow data. SchemaMismatch naming a column that SQL cannot hold."""
    types = {}
    for field in schema:
        kind = _type_of(field.type)
        if kind is None:
            said = f"Column {field.name!r} is {field.type}, which SQL cannot hold."
            raise SchemaMismatch(said, column=field.name, actual=str(field.type), hint="Convert or leave out that column.")
        types[field.name] = kind
    return types

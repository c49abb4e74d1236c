"""DuckDB files as sources: attached read-only for one statement or one look, so that their owner can write in between.

What a file brings along is text that DuckDB would bind with our rights: views, macros, expressions of generated columns. Names and digests are read
in an instance of a moment that can open nothing but this file; a statement reads tables by name, and views that pass the gate.
"""

import contextlib
import os
import re
from collections.abc import Callable, Iterator

import duckdb
import pyarrow as pa

from jammi_lab.canonical import digest_of
from jammi_lab.errors import JammiError, SourceUnavailable
from jammi_lab.names import fold, literal, quote
from jammi_lab.sources.base import Attachment, Looking, Relation, ViewReading, key_of
from jammi_lab.sources.embedded import Content, EmbeddedConnector, Failed, Inside
from jammi_lab.sources.scratch import opened_bare
from jammi_lab.storage.arrow import reader_digests
from jammi_lab.values.anchors import Input, InputKind

_NOBODY = Input(InputKind.SOURCE, "")
_HOLDER = re.compile(r"\(PID (\d+)\)")
_VERSION = re.compile(r"database file with version number (\d+)")
_LOSSY = ("HUGEINT", "BIT", "INTERVAL", "TIME WITH TIME ZONE", "BIGNUM", "VARINT", "GEOMETRY", "JSON", "UUID", "TIME_NS")
"""Types that Arrow does not hold as they are; their text is digested."""
_gate: list[Callable[[str], ViewReading | None]] = []


def let_views_pass(gate: Callable[[str], ViewReading | None]) -> None:
    """Say what the gate makes of a view's text; until then no view is read."""
    _gate[:] = [gate]


def _let_pass(sql: str) -> ViewReading | None:
    return _gate[0](sql) if _gate else None


class DuckdbConnector(EmbeddedConnector):
    """A registered DuckDB file."""

    engine = "DuckDB"
    beside = (".wal",)

    def ready(self) -> None:
        """Nothing: DuckDB is there."""

    def inside(self) -> list[Inside]:
        """All tables and views. Failed."""
        with self._opened() as connection:
            tables = connection.execute(
                "SELECT schema_name, table_name, coalesce(sql, '') FROM duckdb_tables() WHERE database_name = 'it' AND NOT internal ORDER BY 1, 2"
            ).fetchall()
            views = connection.execute(
                "SELECT schema_name, view_name, coalesce(sql, '') FROM duckdb_views() WHERE database_name = 'it' AND NOT internal ORDER BY 1, 2"
            ).fetchall()
            found = []
            for schema, name, sql in tables:
                why = "it computes columns by an expression of the file" if "GENERATED ALWAYS AS" in sql else ""
                found.append(Inside(schema, name, () if why else self._columns(connection, schema, name), why=why))
            return [*found, *self._views(connection, views, {(each.schema, each.name) for each in found if not each.why})]

    def _views(self, connection: duckdb.DuckDBPyConnection, views: list[tuple[str, str, str]], there: set[tuple[str, str]]) -> list[Inside]:
        """The views of the file. One is read only if it passes the gate, names nothing but tables of the file, and calls no macro of it."""
        macros = {
            fold(name)
            for (name,) in connection.execute("SELECT function_name FROM duckdb_functions() WHERE database_name = 'it' AND NOT internal").fetchall()
        }
        readings = {(schema, name): _let_pass(sql) for schema, name, sql in views}
        passed: set[tuple[str, str]] = set()
        while True:
            more = {
                at
                for at, reading in readings.items()
                if at not in passed
                and reading is not None
                and not macros & {fold(name) for name in reading.functions}
                and all(len(parts) < 3 and (at[0], *parts)[-2:] in there | passed for parts in reading.tables)
            }
            if not more:
                break
            passed |= more
        why = "it reads or calls what is not a plain part of its file"
        return [
            Inside(
                schema,
                name,
                self._columns(connection, schema, name) if (schema, name) in passed else (),
                True,
                "" if (schema, name) in passed else why,
            )
            for schema, name, _ in views
        ]

    def reading(self, inside: Inside) -> Relation:
        """One table of the attached file."""
        attachment = Attachment(key=key_of(self.record.tenant, fold(self.record.name)), type="duckdb", path=self.path, lasting=False)
        return Relation(_NOBODY, body=f"SELECT * FROM {attachment.alias}.{quote(inside.schema)}.{quote(inside.name)}", attachment=attachment)

    def content(self, inside: Inside, looking: Looking) -> Content:  # noqa: ARG002  the same for every engine
        """Digests of the columns in the order of the rows. Failed."""
        columns = ", ".join(_exactly(name, kind) for name, kind in inside.columns)
        with self._opened() as connection:
            reader = connection.execute(f"SELECT {columns} FROM it.{quote(inside.schema)}.{quote(inside.name)}").to_arrow_reader(65_536)
            digests, rows = reader_digests(reader)
            said = self._collations(connection, inside)
        return Content({name: digest_of([digest, said[name]]) if name in said else digest for name, digest in digests.items()}, rows)

    @staticmethod
    def _collations(connection: duckdb.DuckDBPyConnection, inside: Inside) -> dict[str, str]:
        """How the text of a column compares, where the file says so: the names of types leave it out, and equal rows then give other answers."""
        there = "SELECT sql FROM duckdb_tables() UNION ALL SELECT sql FROM duckdb_views() WHERE NOT internal"
        texts = sorted(sql for (sql,) in connection.execute(there).fetchall() if sql and "collate" in fold(sql))
        said: dict[str, str] = {}
        for name, kind in inside.columns if texts else ():
            if kind == "VARCHAR":
                place = f"it.{quote(inside.schema)}.{quote(inside.name)}"
                connection.execute(f"CREATE OR REPLACE TEMP TABLE twin AS SELECT {quote(name)} AS c FROM {place} LIMIT 0")
                [(sql,)] = connection.execute("SELECT sql FROM duckdb_tables() WHERE temporary").fetchall()
                said |= {name: sql} if "COLLATE" in sql else {}
            elif "VARCHAR" in kind:  # inside a list or a struct nothing tells
                said[name] = "\n".join(texts)
        return said

    def largest(self, inside: Inside, column: str, looking: Looking) -> tuple[str | None, int]:  # noqa: ARG002  the same for every engine
        """As DuckDB orders the values. Failed."""
        select = f"SELECT max({quote(column)})::VARCHAR, count(*) FROM it.{quote(inside.schema)}.{quote(inside.name)}"
        with self._opened() as connection:
            [(largest, rows)] = connection.execute(select).fetchall()
        return largest, rows

    def explain(self, said: str) -> JammiError | None:
        """Locked by another process, open in this one, of a later version, or no database."""
        if "Could not set lock on file" in said:
            holder = f" by process {found[1]}" if (found := _HOLDER.search(said)) else " by another process"
            return SourceUnavailable(f"{self._name} is open for writing{holder}.", hint="DuckDB lets nobody else read it meanwhile: close it there.")
        if "Unique file handle conflict" in said or "already attached" in said or "different configuration" in said:
            return SourceUnavailable(f"{self._name} is open in this kernel.", hint="Close that connection: connection.close().")
        if found := _VERSION.search(said):
            return SourceUnavailable(
                f"{self._name} was written by a later DuckDB: its storage has version {found[1]}, which {duckdb.__version__} cannot read.",
                hint="Export it there as Parquet, or write it with an earlier STORAGE_VERSION.",
            )
        if "not a valid DuckDB database file" in said or "Corrupt database file" in said or "Serialization Error" in said:
            return SourceUnavailable(f"{self._name} is not a whole DuckDB database.", hint="It may be torn, or of another kind.")
        if "Permission denied" in said:
            return SourceUnavailable(f"{self._name} may not be read: permission denied.", hint="Ask its owner for the right to read it.")
        if "does not exist" in said and "database" in said:
            return SourceUnavailable(f"{self._name} is gone.", hint="Put the file back, or remove the source.")
        return None

    @contextlib.contextmanager
    def _opened(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """An instance that can read this file and open nothing else. Failed."""
        paths = [self.path, os.path.realpath(self.path), *self.logs]
        with opened_bare() as connection:
            try:
                connection.execute(
                    f"SET TimeZone = 'UTC'; SET allowed_paths = [{', '.join(map(literal, paths))}]; SET enable_external_access = false"
                )
                connection.execute(f"ATTACH {literal(self.path)} AS it (READ_ONLY)")
                yield connection
            except duckdb.Error as error:
                said = self.explain(str(error))
                first = str(error).split("\n", maxsplit=1)[0].split(": ", 1)[-1].rstrip(".")
                raise Failed(said if said is not None else SourceUnavailable(f"{self._name} cannot be read: {first}.")) from None
            except pa.ArrowException as error:
                raise Failed(SourceUnavailable(f"{self._name} cannot be read: {error}.")) from None

    @staticmethod
    def _columns(connection: duckdb.DuckDBPyConnection, schema: str, name: str) -> tuple[tuple[str, str], ...]:
        return tuple((row[0], row[1]) for row in connection.execute(f"DESCRIBE it.{quote(schema)}.{quote(name)}").fetchall())


def _exactly(name: str, kind: str) -> str:
    """An expression whose Arrow form tells all values of the column apart."""
    column = quote(name)
    if kind.startswith("UNION(") and kind.count("UNION(") == 1:  # members may print alike
        return f"concat(union_tag({column})::VARCHAR, CASE WHEN {column}::VARCHAR IS NULL THEN '-' ELSE '+' || {column}::VARCHAR END) AS {column}"
    if "UNION(" in kind or "VARIANT" in kind:
        raise Failed(SourceUnavailable(f"Column {name!r} is {kind}, whose values cannot be told apart from here.", hint="Anchor on another column."))
    return f"{column}::VARCHAR AS {column}" if any(word in kind for word in _LOSSY) else column

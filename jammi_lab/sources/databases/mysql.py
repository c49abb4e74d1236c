"""Connector for MySQL and MariaDB.

Comparisons follow DuckDB's rules. A server compares text by the column's collation, in which 'A'
and 'a' may be equal, and floating-point numbers by rules of its own. Therefore only conditions on
numbers, dates and times are sent; DuckDB evaluates those on text, binary and floating-point columns
itself, like grouping and ordering. The session's time zone is UTC.

`mysql_query` runs outside any transaction. Therefore the state is observed before and after a read,
together with the update time of the table, which changes with every write. A view has none, so it
has no state.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from jammi_lab.core.errors import SourceUnavailable
from jammi_lab.sources.base import UNKNOWN_ROWS, Query
from jammi_lab.sources.databases import mysql_types
from jammi_lab.sources.databases.server import ServerConnector, ServerDialect
from jammi_lab.sources.databases.table_info import (
    LogPosition,
    ServerTable,
)

_SYSTEM_SCHEMAS = ("information_schema", "mysql", "performance_schema", "sys")
_LISTING = (
    "SELECT table_schema AS s, table_name AS n FROM information_schema.tables WHERE "
    "table_type <> 'SYSTEM VIEW' AND {where} ORDER BY 1, 2"
)
_TABLE = """
SELECT {number} AS number, 0 AS place,
  CAST(table_type AS CHAR) AS form, CAST(engine AS CHAR) AS engine,
  CAST(table_rows AS CHAR) AS estimate, CAST(data_length AS CHAR) AS bytes,
  CAST(update_time AS CHAR) AS updated, CAST(create_time AS CHAR) AS created,
  CAST(@@version AS CHAR) AS version,
  CASE WHEN {lately} THEN CAST(NOW(6) AS CHAR) END AS fresh
FROM information_schema.tables WHERE {same} AND table_type <> 'SYSTEM VIEW'
UNION ALL
SELECT {number}, ordinal_position, CAST(column_name AS CHAR), CAST(column_type AS CHAR),
  CAST(data_type AS CHAR), CAST(COALESCE(character_set_name, '') AS CHAR),
  CAST(COALESCE(collation_name, '') AS CHAR),
  CAST(CASE WHEN extra LIKE 'VIRTUAL%' THEN generation_expression END AS CHAR), NULL, NULL
FROM information_schema.columns WHERE {same}"""
"""The table and its columns: a join of the two, or a list of names, would make the server open
every table. CAST gives all text one collation, as UNION requires."""
WRITTEN_RECENTLY = (
    "GREATEST(COALESCE(update_time, 0), COALESCE(create_time, 0)) > NOW() - INTERVAL 2 SECOND"
)
"""Whether a table was written within the last two seconds."""
_VIEW = 'of a view the server does not tell when its rows change; set anchor="column:…"'
_ARITHMETIC = re.compile(r"(`[^`]*`|[-+*().\d\s])*")
"""Expressions of virtual columns that are the same in each session at any time."""
_MAX_TABLES_PER_QUERY = 50
_SAME = (
    "table_schema = {schema} AND table_name = {name} AND CAST(table_schema AS BINARY) = "
    "{schema_bytes} AND CAST(table_name AS BINARY) = {name_bytes}"
)
"""The bytes are compared, too, because the server compares these names by a collation in which `t`
equals `T` even if they are two tables."""
_LOG_POSITION = """
SELECT MAX(CASE WHEN variable_name = 'UPTIME' THEN NULL ELSE variable_value END) AS lsn,
  @@hostname AS host, CAST(@@port AS CHAR) AS port,
  CAST(FLOOR((UNIX_TIMESTAMP() - MAX(
    CASE WHEN variable_name = 'UPTIME' THEN CAST(variable_value AS UNSIGNED) ELSE 0 END
  )) / 16) AS CHAR) AS began
FROM {status}.global_status
WHERE variable_name IN ('UPTIME', 'INNODB_LSN_CURRENT', 'INNODB_REDO_LOG_CURRENT_LSN')"""
"""The log position and the identity of the server. Its start time is computed from the uptime, in
steps of 16 seconds, because the two clocks may round apart."""
_EXACT_TYPES = re.compile(
    r"(tiny|small|medium|big)?int|integer|year|decimal|numeric|date|datetime|timestamp|time"
)
_LONG_TYPES = re.compile(r"(tiny|medium|long)?(text|blob)|json")
_INTEGER_WIDTH = re.compile(r"(?<=int)\(\d+\)")
"""The display width of an integer type, which newer servers leave out."""


def _quote_name(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _quote_bytes(value: str) -> str:
    return f"x'{value.encode().hex()}'"


def _quote_text(value: str) -> str:
    """A string literal that is independent of the server's backslash mode."""
    return f"CONVERT({_quote_bytes(value)} USING utf8mb4)"


_DIALECT = ServerDialect(
    quote_name=_quote_name,
    is_text=lambda value, text: (  # whatever the collation of the column
        f"CONVERT({value} USING utf8mb4) COLLATE utf8mb4_general_ci = {_quote_text(text)}"
    ),
    literal=mysql_types.literal_on_server,
    text_type="CHAR",
    all_rows=" LIMIT 18446744073709551615",  # whatever sql_select_limit says
    messages=re.compile("Failed to |MySQL |Lost connection"),
    reason=re.compile(r'(?:query "[^"]*"|parameters "[^"]*"): (.+)'),
)


class MysqlConnector(ServerConnector):
    """A registered MySQL or MariaDB database; `record.location` is its URL without credentials."""

    type = "mysql"
    dialect = _DIALECT
    _status_schema = "information_schema"
    """The schema of the server's status tables."""

    @property
    def path(self) -> str:
        """No compression, which other clients have to ask for; the secret holds all other
        parameters. DuckDB compresses by default (1.5.5), which takes both sides more time than the
        rows take on a link of more than some 100 Mbit/s."""
        return "compression=disabled"

    def _probe_address(self) -> tuple[str, int] | None:
        return (
            None
            if any(name == "socket" for name, _ in self.address.parameters)
            else self.address.server
        )

    @property
    def usual_schema(self) -> str:
        """The database in the URL."""
        return self.address.database

    def shows(self, schema: str) -> bool:
        """The schemas of the option `schemas`, or the database in the URL, or all but system
        schemas."""
        schemas = self._schemas
        return schema in schemas if schemas else schema not in _SYSTEM_SCHEMAS

    @property
    def _schemas(self) -> list[str]:
        """The schemas of the option, or the database in the URL; empty for all."""
        database = self.address.database
        return self.record.options.get("schemas") or ([database] if database else [])

    def list_tables(self, query: Query) -> list[tuple[str, str]]:
        """Schema and name of each table and view in the schemas of `shows`."""
        schemas = self._schemas
        schema_list = ", ".join(map(_quote_text, schemas or _SYSTEM_SCHEMAS))
        where = f"table_schema {'' if schemas else 'NOT '}IN ({schema_list})"
        return self.sorted_tables(self.run_on_server(query, _LISTING.format(where=where)))

    def table_infos(
        self, query: Query, names: Iterable[tuple[str, str]]
    ) -> dict[tuple[str, str], ServerTable | SourceUnavailable]:
        """The metadata of tables, read by one query for each fifty."""
        infos = dict[tuple[str, str], ServerTable | SourceUnavailable]()
        pending = sorted(names)
        while pending:
            some, pending = pending[:_MAX_TABLES_PER_QUERY], pending[_MAX_TABLES_PER_QUERY:]
            for qualified, rows in zip(some, self._rows_of_tables(query, some), strict=True):
                if rows:
                    infos[qualified] = self._table_of_rows(query, *qualified, rows)
        return infos

    def _rows_of_tables(
        self, query: Query, names: Sequence[tuple[str, str]]
    ) -> list[list[tuple[Any, ...]]]:
        """The rows of `_TABLE` for each of these tables; none for one that does not exist."""
        selects = []
        for number, (schema, name) in enumerate(names):
            literals = {
                "schema": _quote_text(schema),
                "name": _quote_text(name),
                "schema_bytes": _quote_bytes(schema),
                "name_bytes": _quote_bytes(name),
            }
            condition = _SAME.format(**literals)
            selects.append(
                _TABLE.format(**literals, number=number, same=condition, lately=WRITTEN_RECENTLY)
            )
        by_number: list[list[tuple[Any, ...]]] = [[] for _ in names]
        for number, *row in self.run_on_server(
            query, "\nUNION ALL\n".join(selects) + " ORDER BY 1, 2"
        ):
            by_number[number].append(tuple(row))
        return [rows if rows and rows[0][0] == 0 else [] for rows in by_number]

    def _table_of_rows(
        self, query: Query, schema: str, name: str, rows: Sequence[tuple[Any, ...]]
    ) -> ServerTable:
        (_, table_type, engine, estimate, *stamps), *column_rows = rows
        size, updated, created, version, server_time = stamps
        columns = [column[1:6] for column in column_rows]
        volatile_because = _VIEW if table_type == "VIEW" else ""
        for _, column, *_, expression, _, _ in column_rows:
            if not _ARITHMETIC.fullmatch(expression or ""):
                volatile_because = f"its column {column} is computed at each read: {expression}"
        logged = table_type == "BASE TABLE" and engine == "InnoDB"
        self._status_schema = "information_schema" if "MariaDB" in version else "performance_schema"
        recent_position = (
            "" if server_time is None else self._recent_position(query, server_time, logged)
        )
        return ServerTable(
            schema,
            name,
            tuple((column, _INTEGER_WIDTH.sub("", kind)) for column, kind, *_ in columns),
            repr((table_type, columns)),
            UNKNOWN_ROWS if estimate is None else int(estimate),
            int(size or 0),
            logged,
            f"{updated} {created} {recent_position}",
            volatile_because=volatile_because,
        )

    def _recent_position(self, query: Query, server_time: str, in_log: bool) -> str:
        """What tells two writes of a moment ago apart, since update times have a resolution of a
        second: the log position, or without one the server's time, which makes the stamp
        unique."""
        log_position = self.log_position(query) if in_log else None
        return server_time if log_position is None else str(log_position.position[-1])

    def log_position(self, query: Query) -> LogPosition | None:
        """The log position of InnoDB. The server does not report whether a logged commit is visible
        yet, which takes microseconds, so the position never counts as settled."""
        rows = self.run_on_server(query, _LOG_POSITION.format(status=self._status_schema))
        [(lsn, *identity)] = rows
        return None if lsn is None else LogPosition([*identity, lsn], all_visible=False)

    def types_as_read(self, query: Query, info: ServerTable) -> tuple[dict[str, str], bool]:
        """The types of a query, apart from those that `mysql_types` knows better."""
        columns = ", ".join(_quote_name(name) for name, _ in info.columns)
        select = f"SELECT {columns} FROM {self.table_on_server(info)} LIMIT 0"
        described = query(f"DESCRIBE SELECT * FROM {self.query_by_server(select)}")
        kinds = dict(info.columns)
        types = {name: mysql_types.type_as_read(kinds[name], kind) for name, kind, *_ in described}
        return types, True

    def value_on_server(self, info: ServerTable, name: str) -> str:
        """The column, or its text."""
        is_text = mysql_types.is_sent_as_text(dict(info.columns)[name], info.types[name])
        return f"CAST({_quote_name(name)} AS CHAR)" if is_text else _quote_name(name)

    def value_as_read(self, info: ServerTable, name: str) -> str:
        """As `mysql_types` has it."""
        kind, label = dict(info.columns)[name], self.full_label(info)
        return mysql_types.value_as_read(name, kind, info.types[name], label)

    def digest_rows(
        self, query: Query, info: ServerTable, sets: Sequence[Sequence[str]]
    ) -> tuple[int, list[str]]:
        """The row count, and per set the sums of both halves of the rows' MD5. Sums, because with
        XOR two equal rows would cancel each other."""
        kinds = dict(info.columns)
        sums, row_hashes = [], []
        for number, columns in enumerate(sets):
            if columns:
                row = f"CONCAT_WS(',', {', '.join(_canonical_value(c, kinds[c]) for c in columns)})"
                row_hashes.append(f"MD5({row}) AS m{number}")
                halves = (
                    f"CAST(CONV({side}(m{number}, 16), 16, 10) AS UNSIGNED)"
                    for side in ("LEFT", "RIGHT")
                )
                sums += [
                    f"CAST(SUM({half}) AS CHAR) AS s{number}_{position}"
                    for position, half in enumerate(halves)
                ]
                sums.append(f"CAST(COUNT(m{number}) AS CHAR) AS n{number}")
        rows, *values = self.run_on_server(
            query,
            f"SELECT {', '.join(['CAST(COUNT(*) AS CHAR) AS n', *sums])} FROM (SELECT "
            f"{', '.join(row_hashes) or '1 AS m'} FROM {self.table_on_server(info)}) AS t",
        )[0]
        parts = iter(values)
        digests = []
        for columns in sets:
            first, second, counted = (
                (next(parts), next(parts), next(parts)) if columns else ("", "", rows)
            )
            if counted != rows:
                raise SourceUnavailable(
                    f"{info.name} has rows that are too large for a digest on the server.",
                    hint="Increase max_allowed_packet on the server.",
                )
            digests.append(f"{first} {second}" if columns else "")
        return int(rows), digests


def _canonical_value(column: str, kind: str) -> str:
    """A value as text that is unique per value, without commas; `N` stands for NULL alone."""
    name, base = _quote_name(column), kind.split("(", 1)[0].split(" ", 1)[0].lower()
    if mysql_types.TEXT.fullmatch(base):
        # As it is read: the same bytes are other text in another character set.
        name = f"CONVERT({name} USING utf8mb4)"
    if base == "bit":
        text = f"CAST({name} + 0 AS CHAR)"
    elif base in ("float", "double", "real"):
        text = f"CAST({name} * 1e0 AS CHAR)"  # a FLOAT as text has six digits only
    elif _EXACT_TYPES.fullmatch(base):
        text = f"CAST({name} AS CHAR)"
    elif _LONG_TYPES.fullmatch(base):
        text = f"MD5({name})"
    else:
        text = f"HEX({name})"
    return f"IFNULL({text}, 'N')"

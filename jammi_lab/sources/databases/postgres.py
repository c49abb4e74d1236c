"""Connector for PostgreSQL.

All connections use the same settings for the formats of text and time, so that digests are
comparable. DuckDB has no type for `numeric` without a precision or with more than 38 digits; such a
column is read as DECIMAL(38, s), exactly or not at all, or as DOUBLE with the option
`numeric="double"`.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jammi_lab.core.errors import SourceUnavailable
from jammi_lab.core.identifiers import quote_identifier, sql_literal
from jammi_lab.sources.attach import CONNECT_SECONDS
from jammi_lab.sources.base import UNKNOWN_ROWS, Query
from jammi_lab.sources.databases import postgres_types, value_checks
from jammi_lab.sources.databases.postgres_queries import (
    LOG_POSITION,
    TABLE_DESCRIPTIONS,
    TABLE_LISTING,
    VIEW_DEPENDENCIES,
)
from jammi_lab.sources.databases.server import ServerConnector, ServerDialect
from jammi_lab.sources.databases.table_info import (
    LogPosition,
    ServerTable,
)

_LETTERS = f"'{string.ascii_uppercase}', '{string.ascii_lowercase}'"
_DIALECT = ServerDialect(
    quote_name=quote_identifier,
    is_text=lambda value, text: (  # in any locale
        f'pg_catalog.translate(({value})::text, {_LETTERS}) = {sql_literal(text)} COLLATE "C"'
    ),
    literal=postgres_types.literal_on_server,
    text_type="text",
    messages=re.compile(
        r"Failed to |Unable to connect to Postgres|.*to read a Postgres |(?:.*: )?ERROR:|server "
        r"closed the connection|.*connection to server|.*COPY data from Postgres|"
        r"no connection to the server|SSL SYSCALL"
    ),
    reason=re.compile(r"ERROR:\s*(.+)"),
)
_SESSION_SETTINGS = {
    "TimeZone": "UTC",
    "DateStyle": "ISO",
    "IntervalStyle": "postgres",
    "extra_float_digits": "3",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "xmloption": "content",
}
_MIN_ROW_BYTES = 28
"""The least space that a row takes in a page."""
_SESSION_FUNCTIONS = (
    r"current_setting|pg_\w*settings|pg_backend_pid|_if_assigned|inet_(client|server)|_temp_schema"
    r"|pg_(stat_|cursor|prepared_|listening_)"
)
"""What a function calls, or is, whose result depends on the session or its settings. A setting of a
role or a database is taken over when a session begins, and sessions outlive its changes."""


class PostgresConnector(ServerConnector):
    """A registered PostgreSQL database; `record.location` is its URL without credentials."""

    type = "postgres"
    dialect = _DIALECT
    one_snapshot = True

    @property
    def path(self) -> str:
        """The libpq connection string, without the parameters of the secret."""
        parameters = {name: value for name, value in self.address.parameters if name != "host"}
        parameters["connect_timeout"] = str(CONNECT_SECONDS)
        parameters["application_name"] = "jammi_lab"
        parameters["tcp_user_timeout"] = "30000"
        parameters["options"] = " ".join(
            f"-c {name}={value}" for name, value in _SESSION_SETTINGS.items()
        )
        return " ".join(f"{name}={_quote_parameter(value)}" for name, value in parameters.items())

    @property
    def usual_schema(self) -> str:
        """`public`, the schema of a new database."""
        return "public"

    def shows(self, schema: str) -> bool:
        """The schemas of the option `schemas`, or all but system schemas."""
        schemas = self.record.options.get("schemas")
        return (
            schema in schemas
            if schemas
            else not schema.startswith("pg_") and schema != "information_schema"
        )

    def list_tables(self, query: Query) -> list[tuple[str, str]]:
        """Schema and name of each table, partitioned table, view, materialised view and foreign
        table, without partitions."""
        listed = self.run_on_server(query, TABLE_LISTING)
        return self.sorted_tables(row for row in listed if self.shows(row[0]))

    def table_infos(
        self, query: Query, names: Iterable[tuple[str, str]]
    ) -> dict[tuple[str, str], ServerTable | SourceUnavailable]:
        """The metadata of tables, read by one query. A table without columns cannot be read, nor
        one whose columns differ only by case."""
        pairs = ", ".join(f"({sql_literal(s)}, {sql_literal(n)})" for s, n in names)
        select = TABLE_DESCRIPTIONS.format(names=pairs, row=_MIN_ROW_BYTES)
        infos = dict[tuple[str, str], ServerTable | SourceUnavailable]()
        for row in self.run_on_server(query, select):
            try:
                infos[row[0], row[1]] = self._table_of_row(query, row)
            except SourceUnavailable as error:
                infos[row[0], row[1]] = error
        return infos

    def _table_of_row(self, query: Query, row: Sequence[Any]) -> ServerTable:
        schema, name, oid, relation_kind, logged, estimate, size, has_no_estimate, *rest = row
        foreign, by_session, column_json = rest
        volatile_because = None
        if relation_kind == "v" or by_session:
            [(volatile_because, view_foreign)] = self.run_on_server(
                query,
                VIEW_DEPENDENCIES.format(oid=int(oid), setting=sql_literal(_SESSION_FUNCTIONS)),
            )
            foreign = foreign or view_foreign
        columns = [tuple(column) for column in json.loads(column_json or "[]")]
        if not columns:
            raise SourceUnavailable(
                f"The table {schema}.{name} has no columns, and DuckDB cannot read it.",
                hint="Add a column to it on the server.",
            )
        if (case_twins := _case_twins([column[0] for column in columns])) is not None:
            raise SourceUnavailable(
                f"The columns {case_twins[0]!r} and {case_twins[1]!r} of {schema}.{name} differ "
                "only by case, which DuckDB ignores.",
                hint="Create a view on the server that gives them different names.",
            )
        return ServerTable(
            schema,
            name,
            tuple((column, kind) for column, kind, *_ in columns),
            repr((oid, relation_kind, self.record.options.get("numeric"), columns)),
            UNKNOWN_ROWS if has_no_estimate else int(estimate or 0),
            int(size or 0),
            bool(logged),
            has_snapshot=not foreign,
            volatile_because=volatile_because or "",
        )

    def log_position(self, query: Query) -> LogPosition | None:
        """The insert position of the log, and whether every commit up to it is visible.

        A commit is in the log before others see it, for a long time if a standby must confirm it;
        until then its transaction holds a lock. The start time of the server is part of the
        identity: a server restored from a copy of its files (a container image) can write other
        rows up to the same position.
        """
        rows = self.run_on_server(query, LOG_POSITION)
        if not rows:
            return None
        [(*position, writer_count)] = rows
        return LogPosition(position, writer_count == 0)

    def types_as_read(self, query: Query, info: ServerTable) -> tuple[dict[str, str], bool]:
        """The types of what the server sends, which the values of a column may decide."""
        scales = self._scales_of_values(query, info)
        columns = ", ".join(
            f"{self._server_value(info, name, scales)} AS {quote_identifier(name)}"
            for name, _ in info.columns
        )
        select = f"SELECT {columns} FROM {self.table_on_server(info)}"
        described = query(f"DESCRIBE SELECT * FROM {self.query_by_server(select)}")
        return {name: kind for name, kind, *_ in described}, not self._is_decided_by_values(info)

    def _server_value(self, info: ServerTable, name: str, scales: Mapping[str, int | None]) -> str:
        kind = dict(info.columns)[name]
        return postgres_types.value_on_server(
            name, kind, scales.get(name, self._scale(kind)), self.full_label(info)
        )

    def _scale(self, kind: str) -> int | None:
        """With how many decimals a number of more than 38 digits is read; None for a DOUBLE."""
        if self.record.options.get("numeric") == "double":
            return None
        return value_checks.decimal_scale(postgres_types.declared_scale(kind.removesuffix("[]")))

    def value_on_server(self, info: ServerTable, name: str) -> str:
        """The column, or what is sent in its place; a number with the decimals of its type."""
        kind = info.types[name].removesuffix("[]")
        scale = int(kind[:-1].rpartition(",")[2]) if kind.startswith("DECIMAL") else None
        return self._server_value(info, name, {name: scale})

    def _is_decided_by_values(self, info: ServerTable) -> bool:
        """Whether the types of its columns `numeric` may differ from one read to the next: those of
        a view, such as averages, which have more decimals than people write, and with the option
        `numeric="values"` those of a table, of which each look scans the rows."""
        is_asked = self.record.options.get("numeric") == "values"
        return (is_asked or info.rows == UNKNOWN_ROWS) and "numeric" in dict(info.columns).values()

    def _scales_of_values(self, query: Query, info: ServerTable) -> dict[str, int | None]:
        """The decimals of the columns `numeric` that their values decide; None for a DOUBLE. Not
        while rows of other tenants would decide."""
        if not self._is_decided_by_values(info) or self.record.tenant_column:
            return {}
        if self.record.options.get("numeric") == "double":
            return {}
        columns = [name for name, kind in info.columns if kind == "numeric"]
        expressions = ", ".join(
            f"pg_catalog.max(pg_catalog.length(pg_catalog.trunc(pg_catalog.abs({quoted}))::text)) "
            f"AS d{number}, pg_catalog.max(pg_catalog.scale({quoted})) AS s{number}"
            for number, quoted in enumerate(map(quote_identifier, columns))
        )
        [row] = self.run_on_server(query, f"SELECT {expressions} FROM {self.table_on_server(info)}")
        found = iter(row)
        return {
            name: value_checks.scale_of_values(next(found) or 0, next(found) or 0)
            for name in columns
        }

    def digest_rows(
        self, query: Query, info: ServerTable, sets: Sequence[Sequence[str]]
    ) -> tuple[int, list[str]]:
        """The row count, and two sums per set over 64-bit hashes of the tuples with two seeds: 128
        bits, independent of the row order."""
        sum_expressions = [
            f"pg_catalog.sum(pg_catalog.hashtextextended({_row_text(columns)}, "
            f"{seed})::numeric)::text AS s{number}_{seed}"
            for number, columns in enumerate(sets)
            if columns
            for seed in (0, 1)
        ]
        expressions = ", ".join(["pg_catalog.count(*) AS n", *sum_expressions])
        [(rows, *sums)] = self.run_on_server(
            query,
            f"SELECT {expressions} FROM {self.table_on_server(info)} AS t",
        )
        pairs = iter(sums)
        return int(rows), [f"{next(pairs)} {next(pairs)}" if columns else "" for columns in sets]


def _case_twins(names: Sequence[str]) -> tuple[str, str] | None:
    """The first two names that DuckDB, which ignores the case of ASCII letters, takes for one."""
    first_by_key: dict[bytes, str] = {}
    for name in names:
        first = first_by_key.setdefault(name.encode().lower(), name)
        if first != name:
            return first, name
    return None


def _row_text(columns: Sequence[str]) -> str:
    """The text of a row of these columns in the server's format, in which NULL, empty text and
    quotes differ."""
    return f'ROW({", ".join(f"t.{quote_identifier(c)}" for c in columns)})::text COLLATE "C"'


def _quote_parameter(value: str) -> str:
    """A quoted value for a libpq connection string."""
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"

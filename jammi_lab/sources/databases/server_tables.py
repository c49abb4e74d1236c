"""The tables of a database server: how they are named, described and read."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from jammi_lab.core import foreign_errors
from jammi_lab.core.anchors import source_input
from jammi_lab.core.caches import BoundedCache
from jammi_lab.core.errors import JammiError, SourceUnavailable
from jammi_lab.core.identifiers import fold, quote_identifier, sql_literal
from jammi_lab.core.records import SourceRecord
from jammi_lab.sources import database_urls, row_filters
from jammi_lab.sources.base import (
    NO_WORKSPACE,
    Attachment,
    Query,
    ReadPlan,
    Relation,
    Requirements,
    SourceContext,
    attachment_key,
)
from jammi_lab.sources.databases.table_info import (
    LogPosition,
    ServerTable,
)
from jammi_lab.sources.located_connector import LocatedConnector
from jammi_lab.sources.row_filters import OwnerFilter, ServerDialect
from jammi_lab.sources.scan_conditions import ALL_ROWS, ConditionsOfScan, condition_on_server
from jammi_lab.sources.secrets import Credentials

QUERY_TIMEOUT_SECONDS = 30.0
"""Time limit of a query outside an observation."""
_UNREADABLE_VALUE = re.compile(
    r"The column '.*?' of .*? contains a .*?, which DuckDB cannot represent\."
)
"""The message for a value that DuckDB would read as another."""


_MAX_KNOWN_TABLES = 4096
_known_types = BoundedCache[tuple[str, str, str, str], dict[str, str]](_MAX_KNOWN_TABLES)
"""The SQL types of the columns of tables, by attachment, name and definition."""


def _readable(info: ServerTable | SourceUnavailable | None) -> ServerTable | None:
    """The metadata of a table. Raises the reason why it cannot be read."""
    if isinstance(info, SourceUnavailable):
        raise info
    return info


class ServerTables(LocatedConnector, ABC):
    """The tables of a database server: their names and metadata, and how they are read. Each kind
    of server implements the abstract part."""

    is_database = True
    extension = ""
    type = ""
    settings: Mapping[str, str | bool] = {}
    dialect: ServerDialect

    def __init__(self, record: SourceRecord, context: SourceContext = NO_WORKSPACE) -> None:
        super().__init__(record, context)
        self.address, _ = database_urls.parse_url(record.location)
        self._bound_tables: dict[str, ServerTable] = {}

    @property
    @abstractmethod
    def path(self) -> str:
        """The connection string for ATTACH, without credentials."""

    def sorted_tables(self, rows: Iterable[Sequence[str]]) -> list[tuple[str, str]]:
        """Schema and name of tables, those of the default schema first."""
        return sorted(
            ((schema, name) for schema, name in rows),
            key=lambda at: (at[0] != self.default_schema, at),
        )

    @abstractmethod
    def list_tables(self, query: Query) -> list[tuple[str, str]]:
        """Schema and name of every table and view of the source, those of the default schema first.
        Raises duckdb.Error."""

    @abstractmethod
    def table_infos(
        self, query: Query, names: Iterable[tuple[str, str]]
    ) -> dict[tuple[str, str], ServerTable | SourceUnavailable]:
        """The metadata of those tables that exist, by schema and name, or why a table cannot be
        read. Raises duckdb.Error."""

    def table_info(self, query: Query, schema: str, name: str) -> ServerTable | None:
        """The metadata of one table; None if it does not exist. Raises duckdb.Error, and
        SourceUnavailable if it cannot be read."""
        return _readable(self.table_infos(query, [(schema, name)]).get((schema, name)))

    @abstractmethod
    def log_position(self, query: Query) -> LogPosition | None:
        """The current log position; None if it is not available. Raises duckdb.Error."""

    @abstractmethod
    def types_as_read(self, query: Query, info: ServerTable) -> tuple[dict[str, str], bool]:
        """The SQL types of the columns, and whether they follow from the definition alone. Raises
        duckdb.Error."""

    @abstractmethod
    def value_on_server(self, info: ServerTable, name: str) -> str:
        """The server's expression for a column that is read with the type of `info`."""

    def value_as_read(self, info: ServerTable, name: str) -> str:  # noqa: ARG002
        """The value of a column from what the server sends of it."""
        return quote_identifier(name)

    @abstractmethod
    def digest_rows(
        self, query: Query, info: ServerTable, sets: Sequence[Sequence[str]]
    ) -> tuple[int, list[str]]:
        """The row count, and one digest per set of columns. Raises duckdb.Error."""

    def largest_value(self, query: Query, info: ServerTable, column: str) -> tuple[str | None, int]:
        """The largest value of a column in the server's order, as text, and the row count. Raises
        duckdb.Error."""
        name, text = self.dialect.quote_name(column), self.dialect.text_type
        [(largest, rows)] = self.run_on_server(
            query,
            f"SELECT CAST(MAX({name}) AS {text}) AS m, CAST(COUNT(*) AS {text}) AS n "
            f"FROM {self.table_on_server(info)}",
        )
        return largest, int(rows)

    @property
    def attachment(self) -> Attachment:
        """The attachment of the server. Raises SecretMissing."""
        typed, secret = self.context.credentials()
        return Attachment(
            attachment_key(self.record.tenant, fold(self.record.name)),
            self.type,
            extension=self.extension,
            path=self.path,
            secret=database_urls.secret_parameters(
                self.address, secret if secret is not None else typed.get("password")
            ),
            settings=self.settings,
            server=self._probe_address(),
        )

    def _probe_address(self) -> tuple[str, int] | None:
        return None

    def label(self, schema: str, name: str) -> str:
        """The name of a table in the source: `schema.table`, without the default schema."""
        return name if schema == self.default_schema else f"{schema}.{name}"

    @property
    def default_schema(self) -> str:
        """The schema that labels omit."""
        listed = self.record.options.get("schemas")
        return str(listed[0]) if listed and len(listed) == 1 else self.usual_schema

    @abstractmethod
    def shows(self, schema: str) -> bool:
        """Whether the source includes the tables of a schema."""

    @property
    @abstractmethod
    def usual_schema(self) -> str:
        """The default schema if the options do not set it."""

    def _qualify(self, parts: Sequence[str]) -> tuple[str, str] | None:
        """The schema and name that a reference means by the default schema; None if the source does
        not include that schema."""
        schema, name = (self.default_schema, parts[0]) if len(parts) == 1 else (parts[0], parts[-1])
        return (schema, name) if len(parts) <= 2 and self.shows(schema) else None

    def _server_error(self, text: str) -> JammiError | None:
        """The error for a message of the extension, the client library or the server; None for any
        other."""
        if not self.dialect.messages.match(text):
            return None
        about_query = foreign_errors.to_error(f"{self.type}_query", text, source=self.record.name)
        if about_query is not None:
            return about_query
        found = foreign_errors.explain(self.type, text)
        if found is not None:
            reason, hint = found.message, found.hint or self._reject_credentials()
        else:
            own_reason = self.dialect.reason.search(text)
            reason = own_reason[1] if own_reason else "its response could not be parsed"
            hint = ""
        return SourceUnavailable(
            f"The server {self.location} cannot be read: {reason.strip().rstrip('.')}.", hint=hint
        )

    def explain(self, text: str) -> JammiError | None:
        """`Relation.explain`: the error for a message about the source or a value in it."""
        if value_match := _UNREADABLE_VALUE.search(text):
            hint = "Correct the value, or create a view on the server that casts it."
            if self.kind == "postgresql" and "DECIMAL" in text:
                hint = f'{hint[:-1]}, or set options={{"numeric": "double"}}.'
            return SourceUnavailable(value_match[0], hint=hint)
        return self._server_error(text)

    def _reject_credentials(self) -> str:
        """The hint for a rejected credential, which is dropped so that its provider is called again
        next time."""
        credentials = self.context.credentials
        if not isinstance(credentials, Credentials):
            return "Pass the correct password with secret=."
        credentials.reject()
        return credentials.remedy

    def run(
        self,
        work: Callable[[Query], Any],
        seconds: float | None = None,
    ) -> Any:
        """The result of `work`, whose queries run in one transaction. Raises SourceUnavailable,
        SecretMissing, ExtensionMissing."""
        if self.context.access is None:
            raise SourceUnavailable(f"{self.record.name} can be read only in a workspace.")
        attached = Relation(
            source_input(self.record.name),
            ReadPlan(body="SELECT 1"),
            requirements=Requirements(attachment=self.attachment),
            explain=self.explain,
        )
        limit = QUERY_TIMEOUT_SECONDS if seconds is None else seconds
        return self.context.access(attached, work, seconds=limit)

    def _find_infos(self, query: Query, tables: Iterable[str]) -> dict[str, ServerTable]:
        """The metadata of tables by label. A single one raises SourceUnavailable if it cannot be
        read; several leave such a table out."""
        names = {label: self._qualified(label) for label in tables}
        infos = self.table_infos(query, {name for each in names.values() for name in each})
        found = dict[str, ServerTable]()
        for label, qualified in names.items():
            info = next((infos[name] for name in qualified if name in infos), None)
            if isinstance(info, ServerTable):
                found[label] = info
            elif len(names) == 1:
                _readable(info)
        return found

    def _qualified(self, label: str) -> list[tuple[str, str]]:
        """The schemas and names that a label may mean, the likeliest first."""
        dots = [position for position, letter in enumerate(label) if letter == "."]
        return [(self.default_schema, label), *((label[:i], label[i + 1 :]) for i in dots)]

    def _find_info(self, query: Query, table: str | None) -> ServerTable | None:
        return self._find_infos(query, [table]).get(table) if table else None

    def _bind(self, query: Query, schema: str, name: str) -> ServerTable | None:
        info = self.table_info(query, schema, name)
        return None if info is None else self._with_types(query, info)

    def _with_types(self, query: Query, info: ServerTable) -> ServerTable:
        """A table with the SQL types of its columns, which are kept per definition."""
        key = self.attachment.alias, info.schema, info.name, info.marker
        types = _known_types.get(key)
        if types is None:
            types, is_fixed = self.types_as_read(query, info)
            if is_fixed:
                _known_types.put(key, types)
        return replace(info, types=types)

    def select(
        self,
        info: ServerTable,
        owner: OwnerFilter | None = None,
        columns: Collection[str] | None = None,
        conditions: ConditionsOfScan = lambda: ALL_ROWS,
    ) -> str:
        """A SELECT of a table, which its server runs: a scan of DuckDB's would keep definitions of
        its own and read some types otherwise.

        It has all columns; those that are not read are NULL. It returns the rows of an owner, or
        those that the conditions need, and perhaps more.
        """
        types = info.types
        read = types.keys() if columns is None else columns
        kinds, limit = dict(info.columns), None
        where = row_filters.conditions(owner, types, info.range_columns, self.dialect)
        if not where:
            needed, limit = condition_on_server(
                conditions(),
                lambda column, value: self.dialect.literal(kinds[column], value),
                self.dialect.quote_name,
            )
            where = [needed] if needed else []
        sent = [
            f"{self.value_on_server(info, name)} AS {self.dialect.quote_name(name)}"
            for name in types
            if name in read
        ]
        text = f"SELECT {', '.join(sent) or '1 AS one'} FROM {self.table_on_server(info)}"
        text += row_filters.where_clause(where) + ("" if limit is None else f" LIMIT {limit}")
        values = [
            f"{self.value_as_read(info, name) if name in read else f'NULL::{kind}'} "
            f"AS {quote_identifier(name)}"
            for name, kind in types.items()
        ]
        return f"SELECT {', '.join(values)} FROM {self.query_by_server(text)}"

    def table_on_server(self, info: ServerTable) -> str:
        """The qualified name of a table for the server."""
        return f"{self.dialect.quote_name(info.schema)}.{self.dialect.quote_name(info.name)}"

    def run_on_server(self, query: Query, sql: str) -> list[tuple[Any, ...]]:
        """The rows of a SELECT that the server itself runs. Raises duckdb.Error."""
        return query(f"SELECT * FROM {self.query_by_server(sql)}")

    def query_by_server(self, sql: str) -> str:
        """A SELECT that the server itself runs, for FROM."""
        return f"{self.type}_query({sql_literal(self.attachment.alias)}, {sql_literal(sql)})"

    def full_label(self, info: ServerTable) -> str:
        """Source and table, for messages."""
        return f"{self.record.name}.{self.label(info.schema, info.name)}"

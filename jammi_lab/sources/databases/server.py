"""Base of the connectors for database servers (PostgreSQL, MySQL).

A server is attached read-only to the tenant's DuckDB instance, under an alias that no user
statement can name, and stays attached. Internal queries go through `SourceAccess`: one transaction,
one snapshot, a time limit. The state of a table is a digest over its rows, computed by the server
over the tuple of the columns that are read, independent of the row order.

An observation needs at most two round trips. The first reads the definition, the estimated size and
the server's log position. If the position has not moved since an earlier digest, and every change
to the table would move it, that digest is reused. Otherwise the second computes a digest, within
the limits of the observation.
"""

from __future__ import annotations

import functools
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import duckdb

from jammi_lab.core import foreign_errors
from jammi_lab.core.anchors import (
    ROUNDED,
    Cost,
    Observed,
    Snapshot,
    Unknown,
    set_key,
    source_input,
)
from jammi_lab.core.caches import BoundedCache
from jammi_lab.core.canonical_json import digest_of
from jammi_lab.core.errors import (
    InvalidArgument,
    JammiError,
    SourceUnavailable,
    TableNotFound,
)
from jammi_lab.core.identifiers import fold, near_names, quote_identifier, sql_literal
from jammi_lab.core.records import SourceRecord
from jammi_lab.sources import database_urls
from jammi_lab.sources.base import (
    NO_WORKSPACE,
    Attachment,
    Consistency,
    ObservationContext,
    Query,
    ReadPlan,
    Relation,
    Requirements,
    SourceContext,
    attachment_key,
)
from jammi_lab.sources.databases.table_info import (
    DigestsBySet,
    LogPosition,
    ServerTable,
    TableState,
    digest_timeout,
)
from jammi_lab.sources.located_connector import LocatedConnector, SourceGone
from jammi_lab.sources.scan_conditions import ALL_ROWS, ConditionsOfScan, condition_on_server
from jammi_lab.sources.secrets import Credentials
from jammi_lab.storage.digests import NO_STAT, CacheEntry, observation_key

# --------------------------------------------------------------------------------------------------
# The tables of a database server: how they are named, described and read.

QUERY_TIMEOUT_SECONDS = 30.0
"""Time limit of a query outside an observation."""
_UNREADABLE_VALUE = re.compile(
    r"The column '.*?' of .*? contains a .*?, which DuckDB cannot represent\."
)
"""The message for a value that DuckDB would read as another."""


_COMPARED_WITH_OWNER = re.compile(r"VARCHAR|U?(TINY|SMALL|BIG)?INT|U?INTEGER")
"""Types whose texts are the same on the server."""


class OwnerFilter(NamedTuple):
    """Selects the rows whose column contains the tenant's name, ignoring case, or NULL."""

    column: str
    tenant: str | None


class ServerDialect(NamedTuple):
    """How a kind of server writes SQL, and what it says."""

    quote_name: Callable[[str], str]
    """Quotes a name."""
    is_text: Callable[[str, str], str]
    """A condition: the text of an expression is this lower-case one, ignoring case at least of A
    to Z."""
    literal: Callable[[str, str | None], str | None]
    """The literal for a constant of a column of one of the server's types, or NULL for None; None
    if the server compares the type otherwise than DuckDB."""
    text_type: str
    """The type of text in a CAST."""
    messages: re.Pattern[str]
    """How messages of the extension, the client library and the server begin."""
    reason: re.Pattern[str]
    """Finds the reason in such a message."""
    all_rows: str = ""
    """The clause behind a SELECT of which the server is to leave out no row."""


_MAX_KNOWN_TABLES = 4096
_known_types = BoundedCache[tuple[str, str, str, str], dict[str, str]](_MAX_KNOWN_TABLES)
"""The SQL types of the columns of tables, by attachment, name and definition."""


def _readable(info: ServerTable | SourceUnavailable | None) -> ServerTable | None:
    """The metadata of a table. Raises the reason why it cannot be read."""
    if isinstance(info, SourceUnavailable):
        raise info
    return info


METHOD = "digest of the rows, by the server"


class ServerConnector(LocatedConnector, ABC):
    """A registered database server. Each kind of server implements the abstract part."""

    is_database = True
    one_snapshot = False
    """Whether all queries of a transaction see one snapshot of the server, including those that
    read a statement's rows."""
    type = ""
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
            path=self.path,
            secret=database_urls.secret_parameters(
                self.address, secret if secret is not None else typed.get("password")
            ),
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

    def _server_error(self, text: str) -> JammiError | None:
        """The error for a message of the extension, the client library or the server; None for any
        other."""
        if not self.dialect.messages.match(text):
            return None
        about_query = foreign_errors.to_error(f"{self.type}_query", text, source=self.record.name)
        if about_query is not None:
            return about_query
        found = foreign_errors.explain(self.type, text)
        if found.message:
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
            meant = [infos[name] for name in qualified if name in infos]
            info = meant[0] if len(meant) == 1 else None
            if isinstance(info, ServerTable):
                found[label] = info
            elif len(names) == 1:
                _readable(info)
        return found

    def _qualified(self, label: str) -> list[tuple[str, str]]:
        """The schemas and names that a label may mean."""
        dots = [position for position, letter in enumerate(label) if letter == "."]
        return [(self.default_schema, label), *((label[:i], label[i + 1 :]) for i in dots)]

    def _find_info(self, query: Query, table: str | None) -> ServerTable | None:
        return self._find_infos(query, [table]).get(table) if table else None

    def _bind(self, query: Query, table: str | None) -> ServerTable | None:
        """The metadata of a table by its label, with the SQL types of its columns."""
        info = self._find_info(query, table)
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
        where = "" if owner is None else self._owned_rows(info, owner)
        if not where:
            where, limit = condition_on_server(
                conditions(),
                lambda column, value: self.dialect.literal(kinds[column], value),
                self.dialect.quote_name,
            )
        sent = []
        for name in types:
            if name in read:
                sent.append(
                    f"{self.value_on_server(info, name)} AS {self.dialect.quote_name(name)}"
                )
        text = f"SELECT {', '.join(sent) or '1 AS one'} FROM {self.table_on_server(info)}"
        text += f" WHERE {where}" if where else ""
        text += self.dialect.all_rows if limit is None else f" LIMIT {limit}"
        values = [
            f"{self.value_as_read(info, name) if name in read else f'NULL::{kind}'} "
            f"AS {quote_identifier(name)}"
            for name, kind in types.items()
        ]
        return f"SELECT {', '.join(values)} FROM {self.query_by_server(text)}"

    def _owned_rows(self, info: ServerTable, owner: OwnerFilter) -> str:
        """A condition for the rows of an owner, those without one, and perhaps a few more; empty if
        there is none. The exact one is tested before any condition of the statement
        (`filtered_select`), which could otherwise evaluate values of others."""
        kind = info.types.get(owner.column, "")
        if not _COMPARED_WITH_OWNER.fullmatch(kind):
            return ""
        unowned = f"{self.dialect.quote_name(owner.column)} IS NULL"
        if owner.tenant is None:
            return unowned
        value = self.value_on_server(info, owner.column)
        return f"{unowned} OR {self.dialect.is_text(value, owner.tenant)}"

    def table_on_server(self, info: ServerTable) -> str:
        """The qualified name of a table for the server."""
        return f"{self.dialect.quote_name(info.schema)}.{self.dialect.quote_name(info.name)}"

    def run_on_server(self, query: Query, sql: str) -> list[tuple[Any, ...]]:
        """The rows of a SELECT that the server itself runs. Raises duckdb.Error."""
        return query(f"SELECT * FROM {self.query_by_server(sql + self.dialect.all_rows)}")

    def query_by_server(self, sql: str) -> str:
        """A SELECT that the server itself runs, for FROM."""
        return f"{self.type}_query({sql_literal(self.attachment.alias)}, {sql_literal(sql)})"

    def full_label(self, info: ServerTable) -> str:
        """Source and table, for messages."""
        return f"{self.record.name}.{self.label(info.schema, info.name)}"

    # -- connector

    def check(self) -> None:
        """Check that the server accepts the connection.

        Raises SourceUnavailable, SecretMissing, ExtensionMissing, and InvalidArgument for a missing
        schema or an anchor on a column that no table has.
        """
        schemas = self.record.options.get("schemas")

        def work(query: Query) -> tuple[list[tuple[str, str]], list[str]]:
            listed = self.list_tables(query)
            return listed, self._anchor_columns(query, listed)

        listed, columns = self.run(work)
        self._check_anchor_column(columns)
        if schemas and (
            missing := [
                wanted
                for wanted in schemas
                if not any(fold(schema) == fold(wanted) for schema, _ in listed)
            ]
        ):
            raise InvalidArgument(
                f"{self.location} has no tables in a schema {missing[0]!r}.",
                hint="Check options={'schemas': [...]}.",
            )

    def _anchor_columns(self, query: Query, listed: Sequence[tuple[str, str]]) -> list[str]:
        """The columns of all tables, if the anchor is on a column."""
        if self.anchor_column is None or not listed:
            return []
        columns = set[str]()
        for info in self.table_infos(query, listed).values():
            if isinstance(info, ServerTable):
                columns.update(dict(info.columns))
        return sorted(columns)

    def tables(self) -> list[str]:
        """The labels of all tables. Raises SourceUnavailable."""
        return [self.label(schema, name) for schema, name in self.run(self.list_tables)]

    def find(self, parts: Sequence[str]) -> str | None:
        """The label of `table`, of the default schema, or `schema.table`, as the server writes it;
        None if there is none, or several."""
        info = self.run(lambda query: self._bind(query, ".".join(parts)))
        if info is None or not self.shows(info.schema):
            return None
        label = self.label(info.schema, info.name)
        self._bound_tables[label] = info
        return label

    def relation(self, table: str | None, owner: OwnerFilter | None = None) -> Relation:
        """The relation of a table: all rows, or at least those of an owner. Raises
        SourceUnavailable, TableNotFound, SecretMissing."""
        # `find` has just read the definition of the name that it returned.
        info = self._bound_tables.pop(table or "", None)
        if info is None:
            info = self.run(lambda query: self._bind(query, table))
        if info is None:
            raise TableNotFound(
                f"There is no table {table} in {self.record.name}.",
                near=near_names(table or "", self.tables()),
            )
        observable = (
            self.one_snapshot
            and info.has_snapshot
            and not info.volatile_because
            and self.record.anchor in ("auto", "content")
        )
        return Relation(
            source_input(self.record.name, table),
            ReadPlan(
                body=self.select(info, owner),
                projected_body=functools.partial(self.select, info, owner),
            ),
            requirements=Requirements(attachment=self.attachment),
            consistency=Consistency(
                unordered=True,
                guard=self._guard(table, info),
                witness=self._witness(info) if observable else None,
            ),
            columns=info.types,
            explain=self.explain,
        )

    def _guard(self, table: str | None, info: ServerTable) -> Callable[[Query], None]:
        """`Consistency.guard`: compares the definition."""

        def guard(query: Query) -> None:
            current = self._find_info(query, table)
            if current is None or current.marker != info.marker:
                raise SourceUnavailable(
                    f"The definition of {self.record.name}.{table} changed during the read.",
                    hint="Run the statement again.",
                )

        return guard

    def _witness(self, info: ServerTable) -> Callable[[Query, tuple[str, ...]], Observed | None]:
        """`Consistency.witness`: digests the columns read, in the transaction that read them."""

        def witness(query: Query, read: tuple[str, ...]) -> Observed | None:
            sets = self._columns_by_set(frozenset({read}), info)
            rows, digests = self.digest_rows(query, info, list(sets.values()))
            by_set = dict(zip(sets, digests, strict=True))
            return self._snapshot(info, rows, by_set, Cost.SCAN)

        return witness

    def _observe(self, table: str | None, ctx: ObservationContext) -> Observed:
        """The state of a table. Raises SourceGone and as `run`."""
        if table is None:
            raise SourceGone
        state: TableState | None = None
        if ctx.shared is not None:
            state = ctx.shared.take(table, lambda tables: self._read_states(tables, ctx))
        if state is None:  # also of a missing table, which is looked for once more, by itself
            state = self._read_states([table], ctx)[table]
        if state is None:
            raise SourceGone
        if self.anchor_column is not None:
            return self._observe_column(state.info, ctx)
        return self._observe_content(state, ctx)

    def _read_states(
        self, tables: Collection[str], ctx: ObservationContext
    ) -> dict[str, TableState | None]:
        """The states of tables, read in one transaction; None for one that is missing."""

        def read(query: Query) -> dict[str, TableState | None]:
            states = dict[str, TableState | None].fromkeys(tables)
            infos = self._find_infos(query, tables)
            for table, info in infos.items():
                states[table] = TableState(self._with_types(query, info), None)
            if self.record.anchor == "auto" and any(info.is_logged for info in infos.values()):
                position = self.log_position(query)
                for table, info in infos.items():
                    if info.is_logged and (state := states[table]) is not None:
                        states[table] = state._replace(position=position)
            return states

        states: dict[str, TableState | None] = self.run(read, ctx.timeout_seconds)
        return states

    def _observe_column(self, info: ServerTable, ctx: ObservationContext) -> Observed:
        self._check_anchor_column(info.types)
        name = self.anchor_column or ""
        found = self.run(lambda query: self.largest_value(query, info, name), ctx.timeout_seconds)
        return self._column_snapshot(
            dict(info.types), found, Cost.METADATA, server_types=dict(info.columns)
        )

    def _cache_key(self, info: ServerTable) -> str:
        return observation_key(self.kind, self.location, f"{info.schema}\0{info.name}")

    def _observe_content(self, state: TableState, ctx: ObservationContext) -> Observed:
        info, position = state
        if info.volatile_because:
            return Unknown(info.volatile_because)
        sets = self._columns_by_set(ctx.read_sets, info)
        key = self._cache_key(info)
        entry = ctx.cache.get(key)
        # the digests of the same definition and log position
        gate = None if position is None else [duckdb.__version__, info.marker, *position.position]
        cached = entry.payload if entry is not None and entry.payload.get("gate") == gate else None
        if cached is not None and cached["sound"] and sets.keys() <= cached["sets"].keys():
            return self._snapshot(info, cached["rows"], cached["sets"], Cost.METADATA, info.stamp)
        if (refused := ctx.refuse_scan(info.bytes, info.rows)) is not None:
            return refused

        def work(query: Query) -> tuple[ServerTable | None, tuple[int, list[str]]]:
            return self.table_info(query, info.schema, info.name), self.digest_rows(
                query, info, list(sets.values())
            )

        current, (rows, digests) = self.run(work, digest_timeout(info, ctx))
        digest_by_set = dict(zip(sets, digests, strict=True))
        # The definition is read again beside the digest: the rows may be of a newer one.
        if current is None or current.marker != info.marker:
            return Unknown("its definition changes while it is observed")
        if position is not None:
            since = ctx.now_ns if cached is None else cached["since"]
            # A commit in the log becomes visible well within this time.
            is_settled = cached is not None and ctx.now_ns - since >= ctx.racy_seconds * 1e9
            sound = position.all_visible or is_settled
            payload = {"gate": gate, "sets": digest_by_set, "rows": rows}
            payload |= {"since": since, "sound": sound}
            ctx.cache.put(key, CacheEntry(NO_STAT, ctx.now_ns, payload))
        return self._snapshot(info, rows, digest_by_set, Cost.SCAN, current.stamp)

    @staticmethod
    def _columns_by_set(
        wanted: frozenset[tuple[str, ...] | None], info: ServerTable
    ) -> dict[str, list[str]]:
        """The columns to digest, by `set_key`. Columns that no longer exist are left out; their
        missing types are part of the state."""
        return {
            set_key(columns): sorted(
                name for name in (info.types if columns is None else columns) if name in info.types
            )
            for columns in wanted
        }

    @staticmethod
    def _snapshot(
        info: ServerTable,
        rows: int,
        sets: DigestsBySet,
        cost: Cost,
        stamp: str = "",
    ) -> Snapshot:
        digest = digest_of(dict(sets))
        server_types = {
            name: kind + ROUNDED
            if kind.startswith("numeric") and info.types.get(name, "").startswith("DOUBLE")
            else kind
            for name, kind in info.columns
        }
        return Snapshot(
            columns=dict(info.types),
            whole=digest,
            method=METHOD,
            cost=cost,
            by_set=dict(sets),
            row_count=rows,
            stamp=stamp,
            server_types=server_types,
        )

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

import contextlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from jammi_lab.core.anchors import (
    Cost,
    Input,
    InputKind,
    Observed,
    Snapshot,
    Unknown,
    Vanished,
    set_key,
)
from jammi_lab.core.canonical_json import digest_of
from jammi_lab.core.errors import (
    ExtensionMissing,
    InvalidArgument,
    JammiError,
    SecretMissing,
    SourceUnavailable,
    TableNotFound,
)
from jammi_lab.core.identifiers import fold, near_names, quote_identifier, sql_literal
from jammi_lab.core.records import SourceRecord
from jammi_lab.sources import base, database_urls
from jammi_lab.sources.base import (
    Attachment,
    Consistency,
    ObservationContext,
    Query,
    ReadPlan,
    Relation,
    Requirements,
    SharedRead,
    SourceAccess,
    attachment_key,
)
from jammi_lab.sources.databases import cached_digests
from jammi_lab.sources.databases.table_info import (
    BoundTable,
    DigestsBySet,
    LogPosition,
    RowVersions,
    ServerTable,
    TableSelect,
    TableState,
    check_scan_limits,
    digest_timeout,
)
from jammi_lab.sources.row_filters import OwnerFilter
from jammi_lab.sources.secrets import Credentials
from jammi_lab.storage.digests import NO_STAT, CacheEntry, observation_key

METHOD = "digest of the rows, by the server"
QUERY_TIMEOUT_SECONDS = 30.0
"""Time limit of a query outside an observation."""
_UNREADABLE_VALUE = re.compile(
    r"The column '.*?' of .*? contains a .*?, which DuckDB cannot represent\."
)
"""The message of a body that found a value that DuckDB would read as another."""


ErrorTable = Sequence[tuple[str, str, str]]
"""What messages mean: a pattern, the reason (with the groups of the pattern) and the hint; an empty
hint stands for that of a rejected credential."""
UNREACHABLE_ERRORS: ErrorTable = (
    (
        r"Unknown (?:MySQL )?server host|could not translate host name|Name or service not known",
        "the host name is unknown",
        "Check the host in the URL.",
    ),
    (
        (
            r"Can't connect|could not connect|Connection refused|No route to host|Network is "
            r"unreachable"
        ),
        "nothing listens on that host and port",
        "Check that the server is running, and the host and port.",
    ),
)
OVERLOADED_ERRORS: ErrorTable = (
    (
        r"[Tt]oo many connections|remaining connection slots",
        "it has too many connections",
        "Try again later.",
    ),
)


class ServerConnector(ABC):
    """A registered database server."""

    extension = ""
    type = ""
    settings: Mapping[str, str | bool] = {}
    one_snapshot = False
    """Whether all queries of a transaction see one snapshot of the server, including those that
    read a statement's rows."""

    def __init__(
        self,
        record: SourceRecord,
        credentials: base.ReadCredentials,
        source_access: SourceAccess | None,
    ) -> None:
        self.record, self._credentials = record, credentials
        self.address, _ = database_urls.parse_url(record.location)
        self._source_access = source_access
        self._bound_tables: dict[str, BoundTable] = {}
        self._listed: list[tuple[str, str]] | None = None
        """What `check` has just listed, for the `tables` that follows it."""

    @property
    def kind(self) -> str:
        """The kind of server: postgresql or mysql."""
        return self.record.kind

    @property
    def location(self) -> str:
        """The URL without its password."""
        return self.record.location

    # -- implemented by each kind of server

    @property
    @abstractmethod
    def path(self) -> str:
        """The connection string for ATTACH, without credentials."""

    @property
    def listing(self) -> str:
        """A SELECT of what `list_tables` lists, as one JSON text, which a new attachment asks
        together with its checks; empty if it cannot."""
        return ""

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
    def table_info(self, query: Query, schema: str, name: str) -> ServerTable | None:
        """The metadata of one table; None if it does not exist. Raises duckdb.Error."""

    def table_infos(
        self, query: Query, names: Iterable[tuple[str, str]]
    ) -> dict[tuple[str, str], ServerTable]:
        """The metadata of those tables that exist, by schema and name, without tables of which
        nothing can be said. Raises duckdb.Error."""
        infos = dict[tuple[str, str], ServerTable]()
        for schema, name in names:
            with contextlib.suppress(SourceUnavailable):
                if (info := self.table_info(query, schema, name)) is not None:
                    infos[schema, name] = info
        return infos

    def have_same_versions(
        self,
        query: Query,  # noqa: ARG002 - for servers that can tell
        tables: Sequence[tuple[ServerTable, RowVersions, int]],
    ) -> list[bool]:
        """For tables, with the row versions and the row count of an earlier snapshot: whether this
        one is proven to have the same rows. Raises duckdb.Error."""
        return [False for _ in tables]

    @abstractmethod
    def log_position(self, query: Query) -> LogPosition | None:
        """The current log position; None if it is not available. Raises duckdb.Error."""

    @abstractmethod
    def build_select(
        self, query: Query, info: ServerTable, owner: OwnerFilter | None
    ) -> tuple[TableSelect, bool]:
        """The SELECT of a new definition, and whether it may be cached.

        It must not depend on metadata that DuckDB cached for an earlier definition. It returns all
        rows, or at least those of an owner. Raises duckdb.Error.
        """

    @abstractmethod
    def digest_rows(
        self, query: Query, info: ServerTable, sets: Sequence[Sequence[str]]
    ) -> tuple[int, list[str]]:
        """The row count, and one digest per set of columns. Raises duckdb.Error."""

    @abstractmethod
    def largest_value(self, query: Query, info: ServerTable, column: str) -> tuple[str | None, int]:
        """The largest value of a column as text, and the row count. Raises duckdb.Error."""

    @abstractmethod
    def error_for_message(self, text: str) -> JammiError | None:
        """The error for a message of the server or the extension; None if the message is not about
        the source."""

    # -- connector

    @property
    def attachment(self) -> Attachment:
        """The attachment of the server. Raises SecretMissing."""
        typed, secret = self._credentials()
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

    def check(self) -> None:
        """Check that the server accepts the connection.

        Raises SourceUnavailable, SecretMissing, ExtensionMissing, and InvalidArgument for a missing
        schema or an anchor on a column that no table has.
        """
        schemas = self.record.options.get("schemas")
        attachment = replace(self.attachment, listing=self.listing)

        def work(query: Query) -> tuple[list[tuple[str, str]], list[str] | None]:
            listed = (
                self.sorted_tables(json.loads(attachment.listed[0]))
                if attachment.listed
                else self.list_tables(query)
            )
            return listed, self._anchor_columns(query, listed)

        listed, columns = self.run(work, attachment=attachment)
        self._listed = listed
        if (
            columns is not None
            and (name := self.record.anchor.removeprefix("column:")) not in columns
        ):
            raise InvalidArgument(
                f"There is no column {name!r} to anchor on.",
                near=near_names(name, columns),
                hint="No table of the source has it.",
            )
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

    def _anchor_columns(self, query: Query, listed: Sequence[tuple[str, str]]) -> list[str] | None:
        """The columns of all tables, if the anchor is on a column; else None."""
        if not self.record.anchor.startswith("column:"):
            return None
        columns = set[str]()
        for qualified in listed:
            with contextlib.suppress(SourceUnavailable):  # skip a table that cannot be read
                columns |= {
                    column
                    for info in [self.table_info(query, *qualified)]
                    if info is not None
                    for column, _ in info.columns
                }
        return sorted(columns)

    def tables(self) -> list[str]:
        """The labels of all tables. Raises SourceUnavailable."""
        listed, self._listed = self._listed, None
        if listed is None:
            listed = self.run(self.list_tables)
        return [self.label(schema, name) for schema, name in listed]

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

    def find(self, parts: Sequence[str]) -> str | None:
        """The label of `table` or `schema.table`, or None.

        A bare name that is not in the default schema matches if exactly one other schema has it.
        """
        if not parts:
            return None
        if (qualified := self._qualify(parts)) is not None and (
            table := self.run(lambda query: self._bind(query, *qualified))
        ) is not None:
            label = self.label(*qualified)
            self._bound_tables[label] = table
            return label
        listed = self.run(self.list_tables)
        labels = [self.label(schema, name) for schema, name in listed]
        wanted = ".".join(parts)
        for equal in (lambda a, b: a == b, lambda a, b: fold(a) == fold(b)):
            for matches in (
                [label for label in labels if equal(label, wanted)],
                [
                    self.label(s, n)
                    for s, n in listed
                    if len(parts) == 2 and equal(s, parts[0]) and equal(n, parts[1])
                ],
                [self.label(s, n) for s, n in listed if len(parts) == 1 and equal(n, parts[0])],
            ):
                if len(matches) == 1:
                    return matches[0]
        return None

    def _qualify(self, parts: Sequence[str]) -> tuple[str, str] | None:
        """The schema and name that a reference means by the default schema; None if the source does
        not include that schema."""
        schema, name = (self.default_schema, parts[0]) if len(parts) == 1 else (parts[0], parts[-1])
        return (schema, name) if len(parts) <= 2 and self.shows(schema) else None

    def relation(self, table: str | None, owner: OwnerFilter | None = None) -> Relation:
        """The relation of a table: all rows, or at least those of an owner. Raises
        SourceUnavailable, TableNotFound, SecretMissing."""

        def work(query: Query) -> BoundTable | None:
            info = self._find_info(query, table)
            return None if info is None else (info, self._cached_select(query, info, owner))

        # `find` has just read the definition of the name that it returned.
        bound = self._bound_tables.pop(table or "", None)
        if bound is None or owner is not None:
            bound = self.run(work)
        if bound is None:
            raise TableNotFound(
                f"There is no table {table} in {self.record.name}.",
                near=near_names(table or "", self.tables()),
            )
        info, (body, columns, projected_body) = bound
        observable = (
            self.one_snapshot
            and info.has_snapshot
            and not info.volatile_because
            and self.record.anchor in ("auto", "content")
        )
        return Relation(
            Input(InputKind.SOURCE, self.record.name, table),
            ReadPlan(body=body, projected_body=projected_body),
            requirements=Requirements(attachment=self.attachment),
            consistency=Consistency(
                unordered=True,
                guard=self._guard(table, info),
                witness=self._witness(info, columns) if observable else None,
            ),
            columns=columns,
            explain=self.explain,
            numeric_text_columns=info.numeric_text_columns,
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

    def _witness(
        self, info: ServerTable, columns: Mapping[str, str]
    ) -> Callable[[Query, tuple[str, ...]], Observed | None]:
        """`Consistency.witness`: digests the columns read, in the transaction that read them."""

        def witness(query: Query, read: tuple[str, ...]) -> Observed | None:
            sets = self._columns_by_set(frozenset({read}), columns)
            rows, digests = self.digest_rows(query, info, list(sets.values()))
            by_set = dict(zip(sets, digests, strict=True))
            return self._snapshot(info, dict(columns), rows, by_set, Cost.SCAN)

        return witness

    def observe(self, table: str | None, ctx: ObservationContext) -> Observed:
        """A Snapshot; Vanished when the table does not exist; Unknown when its state cannot be
        determined within the limits of the observation."""
        if self.record.anchor == "none":
            return Unknown('the source was added with anchor="none"')
        if table is None:
            return Vanished()
        try:
            shared = ctx.shared or SharedRead(lambda: ())
            taken = shared.take(table, lambda tables: self._read_together(tables, ctx))
            [state] = taken or [self._read_states([table], ctx).get(table)]
            if state is None:
                return Vanished()
            if self.record.anchor.startswith("column:"):
                return self._observe_column(state.info, state.columns, ctx)
            return self._observe_content(state, ctx)
        except (SourceUnavailable, SecretMissing, ExtensionMissing) as error:
            return Unknown(error.message.rstrip("."))

    def _server_error(self, text: str, errors: ErrorTable, clause: str) -> SourceUnavailable:
        """The error for a message of the server: the first that matches, else the clause of the
        message itself that this pattern finds."""
        hint = ""
        for pattern, reason_template, table_hint in errors:
            if match := re.search(pattern, text):
                reason = reason_template.format(*match.groups())
                hint = table_hint or self._reject_credentials()
                break
        else:
            own_reason = re.search(clause, text)
            reason = own_reason[1] if own_reason else "its response could not be parsed"
        return SourceUnavailable(
            f"The server {self.location} cannot be read: {reason.strip().rstrip('.')}.", hint=hint
        )

    def explain(self, text: str) -> JammiError | None:
        """`Relation.explain`: the error for a message about the source or a value in it."""
        if value_match := _UNREADABLE_VALUE.search(text):
            return SourceUnavailable(
                value_match[0],
                hint="Correct the value, or create a view on the server that casts it.",
            )
        return self.error_for_message(text)

    def _reject_credentials(self) -> str:
        """The hint for a rejected credential, which is dropped so that its provider is called again
        next time."""
        if not isinstance(self._credentials, Credentials):
            return "Pass the correct password with secret=."
        self._credentials.reject()
        return self._credentials.remedy

    def run(
        self,
        work: Callable[[Query], Any],
        seconds: float | None = None,
        attachment: Attachment | None = None,
    ) -> Any:
        """The result of `work`, whose queries run in one transaction. Raises SourceUnavailable,
        SecretMissing, ExtensionMissing."""
        if self._source_access is None:
            raise SourceUnavailable(f"{self.record.name} can be read only in a workspace.")
        return self._source_access(
            self._requirement(attachment or self.attachment),
            work,
            seconds=QUERY_TIMEOUT_SECONDS if seconds is None else seconds,
        )

    def _requirement(self, attachment: Attachment) -> Relation:
        return Relation(
            Input(InputKind.SOURCE, self.record.name),
            ReadPlan(body="SELECT 1"),
            requirements=Requirements(attachment=attachment),
            explain=self.explain,
        )

    def _read_together(
        self, tables: Collection[str], ctx: ObservationContext
    ) -> Mapping[str, TableState]:
        """`_read_states` of several tables; nothing if it fails, since the reason may be one of
        them. Of a missing table, too: it is looked for once more, by itself."""
        if len(tables) < 2:
            return {}
        try:
            return {
                table: state
                for table, state in self._read_states(tables, ctx).items()
                if state is not None
            }
        except (SourceUnavailable, SecretMissing, ExtensionMissing):
            return {}

    def _read_states(
        self, tables: Collection[str], ctx: ObservationContext
    ) -> dict[str, TableState | None]:
        """The states of tables, read in one transaction; None for one that is missing. Those with a
        digest of another log position are compared by their row versions, in a second one."""

        def read(query: Query) -> dict[str, TableState | None]:
            states = dict[str, TableState | None].fromkeys(tables)
            infos = self._find_infos(query, tables)
            for table, info in infos.items():
                states[table] = TableState(info, self._cached_select(query, info)[1], None)
            if self.record.anchor == "auto" and any(info.is_logged for info in infos.values()):
                position = self.log_position(query)
                for table, info in infos.items():
                    if info.is_logged and (state := states[table]) is not None:
                        states[table] = state._replace(position=position)
            return states

        states: dict[str, TableState | None] = self.run(read, ctx.timeout_seconds)
        moved = {
            table: cached
            for table, state in states.items()
            if state is not None
            and check_scan_limits(state.info, ctx) is None
            and (entry := ctx.cache.get(self._cache_key(state.info))) is not None
            and (cached := cached_digests.at_earlier_position(entry, state.info, state.position))
        }
        if moved:
            with contextlib.suppress(SourceUnavailable):  # a digest will tell
                unchanged = self.run(
                    lambda query: self._unchanged_tables(query, moved, states), ctx.timeout_seconds
                )
                for table, info in unchanged.items():
                    if (state := states[table]) is not None:
                        states[table] = state._replace(unchanged=info)
        return states

    def _unchanged_tables(
        self,
        query: Query,
        cached: Mapping[str, Mapping[str, Any]],
        states: Mapping[str, TableState | None],
    ) -> dict[str, ServerTable]:
        """The tables that have, in this transaction, the definition and the rows of their cached
        digests."""
        candidates = {
            table: (info, RowVersions(*cached[table]["versions"]), int(cached[table]["rows"]))
            for table, info in self._find_infos(query, cached).items()
            if (state := states[table]) is not None and state.info.marker == info.marker
        }
        same = self.have_same_versions(query, list(candidates.values()))
        return {
            table: info
            for (table, (info, *_)), is_same in zip(candidates.items(), same, strict=True)
            if is_same
        }

    def _find_infos(self, query: Query, tables: Iterable[str]) -> dict[str, ServerTable]:
        """The metadata of tables by label. A single one raises SourceUnavailable for names that
        cannot be read; several leave such a table out."""
        labels = list(tables)
        if len(labels) == 1:
            info = self._find_info(query, labels[0])
            return {} if info is None else {labels[0]: info}
        infos = self.table_infos(
            query, {qualified for label in labels for qualified in self._qualified(label)}
        )
        return {
            label: match
            for label in labels
            if (match := next((infos[q] for q in self._qualified(label) if q in infos), None))
        }

    def _qualified(self, label: str) -> list[tuple[str, str]]:
        """The schemas and names that a label may mean, the likeliest first."""
        schema, _, name = label.rpartition(".")
        names = [(self.default_schema, label)] + (
            [(label.split(".", 1)[0], label.split(".", 1)[1]), (schema, name)] if schema else []
        )
        return list(dict.fromkeys(names))

    def _find_info(self, query: Query, table: str | None) -> ServerTable | None:
        return next(
            (
                match
                for qualified in (self._qualified(table) if table else ())
                if (match := self.table_info(query, *qualified)) is not None
            ),
            None,
        )

    def _bind(self, query: Query, schema: str, name: str) -> BoundTable | None:
        info = self.table_info(query, schema, name)
        return None if info is None else (info, self._cached_select(query, info))

    def _cached_select(
        self, query: Query, info: ServerTable, owner: OwnerFilter | None = None
    ) -> TableSelect:
        """`build_select`, cached per definition.

        DuckDB caches a table's columns on first use; after a change of type it would misread the
        bytes of a column, so a new marker needs a new SELECT.
        """
        key = (self.attachment.alias, info.schema, info.name, owner)
        cached: BoundTable | None = query.connector_state.get(repr(key))
        if cached is None or cached[0].marker != info.marker:
            query.connector_state.pop(repr(key), None)
            select, cacheable = self.build_select(query, info, owner)
            cached = info, select
            if cacheable:
                query.connector_state[repr(key)] = cached
        body, columns, projected_body = cached[1]
        return body, dict(columns), projected_body

    def duckdb_table(self, info: ServerTable) -> str:
        """The qualified name of the table in DuckDB."""
        parts = (self.attachment.alias, info.schema, info.name)
        return ".".join(map(quote_identifier, parts))

    def run_on_server(self, query: Query, sql: str) -> list[tuple[Any, ...]]:
        """The rows of a SELECT that the server itself runs. Raises duckdb.Error."""
        return query(f"SELECT * FROM {self.query_by_server(sql)}")

    def query_by_server(self, sql: str) -> str:
        """A SELECT that the server itself runs, for FROM."""
        return f"{self.type}_query({sql_literal(self.attachment.alias)}, {sql_literal(sql)})"

    def full_label(self, info: ServerTable) -> str:
        """Source and table, for messages."""
        return f"{self.record.name}.{self.label(info.schema, info.name)}"

    def _observe_column(
        self, info: ServerTable, columns: dict[str, str], ctx: ObservationContext
    ) -> Observed:
        name = self.record.anchor.removeprefix("column:")
        if name not in columns:
            return Unknown(f"there is no column {name!r} to anchor on")
        largest, rows = self.run(
            lambda query: self.largest_value(query, info, name), ctx.timeout_seconds
        )
        digest = digest_of([largest, rows])
        return Snapshot(
            columns=columns,
            whole=digest,
            method=self.record.anchor,
            cost=Cost.METADATA,
            row_count=rows,
            server_types=dict(info.columns),
        )

    def _cache_key(self, info: ServerTable) -> str:
        return observation_key(self.kind, self.location, f"{info.schema}\0{info.name}")

    def _observe_content(self, state: TableState, ctx: ObservationContext) -> Observed:
        info, columns, position, unchanged = state
        if info.volatile_because:
            return Unknown(info.volatile_because)
        sets = self._columns_by_set(ctx.read_sets, columns)
        key = self._cache_key(info)
        entry = ctx.cache.get(key)
        cached = cached_digests.at_position(entry, info, position)
        if cached is not None and cached["sound"] and sets.keys() <= cached["sets"].keys():
            return self._snapshot(
                info, columns, cached["rows"], cached["sets"], Cost.METADATA, info.stamp
            )
        if (refused := check_scan_limits(info, ctx)) is not None:
            return refused

        def work(query: Query) -> tuple[ServerTable | None, tuple[int, list[str]]]:
            return self.table_info(query, info.schema, info.name), self.digest_rows(
                query, info, list(sets.values())
            )

        if entry is not None and unchanged and sets.keys() <= entry.payload["sets"].keys():
            current: ServerTable | None = unchanged
            rows, digest_by_set = entry.payload["rows"], entry.payload["sets"]
        else:
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
            payload = cached_digests.payload(current, position, rows, digest_by_set, since, sound)
            ctx.cache.put(key, CacheEntry(NO_STAT, ctx.now_ns, payload))
        return self._snapshot(info, columns, rows, digest_by_set, Cost.SCAN, current.stamp)

    @staticmethod
    def _columns_by_set(
        wanted: frozenset[tuple[str, ...] | None], columns: Mapping[str, str]
    ) -> dict[str, list[str]]:
        """The columns to digest, by `set_key`. Columns that no longer exist are left out; their
        missing types are part of the state."""
        return {
            set_key(columns_): sorted(
                c for c in (columns if columns_ is None else columns_) if c in columns
            )
            for columns_ in wanted
        }

    @staticmethod
    def _snapshot(
        info: ServerTable,
        columns: dict[str, str],
        rows: int,
        sets: DigestsBySet,
        cost: Cost,
        stamp: str = "",
    ) -> Snapshot:
        digest = digest_of(dict(sets))
        return Snapshot(
            columns=columns,
            whole=digest,
            method=METHOD,
            cost=cost,
            by_set=dict(sets),
            row_count=rows,
            stamp=stamp,
            server_types=dict(info.columns),
        )

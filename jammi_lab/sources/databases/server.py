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
from collections.abc import Callable, Collection, Sequence

import duckdb

from jammi_lab.core.anchors import (
    ROUNDED,
    Cost,
    Observed,
    Snapshot,
    Unknown,
    set_key,
    source_input,
)
from jammi_lab.core.canonical_json import digest_of
from jammi_lab.core.errors import (
    InvalidArgument,
    SourceUnavailable,
    TableNotFound,
)
from jammi_lab.core.identifiers import fold, near_names
from jammi_lab.sources.base import (
    Consistency,
    ObservationContext,
    Query,
    ReadPlan,
    Relation,
    Requirements,
)
from jammi_lab.sources.databases.server_tables import ServerTables
from jammi_lab.sources.databases.table_info import (
    DigestsBySet,
    ServerTable,
    TableState,
    digest_timeout,
)
from jammi_lab.sources.located_connector import SourceGone, find_table
from jammi_lab.sources.row_filters import OwnerFilter
from jammi_lab.storage.digests import NO_STAT, CacheEntry, observation_key

METHOD = "digest of the rows, by the server"


class ServerConnector(ServerTables):
    """A registered database server."""

    one_snapshot = False
    """Whether all queries of a transaction see one snapshot of the server, including those that
    read a statement's rows."""

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
        return find_table(((s, n, self.label(s, n)) for s, n in listed), parts)

    def relation(self, table: str | None, owner: OwnerFilter | None = None) -> Relation:
        """The relation of a table: all rows, or at least those of an owner. Raises
        SourceUnavailable, TableNotFound, SecretMissing."""

        def work(query: Query) -> ServerTable | None:
            info = self._find_info(query, table)
            return None if info is None else self._with_types(query, info)

        # `find` has just read the definition of the name that it returned.
        info = self._bound_tables.pop(table or "", None)
        if info is None:
            info = self.run(work)
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

"""Row-level security of sources with `tenant_column`: a tenant sees its own rows and those without
a tenant; without a bound tenant, only the latter are visible.

The catalog uses the same rule. The filter is part of the relation, and an anchor covers only the
filtered rows, so changes to another tenant's rows do not affect it. Tenant names are compared
without regard to the case of A–Z.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from jammi_lab.core.anchors import Cost, Observed, Snapshot, Unknown, frame_input
from jammi_lab.core.canonical_json import digest_of
from jammi_lab.core.errors import InvalidArgument, JammiError, SourceUnavailable
from jammi_lab.core.identifiers import near_or_all, quote_identifier, sql_literal
from jammi_lab.sources import read_errors, scratch_duckdb
from jammi_lab.sources.base import (
    Connector,
    Explain,
    ObservationContext,
    ReadPlan,
    Relation,
)
from jammi_lab.sources.databases import server
from jammi_lab.sources.scan_conditions import ALL_ROWS
from jammi_lab.storage.arrow_digests import RunningDigests
from jammi_lab.storage.digests import NO_STAT, CacheEntry, observation_key

METHOD = "digest of the tenant's rows"
_UPPER, _LOWER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz"
_STABLE_ORDER_KINDS = ("parquet", "csv", "tsv", "json", "ndjson", "arrow", "xlsx", "frame")
"""Kinds with a stable row order; the rows of other kinds are sorted before they are digested."""
_VALUE_IN_MESSAGE = re.compile(
    r" (?:holds|contains) ['\"].*|(?<!columns): ['\"].*|"
    r": .*(?:ould not convert|ould not parse|ailed to cast).*",
    re.S,
)
"""The part of our own messages that contains a value of a row."""
_ABOUT_A_VALUE = re.compile(
    r"^(?:\w+ Error: )?(?:JSON transform error|read_xlsx|CSV Error|Error when converting "
    r"column|Mismatch Type)|Original Line:|^Invalid type in column"
)
_VALUE_HINT = "Correct the value, or add the source again with its columns read as text."


def predicate(column: str, tenant: str | None) -> str:
    """The SQL condition for visible rows. Raises NameInvalid for an invalid column name."""
    own_rows = (
        ""
        if tenant is None
        else f" OR translate({quote_identifier(column)}::VARCHAR, '{_UPPER}', '{_LOWER}') = "
        f"{sql_literal(tenant)}"
    )
    return f"({quote_identifier(column)} IS NULL{own_rows})"


def filtered_select(body: str, condition: str) -> str:
    """A SELECT of the visible rows of a body; no expression of a statement reaches the others.

    Without `OFFSET 0` DuckDB would merge the condition with those of the statement and
    evaluate the cheapest first, so that a failing conversion could reveal a value of another
    tenant. DuckDB pushes conditions below a materialised CTE, too, but never below an offset.
    Column pruning still works.
    """
    return f"SELECT * FROM ({body}) WHERE {condition} OFFSET 0"


class TenantFilteredConnector:
    """A connector restricted to the rows of one tenant. `tenant` is in stored (lower-case) form;
    None stands for the shared scope."""

    def __init__(self, inner: Connector, column: str, tenant: str | None, identity: str) -> None:
        self.inner, self.column, self.tenant = inner, column, tenant
        self._identity = identity

    @property
    def kind(self) -> str:
        """The kind of the inner connector."""
        return self.inner.kind

    @property
    def location(self) -> str:
        """The location for display."""
        return self.inner.location

    @property
    def is_database(self) -> bool:
        """As the inner connector."""
        return self.inner.is_database

    def tables(self) -> list[str]:
        """The tables in the source."""
        return self.inner.tables()

    def find(self, parts: Sequence[str]) -> str | None:
        """As the inner connector."""
        return self.inner.find(parts)

    def check(self) -> None:
        """Check that the source can be read and at least one of its tables has the column. Raises
        SourceUnavailable, InvalidArgument."""
        self.inner.check()
        tables: list[str | None] = [*self.inner.tables()]
        columns: dict[str, str] = {}
        for table in tables or [None]:
            relation = self.inner.relation(table)
            columns |= relation.columns or scratch_duckdb.describe(relation)
            if self.column in columns:
                return
        raise InvalidArgument(
            f"There is no tenant column {self.column!r}.",
            **near_or_all(self.column, columns),
        )

    def relation(self, table: str | None) -> Relation:
        """The relation of the visible rows. Raises as the inner connector does, and
        SourceUnavailable for a table without the column."""
        try:
            inner = (
                self.inner.relation(table, server.OwnerFilter(self.column, self.tenant))
                if isinstance(self.inner, server.ServerConnector)
                else self.inner.relation(table)
            )
        except SourceUnavailable as error:
            raise _without_values(error) from None
        if inner.columns is not None and self.column not in inner.columns:
            raise SourceUnavailable(
                f"{inner.input.label} has no tenant column {self.column!r}.",
                hint="Add the source again with another tenant_column.",
            )
        if inner.read.body is not None:
            condition = predicate(self.column, self.tenant)
            projected_body = inner.read.projected_body
            return replace(
                inner,
                read=ReadPlan(
                    body=filtered_select(inner.read.body, condition),
                    projected_body=None
                    if projected_body is None
                    else lambda read, _: filtered_select(
                        projected_body(read | {self.column}, lambda: ALL_ROWS), condition
                    ),
                ),
                consistency=replace(
                    inner.consistency, unordered=self.kind not in _STABLE_ORDER_KINDS, witness=None
                ),
                explain=_redacted(inner.explain),
                redact_first=True,
            )
        return (
            inner
            if inner.read.frame is None
            else replace(inner, read=ReadPlan(frame=self._filtered(inner.read.frame)))
        )

    def observe(self, table: str | None, ctx: ObservationContext) -> Observed:
        """The state of the visible rows; Unknown when reading them would exceed the limits of the
        observation."""
        snapshot = self.inner.observe(table, replace(ctx, read_sets=frozenset({None})))
        if isinstance(snapshot, Unknown) and (why := _cut_values(snapshot.why)):
            return Unknown(why.rstrip("."))
        if not isinstance(snapshot, Snapshot):
            return snapshot
        if snapshot.fault:
            return Unknown((_cut_values(snapshot.fault) or snapshot.fault).rstrip("."))
        if self.column not in snapshot.columns:
            return Unknown(f"there is no tenant column {self.column!r}")
        key = observation_key(
            "tenant", self._identity, digest_of([table, self.column, self.tenant])
        )
        state_digest = digest_of(
            [snapshot.kind, snapshot.method, snapshot.whole, list(snapshot.columns.items())]
        )
        entry = ctx.cache.get(key)
        if entry is not None and entry.payload.get("of") == state_digest:
            return self._snapshot(snapshot, entry.payload, snapshot.cost)
        if (
            ctx.scan_rows is not None
            and snapshot.cost is not Cost.SCAN
            and (snapshot.row_count is None or snapshot.row_count > ctx.scan_rows)
        ):
            return Unknown("would scan the rows of the tenant; run `ws.status(deep=True)`")
        relation = None
        try:
            relation = self.relation(table)
            digests, rows = self._digests(relation)
        except read_errors.SOURCE_ERRORS as error:
            explained = (
                relation.explain(str(error))
                if relation is not None and relation.explain is not None
                else None
            )
            return Unknown(read_errors.reason_of(explained or error))
        payload = {"of": state_digest, "by_column": digests, "rows": rows}
        ctx.cache.put(key, CacheEntry(NO_STAT, ctx.now_ns, payload))
        return self._snapshot(snapshot, payload, Cost.SCAN)

    @staticmethod
    def _snapshot(snapshot: Snapshot, payload: Mapping[str, Any], cost: Cost) -> Snapshot:
        by_column, rows = dict(payload["by_column"]), int(payload["rows"])
        return Snapshot(
            columns=snapshot.columns,
            whole=digest_of([list(by_column.items()), rows]),
            # An anchor on a column trusts that column; the method has to show it.
            method=snapshot.method if snapshot.method.startswith("column:") else METHOD,
            cost=cost,
            by_column=by_column,
            row_count=rows,
            stamp=snapshot.stamp,
            server_types=snapshot.server_types,
        )

    def _digests(self, relation: Relation) -> tuple[dict[str, str], int]:
        """Column digests over the rows in a defined order, and the row count."""
        with scratch_duckdb.connect(relation) as connection:
            text = "FROM it" if self.kind in _STABLE_ORDER_KINDS else "FROM it ORDER BY ALL"
            reader = connection.execute(text).to_arrow_reader()
            running = RunningDigests(reader.schema)
            for batch in reader:
                running.update(batch)
            return running.digests(), running.rows

    def _filtered(self, frame: pa.Table) -> pa.Table:
        with scratch_duckdb.connect(Relation(frame_input(""), ReadPlan(frame=frame))) as connection:
            return frame.filter(
                connection.execute(f"SELECT {predicate(self.column, self.tenant)} FROM it")
                .to_arrow_table()
                .column(0)
            )


def _without_values(error: JammiError) -> JammiError:
    """The error, without the value or line of a file that it shows."""
    message = _cut_values(error.message)
    return error if message is None else SourceUnavailable(message, hint=_VALUE_HINT)


def _cut_values(message: str) -> str | None:
    """A message up to the value or line that it shows; None if it shows none."""
    match = _VALUE_IN_MESSAGE.search(message)
    if match is None:
        return None
    return f"{message[: match.start()]} contains a value that does not have its type."


def _redacted(explain: Explain | None) -> Explain:
    """Wrap `explain` so that its messages contain no values, which may be another tenant's."""

    def explain_without_values(text: str) -> JammiError | None:
        error = explain(text) if explain is not None else None
        if error is None and not _ABOUT_A_VALUE.search(text):
            return None
        if error is None:
            return SourceUnavailable(
                "The source cannot be read: a value does not have its column's type.",
                hint=_VALUE_HINT,
            )
        return _without_values(error)

    return explain_without_values

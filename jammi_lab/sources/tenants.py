"""Sources whose rows say in a column whose they are: each tenant sees its own rows and those without a tenant; unbound, only the latter are seen.

This is the catalog's rule for everything that has a tenant. The filter is part of what SQL reads, and an anchor covers just the rows that come
through it: what another tenant's rows do moves nothing. A tenant's name is compared as tenants are, without regard to the case of A–Z.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import duckdb
import pyarrow as pa

from jammi_lab.canonical import digest_of
from jammi_lab.errors import InvalidArgument, JammiError, SourceUnavailable
from jammi_lab.names import literal, near, quote
from jammi_lab.sources import failures, scratch, servers
from jammi_lab.sources.base import Connector, Explain, Finder, Looking, Relation
from jammi_lab.sources.owners import Owner
from jammi_lab.storage.arrow import RunningDigests
from jammi_lab.storage.digests import MemoEntry
from jammi_lab.storage.files import Stat
from jammi_lab.values.anchors import Cost, Input, InputKind, Observed, Snapshot, Unknown

METHOD = "digest of the tenant's rows"
_UPPER, _LOWER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz"
_ORDERED = ("parquet", "csv", "tsv", "json", "ndjson", "arrow", "xlsx", "frame")
"""Kinds whose rows always come in one order; those of others are sorted before they are digested."""
_NO_STAT = Stat(0, 0, 0, 0)
_VALUE = re.compile(r" holds ['\"].*|: '.*' is no .*|: .*(?:ould not convert|ould not parse|ailed to cast).*", re.S)
_AT_A_VALUE = re.compile(
    r"^(?:\w+ Error: )?(?:JSON transform error|read_xlsx|CSV Error|Error when converting column|Mismatch Type)|Original Line:|^Invalid type in column"
)
_MEND = "Mend the value, or add the source again with its columns read as text."
_OUTSIDE = (JammiError, OSError, duckdb.Error, pa.ArrowException)


def predicate(column: str, tenant: str | None) -> str:
    """The SQL condition that a row is seen. NameInvalid for a column that nothing can be called."""
    own = "" if tenant is None else f" OR translate({quote(column)}::VARCHAR, '{_UPPER}', '{_LOWER}') = {literal(tenant)}"
    return f"({quote(column)} IS NULL{own})"


def barred(body: str, seen: str) -> str:
    """The rows of a body that meet a condition; nothing that a statement asks reaches the others.

    Without `OFFSET 0` DuckDB mixes the condition with those of the statement, and looks at the cheaper ones first: a conversion that fails tells a
    value of another tenant. It pushes conditions past a materialised CTE, too, and never past an offset; columns that are not read stay unread."""
    return f"SELECT * FROM ({body}) WHERE {seen} OFFSET 0"


class TenantView:
    """A connector as one tenant sees it. `tenant` is the stored (lower-case) form, None for the shared scope."""

    def __init__(self, inner: Connector, column: str, tenant: str | None, identity: str) -> None:
        self.inner, self.column, self.tenant = inner, column, tenant
        self._identity = identity

    @property
    def kind(self) -> str:
        """That of what is seen through it."""
        return self.inner.kind

    @property
    def location(self) -> str:
        """Where it is, for people."""
        return self.inner.location

    def tables(self) -> list[str]:
        """The tables inside it."""
        return self.inner.tables()

    def __getattr__(self, name: str) -> Any:
        """How a table inside is found by its parts, where the connector does that (`Finder`); nothing else of it shows through."""
        if name == "find":
            return getattr(self.inner, name)
        raise AttributeError(name)

    def check(self) -> None:
        """Nothing, when it can be read and has the column, in one of its tables at least. SourceUnavailable; InvalidArgument."""
        self.inner.check()
        tables: list[str | None] = [*self.inner.tables()]
        columns: dict[str, str] = {}
        for table in tables or [None]:
            columns |= _columns(self.inner.relation(table))
            if self.column in columns:
                return
        raise InvalidArgument(
            f"There is no column {self.column!r} to tell tenants apart.", near=near(self.column, columns), hint=f"Columns are {', '.join(columns)}."
        )

    def relation(self, table: str | None) -> Relation:
        """What SQL reads: the rows that the tenant sees. As the connector's own; SourceUnavailable for a table without the column."""
        inner = (
            self.inner.relation(table, Owner(self.column, self.tenant)) if isinstance(self.inner, servers.Connector) else self.inner.relation(table)
        )
        if inner.columns is not None and self.column not in inner.columns:
            raise SourceUnavailable(
                f"{inner.input.label} has no column {self.column!r}, which tells whose a row is.", hint="Add the source again with its column."
            )
        if inner.body is not None:
            seen = predicate(self.column, self.tenant)
            narrow = inner.narrow
            return replace(
                inner,
                body=barred(inner.body, seen),
                unordered=self.kind not in _ORDERED,
                narrow=None if narrow is None else lambda read: barred(narrow(read | {self.column}), seen),
                witness=None,
                explain=_discreet(inner.explain),
                discreet=True,
            )
        return inner if inner.frame is None else replace(inner, frame=self._filtered(inner.frame))

    def observe(self, table: str | None, looking: Looking) -> Observed:
        """The state of the rows that the tenant sees; Unknown when that takes reading more than the look may."""
        seen = self.inner.observe(table, replace(looking, read_sets=frozenset({None})))
        if not isinstance(seen, Snapshot):
            return seen
        if seen.fault:
            return Unknown(seen.fault)
        if self.column not in seen.columns:
            return Unknown(f"there is no column {self.column!r} to tell tenants apart")
        key = f"tenant:{self._identity}:{digest_of([table, self.column, self.tenant])}"
        of = digest_of([seen.kind, seen.method, seen.whole, list(seen.columns.items())])
        entry = looking.memo.get(key)
        if entry is not None and entry.payload.get("of") == of:
            return self._snapshot(seen, entry.payload, seen.cost)
        if looking.scan_rows is not None and seen.cost is not Cost.SCAN and (seen.row_count is None or seen.row_count > looking.scan_rows):
            return Unknown("would scan the rows of the tenant; `ws.status(deep=True)`")
        relation = None
        try:
            relation = self.relation(table)
            digests, rows = self._digests(relation)
        except _OUTSIDE as error:
            told = relation.explain(str(error)) if relation is not None and relation.explain is not None else None
            return Unknown(failures.why(told or error))
        payload = {"of": of, "by_column": digests, "rows": rows}
        looking.memo.put(key, MemoEntry(_NO_STAT, looking.now_ns, payload))
        return self._snapshot(seen, payload, Cost.SCAN)

    @staticmethod
    def _snapshot(seen: Snapshot, payload: Mapping[str, Any], cost: Cost) -> Snapshot:
        by_column, rows = dict(payload["by_column"]), int(payload["rows"])
        return Snapshot(
            columns=seen.columns,
            whole=digest_of([list(by_column.items()), rows]),
            method=seen.method if seen.method.startswith("column:") else METHOD,  # on whose word it rests is said
            cost=cost,
            by_column=by_column,
            row_count=rows,
            stamp=seen.stamp,
        )

    def _digests(self, relation: Relation) -> tuple[dict[str, str], int]:
        """A digest for each column over the rows in one order, and their number."""
        with scratch.scratch(relation) as connection:
            text = "FROM it" if self.kind in _ORDERED else "FROM it ORDER BY ALL"
            reader = connection.execute(text).to_arrow_reader()
            running = RunningDigests(reader.schema)
            for batch in reader:
                running.take(batch)
            return running.digests(), running.rows

    def _filtered(self, frame: pa.Table) -> pa.Table:
        with scratch.scratch(Relation(Input(InputKind.FRAME, ""), frame=frame)) as connection:
            return frame.filter(connection.execute(f"SELECT {predicate(self.column, self.tenant)} FROM it").to_arrow_table().column(0))


def _discreet(explain: Explain | None) -> Explain:
    """What is said of a source that cannot be read, without the values in it: they may be another tenant's."""

    def said(text: str) -> JammiError | None:
        error = explain(text) if explain is not None else None
        if error is None and not _AT_A_VALUE.search(text):
            return None
        if error is None:
            return SourceUnavailable("The source cannot be read: a value in it is not of its column's type.", hint=_MEND)
        told = _VALUE.search(error.message)
        return error if told is None else SourceUnavailable(f"{error.message[: told.start()]} holds a value that is not of its type.", hint=_MEND)

    return said


def _columns(relation: Relation) -> Mapping[str, str]:
    return relation.columns if relation.columns is not None else scratch.describe(relation)


class TenantFinder(TenantView):
    """The same of a source whose tables lie in schemas."""

    def find(self, parts: Sequence[str]) -> str | None:
        """The table that `table` or `schema.table` means, as `tables` spells it; None when none or several may be meant."""
        return self.inner.find(parts) if isinstance(self.inner, Finder) else None


def seen_by(connector: Connector, column: str, tenant: str | None, identity: str) -> TenantView:
    """A connector as one tenant sees it."""
    return (TenantFinder if isinstance(connector, Finder) else TenantView)(connector, column, tenant, identity)

"""Databases on a server as sources: what PostgreSQL and MySQL have in common.

A server is attached read-only to the instance of the tenant, under a name that no statement can say, and stays attached. What is asked beside the
statements of people goes through `Reach`: one transaction, one snapshot, a time limit. The state of a table is a digest over its rows that the server
computes: over the tuple of the columns that are read, in whatever order the rows come.

A look asks twice at most. First what the table is, how large about, and the server's log position; when that is where it was at an earlier digest,
and the log tells of every change to such a table, the digest is known. Else, if the look may read so much, the digest is computed.
"""

from __future__ import annotations

import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import duckdb

from jammi_lab.canonical import digest_of
from jammi_lab.errors import ExtensionMissing, InvalidArgument, JammiError, SecretMissing, SourceUnavailable, TableNotFound
from jammi_lab.names import fold, literal, near, quote
from jammi_lab.sources import addresses, base
from jammi_lab.sources.base import Asking, Attachment, Begun, Looking, Reach, Relation, key_of
from jammi_lab.sources.inside import Bodies, Gate, Inside, Known, Sets, Told, patience, too_dear
from jammi_lab.sources.owners import Owner
from jammi_lab.sources.secrets import Given
from jammi_lab.storage.digests import MemoEntry
from jammi_lab.storage.files import Stat
from jammi_lab.values.anchors import Cost, Input, InputKind, Observed, Snapshot, Unknown, Vanished, set_key
from jammi_lab.values.records import SourceRecord

METHOD = "digest of the rows, by the server"
_NO_STAT = Stat(0, 0, 0, 0)
_SECONDS = 30.0
"""How long a question that is no look may take."""
_SUPPOSED_SECONDS = 10.0
"""For how long a definition that was seen is supposed to hold, and its server to be there."""


class Connector(ABC):
    """A registered database on a server."""

    extension = ""
    type = ""
    settings: Mapping[str, str | bool] = {}
    one_snapshot = False
    """Whether all that is asked in one transaction sees one state of the server, the rows of a statement included."""

    def __init__(self, record: SourceRecord, given: base.Given, reach: Reach | None) -> None:
        self.record, self._given = record, given
        self.address, _ = addresses.read(record.location)
        self._reach = reach
        self._found: dict[str, tuple[Told, bool]] = {}
        self._supposed: dict[tuple[str, str], Told] = {}
        self._ahead: Begun[dict[tuple[str, str], Told | JammiError | None]] | None = None
        self._foreseen: dict[tuple[str, str], Told | JammiError | None] = {}

    @property
    def kind(self) -> str:
        """Which server: postgresql or mysql."""
        return self.record.kind

    @property
    def location(self) -> str:
        """The address, without a password."""
        return self.record.location

    # -- what each server does in its own way ---------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def path(self) -> str:
        """What is attached; no credentials."""

    @abstractmethod
    def listing(self, asking: Asking) -> list[tuple[str, str]]:
        """Schema and name of every table and view that the source shows, the default schema first. duckdb.Error."""

    @abstractmethod
    def inside(self, asking: Asking, schema: str, name: str) -> Inside | None:
        """One of them; None when it is not there. duckdb.Error."""

    @abstractmethod
    def gate(self, asking: Asking) -> Gate | None:
        """The log position; None when it cannot be had. duckdb.Error."""

    @abstractmethod
    def bodies(self, asking: Asking, inside: Inside, owner: Owner | None) -> tuple[Bodies, bool]:
        """What SQL reads of a definition that is new here, resting on nothing that DuckDB learnt of an earlier one: all rows, or those of an owner
        and perhaps a few more. And whether it can be kept. duckdb.Error."""

    @abstractmethod
    def digests(self, asking: Asking, inside: Inside, sets: Sequence[Sequence[str]]) -> tuple[int, list[str]]:
        """The number of rows, and a digest for each set of columns. duckdb.Error."""

    @abstractmethod
    def largest(self, asking: Asking, inside: Inside, column: str) -> tuple[str | None, int]:
        """The largest value of a column as text, and the number of rows. duckdb.Error."""

    @abstractmethod
    def said(self, text: str) -> JammiError | None:
        """What the server's or the extension's words mean; None when they are not about the source."""

    # -- the connector --------------------------------------------------------------------------------------------------------------------

    @property
    def attachment(self) -> Attachment:
        """The server, as it is attached. SecretMissing."""
        typed, secret = self._given()
        return Attachment(
            key_of(self.record.tenant, fold(self.record.name)),
            self.type,
            extension=self.extension,
            path=self.path,
            secret=addresses.parameters(self.address, secret if secret is not None else typed.get("password")),
            settings=self.settings,
            server=self._server(),
        )

    def _server(self) -> tuple[str, int] | None:
        return None

    def check(self) -> None:
        """Nothing, when the server lets us in. SourceUnavailable, SecretMissing, ExtensionMissing; InvalidArgument for a schema that is not there, or
        for an anchor on a column that no table has."""
        schemas = self.record.options.get("schemas")
        there, columns = self.ask(lambda asking: (self.listing(asking), self._anchored(asking)))
        if columns is not None and (name := self.record.anchor.removeprefix("column:")) not in columns:
            raise InvalidArgument(f"There is no column {name!r} to anchor on.", near=near(name, columns), hint="No table of the source has it.")
        if schemas and (missing := [s for s in schemas if not any(fold(schema) == fold(s) for schema, _ in there)]):
            raise InvalidArgument(f"There is no table in a schema {missing[0]!r} on {self.location}.", hint="Look at options={'schemas': [...]}.")

    def _anchored(self, asking: Asking) -> list[str] | None:
        """All columns of all tables, where an anchor rests on one; else None."""
        if not self.record.anchor.startswith("column:"):
            return None
        found = set[str]()
        for at in self.listing(asking):
            with contextlib.suppress(SourceUnavailable):  # one table that cannot be read here
                found |= {column for inside in [self.inside(asking, *at)] if inside is not None for column, _ in inside.columns}
        return sorted(found)

    def tables(self) -> list[str]:
        """`schema.table` for each, the default schema left out. SourceUnavailable."""
        return [self.label(schema, name) for schema, name in self.ask(self.listing)]

    def label(self, schema: str, name: str) -> str:
        """How a table is called inside the source."""
        return name if schema == self.default else f"{schema}.{name}"

    @property
    def default(self) -> str:
        """The schema whose tables are called by their name alone."""
        listed = self.record.options.get("schemas")
        return str(listed[0]) if listed and len(listed) == 1 else self.usual

    @abstractmethod
    def shows(self, schema: str) -> bool:
        """Whether the source shows the tables of a schema."""

    @property
    @abstractmethod
    def usual(self) -> str:
        """The default schema where no option says it."""

    def find(self, parts: Sequence[str]) -> str | None:
        """The table that `table` or `schema.table` means: its label, or None. A bare name that lies in one other schema alone is that one."""
        if not parts:
            return None
        if (at := self._at(parts)) is not None and (told := self._supposed.get(at) or self._told(at)) is not None:
            label = self.label(*at)
            self._found[label] = told, at in self._supposed
            return label
        there = self.ask(self.listing)
        labels = [self.label(schema, name) for schema, name in there]
        wanted = ".".join(parts)
        for same in (lambda a, b: a == b, lambda a, b: fold(a) == fold(b)):
            for found in (
                [label for label in labels if same(label, wanted)],
                [self.label(s, n) for s, n in there if len(parts) == 2 and same(s, parts[0]) and same(n, parts[1])],
                [self.label(s, n) for s, n in there if len(parts) == 1 and same(n, parts[0])],
            ):
                if len(found) == 1:
                    return found[0]
        return None

    def _at(self, parts: Sequence[str]) -> tuple[str, str] | None:
        """The schema and name that a name means first."""
        schema, name = (self.default, parts[0]) if len(parts) == 1 else (parts[0], parts[-1])
        return (schema, name) if len(parts) <= 2 and self.shows(schema) else None

    def _told(self, at: tuple[str, str]) -> Told | None:
        if self._ahead is not None:
            ahead, self._ahead = self._ahead, None
            self._foreseen = ahead.result()
        if at not in self._foreseen:
            found: Told | None = self.ask(lambda asking: self._bound(asking, *at))
            return found
        told = self._foreseen[at]
        if isinstance(told, JammiError):
            raise told
        return told

    def foresee(self, names: Sequence[Sequence[str]], supposing: bool = False) -> None:
        """Begin to look for tables, all in one transaction; `find` waits for the answer. With `supposing` those that were seen a moment ago are not
        looked for: whoever reads them learns from the guard whether they are still so. SecretMissing."""
        wanted = list(dict.fromkeys(at for parts in names if parts and (at := self._at(parts)) is not None))
        if self._reach is None:
            return
        if supposing:
            memory, since = self._reach.memory, time.monotonic() - _SUPPOSED_SECONDS
            seen: dict[tuple[str, str], Known | None] = {at: memory.get(self._memory_key(at)) for at in wanted}
            self._supposed = {at: (known.inside, known.bodies) for at, known in seen.items() if known is not None and known.at > since}
            wanted = [at for at in wanted if at not in self._supposed]
        if wanted:
            self._ahead = self._reach.begin(self._needs(), lambda asking: {at: self._tried(asking, at) for at in wanted}, seconds=_SECONDS)

    def _tried(self, asking: Asking, at: tuple[str, str]) -> Told | JammiError | None:
        """What `find` raises is for the name that it is about."""
        try:
            return self._bound(asking, *at)
        except JammiError as error:
            return error

    def forgo(self) -> None:
        """Whatever of it `find` did not ask for is not wanted."""
        if self._ahead is not None:
            self._ahead.drop()

    def relation(self, table: str | None, owner: Owner | None = None) -> Relation:
        """What SQL reads: all rows, or those of an owner and perhaps a few more. SourceUnavailable, TableNotFound, SecretMissing."""

        def work(asking: Asking) -> Told | None:
            inside = self._inside(asking, table)
            return None if inside is None else (inside, self._bodies(asking, inside, owner))

        found, supposed = self._found.pop(table or "", (None, False))  # a name that was found just now was looked at then
        if found is None or owner is not None:
            found, supposed = self.ask(work), False
        if found is None:
            raise TableNotFound(f"There is no table {table} in {self.record.name}.", near=near(table or "", self.tables()))
        inside, (body, columns, narrow) = found

        def guard(asking: Asking) -> None:
            now = self._inside(asking, table)
            if now is None or now.marker != inside.marker:
                raise SourceUnavailable(f"The definition of {self.record.name}.{table} changed while it was read.", hint="Run it again.")
            known: Known | None = asking.memory.get(self._memory_key((inside.schema, inside.name), owner))
            if known is not None and known.inside.marker == now.marker:
                known.at = time.monotonic()

        def witness(asking: Asking, read: tuple[str, ...]) -> Observed | None:
            sets = self._sets(frozenset({read}), columns)
            rows, digests = self.digests(asking, inside, list(sets.values()))
            return self._snapshot(columns, rows, dict(zip(sets, digests, strict=True)), Cost.SCAN)

        return Relation(
            Input(InputKind.SOURCE, self.record.name, table),
            body=body,
            columns=columns,
            attachment=self.attachment,
            explain=self.said,
            unordered=True,
            narrow=narrow,
            worded=inside.worded,
            guard=guard,
            definition=inside.marker,
            supposed=supposed,
            apart=not self.one_snapshot,
            witness=witness if self.one_snapshot and inside.held and not inside.fickle and self.record.anchor in ("auto", "content") else None,
        )

    def observe(self, table: str | None, looking: Looking) -> Observed:
        """A Snapshot; Vanished when the table is not there; Unknown when the server cannot tell, or it would cost more than the look allows."""
        if self.record.anchor == "none":
            return Unknown('its owner chose anchor="none"')
        try:
            seen = self.ask(lambda asking: self._see(asking, table), looking.timeout_seconds)
            if seen is None:
                return Vanished()
            inside, columns, gate = seen
            if self.record.anchor.startswith("column:"):
                return self._by_column(inside, columns, looking)
            return self._by_content(inside, columns, gate, looking)
        except (SourceUnavailable, SecretMissing, ExtensionMissing) as error:
            return Unknown(error.message.rstrip("."))

    def _refused(self) -> str:
        """What to do when the server did not take the credential; where a function gives it, that is asked again next time."""
        if not isinstance(self._given, Given):
            return "Give the right password by secret=."
        self._given.refused()
        return self._given.remedy

    def ask(self, work: Callable[[Asking], Any], seconds: float | None = None) -> Any:
        """What `work` asks in one transaction. SourceUnavailable, SecretMissing, ExtensionMissing."""
        if self._reach is None:
            raise SourceUnavailable(f"{self.record.name} can only be read in a workspace.")
        return self._reach(self._needs(), work, seconds=_SECONDS if seconds is None else seconds)

    def _needs(self) -> Relation:
        return Relation(Input(InputKind.SOURCE, self.record.name), body="SELECT 1", attachment=self.attachment, explain=self.said)

    def _see(self, asking: Asking, table: str | None) -> tuple[Inside, dict[str, str], Gate | None] | None:
        inside = self._inside(asking, table)
        if inside is None:
            return None
        gated = inside.logged and self.record.anchor == "auto"
        return inside, self._bodies(asking, inside)[1], self.gate(asking) if gated else None

    def _inside(self, asking: Asking, table: str | None) -> Inside | None:
        if not table:
            return None
        schema, _, name = table.rpartition(".")
        options = [(self.default, table)] + ([(table.split(".", 1)[0], table.split(".", 1)[1]), (schema, name)] if schema else [])
        return next((found for at in dict.fromkeys(options) if (found := self.inside(asking, *at)) is not None), None)

    def _bound(self, asking: Asking, schema: str, name: str) -> Told | None:
        inside = self.inside(asking, schema, name)
        return None if inside is None else (inside, self._bodies(asking, inside))

    def _bodies(self, asking: Asking, inside: Inside, owner: Owner | None = None) -> Bodies:
        """`bodies`, remembered for one definition. DuckDB keeps a table's columns as they were when it first read it, and would take the bytes of a
        column that has another type now for the former one."""
        at = self._memory_key((inside.schema, inside.name), owner)
        known: Known | None = asking.memory.get(at)
        if known is None or known.inside.marker != inside.marker:
            asking.memory.pop(at, None)
            bodies, lasting = self.bodies(asking, inside, owner)
            known = Known(inside, bodies, 0)
            if lasting:
                asking.memory[at] = known
        known.at = time.monotonic()
        body, columns, narrow = known.bodies
        return body, dict(columns), narrow

    def _memory_key(self, at: tuple[str, str], owner: Owner | None = None) -> str:
        return f"{self.attachment.alias}:{at!r}{'' if owner is None else repr(owner)}"

    def place(self, inside: Inside) -> str:
        """The table in DuckDB's words."""
        return f"{quote(self.attachment.alias)}.{quote(inside.schema)}.{quote(inside.name)}"

    def query(self, asking: Asking, sql: str) -> list[tuple[Any, ...]]:
        """The rows of a SELECT that the server runs. duckdb.Error."""
        return asking(f"SELECT * FROM {self.type}_query({literal(self.attachment.alias)}, {literal(sql)})")

    def _by_column(self, inside: Inside, columns: dict[str, str], looking: Looking) -> Observed:
        name = self.record.anchor.removeprefix("column:")
        if name not in columns:
            return Unknown(f"there is no column {name!r} to anchor on")
        largest, rows = self.ask(lambda asking: self.largest(asking, inside, name), looking.timeout_seconds)
        found = digest_of([largest, rows])
        return Snapshot(columns=columns, whole=found, method=self.record.anchor, cost=Cost.METADATA, row_count=rows)

    def _by_content(self, inside: Inside, columns: dict[str, str], gate: Gate | None, looking: Looking) -> Observed:
        if inside.fickle:
            return Unknown(inside.fickle)
        sets = self._sets(looking.read_sets, columns)
        at = f"{self.kind}:{self.location}:{inside.schema}\0{inside.name}"
        kept = self._kept(looking.memo.get(at), inside, gate)
        if kept is not None and kept["sound"] and sets.keys() <= kept["sets"].keys():
            return self._snapshot(columns, kept["rows"], kept["sets"], Cost.METADATA, inside.stamp)
        if (dear := too_dear(inside, looking)) is not None:
            return dear

        def work(asking: Asking) -> tuple[Inside | None, tuple[int, list[str]]]:
            return self.inside(asking, inside.schema, inside.name), self.digests(asking, inside, list(sets.values()))

        now, (rows, digests) = self.ask(work, patience(inside, looking))
        if now is None or now.marker != inside.marker:
            return Unknown("its definition changes while it is looked at")
        found = dict(zip(sets, digests, strict=True))
        if gate is not None:
            since = looking.now_ns if kept is None else kept["since"]
            quiet = kept is not None and looking.now_ns - since >= looking.racy_seconds * 1e9  # no commit takes so long to be seen
            of = [duckdb.__version__, inside.marker]
            payload = {"of": of, "gate": gate.position, "sets": found, "rows": rows, "since": since, "sound": gate.quiet or quiet}
            looking.memo.put(at, MemoEntry(_NO_STAT, looking.now_ns, payload))
        return self._snapshot(columns, rows, found, Cost.SCAN, now.stamp)

    @staticmethod
    def _kept(entry: MemoEntry | None, inside: Inside, gate: Gate | None) -> Mapping[str, Any] | None:
        """What an earlier look learnt at this very log position; None when there is no such."""
        if entry is None or gate is None:
            return None
        same = entry.payload.get("of") == [duckdb.__version__, inside.marker] and entry.payload.get("gate") == gate.position
        return entry.payload if same else None

    @staticmethod
    def _sets(wanted: frozenset[tuple[str, ...] | None], columns: Mapping[str, str]) -> dict[str, list[str]]:
        """The columns to digest for each wanted set; those that are not there any more are told by their missing types."""
        return {set_key(each): sorted(c for c in (columns if each is None else each) if c in columns) for each in wanted}

    @staticmethod
    def _snapshot(columns: dict[str, str], rows: int, sets: Sets, cost: Cost, stamp: str = "") -> Snapshot:
        whole = digest_of(dict(sets))
        return Snapshot(columns=columns, whole=whole, method=METHOD, cost=cost, by_set=dict(sets), row_count=rows, stamp=stamp)

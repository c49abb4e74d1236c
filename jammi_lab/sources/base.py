"""Interfaces of connectors, and the relations that they hand to the engine."""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, TypeVar, runtime_checkable

from jammi_lab.core.anchors import Anchor, Identity, Input, Observed, Unknown
from jammi_lab.core.canonical_json import digest_of
from jammi_lab.core.errors import JammiError
from jammi_lab.sources.scan_conditions import ConditionsOfScan
from jammi_lab.storage.digests import DigestCache

if TYPE_CHECKING:
    import pyarrow as pa


T = TypeVar("T")

Query = Callable[[str], list[tuple[Any, ...]]]
"""Runs an internal SELECT and returns all its rows. Raises duckdb.Error."""

Explain = Callable[[str], JammiError | None]
"""Maps a DuckDB message to the error to raise; None if the message is not about the source."""

ReadCredentials = Callable[[], tuple[Mapping[str, str], str | None]]
"""Returns the credentials of a source when they are needed: those typed in this kernel, by name,
and the text of its `secret=`. Raises SecretMissing."""


def no_credentials() -> tuple[Mapping[str, str], str | None]:
    """No credentials."""
    return {}, None


_ALIAS_SALT = secrets.token_hex(16)
"""Salt of aliases, so that an alias reveals nothing about the credentials in its digest."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A database to attach read-only to the tenant's DuckDB instance before a body reads it.

    A body names its tables under `alias`, which no user statement can name: `SELECT * FROM
    {attachment.alias}."main"."t"`. The engine attaches on first use. Credentials are passed as a
    DuckDB secret that is created and dropped with the attachment, so `ATTACH` never contains one.
    """

    key: str
    """The source that it belongs to (`key_of`). An attachment replaces an earlier one with the same
    key."""
    type: str
    """DuckDB's `TYPE`: postgres, mysql, sqlite, duckdb."""
    path: str = ""
    """A file path, or a server's connection string without credentials."""
    secret: Mapping[str, str] | None = field(default=None, repr=False)
    """The parameters of a secret of type `type`, for example HOST, USER and PASSWORD."""
    server: tuple[str, int] | None = None
    """Host and port to probe before ATTACH, for an extension without a connection timeout."""
    persistent: bool = True
    """Whether it stays attached until the workspace closes (servers), or only during a statement
    (files, so that their owner can write)."""

    alias: str = field(init=False, compare=False)
    """The name of the attached database, unique per content."""

    def __post_init__(self) -> None:
        content = [
            _ALIAS_SALT,
            self.key,
            self.type,
            self.path,
            dict(self.secret or {}),
            self.persistent,
        ]
        object.__setattr__(self, "alias", f"__jammi_{self.type}_{digest_of(content)[:20]}")

    @property
    def extension(self) -> str | None:
        """The required extension; None for what DuckDB reads itself."""
        return None if self.type == "duckdb" else f"{self.type}_scanner"


@dataclass(frozen=True, slots=True)
class ScopedSecret:
    """A DuckDB secret for an object store, valid for one prefix and only while a body runs."""

    type: str
    """DuckDB's `TYPE`: s3."""
    scope: str
    """The URL prefix for which it is valid."""
    values: Mapping[str, str] = field(repr=False)
    """The parameters, for example KEY_ID, SECRET, ENDPOINT."""
    extension: str
    """The extension that uses it."""
    reservation: object | None = field(default=None, repr=False, compare=False)
    """Keeps the prefix reserved while this object lives, so that no overlapping prefix gets another
    credential."""

    key: ClassVar[str] = ""
    persistent: ClassVar[bool] = False

    @property
    def alias(self) -> str:
        """The name in DuckDB, unique per scope and content."""
        return f"__jammi_{self.type}_{digest_of([_ALIAS_SALT, self.scope, dict(self.values)])[:20]}"


def attachment_key(tenant: str | None, folded_name: str) -> str:
    """The `Attachment.key` of a registered source."""
    return f"{tenant or ''}:{folded_name}"


class NotAppended(Exception):
    """An input changed in more than added rows; the argument says how, as one clause."""


@dataclass(frozen=True, slots=True)
class AddedRows:
    """The rows that an input gained since an earlier state, of which all rows are still there
    unchanged."""

    delta: tuple[str, ...]
    """The new files, relative to the source."""
    rows: int
    """Number of new rows."""
    total_rows: int
    """Number of rows, the new ones included."""
    are_last: bool
    """Whether the new rows come after all others."""
    addresses: tuple[str, ...]
    """The new files, as `ReadPlan.part_of_files` takes them."""
    file_count: int
    """Number of files, the new ones included."""

    @property
    def extent(self) -> str:
        """The extent in words: `1 of 21 files`."""
        return f"{len(self.delta):,} of {self.file_count:,} files"


class PartOfFiles(NamedTuple):
    """How some files of a file set are read."""

    body: str
    """A SELECT of all their rows. Its columns and types may be others than those of all files."""
    columns: Mapping[str, str] | None = None
    """SQL type by column, in order; None if the engine has to describe the body."""


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """How the rows of a relation are read: one of `body`, `frame` and `computed` is set, and none
    in a relation that only names an input."""

    body: str | None = None
    """A SELECT of all rows."""
    frame: pa.Table | None = None
    """The rows as an Arrow table."""
    computed: Computed | None = None
    """Computes the rows when a statement runs; requires `Relation.columns`."""
    projected_body: Callable[[frozenset[str], ConditionsOfScan], str] | None = None
    """Returns the body to run when only these columns, and of the rows only those that satisfy
    these conditions, are read. It has the columns of `body`; those that are not read may be
    NULL."""
    part_of_files: Callable[[Collection[str]], PartOfFiles] | None = None
    """Returns how only these files (`AddedRows.addresses`) are read."""
    local_bytes: int | None = None
    """The size of the files that are read, in bytes; None where it is not known, or where they are
    in a store."""
    added_since: Callable[[Anchor, Mapping[str, str]], AddedRows] | None = None
    """Of a table whose earlier states are known: returns the rows that a recorded state over the
    same columns, here with their types, did not have. Raises NotAppended."""


@dataclass(frozen=True, slots=True)
class Requirements:
    """What must be loaded, attached and registered before DuckDB can bind a body."""

    extensions: tuple[str, ...] = ()
    """The required extensions, apart from that of the attachment."""
    attachment: Attachment | None = None
    """The database that the body reads. A statement over it is fully fetched before it returns."""
    filesystem: object | None = None
    """An fsspec filesystem to register with DuckDB before the body runs."""
    scoped_secret: ScopedSecret | None = None
    """The object-store secret that the body needs."""


NO_REQUIREMENTS = Requirements()
"""Nothing has to be loaded."""


@dataclass(frozen=True, slots=True)
class Consistency:
    """What proves which state of a source a statement has read."""

    guard: Callable[[Query], None] | None = None
    """Called in the transaction that has just read the rows; raises if their definition is not the
    one that the statement was bound to."""
    witness: Callable[[Query, tuple[str, ...]], Observed | None] | None = None
    """Called in the same transaction with the columns read; returns the state that was read, or
    None if the transaction saw no snapshot. None for a source without transactions."""
    unordered: bool = False
    """Whether the state does not cover the row order; a statement that depends on the order gets
    the rows sorted."""


@dataclass(frozen=True, slots=True)
class Relation:
    """What SQL reads under one name."""

    input: Input
    """The input, without columns."""
    read: ReadPlan = ReadPlan()
    """How its rows are read."""
    columns: Mapping[str, str] | None = None
    """SQL type by column, in order; None if the engine has to describe the body."""
    requirements: Requirements = NO_REQUIREMENTS
    """What the body needs in DuckDB."""
    consistency: Consistency = Consistency()
    """How the state that was read is proved."""
    token: object | None = None
    """Opaque data of the code that created the relation."""
    acquire: Callable[[], Callable[[], None]] | None = None
    """Called when a run that reads it starts; returns the function to call when the run ends."""
    explain: Explain | None = None
    """Maps DuckDB's messages about this relation to errors; None leaves that to the engine."""
    redact_first: bool = False
    """Whether its `explain` goes before those of other relations, because it removes values that
    the reader may not see."""
    mutable: MutableState | None = None
    """Support for INSERT, UPDATE and DELETE; None for a read-only relation."""


@dataclass(frozen=True, slots=True)
class MutableState:
    """What DML needs of a mutable relation; its rows are in `ReadPlan.frame`."""

    key: tuple[str, ...]
    """The primary key."""
    refreshed: Callable[[], Relation]
    """Returns the current relation. Raises TableNotFound."""
    state: object
    """The table and version, opaque to the engine."""


Describe = Callable[[str | Relation], dict[str, str]]
"""Returns the columns and DuckDB types of a SELECT, or of a relation, in order. Raises
SourceUnavailable."""


class SourceAccess(Protocol):
    """Runs internal queries on a source in the DuckDB instance of the bound tenant."""

    def __call__(
        self,
        requirement: Relation,
        work: Callable[[Query], T],
        *,
        seconds: float | None = None,
    ) -> T:
        """The result of `work`, whose queries run in one transaction with what the `requirement`
        needs loaded and attached.

        Raises SourceUnavailable, also after `seconds`; ExtensionMissing; the error of
        `Relation.explain`; and what `work` raises.
        """
        ...

    def detach(self, key: str) -> None:
        """Detach what is attached under a key, because the source was removed or replaced or has
        another secret."""
        ...


@dataclass(frozen=True, slots=True)
class SourceContext:
    """What a workspace gives the connectors of its sources."""

    folder: Path | None = None
    """Its local folder; None outside of a workspace."""
    credentials: ReadCredentials = no_credentials
    """The credentials of the source."""
    access: SourceAccess | None = None
    """Runs queries in the engine's instance; None outside of a workspace."""
    memo: DigestCache | None = None
    """Keeps what readers have decided."""
    time_zone: str = "UTC"
    """That of statements."""


NO_WORKSPACE = SourceContext()
"""The context of a connector outside of a workspace."""


class SharedRead:
    """What one observation pass reads of several tables of one source together. Thread-safe."""

    def __init__(self, tables: Callable[[], Collection[str]]) -> None:
        """`tables` returns the tables of the source that the pass observes."""
        self._tables = tables
        self._lock = threading.Lock()
        self._states: dict[str, Any] | None = None

    def take(self, table: str, read: Callable[[Collection[str]], Mapping[str, Any]]) -> Any:
        """What `read`, which runs once, for all tables, returned for a table; others wait for it.
        None if there is nothing: for a single table; if reading failed, since the reason may be one
        of the others; and if it was taken before, as a second observation is of a later state."""
        with self._lock:
            if self._states is None:
                self._states, tables = {}, {*self._tables(), table}
                if len(tables) > 1:
                    with contextlib.suppress(JammiError):
                        self._states |= read(tables)
            return self._states.pop(table, None)


UNKNOWN_ROWS = 1 << 60
"""The row count of a table without an estimate, more than any observation may scan."""
_REMEDY = 'run `ws.status(deep=True)` or set `anchor="column:…"`'


@dataclass(frozen=True, slots=True)
class ObservationContext:
    """Limits and services of one observation."""

    cache: DigestCache
    """Results of earlier observations."""
    describe: Describe
    """Describes a body or relation."""
    now_ns: int
    """When the observation began, in nanoseconds since the epoch."""
    racy_seconds: float
    """A file modified less than this before its stat may change again without a new stat."""
    scan_bytes: int | None = None
    """How many bytes may be read per input; None in a deep observation."""
    scan_rows: int | None = None
    """How many rows may be read per input; None in a deep observation."""
    timeout_seconds: float | None = None
    """The time limit of one query."""
    read_sets: frozenset[tuple[str, ...] | None] = frozenset({None})
    """The column sets that need an anchor; None stands for all columns. For connectors whose
    digests cover one column set each."""
    shared: SharedRead | None = None
    """What this pass reads of the source in common with its other tables."""

    def refuse_scan(self, size: int, rows: int = 0) -> Unknown | None:
        """An Unknown with a remedy if so many bytes or rows, where they are known, may not be
        read; else None."""
        if self.scan_rows is not None and rows > self.scan_rows:
            count = "an unknown number of" if rows >= UNKNOWN_ROWS else f"about {rows:,}"
            return Unknown(f"would scan {count} rows; {_REMEDY}")
        if self.scan_bytes is not None and size > self.scan_bytes:
            return Unknown(f"would scan {size:,} bytes; {_REMEDY}")
        return None


class Connector(Protocol):
    """One registered source."""

    @property
    def kind(self) -> str:
        """The kind of source: parquet, csv, frame …"""
        ...

    @property
    def location(self) -> str:
        """The location for display, without credentials."""
        ...

    def check(self) -> None:
        """Check that the source can be read. Raises SourceUnavailable with one sentence."""
        ...

    @property
    def is_database(self) -> bool:
        """Whether it contains tables in schemas, which `find` finds."""
        ...

    def tables(self) -> list[str]:
        """The tables in the source; empty if the source is one table."""
        ...

    def find(self, parts: Sequence[str]) -> str | None:
        """The name in `tables` for `table` or `schema.table`; None if none or several match."""
        ...

    def relation(self, table: str | None) -> Relation:
        """The relation of a table. Raises SourceUnavailable, TableNotFound."""
        ...

    def observe(self, table: str | None, ctx: ObservationContext) -> Observed:
        """The current state: a Snapshot, Vanished or Unknown. Failures of the source are Unknown,
        not exceptions."""
        ...


@dataclass(frozen=True, slots=True)
class ViewReferences:
    """The tables and functions that a view in a file uses."""

    tables: frozenset[tuple[str, ...]]
    """The table names that it reads, as written."""
    functions: frozenset[str]
    """The functions that it calls, in lower case."""


@runtime_checkable
class SupportsRowComparison(Protocol):
    """A connector that can compare rows when an anchor has changed."""

    def same_rows(self, recorded: Anchor, ctx: ObservationContext) -> bool | Unknown:
        """Whether the columns of a recorded anchor contain the same multiset of rows now. False if
        that cannot be determined, Unknown if it exceeds the limits of the observation."""
        ...


@dataclass(frozen=True, slots=True)
class InputRead:
    """One input of a statement or a computation."""

    relation: Relation
    """The relation; for a computation only its input and token are used."""
    columns: tuple[str, ...]
    """The columns read, sorted; empty if only the row count matters."""
    schema: Mapping[str, str]
    """All columns and SQL types at binding time, in order."""


def merged_reads(reads: Iterable[InputRead]) -> list[InputRead]:
    """Each input once, with the union of the columns that are read."""
    merged: dict[Identity, InputRead] = {}
    for read in reads:
        first = merged.setdefault(read.relation.input.identity, read)
        columns = tuple(sorted({*first.columns, *read.columns}))
        merged[read.relation.input.identity] = InputRead(first.relation, columns, first.schema)
    return list(merged.values())


@dataclass(frozen=True, slots=True)
class Computed:
    """How to compute the rows of a relation. Both functions take the columns that the statement
    reads."""

    definition: str
    """What determines the rows besides the inputs; part of the definition of every statement that
    reads them."""
    inputs: Callable[[Collection[str]], Sequence[InputRead]]
    """Returns the inputs, the relation's own first."""
    rows: Callable[[Collection[str], ConditionsOfScan], pa.Table]
    """Returns all rows with all columns, or at least the rows that the conditions need; called in
    the statement's thread at every run."""

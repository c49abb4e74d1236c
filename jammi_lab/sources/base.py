"""What every connector offers, and what the engine gets from one."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

from jammi_lab.canonical import digest_of
from jammi_lab.errors import JammiError
from jammi_lab.storage.digests import Memo
from jammi_lab.values.anchors import Anchor, Input, InputKind, Observed, Snapshot, Unknown

if TYPE_CHECKING:
    import pyarrow as pa

    from jammi_lab.sources.computed import Computed

T = TypeVar("T")

Query = Callable[[str], list[tuple[Any, ...]]]
"""A SELECT that we wrote → all its rows."""

Explain = Callable[[str], JammiError | None]
"""What DuckDB said while it read a source → the error to raise, or None when it is not about the source."""

Given = Callable[[], tuple[Mapping[str, str], str | None]]
"""Credentials, when they are needed: those that were typed in this kernel, by name, and the text that `secret=` leads to. SecretMissing."""


def nothing_given() -> tuple[Mapping[str, str], str | None]:
    """No credentials."""
    return {}, None


_RUN = secrets.token_hex(16)
"""Keeps what an alias is made from unknown to whoever sees one."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A database that is attached read-only to the DuckDB instance of the tenant that may see the source, before a body that reads it is run.

    A body names its tables under `alias`, which no statement of a person can name: `SELECT * FROM {attachment.alias}."main"."t"`. The engine
    attaches on first use; credentials go in as a DuckDB secret that is made with it and dropped with it, so `ATTACH` never holds one.
    """

    key: str
    """Whose it is: one source has one key whatever its state (`key_of`). Another attachment of the same key takes the place of this one."""
    type: str
    """DuckDB's word behind `TYPE`: postgres, mysql, sqlite, duckdb."""
    extension: str | None = None
    """The extension that it needs."""
    path: str = ""
    """What is attached: a file, or for a server options that are no credentials."""
    secret: Mapping[str, str] | None = field(default=None, repr=False)
    """The parameters of a secret of type `type`, for example HOST, USER and PASSWORD."""
    settings: Mapping[str, str | bool] = field(default_factory=dict)
    """Settings of the extension, made for the whole instance before it is attached."""
    server: tuple[str, int] | None = None
    """Host and port that must take a connection before it is attached, where the extension has no time limit of its own for that."""
    lasting: bool = True
    """Whether it stays attached while the workspace is open (servers), or only while a statement uses it (files, so that their owner can write)."""

    @property
    def alias(self) -> str:
        """The name under which it is attached: another one for every other content."""
        said = [_RUN, self.key, self.type, self.path, dict(self.secret or {}), dict(self.settings), self.lasting]
        return f"__jammi_{self.type}_{digest_of(said)[:20]}"


@dataclass(frozen=True, slots=True)
class ScopedSecret:
    """A credential for DuckDB's own reader of an object store: it is there while a body runs, and holds for one prefix only."""

    type: str
    """DuckDB's word behind `TYPE`: s3."""
    scope: str
    """The beginning of every address that it is for."""
    values: Mapping[str, str] = field(repr=False)
    """Its parameters, for example KEY_ID, SECRET, ENDPOINT."""
    extension: str
    """The extension whose reader takes it."""
    held: object | None = field(default=None, repr=False, compare=False)
    """Kept as long as it is in use, so that no other credential is told for an overlapping prefix."""

    @property
    def name(self) -> str:
        """Its name in DuckDB: another one for every other scope or content."""
        return f"__jammi_{self.type}_{digest_of([_RUN, self.scope, dict(self.values)])[:20]}"


def key_of(tenant: str | None, folded_name: str) -> str:
    """The `Attachment.key` of a registered source."""
    return f"{tenant or ''}:{folded_name}"


@dataclass(frozen=True, slots=True)
class Relation:
    """What SQL reads under one name: a body for a view, or a frame. Exactly one of `body` and `frame` is there.

    What a body needs before it can be bound is said beside it: `extensions` to load, an `attachment` to make, a `filesystem` to know.
    """

    input: Input
    """Which input it is; its `columns` are empty."""
    body: str | None = None
    """A SELECT that reads it."""
    frame: pa.Table | None = None
    """The rows themselves."""
    columns: Mapping[str, str] | None = None
    """SQL type by column, in order; None when the engine must describe it."""
    filesystem: object | None = None
    """An fsspec filesystem that DuckDB must know before the body runs."""
    token: object | None = None
    """Whatever its maker wants back with it; nobody else looks."""
    hold: Callable[[], Callable[[], None]] | None = None
    """Called when a run that reads it begins; what it gives is called when the run is over."""
    extensions: tuple[str, ...] = ()
    """Extensions that its body needs, beside that of its attachment."""
    attachment: Attachment | None = None
    """The database that its body reads; a statement over it is read to its end before its call returns."""
    scoped: ScopedSecret | None = None
    """The credential that its body's reader needs."""
    explain: Explain | None = None
    """Says in our words what DuckDB said when it failed to read it; None leaves that to the engine."""
    discreet: bool = False
    """Whether its `explain` is asked before those of others, since it leaves out values that are not to be told."""
    unordered: bool = False
    """Whether its state says nothing of the order of its rows: a statement that depends on one gets them sorted."""
    narrow: Callable[[frozenset[str]], str] | None = None
    """The body to run when just these columns are read; it has the columns of `body`, and may hold NULL in those that are not read."""
    guard: Callable[[Asking], None] | None = None
    """Called in the transaction that has just read the rows: raises when what was read is not what the statement was bound to."""
    definition: str = ""
    """What moves with the definition that its `columns` are of, where there is a `guard`."""
    supposed: bool = False
    """Whether that is the definition of a moment ago, and nobody asked whether it still holds; its `guard` does."""
    apart: bool = False
    """Whether the answers to `guard` come from outside that transaction anyway, so that it can be asked beside other guards."""
    witness: Callable[[Asking, tuple[str, ...]], Observed | None] | None = None
    """Called there with the columns read: the state that was read; None when that transaction was no snapshot. No witness: it has no transactions."""
    computed: Computed | None = None
    """Computes the rows when a statement is run, in the place of `body` and `frame`; `columns` is there then."""
    worded: tuple[tuple[str, str], ...] = ()
    """Columns of numbers that are text here, and by what option of the source they would be numbers."""
    changing: Changing | None = None
    """How it takes INSERT, UPDATE and DELETE; None when it does not change."""


@dataclass(frozen=True, slots=True)
class Changing:
    """What a relation that can be changed says of itself; its rows are in `frame`."""

    key: tuple[str, ...]
    """The columns that identify a row."""
    renewed: Callable[[], Relation]
    """The relation as it is now. TableNotFound when it is gone."""
    state: object
    """Which version of what this is; its maker knows."""


Describe = Callable[[str | Relation], dict[str, str]]
"""The body of a SELECT, or a relation with what its body needs → its columns and their DuckDB types, in order. SourceUnavailable."""


class Asking(Protocol):
    """Runs a SELECT of ours, in the transaction that it stands for."""

    memory: dict[str, Any]
    """What connectors keep about one DuckDB instance, as long as it lives: what was seen there, and has to be forgotten there."""

    def __call__(self, sql: str) -> list[tuple[Any, ...]]:
        """All its rows. duckdb.Error."""
        ...


T_co = TypeVar("T_co", covariant=True)


class Begun(Protocol[T_co]):
    """A question that was put and is not answered yet."""

    def result(self) -> T_co:
        """The answer, once. Raises as `Reach` does."""
        ...

    def drop(self) -> None:
        """Nobody will ask for the answer."""
        ...


class Reach(Protocol):
    """Questions of our own to a source, in the DuckDB instance of the bound tenant."""

    def __call__(self, needs: Relation | Attachment, work: Callable[[Asking], T], *, seconds: float | None = None) -> T:
        """What `work` returns; all that it asks is one transaction, with what `needs` needs loaded and attached.

        Raises SourceUnavailable, also after `seconds` without an end; ExtensionMissing; what `Relation.explain` says; and what `work` raises.
        """
        ...

    def begin(self, needs: Relation | Attachment, work: Callable[[Asking], T], *, seconds: float | None = None) -> Begun[T]:
        """The same, begun and not waited for, so that several servers can be asked at once."""
        ...

    def forget(self, key: str) -> None:
        """Detach whatever is attached under a key: the source was removed, replaced, or has another secret."""
        ...

    @property
    def memory(self) -> dict[str, Any]:
        """`Asking.memory` of that instance."""
        ...


@dataclass(frozen=True, slots=True)
class Looking:
    """What one look lends to the connectors it asks."""

    memo: Memo
    """What earlier looks saw."""
    describe: Describe
    """Names and types of what a body or relation selects."""
    now_ns: int
    """When the look began, in nanoseconds since the epoch."""
    racy_seconds: float
    """A stat younger than this when it was seen does not prove that the bytes are the same."""
    scan_bytes: int | None = None
    """How many bytes may be read for one input; None in a deep look."""
    scan_rows: int | None = None
    """How many rows may be read for one input; None in a deep look."""
    query: Query | None = None
    """Runs a small SELECT of ours; `anchor="column:…"` needs it."""
    reach: Reach | None = None
    """Asks what needs an extension or an attachment; None where there is no engine."""
    timeout_seconds: float | None = None
    """How long one answer may take."""
    read_sets: frozenset[tuple[str, ...] | None] = frozenset({None})
    """The sets of columns over which anchors are wanted; None is the set of all. Only where an answer cannot be had for every set at once."""


class Connector(Protocol):
    """One registered source."""

    @property
    def kind(self) -> str:
        """Which sort of source: parquet, csv, frame …"""
        ...

    @property
    def location(self) -> str:
        """Where it is, for people; without credentials."""
        ...

    def check(self) -> None:
        """Nothing, when the source can be read. SourceUnavailable, in one sentence, when not."""
        ...

    def tables(self) -> list[str]:
        """The tables inside it; empty when the source is itself one table."""
        ...

    def relation(self, table: str | None) -> Relation:
        """What SQL reads. SourceUnavailable, TableNotFound."""
        ...

    def observe(self, table: str | None, looking: Looking) -> Observed:
        """Its state now: a Snapshot, Vanished or Unknown. Never raises for what the outside does."""
        ...


@dataclass(frozen=True, slots=True)
class ViewReading:
    """What a view that lies in a file may do when it is run here."""

    tables: frozenset[tuple[str, ...]]
    """The names that it reads, as typed."""
    functions: frozenset[str]
    """The functions that it calls, ASCII-lower."""


@runtime_checkable
class Comparing(Protocol):
    """A connector that can tell, by reading, whether rows are the same although their anchor moved."""

    def same_rows(self, recorded: Anchor, looking: Looking) -> bool | Unknown:
        """Whether the columns of a recorded anchor hold the same bag of rows now; False when that cannot be told, Unknown when it costs more than
        the look allows."""
        ...


@runtime_checkable
class Finder(Connector, Protocol):
    """A source whose tables lie in schemas."""

    def find(self, parts: Sequence[str]) -> str | None:
        """The table that `table` or `schema.table` means, as `tables` spells it; None when none or several may be meant."""
        ...


@runtime_checkable
class Foreseeing(Finder, Protocol):
    """A source that can be asked for several names at once, while others are asked."""

    def foresee(self, names: Sequence[Sequence[str]], supposing: bool = False) -> None:
        """Begin to look for tables; `find` waits for the answer. With `supposing`, of those that were seen a moment ago that is supposed to be still
        so (`Relation.supposed`). SecretMissing."""
        ...

    def forgo(self) -> None:
        """Whatever of it `find` did not ask for is not wanted."""
        ...


def same_state(before: Observed, after: Observed, columns: tuple[str, ...] | None = None) -> bool:
    """Whether two observations of one input prove that it did not move between them, on the given columns (None: on all).

    Only two snapshots can: what has vanished or is unknown proves nothing.
    """
    if not isinstance(before, Snapshot) or not isinstance(after, Snapshot):
        return False
    nothing = Input(InputKind.SOURCE, "")
    return before.anchor(nothing, columns).same_state(after.anchor(nothing, columns))

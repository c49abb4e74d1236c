"""What every connector offers, and what the engine gets from one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from jammi_lab.storage.digests import Memo
from jammi_lab.values.anchors import Input, InputKind, Observed, Snapshot

if TYPE_CHECKING:
    import pyarrow as pa

Describe = Callable[[str], dict[str, str]]
"""The body of a SELECT → its columns and their DuckDB types, in order."""

Query = Callable[[str], list[tuple[Any, ...]]]
"""A SELECT that we wrote → all its rows."""


@dataclass(frozen=True, slots=True)
class Relation:
    """What SQL reads under one name: a body for a view, or a frame. Exactly one of `body` and `frame` is there."""

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


@dataclass(frozen=True, slots=True)
class Looking:
    """What one look lends to the connectors it asks."""

    memo: Memo
    """What earlier looks saw."""
    describe: Describe
    """Names and types of what a body selects."""
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


def same_state(before: Observed, after: Observed, columns: tuple[str, ...] | None = None) -> bool:
    """Whether two observations of one input prove that it did not move between them, on the given columns (None: on all).

    Only two snapshots can: what has vanished or is unknown proves nothing.
    """
    if not isinstance(before, Snapshot) or not isinstance(after, Snapshot):
        return False
    nothing = Input(InputKind.SOURCE, "")
    return before.anchor(nothing, columns).same_state(after.anchor(nothing, columns))

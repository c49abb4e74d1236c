"""Inputs and anchors: what a table was made from, and which state of it."""

import enum
import functools
from collections.abc import Iterable

import msgspec
from msgspec.structs import replace

from jammi_lab.canonical import digest_of
from jammi_lab.values.base import Value, short


class InputKind(enum.StrEnum):
    """What sort of thing an input is."""

    SOURCE = "source"
    RESULT = "result"
    MUTABLE = "mutable"
    FRAME = "frame"
    TOPIC = "topic"
    CLOCK = "clock"


class AnchorKind(enum.StrEnum):
    """By what an input's state is named; also the kind of a lineage edge."""

    RESULT_DIGEST = "result_digest"
    SOURCE_VERSION = "source_version"
    MUTABLE_VERSION = "mutable_version"
    CLOCK = "clock"
    UNPINNED = "unpinned_at_instant"


class Cost(enum.StrEnum):
    """What an observation took: nothing worth counting, a few small reads, or a read of all the data."""

    FREE = "free"
    METADATA = "metadata"
    SCAN = "scan"


class Input(Value, frozen=True):
    """One thing that a statement or producer reads."""

    kind: InputKind
    """Which sort of thing."""
    name: str
    """Its registered name; for a result table the recipe, or the physical name when an exact version was named."""
    table: str | None = None
    """The table inside a source that has several, else None."""
    columns: tuple[str, ...] = ()
    """The columns read, sorted; empty when only the number of rows matters."""

    @property
    def label(self) -> str:
        """The name, with the table when there is one."""
        return f"{self.name}.{self.table}" if self.table else self.name

    @property
    def identity(self) -> tuple[str, str, str]:
        """What makes two inputs the same thing, whatever columns are read."""
        return (self.kind._value_, self.name, self.table or "")  # `.value` costs more than the rest of a comparison

    def __str__(self) -> str:
        return self.label


class Anchor(Value, frozen=True):
    """The state of one input at one moment. Two anchors of an input with equal `kind`, `method` and `value` are the same state.

    They compare by what they say of the input: the version is for people, and the cost is that of the look, which may know today what it had to
    read yesterday."""

    _untold = ("cost",)

    input: Input
    """What is anchored, with the columns read."""
    kind: AnchorKind
    """By what sort of mark."""
    value: str
    """The mark: a digest over content, names and types of the columns read; a date for a clock; an instant when unpinned."""
    method: str
    """How it was found, in words."""
    types: tuple[str, ...] = ()
    """The SQL types of `input.columns`, in their order."""
    row_count: int | None = None
    """Rows of the input, where known."""
    schema: str = ""
    """Digest over the names and types of *all* columns of the input: when it moved, a statement is bound again."""
    version: int | None = None
    """The version of a result table that was read; for people, never compared."""
    cost: Cost = Cost.FREE
    """What finding it took."""
    path: list[str] = []
    """In an Undecidable: the tables from the direct parent to the one that reads this input; empty for an own input."""
    note: str = ""
    """Why it is unpinned, on whose word it rests, or why its rows cannot be read."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns read."""
        return self.input.columns

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Anchor) and self._compared == other._compared

    __hash__ = None  # type: ignore[assignment]  # it holds a list

    @property
    def _compared(self) -> tuple[object, ...]:
        return tuple(getattr(self, name) for name in self.__struct_fields__ if name not in ("version", "cost"))

    def __repr__(self) -> str:
        told = self if self.pinned else replace(self, value="")  # which is an instant
        return super(Anchor, told).__repr__()

    @property
    def pinned(self) -> bool:
        """Whether equal means unchanged."""
        return self.kind is not AnchorKind.UNPINNED

    def same_state(self, other: "Anchor") -> bool:
        """Whether both name one state. An unpinned anchor equals nothing, not even itself."""
        return self.value == other.value and self.method == other.method and self.kind is other.kind and self.kind is not AnchorKind.UNPINNED

    def __str__(self) -> str:
        if not self.pinned:
            note = self.note or "unpinned"
            return note if note.startswith(self.input.label) else f"{self.input.label}: {note}"
        version = f" version {self.version}" if self.version is not None else ""
        return f"{self.input.label}{version} at {short(self.value)} ({self.method})"


class Snapshot(Value, frozen=True):
    """What one observation of one input saw; anchors over any of its columns follow from it without further I/O."""

    columns: dict[str, str]
    """All columns and their SQL types, in order."""
    whole: str
    """Digest of everything."""
    method: str
    """How it was found, in words."""
    kind: AnchorKind = AnchorKind.SOURCE_VERSION
    """By what sort of mark."""
    cost: Cost = Cost.FREE
    """What the observation took."""
    by_column: dict[str, str] | None = None
    """A digest for each column that can be told apart; None when only the whole can."""
    by_set: dict[str, str] | None = None
    """A digest over the rows of each set of columns that was asked for, by `set_key`; None where columns need not be asked for."""
    row_count: int | None = None
    """Rows, where known."""
    version: int | None = None
    """Version of a result table."""
    stamp: str = ""
    """What moves with every write, also with one that puts the same bytes back; empty when nothing here does. Never part of an anchor."""
    fault: str = ""
    """Why the rows cannot be read although the content is known; there are no columns then."""

    def knows(self, columns: tuple[str, ...] | None) -> bool:
        """Whether the anchor over these columns (None: all) follows from what was seen."""
        return self.by_set is None or set_key(columns) in self.by_set

    def anchor(self, input: Input, columns: tuple[str, ...] | None = None) -> Anchor:
        """The anchor over the given columns of the input (None: over all). A column that is not there gets the type `missing`."""
        wanted = tuple(sorted(self.columns if columns is None else columns))
        if not self.knows(columns):
            return unpinned(replace(input, columns=wanted), self.whole, "these columns were not looked at")
        types = tuple(self.columns.get(c, "missing") for c in wanted)
        separable = (self.by_column is not None or self.by_set is not None) and self.row_count is not None
        content: object = self.whole
        if self.by_set is not None:
            content = self.by_set[set_key(None if columns is None else wanted)]
        elif separable and self.by_column is not None:
            content = [self.by_column.get(c, "") for c in wanted]
        read = set(wanted)
        order = [c for c in self.columns if c in read]  # `*` and set operations go by position
        value = digest_of({"columns": wanted, "order": order, "types": types, "content": content, "rows": self.row_count if separable else None})
        return Anchor(
            input=Input(kind=input.kind, name=input.name, table=input.table, columns=wanted),
            kind=self.kind,
            value=self.whole if self.kind is AnchorKind.CLOCK else value,
            method=self.method,
            types=types,
            row_count=self.row_count,
            schema=schema_digest(self.columns),
            version=self.version,
            cost=self.cost,
            note=self.fault,
        )


def set_key(columns: Iterable[str] | None) -> str:
    """How a set of columns is named in `Snapshot.by_set`; None is the set of all."""
    return "*" if columns is None else msgspec.json.encode(sorted(columns)).decode()


class Vanished(Value, frozen=True, tag="vanished", tag_field="kind"):
    """The input is not there any more: a deleted file, a dropped table, a removed source."""


class Unknown(Value, frozen=True, tag="unknown", tag_field="kind"):
    """The input's state cannot be told: server down, no permission, too dear to look, an absent frame."""

    why: str
    """One clause that says why."""


Observed = Snapshot | Vanished | Unknown


def schema_digest(columns: dict[str, str]) -> str:
    """Digest over all names and types, in order."""
    return _schema_digest(tuple(columns.items()))


@functools.lru_cache(maxsize=4096)
def _schema_digest(columns: tuple[tuple[str, str], ...]) -> str:
    return digest_of(columns)


def unpinned(input: Input, instant: str, note: str) -> Anchor:
    """The anchor of what has no state that could be compared: the moment of the read, and why."""
    return Anchor(input=input, kind=AnchorKind.UNPINNED, value=instant, method="instant", note=note)

"""Inputs and anchors: what a table was built from, and in which state."""

import enum
import functools
from collections.abc import Iterable
from typing import Annotated

import msgspec

from jammi_lab.core.canonical_json import digest_of
from jammi_lab.core.input_kinds import InputKind, input_kind
from jammi_lab.core.value import Value, short_digest


class AnchorKind(enum.StrEnum):
    """How the state of an input is identified. Also the kind of a lineage edge; that of a model is
    no input with a state, but part of a definition."""

    RESULT_DIGEST = "result_digest"
    SOURCE_VERSION = "source_version"
    MUTABLE_VERSION = "mutable_version"
    CLOCK = "clock"
    MODEL = "model"
    UNPINNED = "unpinned_at_instant"


class Cost(enum.StrEnum):
    """The cost of an observation: negligible, a few small reads, or a read of all the data."""

    FREE = "free"
    METADATA = "metadata"
    SCAN = "scan"


Identity = tuple[str, str, str]
"""Kind, name and table of an input."""


class Input(Value, frozen=True):
    """One input of a statement or recipe."""

    kind: str
    """The kind of input: source, result, mutable, frame, topic or clock."""
    name: str
    """Its registered name. For a result table this is the recipe, or the physical name when an
    exact version was requested."""
    table: str | None = None
    """The table inside a source that has several, else None."""
    columns: tuple[str, ...] = ()
    """The columns read, sorted; empty when only the number of rows matters."""

    @property
    def label(self) -> str:
        """The name, followed by the table when there is one."""
        return f"{self.name}.{self.table}" if self.table else self.name

    @property
    def identity(self) -> Identity:
        """Kind, name and table: equal for the same input, regardless of the columns read."""
        return (self.kind, self.name, self.table or "")

    @property
    def kind_class(self) -> type[InputKind]:
        """What is known of inputs of its kind."""
        return input_kind(self.kind)

    def __str__(self) -> str:
        return self.label


def source_input(name: str, table: str | None = None) -> Input:
    """A source, or a table in one, as an input."""
    return Input("source", name, table)


def frame_input(name: str) -> Input:
    """A frame as an input."""
    return Input("frame", name)


def result_input(name: str, columns: tuple[str, ...] = ()) -> Input:
    """A result table as an input."""
    return Input("result", name, None, columns)


_GIVEN_ROWS = "digest of the rows given"
STATE_STATEMENT = "result of the statement for the state"


Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]
"""A number that any catalog can hold, with room for counting on."""


class Anchor(Value, frozen=True):
    """The state of one input at one moment. Two anchors of an input with equal `kind`, `method` and
    `value` are the same state.

    Equality ignores `version`, which is for display, and `cost`, which belongs to the observation:
    a repeated observation may find in the cache what the first one had to read.
    """

    _volatile_fields = ("cost",)

    input: Input
    """The anchored input, with the columns read."""
    kind: AnchorKind
    """How the state is identified."""
    value: str
    """A digest over content, names and types of the columns read; the date of a clock; the instant
    of the read when unpinned."""
    method: str
    """How the state was determined, as text."""
    types: tuple[str, ...] = ()
    """The SQL types of `input.columns`, in their order."""
    row_count: Count | None = None
    """Number of rows of the input, where known."""
    schema: str = ""
    """Digest over the names and types of *all* columns of the input. When it changes, the statement
    is bound again."""
    version: int | None = None
    """The version of the result table that was read. For display; never compared."""
    cost: Cost = Cost.FREE
    """What determining the state cost."""
    path: list[str] = []
    """In an Undecidable: the tables from the direct parent to the one that reads this input. Empty
    for a direct input."""
    note: str = ""
    """Why it is unpinned, whose statement it relies on, or why its rows cannot be read."""
    server_types: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    """The types of `input.columns` as the server names them, in their order. Absent for inputs
    without a server."""
    origin: "FrameOrigin | msgspec.UnsetType" = msgspec.UNSET
    """What a frame was made from, where that was recorded. Absent for any other input."""
    rounding: bool | msgspec.UnsetType = msgspec.UNSET
    """Whether `note` says of a state that it is equal to the recorded one but for rounding. Never
    recorded."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns read."""
        return self.input.columns

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Anchor) and self._comparison_key == other._comparison_key

    __hash__ = None  # type: ignore[assignment]  # `path` is a list

    @property
    def _comparison_key(self) -> tuple[object, ...]:
        return tuple(
            getattr(self, name)
            for name in self.__struct_fields__
            if name not in ("version", "cost")
        )

    def __repr__(self) -> str:
        # The value of an unpinned anchor is an instant, which would differ from run to run.
        printable = self if self.pinned else self.with_values(value="")
        return super(Anchor, printable).__repr__()

    @property
    def is_given(self) -> bool:
        """Whether this anchors rows that were given to the workspace (`given_rows`)."""
        return self.method == _GIVEN_ROWS

    @property
    def pinned(self) -> bool:
        """Whether an equal anchor proves an unchanged input."""
        return self.kind is not AnchorKind.UNPINNED

    def same_state(self, other: "Anchor") -> bool:
        """Whether both anchors name the same state. An unpinned anchor matches nothing, not even
        itself."""
        return (
            self.value == other.value
            and self.method == other.method
            and self.kind is other.kind
            and self.kind is not AnchorKind.UNPINNED
            and self.same_server_types(other)
        )

    def same_server_types(self, other: "Anchor") -> bool:
        """Whether the server's types are equal, or unknown in one of the anchors."""
        known = msgspec.UNSET not in (self.server_types, other.server_types)
        return not known or self.server_types == other.server_types

    def __str__(self) -> str:
        if not self.pinned:
            note = self.note or "unpinned"
            return note if note.startswith(self.input.label) else f"{self.input.label}: {note}"
        version = f" version {self.version}" if self.version is not None else ""
        return f"{self.input.label}{version} at {short_digest(self.value)} ({self.method})"


class FrameOrigin(Value, frozen=True, omit_defaults=True):
    """What a frame was made from."""

    inputs: list[Anchor] = []
    """The states of the tables whose rows it was made from, by name."""
    grounds: list[str] = []
    """Why `inputs` may be incomplete, each as a clause; empty when they are complete."""
    cells: list[str] = []
    """The cells that read and made it, in the order they ran; empty outside a notebook."""
    derived: bool = False
    """Whether Python made it, or may have changed it, after its rows were read."""
    form: str = ""
    """For a frame that is all rows of its one table as they were read: arrow, polars, pandas, exact
    (pandas with exact types) or scan (a lazy frame)."""

    def same_state(self, other: "FrameOrigin") -> bool:
        """Whether both name the same states of the same inputs, and the same grounds."""
        return (self.derived, self.grounds) == (other.derived, other.grounds) and [
            (a.input.identity, a.value, a.schema) for a in self.inputs
        ] == [(a.input.identity, a.value, a.schema) for a in other.inputs]


def compares_content(method: str) -> bool:
    """Whether a method determines a state from the content itself, not from a version or time."""
    return method.startswith("digest")


ROUNDED = " as DOUBLE"
"""The end of a server's type of numbers that are read as DOUBLE, because no DECIMAL holds them."""


def is_rounded(anchor: Anchor) -> bool:
    """Whether numbers of a server were read as the nearest DOUBLE."""
    return anchor.server_types is not msgspec.UNSET and any(
        kind.endswith(ROUNDED) for kind in anchor.server_types
    )


def rests_on_statement(method: str) -> bool:
    """Whether a method believes a column, or a statement of the user, which may stay as it is when
    the content changes."""
    return method.startswith("column:") or method == STATE_STATEMENT


def given_rows(digest: str, origin: FrameOrigin) -> Anchor:
    """The anchor of rows that were given to the workspace and cannot change: only what they were
    made from can."""
    return Anchor(
        input=frame_input("rows"),
        kind=AnchorKind.SOURCE_VERSION,
        value=digest,
        method=_GIVEN_ROWS,
        origin=origin,
    )


def cell_names(cells: list[str]) -> str:
    """Cells for display: `cell [3]`, `cells [3], [4]`, `Python` where they are not known."""
    return f"cell{'s' * (len(cells) > 1)} {', '.join(cells)}" if cells else "Python"


def origin_inputs(anchor: Anchor) -> list[Anchor]:
    """The states of the tables that a frame was made from; empty for any other input."""
    return anchor.origin.inputs if isinstance(anchor.origin, FrameOrigin) else []


class FileState(Value, frozen=True):
    """One file of an input, as it was observed."""

    digest: str
    """Digest over its bytes, how they are read, and what its path contributes to the rows."""
    rows: int
    """Number of rows."""


class Snapshot(Value, frozen=True):
    """The result of one observation of one input. The anchor over any of its columns follows from
    it without further I/O."""

    columns: dict[str, str]
    """All columns and their SQL types, in order."""
    whole: str
    """Digest over everything."""
    method: str
    """How the state was determined, as text."""
    kind: AnchorKind = AnchorKind.SOURCE_VERSION
    """How the state is identified."""
    cost: Cost = Cost.FREE
    """What the observation cost."""
    server_types: dict[str, str] | None = None
    """The types as a server names them, by column; None for inputs without a server."""
    by_column: dict[str, str] | None = None
    """A digest per column; None when only the whole input can be digested."""
    by_set: dict[str, str] | None = None
    """A digest over the rows of each requested set of columns, by `set_key`; None where columns are
    observed without being requested."""
    row_count: int | None = None
    """Number of rows, where known."""
    version: int | None = None
    """Version of a result table."""
    stamp: str = ""
    """A token that changes with every write, also with one that restores the same bytes; empty when
    the input has none. Never part of an anchor."""
    files: dict[str, FileState] | None = None
    """The files of a file set by relative path, in the order of their rows; None for any other
    input. Never part of an anchor."""
    fault: str = ""
    """Why the rows cannot be read although the content is identified. There are no columns then."""

    def __eq__(self, other: object) -> bool:
        # Equal dicts may be in another order, and that of columns and files shapes the rows.
        return (
            isinstance(other, Snapshot)
            and super().__eq__(other)
            and list(self.columns) == list(other.columns)
            and list(self.files or ()) == list(other.files or ())
        )

    __hash__ = None  # type: ignore[assignment]  # `columns` is a dict

    def covers(self, columns: tuple[str, ...] | None) -> bool:
        """Whether the anchor over these columns (None: all) follows from this observation."""
        return self.by_set is None or set_key(columns) in self.by_set

    def anchor(self, input: Input, columns: tuple[str, ...] | None = None) -> Anchor:
        """The anchor over the given columns of the input (None: all). A column that does not exist
        gets the type `missing`."""
        selected = tuple(sorted(self.columns if columns is None else columns))
        if not self.covers(columns):
            return unpinned_anchor(
                input.with_values(columns=selected), self.whole, "these columns were not checked"
            )
        types = tuple(self.columns.get(c, "missing") for c in selected)
        separable = (
            self.by_column is not None or self.by_set is not None
        ) and self.row_count is not None
        content: str | tuple[str, ...] = self.whole
        if self.by_set is not None:
            content = self.by_set[set_key(None if columns is None else selected)]
        elif separable and self.by_column is not None:
            content = tuple(self.by_column.get(c, "") for c in selected)
        read = set(selected)
        # `SELECT *` and set operations match columns by position, so their order counts.
        order = tuple(c for c in self.columns if c in read)
        value = _state_digest(
            selected, order, types, content, self.row_count if separable else None
        )
        return Anchor(
            input=Input(kind=input.kind, name=input.name, table=input.table, columns=selected),
            kind=self.kind,
            value=self.whole if self.kind is AnchorKind.CLOCK else value,
            method=self.method,
            types=types,
            row_count=self.row_count,
            schema=schema_digest(self.columns),
            version=self.version,
            cost=self.cost,
            note=self.fault,
            server_types=msgspec.UNSET
            if self.server_types is None
            else tuple(self.server_types.get(c, "missing") for c in selected),
        )


def set_key(columns: Iterable[str] | None) -> str:
    """The key of a set of columns in `Snapshot.by_set`; None means all columns."""
    return "*" if columns is None else msgspec.json.encode(sorted(columns)).decode()


class Vanished(Value, frozen=True, tag="vanished", tag_field="kind"):
    """The input no longer exists: a deleted file, a dropped table, a removed source."""


class Unknown(Value, frozen=True, tag="unknown", tag_field="kind"):
    """The state of the input cannot be determined: server down, permission denied, observation too
    expensive, frame absent."""

    why: str
    """The reason, as one clause."""


class MissingFrame(Unknown, frozen=True, tag="unknown", tag_field="kind"):
    """The state of a frame that this kernel does not hold."""


Observed = Snapshot | Vanished | Unknown


@functools.lru_cache(maxsize=4096)
def _state_digest(
    columns: tuple[str, ...],
    order: tuple[str, ...],
    types: tuple[str, ...],
    content: str | tuple[str, ...],
    rows: int | None,
) -> str:
    return digest_of(
        {"columns": columns, "order": order, "types": types, "content": content, "rows": rows}
    )


def schema_digest(columns: dict[str, str]) -> str:
    """Digest over all column names and types, in order."""
    return _schema_digest(tuple(columns.items()))


@functools.lru_cache(maxsize=4096)
def _schema_digest(columns: tuple[tuple[str, str], ...]) -> str:
    return digest_of(columns)


def unpinned_anchor(input: Input, instant: str, note: str) -> Anchor:
    """The anchor of an input without a comparable state: the instant of the read, and the
    reason."""
    return Anchor(input=input, kind=AnchorKind.UNPINNED, value=instant, method="instant", note=note)

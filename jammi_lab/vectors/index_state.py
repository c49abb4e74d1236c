"""How an index is, how precise it is to be, and what indexes ask of the rooms around them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from jammi_lab.storage.files import Place
from jammi_lab.values.records import TableRecord

DEFAULT_PRECISION = "bf16"


class Tables(Protocol):
    """What is asked of the store."""

    def parquet(self, record: TableRecord) -> Place:
        """The Parquet file of a table."""
        ...

    def require(self, record: TableRecord) -> Place:
        """The same, when its bytes are the published ones. TableDamaged."""
        ...


class Notes(Protocol):
    """Where it is kept how precise an index is to be."""

    def get(self, key: str) -> str | None:
        """A note, or None."""
        ...

    def set(self, key: str, value: str | None) -> None:
        """Write a note; None removes it."""
        ...


class Wished(Protocol):
    """What whoever makes a table asks of its index."""

    @property
    def precision(self) -> str | None:
        """None: as the version before."""
        ...

    @property
    def later(self) -> bool:
        """Whether the call does not wait for it."""
        ...


@dataclass(frozen=True)
class IndexState:
    """How an index is."""

    word: str
    """ready, building, missing, outdated or damaged."""
    precision: str | None
    """Of the index that is there."""
    covered: int
    """Rows that are in it."""
    rows: int
    """Rows of the table."""

    def __str__(self) -> str:
        return f"{self.precision if self.word == 'ready' else self.word}, {100 * self.covered // max(1, self.rows)} %"


class Precisions:
    """How precise the index of each table is to be. It is part of no definition, so it is noted beside the tables; what is as ever is not noted."""

    def __init__(self, notes: Notes, earlier: Callable[[TableRecord], Iterable[TableRecord]]) -> None:
        """`earlier`: the ready versions of a table's recipe before it, newest first."""
        self._notes, self._earlier = notes, earlier

    def of(self, record: TableRecord) -> str:
        """How precise the index of a table is to be."""
        return self._notes.get(_note(record)) or DEFAULT_PRECISION

    def wish(self, record: TableRecord, precision: str | None) -> bool:
        """Whether it is to be another one from now on; None is as noted, or as that of the version before."""
        was = self._notes.get(_note(record))
        if precision is None:
            before = next(iter(self._earlier(record)), None) if was is None else None
            precision = was or (self.of(before) if before is not None else DEFAULT_PRECISION)
        if precision == (was or DEFAULT_PRECISION):
            return False
        self._notes.set(_note(record), None if precision == DEFAULT_PRECISION else precision)
        return True

    def forget(self, record: TableRecord) -> None:
        """The table is about to be removed."""
        if self._notes.get(_note(record)) is not None:
            self._notes.set(_note(record), None)


def _note(record: TableRecord) -> str:
    return f"index-precision:{record.table_name}"

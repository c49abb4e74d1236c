"""The configured precision of indexes, recorded beside the tables."""

from collections.abc import Callable, Iterable
from typing import Protocol

from jammi_lab.core.records import TableRecord

DEFAULT_PRECISION = "bf16"


class IndexNotes(Protocol):
    """Storage for short notes, where the precision of each index is recorded."""

    def get(self, key: str) -> str | None:
        """A note, or None."""
        ...

    def set(self, key: str, value: str | None) -> None:
        """Write a note; None removes it."""
        ...


class PrecisionSettings:
    """The configured precision of each table's index. It is part of no definition, so it is
    recorded beside the tables; the default is not recorded."""

    def __init__(
        self, notes: IndexNotes, earlier_versions: Callable[[TableRecord], Iterable[TableRecord]]
    ) -> None:
        """`earlier_versions`: the earlier ready versions of a table's recipe, newest first."""
        self._notes, self._earlier_versions = notes, earlier_versions

    def precision_of(self, record: TableRecord) -> str:
        """The configured precision of a table's index."""
        return self._notes.get(_note_key(record)) or DEFAULT_PRECISION

    def set_precision(self, record: TableRecord, precision: str | None) -> bool:
        """Set the precision; None keeps the recorded one, or takes that of the previous version.
        Returns whether it changed."""
        recorded = self._notes.get(_note_key(record))
        if precision is None:
            previous = (
                next(iter(self._earlier_versions(record)), None) if recorded is None else None
            )
            precision = recorded or (
                self.precision_of(previous) if previous is not None else DEFAULT_PRECISION
            )
        if precision == (recorded or DEFAULT_PRECISION):
            return False
        self._notes.set(_note_key(record), None if precision == DEFAULT_PRECISION else precision)
        return True

    def remove_note(self, record: TableRecord) -> None:
        """Delete the note of a table that is about to be removed."""
        if self._notes.get(_note_key(record)) is not None:
            self._notes.set(_note_key(record), None)


def _note_key(record: TableRecord) -> str:
    return f"index-precision:{record.table_name}"

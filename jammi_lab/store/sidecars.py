"""Files that belong to a ready table and are derived from it, as an index: the store asks for them through what the rooms beside it register."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from jammi_lab.errors import JammiError
from jammi_lab.values.records import Progress, TableRecord


@dataclass(frozen=True)
class Wish:
    """What whoever makes a table asks of what follows it."""

    precision: str | None = None
    """How precisely an index stores the vectors; None is as the version before."""
    later: bool = False
    """Whether it may come after the call has returned."""


class Builder(Protocol):
    """Makes the files of one kind. A table without them is ready all the same, so nothing here raises because they cannot be made."""

    def follow(self, record: TableRecord, wish: Wish, on_progress: Callable[[Progress], None] | None) -> None:
        """Make what a table that is ready now lacks. KeyboardInterrupt."""
        ...

    def lacking(self, record: TableRecord, *, deep: bool) -> str | None:
        """What is wrong with the files of a ready table, in words; None when nothing is. `deep` reads their bytes. OSError, JammiError."""
        ...

    def restored(self, record: TableRecord, *, at_once: bool) -> bool:
        """Whether what a ready table lacked is there again; unless `at_once`, what takes long is only begun."""
        ...

    def told(self, record: TableRecord) -> str | None:
        """What a board says of the files of a ready table; None for a table that has none."""
        ...

    def gone(self, record: TableRecord) -> None:
        """The table is about to be removed."""
        ...


class Sidecars:
    """The builders that were registered."""

    def __init__(self) -> None:
        self._builders: list[Builder] = []
        self._lacking: dict[str, TableRecord] = {}  # those that lacked something after it was to be made

    def register(self, builder: Builder) -> None:
        """Ask this one too from now on."""
        self._builders.append(builder)

    def follow(self, record: TableRecord, wish: Wish, on_progress: Callable[[Progress], None] | None = None) -> None:
        """Make what a table that is ready now lacks. KeyboardInterrupt."""
        for builder in self._builders:
            builder.follow(record, wish, on_progress)
        if not wish.later and self._lacks(record):
            self._lacking[record.table_name] = record

    def left_lacking(self) -> bool:
        """Whether a table still lacks what should have been made here and could not be written."""
        return any(self._lacks(record) for record in self._lacking.values())

    def _lacks(self, record: TableRecord) -> bool:
        try:
            return self.lacking(record, deep=False) is not None
        except (JammiError, OSError):
            return True

    def lacking(self, record: TableRecord, *, deep: bool) -> str | None:
        """What is wrong with the files of a ready table, in words; None when nothing is. OSError, JammiError."""
        return next((said for builder in self._builders if (said := builder.lacking(record, deep=deep)) is not None), None)

    def restored(self, record: TableRecord, *, at_once: bool) -> bool:
        """Whether something that a ready table lacked is there again."""
        found = [builder.restored(record, at_once=at_once) for builder in self._builders]
        if not any(found) and self._lacks(record):
            self._lacking[record.table_name] = record
        return any(found)

    def told(self, record: TableRecord) -> str | None:
        """What a board says of a ready table; None for nothing."""
        return next((said for builder in self._builders if (said := builder.told(record)) is not None), None)

    def gone(self, record: TableRecord) -> None:
        """The table is about to be removed."""
        self._lacking.pop(record.table_name, None)
        for builder in self._builders:
            builder.gone(record)

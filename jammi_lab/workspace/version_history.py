"""The versions of a table, with what each of them changed."""

import functools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol, TypeVar

from jammi_lab.core.attribute_suggestions import answer_name_in_list
from jammi_lab.core.command_hints import cell_or_python, command_line
from jammi_lab.core.forms import listing_table
from jammi_lab.core.html import Rendered, ReprMixin, count_noun, format_bytes

MAX_COMPARED_VERSIONS = 10
"""Maximum number of versions that are compared with the one before; the newest ones are."""


class ListedVersion(Protocol):
    """What a history shows of a version, as a ResultTable has it."""

    @property
    def version(self) -> int:
        """Its number."""

    @property
    def table_name(self) -> str:
        """The physical table with its rows, which a restored version shares with an earlier one."""

    @property
    def status(self) -> str:
        """`ready` or `rejected`."""

    @property
    def row_count(self) -> int | None:
        """The number of its rows."""

    @property
    def bytes(self) -> int | None:
        """The size of its file."""

    @property
    def pinned(self) -> bool:
        """Whether it is exempt from `expire`."""

    @property
    def note(self) -> str | None:
        """Why it is pinned."""

    @property
    def completed_at(self) -> str | None:
        """When its rows were computed."""


V = TypeVar("V", bound=ListedVersion)


class VersionHistory(list[V], ReprMixin):
    """The versions of a table, newest first, with the time at which each was completed and what it
    changed in the rows of the ready one before. `describe_changes` describes what a later version
    changed in a former one: `price: 3 of 200,000 rows`."""

    __repr__ = ReprMixin.__repr__
    if not TYPE_CHECKING:
        __getitem__ = answer_name_in_list

    def __init__(
        self, name: str, versions: Iterable[V], describe_changes: Callable[[V, V], str]
    ) -> None:
        super().__init__(versions)
        self.name, self._describe_changes = name, describe_changes

    def former(self, table: V) -> V | None:
        """The newest ready version before this one."""
        earlier = (t for t in self if t.version < table.version and t.status == "ready")
        return next(earlier, None)

    @functools.cached_property
    def changes(self) -> dict[int, str]:
        """What the newest versions changed, by version. Empty for a version whose difference is not
        known, as of large tables."""
        pairs = [(t, self.former(t)) for t in [*self][:MAX_COMPARED_VERSIONS]]
        return {new.version: self._describe_changes(new, old) for new, old in pairs if old}

    def notes(self, table: V) -> list[str]:
        """Whether a version is pinned, was rejected or has the rows of an earlier one, as after
        `restore`, and the note of its pin."""
        same = [t.version for t in self if t.table_name == table.table_name]
        words = [
            "pinned" if table.pinned else "",
            "rejected" if table.status == "rejected" else "",
            f"rows of version {same[-1]}" if same[-1] < table.version else "",
            table.note or "",
        ]
        return [word for word in words if word]

    def _rendered(self) -> Rendered:
        rows = [
            (
                t.version,
                None if t.row_count is None else f"{t.row_count:,}",
                format_bytes(t.bytes),
                ", ".join(self.notes(t)),
                completion_time(t),
                self.changes.get(t.version, ""),
            )
            for t in self
        ]
        return listing_table(
            ["version", "rows", "size", "note", "completed (UTC)", "changed"],
            rows,
            aligned="rrllll",
            optional=["note"],
            caption=self.name,
            note="; ".join([count_noun(len(self), "version"), *self._command_note()]),
        )

    def _command_note(self) -> list[str]:
        """How to see the rows in which the newest ready version and the one before differ."""
        new = next((t for t in self if t.status == "ready" and self.former(t)), None)
        if new is None or (old := self.former(new)) is None:
            return []
        cell = command_line("%jammi", "diff", self.name, f"{old.version}", f"{new.version}")
        python = f"ws.table({self.name!r}, {new.version}).diff({old.version})"
        return [f"{cell_or_python(cell, python)} shows the rows that changed"]


def completion_time(table: ListedVersion) -> str:
    """When a version was completed, in seconds of UTC."""
    return (table.completed_at or "")[:19].replace("T", " ")

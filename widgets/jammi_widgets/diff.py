"""The difference panel: what changed between two versions of a table."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import traitlets

from jammi_lab.core import forms, html
from jammi_lab.core.display_values import to_display
from jammi_lab.core.errors import InvalidArgument, RowNotFound
from jammi_lab.core.forms import shown_type
from jammi_lab.core.html import (
    Rendered,
    count_noun,
    escape_invisible,
    plain_text,
    vstack,
)
from jammi_lab.core.verdicts import reasons_of
from jammi_lab.freshness.explain import verdict_on_former
from jammi_lab.inputs.version_changes import ChangeSummary
from jammi_lab.workspace.result_table import ResultTable, completion_time
from jammi_widgets import assets, protocol
from jammi_widgets.panel import Panel
from jammi_widgets.results import Cell, display_cell

if TYPE_CHECKING:
    import pyarrow as pa

    from jammi_lab.workspace.workspace import Workspace

MAX_LISTED_ROWS = 2_000
"""Maximum number of rows listed of each part; the counts cover all rows."""
MAX_LISTED_COLUMNS = 30
_SAVED_ROWS = 10
_PARTS = ("changed", "added", "removed")
_METHODS = {
    "key": "Rows are matched by key.",
    "position": "The versions have no common key: rows are matched by position.",
    "row": "The versions have no common key: rows are compared as whole rows.",
}


class ListedRow(msgspec.Struct):
    """A row of the list. A changed row has former and later values."""

    key: str
    """Its key as text, or its number."""
    labels: list[Cell]
    """What identifies it."""
    values: list[Cell] = []
    """Its values."""
    old: list[Cell] | None = None
    """The former values; None for added and removed rows."""
    changed: list[bool] = []
    """Which values differ."""
    text: str = ""
    """What the filter is searched in."""


class DiffView(Panel):
    """What changed between two versions of a table: rows added, removed and changed, the columns
    with the number of rows in which they differ, and the inputs that differ.

    By default the newest version is compared with the one before it. `selection` holds the keys of
    the selected rows as text, or their numbers in a table without a key; `filter` is searched in
    the listed rows. Raises TableNotFound, also for a table of one version; TableDamaged.
    """

    _esm = assets.module("diff")

    def __init__(
        self,
        ws: "Workspace",
        name: str | ResultTable,
        old: int | None = None,
        new: int | None = None,
    ) -> None:
        self._new_table = ws.table(name, new)
        self._comparison, self._old_version = self._new_table._comparison(old)
        self._lists: dict[str, list[ListedRow]] = {}
        super().__init__(ws)
        self.observe(lambda _: self._send_message({"kind": "filtered"}), names="filter")

    @property
    def old(self) -> int:
        """The former version."""
        return self._old_version.version

    @property
    def new(self) -> int:
        """The later version."""
        return self._new_table._table_version.version.version

    @property
    def summary(self) -> ChangeSummary:
        """The numbers of rows and columns that differ."""
        return self._comparison.summary

    def _reload(self) -> bool:
        """Compare the newest version with the one before it."""
        self._show_versions(None, None)
        return True

    def _shown_tables(self) -> list[ResultTable]:
        newest = self._ws.table(self._new_table.name)
        return [newest] if newest.version == self.new else []  # others are history

    def _show_versions(self, old: int | None, new: int | None) -> None:
        table = self._ws.table(self._new_table.name, new)
        self._comparison, self._old_version = table._comparison(old)
        self._new_table = table
        self._lists = {}
        self.selection = []

    @traitlets.validate("selection")
    def _validate_selection(self, proposal: dict[str, Any]) -> list[str]:
        known = {row.key for part in _PARTS for row in self._listed_rows(part)}
        for key in proposal["value"]:
            if key not in known:
                raise RowNotFound(
                    f"{escape_invisible(key)!r} is not among the listed rows.",
                    hint="A row is selected by its key as text.",
                )
        return list(proposal["value"])

    # -- rows
    # ----------------------------------------------------------------------------------------------

    def _listed_rows(self, part: str) -> list[ListedRow]:
        """The first rows of one part, read on first use."""
        if part not in self._lists:
            self._lists[part] = self._read_rows(part) if getattr(self.summary, part) else []
        return self._lists[part]

    def _read_rows(self, part: str) -> list[ListedRow]:
        if part == "changed":
            labels, old, new, differs = self._comparison.changed_rows(MAX_LISTED_ROWS)
            marks = [column.to_pylist() for column in differs.columns]
            label_rows, new_rows, old_rows = _cells(labels), _cells(new), _cells(old)
            key_count = len(self._comparison.key) or 1
            rows = [
                ListedRow(
                    _key_text(label_rows[i][:key_count]),
                    label_rows[i],
                    *_distinct_cells(new_rows[i], old_rows[i]),
                    [column[i] for column in marks],
                )
                for i in range(len(label_rows))
            ]
        else:
            table = self._comparison.rows(part, MAX_LISTED_ROWS)  # type: ignore[arg-type]
            key = self._comparison.key
            others = [c for c in table.column_names if c not in key]
            numbers: list[list[Cell]] = [[str(i)] for i in range(1, table.num_rows + 1)]
            labels_of = _cells(table.select(key)) if key else numbers
            rows = [
                ListedRow(_key_text(label), label, values)
                for label, values in zip(labels_of, _cells(table.select(others)), strict=True)
            ]
        for row in rows:
            shown = [*row.labels, *row.values, *(row.old or [])]
            row.text = "\n".join(map(_whole_text, shown)).casefold()
        return rows

    def _columns(self, part: str) -> tuple[list[str], list[str]]:
        """The names of the label columns and of the value columns of a part."""
        if part == "changed":
            names = [c.name for c in self.summary.columns]
            labels = self._comparison.label_names
        else:
            labels = self._comparison.key or ["row"]
            record = self._comparison.old if part == "removed" else self._comparison.new
            all_names = [c.name for c in record.columns]
            names = [
                c
                for c in all_names
                if c not in labels and (self._comparison.key or c in self._comparison.common)
            ]
        return labels, names[:MAX_LISTED_COLUMNS]

    # -- messages
    # ----------------------------------------------------------------------------------------------

    def _answer(self, message: Any) -> dict[str, Any] | None:
        match message:
            case protocol.DiffRows():
                return self._rows_message(message)
            case protocol.CompareVersions(old=old, new=new):
                self._show_versions(old, new)
        return None

    def _body(self) -> dict[str, Any]:
        summary, record = self.summary, self._comparison.new
        return {
            "name": escape_invisible(self._new_table.name),
            "old": self.old,
            "new": self.new,
            "versions": [
                [t.version, completion_time(t)[:16], t.status == "rejected"]
                for t in self._ws._services.tables.history(self._new_table.name)
            ],
            "total": record.row_count or 0,
            "parts": {part: getattr(summary, part) for part in _PARTS},
            "columns": [
                {"name": escape_invisible(c.name), "type": shown_type(c.type), "rows": c.rows}
                for c in summary.columns
            ],
            "lines": self._note_lines(),
            "causes": self._cause_lines(),
        }

    def _cause_lines(self) -> list[str]:
        verdict = verdict_on_former(self._comparison.old, self._comparison.new)
        lines = [f"{escape_invisible(reason)}." for reason in reasons_of(verdict)]
        return lines or ["No recorded input differs."]

    def _note_lines(self) -> list[str]:
        """How rows were compared, and the columns that are not compared or were not read."""
        summary = self.summary
        lines = [_METHODS[summary.compared_by]]
        for word, names in (
            ("Columns added", summary.columns_added),
            ("Columns removed", summary.columns_removed),
            ("Equal byte for byte, not read", summary.skipped_columns),
        ):
            if names:
                lines.append(f"{word}: {', '.join(map(escape_invisible, names))}.")
        return lines

    def _rows_message(self, request: protocol.DiffRows) -> dict[str, Any]:
        labels, names = self._columns(request.part)
        rows: Sequence[ListedRow] = self._listed_rows(request.part)
        listed, column = len(rows), request.column
        if column is not None:
            if request.part != "changed" or column >= len(names):
                raise InvalidArgument(f"There is no changed column {column + 1}.")
            rows = [row for row in rows if row.changed[column]]
        if self.filter.strip():
            needle = self.filter.strip().casefold()
            rows = [row for row in rows if needle in row.text]
        total = getattr(self.summary, request.part)
        page = rows[request.offset : request.offset + request.limit]
        return {
            "part": request.part,
            "labels": [escape_invisible(c) for c in labels],
            "keys": len(self._comparison.key) or 1,
            "columns": [escape_invisible(c) for c in names],
            "rows": [_row_message(row, len(names)) for row in page],
            "offset": request.offset,
            "further": request.offset + request.limit < len(rows),
            "matches": len(rows),
            "limit_note": f"The first {listed:,} of {count_noun(total, 'row')} are listed."
            if listed < total
            else "",
        }

    # -- static form
    # ----------------------------------------------------------------------------------------------

    def _rendered(self) -> Rendered:
        summary = self.summary
        title = f"{self._new_table.name}, version {self.old} → {self.new}: {summary}"
        columns = [(c.name, shown_type(c.type), f"{c.rows:,}") for c in summary.columns]
        return vstack(
            plain_text(title),
            html.bullet_list([*self._cause_lines(), *self._note_lines()]),
            forms.table(["column", "type", "rows changed"], columns, aligned="llr")
            if columns
            else None,
            *(self._saved_rows(part) for part in _PARTS if getattr(summary, part)),
        )

    def _saved_rows(self, part: str) -> Rendered:
        labels, names = self._columns(part)
        rows = self._listed_rows(part)[:_SAVED_ROWS]
        total = getattr(self.summary, part)
        texts = [
            [*map(_cell_text, row.labels), *(_change_text(row, i) for i in range(len(names)))]
            for row in rows
        ]
        note = f", the first {len(rows)}" if len(rows) < total else ""
        return vstack(
            plain_text(f"{part} ({count_noun(total, 'row')}{note})"),
            forms.table([*labels, *names], texts),
        )


def _cells(table: "pa.Table") -> list[list[Cell]]:
    """The rows of a table as cells for the page."""
    table = table.select(range(min(MAX_LISTED_COLUMNS, table.num_columns)))
    columns = [[display_cell(v) for v in to_display(column)] for column in table.columns]
    return [[column[i] for column in columns] for i in range(table.num_rows)]


def _cell_text(cell: Cell) -> str:
    return "NULL" if cell is None else str(cell["text"]) if isinstance(cell, dict) else cell


def _whole_text(cell: Cell) -> str:
    """The text of a cell before it was shortened or rounded."""
    return cell["whole"] if isinstance(cell, dict) and "whole" in cell else _cell_text(cell)


def _distinct_cells(new: list[Cell], old: list[Cell]) -> tuple[list[Cell], list[Cell]]:
    """Later and former values; those that are equal only because they were rounded as they are."""
    pairs = [
        (_whole_text(a), _whole_text(b))
        if isinstance(a, dict | str)
        and isinstance(b, dict | str)
        and _cell_text(a) == _cell_text(b)
        and _whole_text(a) != _whole_text(b)
        else (a, b)
        for a, b in zip(new, old, strict=True)
    ]
    return [a for a, _ in pairs], [b for _, b in pairs]


def _key_text(labels: Sequence[Cell]) -> str:
    return ", ".join(map(_whole_text, labels))


def _change_text(row: ListedRow, column: int) -> str:
    """A value; of a changed one also the former value."""
    new = _cell_text(row.values[column])
    if row.old is None or not row.changed[column]:
        return new
    return f"{_cell_text(row.old[column])} → {new}"


def _row_message(row: ListedRow, column_count: int) -> dict[str, Any]:
    message: dict[str, Any] = {
        "key": row.key,
        "labels": row.labels,
        "values": row.values[:column_count],
    }
    if row.old is not None:
        message |= {"old": row.old[:column_count], "changed": row.changed[:column_count]}
    return message

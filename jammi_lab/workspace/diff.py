"""The difference between two versions of a table."""

from dataclasses import replace
from typing import TYPE_CHECKING

from jammi_lab.core import reprs
from jammi_lab.core.html import Rendered, ReprMixin, count_noun, plain_text, vstack
from jammi_lab.core.records import TableRecord
from jammi_lab.engine.name_resolution import FixedNames
from jammi_lab.inputs.result_names import ResultKind
from jammi_lab.inputs.version_changes import (
    NEW,
    OLD,
    VersionComparison,
    skip_rows,
)
from jammi_lab.sources.base import ReadPlan, Relation
from jammi_lab.sources.scratch_duckdb import shown_types

if TYPE_CHECKING:
    import pyarrow as pa


class Diff(ReprMixin):
    """The difference between two versions, as Arrow tables."""

    def __init__(
        self,
        title: str,
        added: "pa.Table",
        removed: "pa.Table",
        changed: "pa.Table",
        before: "pa.Table",
    ) -> None:
        self.title = title
        """The versions that are compared."""
        self.added = added
        """Rows that only the later version has."""
        self.removed = removed
        """Rows that only the former version has."""
        self.changed = changed
        """Rows whose key both versions have, with the later version's values."""
        self.before = before
        """The same rows, in the same order, with the former version's values."""
        self.columns_added: list[str] = []
        """Columns that only the later version has, or that have another type there. Rows are not
        compared on them."""
        self.rounded: int = 0
        """Floating-point numbers in rows with a key that are equal but for rounding. They count as
        equal."""
        self.columns_removed: list[str] = []
        """Columns that only the former version has, or that have another type there."""

    def __bool__(self) -> bool:
        return bool(
            self.added.num_rows
            or self.removed.num_rows
            or self.changed.num_rows
            or self.columns_added
            or self.columns_removed
        )

    def _rendered(self) -> Rendered:
        parts = [
            ("added", self.added, None),
            ("removed", self.removed, None),
            ("changed", self.changed, self.before),
        ]
        row_counts = ", ".join(
            f"{count_noun(rows.num_rows, 'row')} {word}" for word, rows, _ in parts if rows.num_rows
        )
        columns = []
        for w, c in (("added", self.columns_added), ("removed", self.columns_removed)):
            if c:
                columns.append(f"columns {w}: {', '.join(c)}")
        if self.rounded:
            columns.append(f"{count_noun(self.rounded, 'number')} equal but for rounding")
        summary = "; ".join([row_counts or "no row differs", *columns])
        return vstack(
            plain_text(f"{self.title}: {summary}"),
            *(
                reprs.rows_preview(rows, shown_types(rows.schema), rows.num_rows, word, before)
                for word, rows, before in parts
                if rows.num_rows
            ),
        )


def compared_tables(
    tables: ResultKind, new: TableRecord, old: TableRecord, skipped_rows: int
) -> FixedNames:
    """Resolves the two tables that are compared, without their first rows, under reserved names."""

    def remaining_rows(name: str, record: TableRecord) -> Relation:
        relation = tables.relation(record, name, record.version)
        body = skip_rows(relation.read.body or "", skipped_rows)
        return replace(relation, read=ReadPlan(body=body))

    return FixedNames({NEW: remaining_rows(NEW, new), OLD: remaining_rows(OLD, old)})


def diff_of(comparison: VersionComparison, title: str) -> Diff:
    """All rows that differ: by key when both versions have the same one, else as multisets."""
    diff = Diff(title, *(comparison.query(s) for s in comparison.statements))
    new, old = comparison.new, comparison.old
    if new.key != old.key:
        diff.title += " (the keys differ, so that a changed row is removed and added)"
    diff.rounded = comparison.summary.rounded if comparison.key else 0
    diff.columns_added = [c.name for c in new.columns if c.name not in comparison.common]
    diff.columns_removed = [c.name for c in old.columns if c.name not in comparison.common]
    return diff

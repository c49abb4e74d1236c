"""The difference between two versions of a table."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from jammi_lab.core import reprs
from jammi_lab.core.html import Rendered, ReprMixin, count_noun, plain_text, vstack
from jammi_lab.core.records import TableRecord, TableVersion
from jammi_lab.inputs.result_names import ResultTableResolver
from jammi_lab.inputs.version_changes import (
    EVERYTHING,
    NEW,
    OLD,
    Window,
    Windows,
    skip_rows,
    statements_as_bags,
    statements_by_key,
    unused_name,
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
        parts = [("added", self.added), ("removed", self.removed), ("changed", self.changed)]
        row_counts = ", ".join(
            f"{count_noun(rows.num_rows, 'row')} {word}" for word, rows in parts if rows.num_rows
        )
        columns = [
            f"columns {w}: {', '.join(c)}"
            for w, c in (("added", self.columns_added), ("removed", self.columns_removed))
            if c
        ]
        summary = "; ".join([row_counts or "no row differs", *columns])
        return vstack(
            plain_text(f"{self.title}: {summary}"),
            *(
                reprs.rows_preview(word, rows, shown_types(rows.schema))
                for word, rows in parts
                if rows.num_rows
            ),
        )


class ComparedTables:
    """Resolves the two tables that are compared, or some of their rows, under reserved names."""

    def __init__(
        self,
        tables: ResultTableResolver,
        new: TableRecord,
        old: TableRecord,
        windows: Windows = EVERYTHING,
    ) -> None:
        self._relations = {
            name: _limited(tables.relation(record, name, record.version), window)
            for name, record, window in ((NEW, new, windows.new), (OLD, old, windows.old))
        }

    def resolve(self, parts: tuple[str, ...]) -> Relation | None:
        """The relation of one of the two names."""
        return self._relations.get(parts[0]) if len(parts) == 1 else None

    def names(self) -> Sequence[str]:
        """Empty: the names are not offered for completion."""
        return []


def _limited(relation: Relation, window: Window) -> Relation:
    if relation.read.body is None or window == Window(0):
        return relation
    return replace(relation, read=ReadPlan(body=skip_rows(relation.read.body, window)))


def compare(new: TableVersion, old: TableVersion, query: "Callable[[str], pa.Table]") -> Diff:
    """The difference from `old` to `new`: by key when both have the same one, else as multisets of
    rows. `query` runs a statement over both tables."""
    later, former = new.record, old.record
    types, former_types = ({c.name: c.type for c in r.columns} for r in (later, former))
    common = [c for c in types if former_types.get(c) == types[c]]
    has_common_key = bool(later.key) and later.key == former.key and set(later.key) <= set(common)
    aliases = (unused_name(name, {*types, *former_types}) for name in ("n", "o"))
    statements = (
        statements_by_key(later.key, [c for c in common if c not in later.key], *aliases)
        if has_common_key
        else statements_as_bags(common)
    )
    added, removed, changed, before = map(query, statements)
    title = f"{old.version.recipe}, version {old.version.version} → {new.version.version}"
    diff = Diff(title, added, removed, changed, before)
    diff.columns_added = [c for c in types if c not in common]
    diff.columns_removed = [c for c in former_types if c not in common]
    return diff

"""The difference between two versions of a table."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from jammi_lab.core import reprs
from jammi_lab.core.display_values import to_display
from jammi_lab.core.html import Rendered, ReprMixin, count_noun, plain_text, vstack
from jammi_lab.core.identifiers import fold, quote_identifier
from jammi_lab.core.records import TableRecord
from jammi_lab.inputs.source_names import ResultTableResolver
from jammi_lab.sources.base import ReadPlan, Relation
from jammi_lab.sources.scratch_duckdb import shown_types
from jammi_lab.workspace.lookup import TableVersion

if TYPE_CHECKING:
    import pyarrow as pa

NEW, OLD = "__jammi_new", "__jammi_old"
"""The names of the compared tables in statements."""
_MAX_SHOWN_ROWS = 10


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
            *(rows_preview(word, rows) for word, rows in parts if rows.num_rows),
        )


def rows_preview(caption: str, rows: "pa.Table", total: int | None = None) -> Rendered:
    """The first of some rows, of which there are `total`; None: no more than these."""
    first = rows.slice(0, _MAX_SHOWN_ROWS)
    values = [list(row) for row in zip(*map(to_display, first.columns), strict=True)]
    return reprs.preview(
        rows.schema.names,
        shown_types(rows.schema),
        values,
        total=rows.num_rows if total is None else total,
        caption=caption,
    )


class ComparedTables:
    """Resolves the two tables that are compared, under reserved names, without their first
    `skipped_rows` rows."""

    def __init__(
        self,
        tables: ResultTableResolver,
        new: TableRecord,
        old: TableRecord,
        skipped_rows: int = 0,
    ) -> None:
        self._relations = {
            name: _skip_rows(tables.relation(record, name, record.version), skipped_rows)
            for name, record in ((NEW, new), (OLD, old))
        }

    def resolve(self, parts: tuple[str, ...]) -> Relation | None:
        """The relation of one of the two names."""
        return self._relations.get(parts[0]) if len(parts) == 1 else None

    def names(self) -> Sequence[str]:
        """Empty: the names are not offered for completion."""
        return []


def _skip_rows(relation: Relation, row_count: int) -> Relation:
    """The relation of a result table without its first rows. DuckDB skips the row groups that the
    condition on the row number excludes."""
    if not row_count:
        return relation
    body = f"{relation.read.body} WHERE file_row_number >= {row_count}"
    return replace(relation, read=ReadPlan(body=body))


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


def statements_by_key(
    key: Sequence[str], value_columns: Sequence[str], new: str, old: str
) -> list[str]:
    """Statements for added, removed, changed, before. `new` and `old` are the table aliases."""
    tables = {new: f"{NEW} AS {new}", old: f"{OLD} AS {old}"}
    keys_equal = " AND ".join(
        f"{new}.{quote_identifier(k)} = {old}.{quote_identifier(k)}" for k in key
    )
    values_differ = rows_differ(value_columns, new, old)

    def order_terms(table: str) -> str:
        return ", ".join(f"{table}.{quote_identifier(k)}" for k in key)

    def rows_only_in(one: str, other: str) -> str:
        return (
            f"SELECT {one}.* FROM {tables[one]} WHERE NOT EXISTS (SELECT 1 FROM {tables[other]} "
            f"WHERE {keys_equal}) ORDER BY {order_terms(one)}"
        )

    def changed_rows(side: str) -> str:
        return (
            f"SELECT {side}.* FROM {tables[new]} JOIN {tables[old]} ON {keys_equal} WHERE "
            f"{values_differ} ORDER BY {order_terms(new)}"
        )

    return [rows_only_in(new, old), rows_only_in(old, new), changed_rows(new), changed_rows(old)]


def rows_differ(columns: Sequence[str], new: str, old: str) -> str:
    """The condition that a pair of rows differs in one of these columns."""
    names = map(quote_identifier, columns)
    return " OR ".join(f"{new}.{c} IS DISTINCT FROM {old}.{c}" for c in names) or "false"


def unused_name(name: str, columns: Collection[str]) -> str:
    """A table alias that equals no column name."""
    used = {fold(c) for c in columns}
    while name in used:
        name += "_"
    return name


def statements_as_bags(common: Sequence[str]) -> list[str]:
    """Statements for added, removed, changed, before. Rows are compared as multisets; without a key
    no row counts as changed."""
    empty_statements = [f"FROM {NEW} LIMIT 0", f"FROM {OLD} LIMIT 0"]
    if not common:  # no column is left to compare on
        return [f"FROM {NEW} ORDER BY ALL", f"FROM {OLD} ORDER BY ALL", *empty_statements]
    columns = ", ".join(map(quote_identifier, common))

    def rows_only_in(one: str, other: str) -> str:
        return f"SELECT {columns} FROM {one} EXCEPT ALL SELECT {columns} FROM {other} ORDER BY ALL"

    return [rows_only_in(NEW, OLD), rows_only_in(OLD, NEW), *empty_statements]

"""Column lineage of a statement: the input columns that each output column depends on. It comes
from DuckDB's optimized plans, not from the SQL text."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from jammi_lab.core.anchors import Identity
from jammi_lab.core.errors import JammiError
from jammi_lab.core.identifiers import ascii_lower, fold
from jammi_lab.engine.prepared_statement import PreparedStatement
from jammi_lab.engine.sql.allowlist import walk_nodes
from jammi_lab.engine.sql.parse import StatementKind
from jammi_lab.engine.sql.read_set import ColumnsRead, bind_columns

MAX_TRACED_COLUMNS = 250
"""A table with more columns has no column lineage: each is bound alone, which takes milliseconds,
and where that is not possible each depends on every column that was read."""


@dataclass(frozen=True, slots=True)
class ColumnReads:
    """The input columns that one output column depends on."""

    column: str
    """The name of the output column."""
    reads: Mapping[Identity, frozenset[str]]
    """All columns that may affect its values or the set of rows, by input identity. May contain too
    many, never too few."""
    direct: Mapping[Identity, frozenset[str]]
    """The subset that its values are computed from, as far as it can be determined; the others
    filter, join or group."""


def column_reads(prepared: PreparedStatement) -> list[ColumnReads] | None:
    """One entry per output column, in order; None for a statement whose columns cannot be selected
    one by one."""
    parsed = prepared._parsed
    if parsed.kind is not StatementKind.SELECT or not prepared.output:
        return None
    params = {name: value for name, value in prepared.params.items() if name in parsed.parameters}
    try:
        reads_by_column, reads_of_row_count = prepared._pool.with_replicas(
            lambda twins: bind_columns(
                twins, parsed.text, prepared._schemas, params, len(prepared.output)
            ),
        )
    except (duckdb.Error, JammiError):
        return None
    row_reads = _by_input(prepared, reads_of_row_count)
    references = _referenced_columns(parsed.tree, len(prepared.output))
    return [
        _column_lineage(
            name,
            _by_input(prepared, reads),
            row_reads,
            None if references is None else references[index] or {ascii_lower(name)},
        )
        for index, ((name, _), reads) in enumerate(
            zip(prepared.output, reads_by_column, strict=True)
        )
    ]


def _by_input(prepared: PreparedStatement, reads: ColumnsRead) -> dict[Identity, frozenset[str]]:
    by_identity: dict[Identity, set[str]] = {}
    for parts, columns in reads.items():
        relation = prepared._relations[parts]
        inputs = (
            [(relation, tuple(columns))]
            if relation.read.computed is None
            else [(r.relation, r.columns) for r in relation.read.computed.inputs(columns)]
        )
        for read, column_names in inputs:
            by_identity.setdefault(read.input.identity, set()).update(column_names)
    return {identity: frozenset(columns) for identity, columns in by_identity.items()}


def _column_lineage(
    name: str,
    reads: Mapping[Identity, frozenset[str]],
    row_reads: Mapping[Identity, frozenset[str]],
    references: set[str] | None,
) -> ColumnReads:
    """The lineage of one output column. An input column is direct if the row count does not depend
    on it, or if the output's expression names it."""
    if references is None:
        return ColumnReads(name, reads, reads)
    direct = {
        identity: frozenset(
            c
            for c in columns
            if c not in row_reads.get(identity, ()) or ascii_lower(c) in references
        )
        for identity, columns in reads.items()
    }
    return ColumnReads(name, reads, direct)


def _referenced_columns(tree: dict[str, Any], columns: int) -> list[set[str]] | None:
    """The column names referenced by each item of a plain select list (empty sets when it has a
    star); None for a statement with subqueries, where a name may not mean an input column."""
    select = tree.get("select_list") or []
    if tree.get("type") != "SELECT_NODE" or any(
        n is not tree and _is_query(n) for n in walk_nodes(tree)
    ):
        return None
    if len(select) != columns or any(n.get("type") == "STAR" for n in walk_nodes(select)):
        return [set() for _ in range(columns)]
    return [
        {
            ascii_lower(part)
            for n in walk_nodes(item)
            if n.get("type") == "COLUMN_REF"
            for part in n["column_names"]
        }
        for item in select
    ]


def _is_query(node: dict[str, Any]) -> bool:
    kind = node.get("type")
    return isinstance(kind, str) and (kind.endswith("_NODE") or kind in ("SUBQUERY", "PIVOT"))


def combine_reads(
    name: str, values: Sequence[ColumnReads], others: Sequence[ColumnReads]
) -> ColumnReads:
    """The lineage of a column whose values come from `values`; `others` affect which rows there are
    or which belong together."""
    return ColumnReads(
        name,
        union_reads(c.reads for c in (*values, *others)),
        union_reads(c.direct for c in values),
    )


def select_reads(columns: Sequence[ColumnReads], names: Iterable[str]) -> list[ColumnReads]:
    """The entries of these columns."""
    by_fold = {fold(c.column): c for c in columns}
    return [by_fold[fold(name)] for name in names]


def union_reads(
    reads_of_columns: Iterable[Mapping[Identity, frozenset[str]]],
) -> dict[Identity, frozenset[str]]:
    """The union of several dependencies."""
    merged: dict[Identity, frozenset[str]] = {}
    for reads in reads_of_columns:
        for identity, columns in reads.items():
            merged[identity] = merged.get(identity, frozenset()) | columns
    return merged

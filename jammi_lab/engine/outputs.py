"""Which columns of the inputs each output column of a statement rests on: the binder's answer, not a reading of the text."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import duckdb

from jammi_lab.engine.gate import nodes
from jammi_lab.engine.prepared import Prepared
from jammi_lab.engine.readset import Reads, bind_columns
from jammi_lab.engine.statements import Form
from jammi_lab.errors import JammiError
from jammi_lab.names import ascii_lower

Identity = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class ColumnReads:
    """What one output column rests on."""

    column: str
    """Its name."""
    reads: Mapping[Identity, frozenset[str]]
    """All columns that may change one of its values or the rows that there are, by the identity of the input; never too few."""
    direct: Mapping[Identity, frozenset[str]]
    """Those among them whose values go into its own, as far as can be told; the others filter, join or group."""


def column_reads(prepared: Prepared) -> list[ColumnReads] | None:
    """One entry per output column, in order; None for a statement whose columns cannot be asked for one by one."""
    parsed = prepared._parsed
    if parsed.form is not Form.SELECT or not prepared.output:
        return None
    params = {name: value for name, value in prepared.params.items() if name in parsed.parameters}
    try:
        found, shaping = prepared._engine.on_twins(
            prepared._tenant, lambda twins: bind_columns(twins, parsed.text, prepared._schemas, params, len(prepared.output))
        )
    except (duckdb.Error, JammiError):
        return None
    rows = _by_input(prepared, shaping)
    named = _named(parsed.tree, len(prepared.output))
    return [
        _one(name, _by_input(prepared, reads), rows, None if named is None else named[at] or {ascii_lower(name)})
        for at, ((name, _), reads) in enumerate(zip(prepared.output, found, strict=True))
    ]


def _by_input(prepared: Prepared, reads: Reads) -> dict[Identity, frozenset[str]]:
    united: dict[Identity, set[str]] = {}
    for parts, columns in reads.items():
        relation = prepared._found[parts]
        each = [(relation, tuple(columns))] if relation.computed is None else [(r.relation, r.columns) for r in relation.computed.reads(columns)]
        for read, these in each:
            united.setdefault(read.input.identity, set()).update(these)
    return {identity: frozenset(columns) for identity, columns in united.items()}


def _one(name: str, reads: Mapping[Identity, frozenset[str]], rows: Mapping[Identity, frozenset[str]], named: set[str] | None) -> ColumnReads:
    """A column that the number of rows does not rest on is there for its value; of the others those are that the expression names."""
    if named is None:
        return ColumnReads(name, reads, reads)
    direct = {
        identity: frozenset(c for c in columns if c not in rows.get(identity, ()) or ascii_lower(c) in named) for identity, columns in reads.items()
    }
    return ColumnReads(name, reads, direct)


def _named(tree: dict[str, Any], columns: int) -> list[set[str]] | None:
    """The words of the column references in each item of a plain select list, empty for what stars put out; None for a statement inside which
    names mean something else than a column of an input."""
    select = tree.get("select_list") or []
    if tree.get("type") != "SELECT_NODE" or any(n is not tree and _is_query(n) for n in nodes(tree)):
        return None
    if len(select) != columns or any(n.get("type") == "STAR" for n in nodes(select)):
        return [set() for _ in range(columns)]
    return [{ascii_lower(part) for n in nodes(item) if n.get("type") == "COLUMN_REF" for part in n["column_names"]} for item in select]


def _is_query(node: dict[str, Any]) -> bool:
    kind = node.get("type")
    return isinstance(kind, str) and (kind.endswith("_NODE") or kind in ("SUBQUERY", "PIVOT"))

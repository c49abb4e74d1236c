"""Conditions on the rows that a statement needs of each input, from the plan of the statement over
empty replicas, in which DuckDB has pushed filters down to the scans.

The plan prints filters as text. Only the plain forms are used; anything else is left to DuckDB,
which evaluates every condition of the statement again.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

import duckdb

from jammi_lab.engine.sql.parse import ParsedStatement
from jammi_lab.engine.sql.read_set import InputSchemas, replica_tables
from jammi_lab.sources.scan_conditions import ColumnComparison, ScanConditions

_VALUE = r"(?:-?\d+(?:\.\d+)?|'(?:[^']|'')*'(?:::[A-Z ]+)?)"
_NAME = r"[\w ]*\w"
_COMPARISON = rf"({_NAME})(=|!=|<=|>=|<|>)({_VALUE})"
_COMPARISONS = re.compile(rf"{_COMPARISON}(?: AND {_COMPARISON})*")
_ONE_OF = re.compile(rf"optional: {_COMPARISON}(?: OR {_COMPARISON})+")
_EACH_COMPARISON = re.compile(rf"(?:^|(?<= AND )|(?<= OR )){_COMPARISON}")
_IN_LIST = re.compile(rf"(?:optional: )?({_NAME}) IN \(({_VALUE}(?:, {_VALUE})*)\)")
_NULL_TEST = re.compile(rf"\(({_NAME}) (IS NULL|IS NOT NULL)\)")
_PLAIN_NAME = re.compile(_NAME)
_LIMITS = ("LIMIT", "STREAMING_LIMIT")


def scan_conditions(
    replicas: duckdb.DuckDBPyConnection,
    parsed: ParsedStatement,
    schemas: InputSchemas,
    params: Mapping[str, Any],
) -> dict[tuple[str, ...], ScanConditions]:
    """The conditions of a SELECT by input. `replicas` is an instance that pushes filters down.
    Without an entry all rows are needed."""
    try:
        with replica_tables(replicas, schemas) as (cursor, _, tables):
            [*_, (_, plan)] = cursor.execute(
                f"EXPLAIN (FORMAT JSON) {parsed.probe}", dict(params) or None
            ).fetchall()
    except duckdb.Error:
        return {}  # the statement fails when it runs, with its own error
    scans: dict[tuple[str, ...], list[tuple[ColumnComparison, ...]]] = {}
    limited = list[tuple[str, ...]]()
    stack: list[tuple[dict[str, Any], bool]] = [(root, False) for root in json.loads(plan)]
    while stack:
        node, below_limit = stack.pop()
        operator, info = node.get("name", "").strip(), node.get("extra_info") or {}
        if (parts := tables.get(info.get("Table", ""))) is not None:
            comparisons, is_complete = _read_filters(info.get("Filters"), schemas[parts])
            scans.setdefault(parts, []).append(comparisons)
            limited += [parts] if below_limit and is_complete else []
        below = operator in _LIMITS or (below_limit and operator == "PROJECTION")
        stack.extend((child, below) for child in node.get("children", []))
    limit = _row_limit(parsed.tree)
    return {
        parts: ScanConditions(tuple(found), limit if parts in limited else None)
        for parts, found in scans.items()
    }


def _row_limit(tree: Mapping[str, Any]) -> int | None:
    """The number of rows that the LIMIT of a statement needs, if it is constant."""
    match tree.get("modifiers"):
        case [{"type": "LIMIT_MODIFIER", "limit": limit, "offset": offset}]:
            counts = [_constant(limit), 0 if offset is None else _constant(offset)]
            return None if None in counts else sum(count or 0 for count in counts)
    return None


def _constant(expression: Any) -> int | None:
    match expression:
        case {"class": "CONSTANT", "value": {"value": int(value)}}:
            return value
    return None


def _read_filters(
    filters: Any, schema: Mapping[str, str]
) -> tuple[tuple[ColumnComparison, ...], bool]:
    """The comparisons of a scan's filters, and whether these are all of its filters.

    The plan prints names without quotes, and a value with line breaks as several entries: a table
    with other than plain names, or an entry with an open quote, gives none.
    """
    entries = [filters] if isinstance(filters, str) else list(filters or ())
    if not all(map(_PLAIN_NAME.fullmatch, schema)) or any(
        entry.count("'") % 2 for entry in entries
    ):
        return (), False
    found, is_complete = list[ColumnComparison](), True
    for entry in entries:
        if match := _IN_LIST.fullmatch(entry):
            values = tuple(map(_unquote, re.findall(_VALUE, match[2])))
            found.append(ColumnComparison(match[1], "IN", values))
            is_complete = is_complete and not entry.startswith("optional")
        elif match := _NULL_TEST.fullmatch(entry):
            found.append(ColumnComparison(match[1], match[2]))
        elif _COMPARISONS.fullmatch(entry):
            found += _comparisons(entry)
        elif _ONE_OF.fullmatch(entry):
            first, *others = _comparisons(entry.removeprefix("optional: "))
            found.append(first._replace(others=tuple(others)))
            is_complete = False
        else:
            is_complete = False
    return tuple(c for c in found if c.column in schema), is_complete


def _comparisons(text: str) -> list[ColumnComparison]:
    return [
        ColumnComparison(column, "<>" if operator == "!=" else operator, (_unquote(value),))
        for column, operator, value in _EACH_COMPARISON.findall(text)
    ]


def _unquote(value: str) -> str:
    if not value.startswith("'"):
        return value
    return value[1 : value.rindex("'")].replace("''", "'")

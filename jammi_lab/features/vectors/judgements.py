"""Relevance judgements: which keys are relevant for which query."""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jammi_lab.core.errors import InvalidArgument, SchemaMismatch
from jammi_lab.core.identifiers import fold
from jammi_lab.core.records import TableRecord

if TYPE_CHECKING:
    from jammi_lab.features.vectors.matrix import KeyedRows

JUDGEMENTS_HINT = (
    'Pass a frame or a list of dicts with the columns "query" (a text or a vector) or "row" (a key '
    'of the table), "key", and optionally "relevance".'
)
_COLUMNS = ("query", "row", "key", "relevance")


@dataclass(frozen=True)
class JudgedQuery:
    """One query with its judgements."""

    query: Any
    by_row: bool
    relevance: dict[Hashable, float]

    @property
    def label(self) -> str:
        """The label of the query in `per_query`."""
        return (
            str(self.query)
            if self.by_row or isinstance(self.query, str)
            else f"vector of {len(self.query)}"
        )


def discounted_gain(gains: Sequence[float]) -> float:
    """The discounted cumulative gain of relevances in the order of their ranks."""
    return math.fsum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, 1))


def to_table_keys(keys: Sequence[Any], table: "KeyedRows", record: TableRecord) -> list[Any]:
    """Convert judged keys to the type of the table's keys. A key of another type matches no row;
    SchemaMismatch when that holds for all keys."""
    from jammi_lab.storage.vector_arrays import to_key

    kind = table.keys.type
    table_keys = [table.typed_key(key) for key in keys]
    if len(table) and all(
        to_key(key, kind) is None and not isinstance(key, type(table.keys[0].as_py()))
        for key in keys
    ):
        raise SchemaMismatch(
            f"The judged keys and the keys of {record.recipe!r} have different types.",
            column="key",
            expected=str(kind),
            actual=type(keys[0]).__name__,
        )
    return table_keys


def parse_judgements(golden: Any) -> list[JudgedQuery]:
    """Group the judgements by query, in the order of first occurrence. The queries are all texts,
    all vectors or all rows. InvalidArgument."""
    queries: dict[Any, JudgedQuery] = {}
    for number, row in enumerate(_judgement_rows(golden), 1):
        by_row = row.get("query") is None
        query, key = row["row"] if by_row and "row" in row else row.get("query"), row.get("key")
        if query is None or key is None or (not by_row and row.get("row") is not None):
            raise InvalidArgument(
                f"Judgement {number} must have a key, and either a query or a row.",
                hint=JUDGEMENTS_HINT,
            )
        relevance = 1.0 if row.get("relevance") is None else row["relevance"]
        if not _is_weight(relevance):
            raise InvalidArgument(
                f"The relevance of judgement {number} must be a number of at least 0, got "
                f"{relevance!r}."
            )
        if hasattr(query, "tolist"):
            query = query.tolist()
        same_query = tuple(query) if isinstance(query, list) else query
        try:
            judged_query = queries.setdefault((by_row, same_query), JudgedQuery(query, by_row, {}))
            former = judged_query.relevance.get(key, 0.0)
        except TypeError:  # one that has no hash
            raise InvalidArgument(
                f"Judgement {number} must have one query and one key, got {query!r:.80} and "
                f"{key!r:.80}.",
                hint=JUDGEMENTS_HINT,
            ) from None
        judged_query.relevance[key] = max(former, float(relevance))
    if not queries:
        raise InvalidArgument("There are no judgements.", hint=JUDGEMENTS_HINT)
    if len({(each.by_row, isinstance(each.query, str)) for each in queries.values()}) > 1:
        raise InvalidArgument(
            "The queries must be all texts, all vectors or all rows.",
            hint="Evaluate the queries of each kind by a call of their own.",
        )
    return list(queries.values())


def _is_weight(value: Any) -> bool:
    """Whether a value is a finite number from 0."""
    try:
        return hasattr(value, "__float__") and math.isfinite(value) and bool(value >= 0)
    except OverflowError:  # an integer too large for a float
        return False


def _judgement_rows(golden: Any) -> list[dict[str, Any]]:
    from jammi_lab.sources.frames import as_arrow, is_frame

    if is_frame(golden) or hasattr(golden, "arrow"):
        table = golden.arrow() if not is_frame(golden) else as_arrow(golden)
        rows: list[dict[str, Any]] = table.to_pylist()
    elif isinstance(golden, list | tuple) and all(
        isinstance(row, Mapping | tuple | list) for row in golden
    ):
        names = ("query", "key", "relevance")
        if wrong := [
            row for row in golden if not isinstance(row, Mapping) and len(row) not in (2, 3)
        ]:
            raise InvalidArgument(
                f"A judgement must be (query, key) or (query, key, relevance), got {len(wrong[0])} "
                "values.",
                hint=JUDGEMENTS_HINT,
            )
        rows = [
            dict(row) if isinstance(row, Mapping) else dict(zip(names, row, strict=False))
            for row in golden
        ]
    else:
        raise InvalidArgument(
            f"Judgements must be a frame or a list, got {type(golden).__name__}.",
            hint=JUDGEMENTS_HINT,
        )
    normalized = [{fold(str(name)): value for name, value in row.items()} for row in rows]
    if unknown := [name for row in normalized for name in row if name not in _COLUMNS]:
        raise InvalidArgument(f"Judgements have no column {unknown[0]!r}.", hint=JUDGEMENTS_HINT)
    return normalized

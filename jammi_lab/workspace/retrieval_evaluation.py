"""Retrieval metrics of embedding tables against relevance judgements: `ws.evaluate` and its
results."""

import math
import statistics
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from jammi_lab.core import reprs
from jammi_lab.core.dataframes import ArrowExportMixin
from jammi_lab.core.errors import InvalidArgument, ModelNotFound, SchemaMismatch
from jammi_lab.core.html import Rendered, ReprMixin, count_noun
from jammi_lab.core.identifiers import fold
from jammi_lab.core.model_records import Evaluation
from jammi_lab.core.records import TableRecord
from jammi_lab.search.search import SearchService, check_searchable
from jammi_lab.workspace.models import Models
from jammi_lab.workspace.result_table import ResultTable, TableHandles

if TYPE_CHECKING:
    import pyarrow as pa

    from jammi_lab.vectors.matrix import Matrix


@dataclass(frozen=True, slots=True)
class RankingScores:
    """The metrics of one query."""

    """One query."""

    recall: float
    """The share of the relevant keys that was found."""
    mrr: float
    """1 / rank of the first relevant key; 0 when none was found."""
    ndcg: float
    """Σ relevance / log2(rank + 1) over the found keys, relative to the best possible order."""


def score_ranking(
    ranking: Sequence[Hashable], judgements: Mapping[Hashable, float], k: int
) -> RankingScores:
    """The metrics of a ranking (keys, best first), cut off at `k`. `judgements`: relevance by key,
    at least one above 0; other keys count as 0."""
    top_keys = ranking[:k]
    relevant = sum(1 for value in judgements.values() if value > 0)
    ranks = [rank for rank, key in enumerate(top_keys, 1) if judgements.get(key, 0) > 0]
    best = _discounted_gain(sorted(judgements.values(), reverse=True)[:k])
    return RankingScores(
        len(ranks) / relevant,
        1 / ranks[0] if ranks else 0.0,
        _discounted_gain([judgements.get(key, 0) for key in top_keys]) / best,
    )


def _discounted_gain(gains: Sequence[float]) -> float:
    return math.fsum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, 1))


_HINT = (
    'Pass a frame or a list of dicts with the columns "query" (a text or a vector) or "row" (a key '
    'of the table), "key", and optionally "relevance".'
)
_COLUMNS = ("query", "row", "key", "relevance")


class Metrics(ReprMixin, Mapping[str, float]):
    """The scores of one table: `metrics["recall@10"]`, `["mrr"]`, `["ndcg@10"]`; also `.recall`,
    `.mrr`, `.ndcg`. Means over the queries."""

    def __init__(
        self,
        table: ResultTable,
        k: int,
        per_query: "Sequence[tuple[str, RankingScores]]",
        skipped: int,
        own: int,
        recorded: Evaluation | None,
    ) -> None:
        self.table, self.k = table, k
        """The table, and the number of hits that count."""
        self._per_query = list(per_query)
        self.recall = statistics.fmean(s.recall for _, s in per_query)
        """The share of the relevant keys among the first k hits."""
        self.mrr = statistics.fmean(s.mrr for _, s in per_query)
        """The reciprocal rank of the first relevant key."""
        self.ndcg = statistics.fmean(s.ndcg for _, s in per_query)
        """The discounted cumulative gain, relative to that of the ideal order."""
        self.skipped = skipped
        """Number of queries without a relevant key, which are not scored."""
        self.own = own
        """Number of judgements of a row about itself, which are ignored: a row is never its own
        hit."""
        self.recorded = recorded
        """The evaluation recorded for the model; None when the model is unknown here."""
        self._values = {f"recall@{k}": self.recall, "mrr": self.mrr, f"ndcg@{k}": self.ndcg}

    @property
    def queries(self) -> int:
        """Number of queries that were scored."""
        return len(self._per_query)

    def __getitem__(self, name: str) -> float:
        metric = fold(name) if isinstance(name, str) else name
        return self._values[
            metric if metric in self._values or metric == "mrr" else f"{metric}@{self.k}"
        ]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def per_query(self) -> "pa.Table":
        """Columns query, recall, mrr, ndcg: one row per query, in the order of the judgements."""
        import pyarrow as pa

        rows = [
            {"query": query, "recall": s.recall, "mrr": s.mrr, "ndcg": s.ndcg}
            for query, s in self._per_query
        ]
        numbers = [(name, pa.float64()) for name in ("recall", "mrr", "ndcg")]
        return pa.Table.from_pylist(rows, schema=pa.schema([("query", pa.string()), *numbers]))

    def _rendered(self) -> Rendered:
        return _scores_table([self])


class Comparison(ReprMixin, ArrowExportMixin):
    """The scores of several tables on the same queries: iterable, with `len()`, by recipe name or
    position; also a frame."""

    def __init__(self, rows: Sequence[Metrics]) -> None:
        self._rows = list(rows)

    def __iter__(self) -> Iterator[Metrics]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, name: str | int) -> Metrics:
        """The scores of one table. KeyError, IndexError."""
        if isinstance(name, int):
            return self._rows[name]
        for row in self._rows:
            if fold(name) in (fold(row.table.name), fold(row.table.table_name)):
                return row
        raise KeyError(name)

    def arrow(self) -> "pa.Table":
        """Columns table, version, model, queries, recall, mrr, ndcg; one row per table."""
        import pyarrow as pa

        columns: dict[str, tuple[list[Any], pa.DataType]] = {
            "table": ([m.table.name for m in self], pa.string()),
            "version": ([m.table.version for m in self], pa.int64()),
            "model": ([m.table.model_id for m in self], pa.string()),
            "queries": ([m.queries for m in self], pa.int64()),
            "recall": ([m.recall for m in self], pa.float64()),
            "mrr": ([m.mrr for m in self], pa.float64()),
            "ndcg": ([m.ndcg for m in self], pa.float64()),
        }
        return pa.table({name: pa.array(values, kind) for name, (values, kind) in columns.items()})

    def _rendered(self) -> Rendered:
        return _scores_table(self._rows)


def _scores_table(rows: Sequence[Metrics]) -> Rendered:
    k, skipped, self_judgements = rows[0].k, rows[0].skipped, rows[0].own
    lines = [
        (
            m.table.name,
            m.table.version,
            m.table.model_id,
            f"{m.recall:.4f}",
            f"{m.mrr:.4f}",
            f"{m.ndcg:.4f}",
        )
        for m in rows
    ]
    note = count_noun(rows[0].queries, "query", "queries") + (
        f", {skipped:,} skipped without a relevant key" if skipped else ""
    )
    note += (
        f", ignoring {count_noun(self_judgements, 'judgement')} of a row about itself"
        if self_judgements
        else ""
    )
    return reprs.listing_table(
        ["table", "version", "model", f"recall@{k}", "mrr", f"ndcg@{k}"],
        lines,
        aligned="lrlrrr",
        note=note,
    )


@dataclass(frozen=True)
class _JudgedQuery:
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


class RetrievalEvaluator:
    """Scores embedding tables against judgements."""

    def __init__(
        self, search: SearchService, handles: TableHandles, models: Models, *, read_only: bool
    ) -> None:
        self._search, self._handles, self._models = search, handles, models
        self._read_only = read_only

    def evaluate(
        self,
        table: str | ResultTable | Sequence[str | ResultTable],
        golden: Any,
        *,
        k: int,
        exact: bool | None,
        record: bool,
    ) -> Metrics | Comparison:
        """The scores of one table, or a comparison of several. Raises as `ws.evaluate`."""
        from jammi_lab.vectors.arrays import check_exact, check_k

        if check_k(k) < 1:
            raise InvalidArgument("k must be at least 1.")
        exact = check_exact(exact)
        is_single = isinstance(table, str | ResultTable)
        names: Sequence[str | ResultTable] = (
            [table] if isinstance(table, str | ResultTable) else table
        )
        if not isinstance(names, Iterable):
            raise InvalidArgument(
                f"table must be a name or a list of names, got {type(table).__name__}."
            )
        tables = [self._handles.find(each) for each in names]
        if not tables:
            raise InvalidArgument("The list of tables to evaluate is empty.")
        if len({t.source_id for t in tables} - {None}) > 1:
            raise InvalidArgument(
                "The tables were computed from different sources: "
                f"{', '.join(dict.fromkeys(str(t.source_id) for t in tables))}.",
                hint="Judgements refer to the keys of one source.",
            )
        judged_queries, self_judgements = _without_self_judgements(
            _parse_judgements(golden),
            [self._search.matrix(check_searchable(each._record)) for each in tables],
        )
        answerable = [
            each for each in judged_queries if any(value > 0 for value in each.relevance.values())
        ]
        if not answerable:
            raise InvalidArgument(
                "No query has a relevant key, so there is nothing to evaluate.", hint=_HINT
            )
        left_out_counts = (len(judged_queries) - len(answerable), self_judgements)
        scores = [
            self._score(each, answerable, k, exact, left_out_counts, record=record)
            for each in tables
        ]
        return scores[0] if is_single else Comparison(scores)

    def _score(
        self,
        table: ResultTable,
        judged_queries: Sequence[_JudgedQuery],
        k: int,
        exact: bool | None,
        left_out_counts: tuple[int, int],
        *,
        record: bool,
    ) -> Metrics:

        table_record = check_searchable(table._record)
        matrix = self._search.matrix(table_record)
        keys = _to_table_keys(
            [key for each in judged_queries for key in each.relevance], matrix, table_record
        )
        hits = self._rank(table_record, matrix, judged_queries, k, exact)
        remaining_keys = iter(keys)
        per_query = []
        for each, positions in zip(judged_queries, hits, strict=True):
            by_key: dict[Hashable, float] = {}
            for value in each.relevance.values():
                key = next(remaining_keys)
                by_key[key] = max(
                    by_key.get(key, 0.0), value
                )  # two judged keys may mean one key: 17 and '17'
            per_query.append(
                (each.label, score_ranking(matrix.keys_at(positions).to_pylist(), by_key, k))
            )
        metrics = Metrics(table, k, per_query, *left_out_counts, None)
        if record and not self._read_only:
            metrics.recorded = self._record(table_record, metrics)
        return metrics

    def _rank(
        self,
        record: TableRecord,
        matrix: "Matrix",
        judged_queries: Sequence[_JudgedQuery],
        k: int,
        exact: bool | None,
    ) -> list[Any]:
        """The row positions of the hits of each query. Raises as `search`."""
        positions_by_query: list[Any] = [None] * len(judged_queries)
        for kind in (
            str,
            object,
        ):  # one batch of texts for the encoder, one batch of vectors for the search
            indices = [
                index
                for index, j in enumerate(judged_queries)
                if not j.by_row and isinstance(j.query, str) == (kind is str)
            ]
            if indices:
                queries, _ = self._search.query_vectors(
                    record, [judged_queries[index].query for index in indices]
                )
                for index, positions in zip(
                    indices,
                    self._search.hits(record, queries, k, row=None, exact=exact).rows,
                    strict=True,
                ):
                    positions_by_query[index] = positions
        for index, each in enumerate(judged_queries):
            if each.by_row:
                row = self._search.row_of(record, matrix, _to_table_key(each.query, matrix))
                positions_by_query[index] = self._search.hits(
                    record, None, k, row=row, exact=exact
                ).rows[0]
        return positions_by_query

    def _record(self, record: TableRecord, metrics: Metrics) -> Evaluation | None:
        """Record the scores for the model that made the vectors; None when that model is unknown
        here."""
        encoder = self._search.context.descriptor(record).get("encoder")
        version = str(encoder.get("version")) if isinstance(encoder, dict) else ""
        for number in dict.fromkeys(
            (int(version) if version.isdecimal() and int(version) else None, None)
        ):
            try:
                return self._models.record_evaluation(
                    record.model_id or "", dict(metrics), version=number
                )
            except ModelNotFound:
                continue
        return None


def _without_self_judgements(
    judged_queries: Sequence[_JudgedQuery], matrices: "Sequence[Matrix]"
) -> tuple[list[_JudgedQuery], int]:
    """The queries without judgements of a row about itself, and the number of judgements left
    out."""
    remaining, self_judgements = [], 0
    for each in judged_queries:
        relevance = each.relevance
        if each.by_row:
            rows = [(matrix, _to_table_key(each.query, matrix)) for matrix in matrices]
            relevance = {
                key: value
                for key, value in relevance.items()
                if not any(_to_table_key(key, matrix) == row for matrix, row in rows)
            }
        self_judgements += len(each.relevance) - len(relevance)
        remaining.append(replace(each, relevance=relevance))
    return remaining, self_judgements


def _to_table_keys(keys: Sequence[Any], matrix: "Matrix", record: TableRecord) -> list[Any]:
    """Convert judged keys to the type of the table's keys. A key of another type matches no row;
    SchemaMismatch when that holds for all keys."""
    from jammi_lab.vectors.arrays import to_key

    kind = matrix.keys.type
    table_keys = [_to_table_key(key, matrix) for key in keys]
    if len(matrix) and all(
        to_key(key, kind) is None and not isinstance(key, type(matrix.keys[0].as_py()))
        for key in keys
    ):
        raise SchemaMismatch(
            f"The judged keys and the keys of {record.recipe!r} have different types.",
            column="key",
            expected=str(kind),
            actual=type(keys[0]).__name__,
        )
    return table_keys


def _to_table_key(key: Any, matrix: "Matrix") -> Any:
    """Convert a key to the type of the table's keys, as SQL converts a literal; unchanged when that
    is impossible."""
    from jammi_lab.vectors.arrays import to_key

    return key if (table_key := to_key(key, matrix.keys.type)) is None else table_key


def _parse_judgements(golden: Any) -> list[_JudgedQuery]:
    """Group the judgements by query, in the order of first occurrence. InvalidArgument."""
    queries: dict[Any, _JudgedQuery] = {}
    for number, row in enumerate(_judgement_rows(golden), 1):
        by_row = row.get("query") is None
        query, key = row["row"] if by_row and "row" in row else row.get("query"), row.get("key")
        if query is None or key is None or (not by_row and row.get("row") is not None):
            raise InvalidArgument(
                f"Judgement {number} must have a key, and either a query or a row.", hint=_HINT
            )
        relevance = 1.0 if row.get("relevance") is None else row["relevance"]
        if not _is_weight(relevance):
            raise InvalidArgument(
                f"The relevance of judgement {number} must be a number of at least 0, got "
                f"{relevance!r}."
            )
        if isinstance(query, set | Mapping):  # list() would accept these, in an arbitrary order
            raise InvalidArgument(
                f"The query of judgement {number} must be a text or a vector, got {query!r:.80}.",
                hint=_HINT,
            )
        if not isinstance(query, Hashable):
            query = query.tolist() if hasattr(query, "tolist") else list(query)
        hashable_query = tuple(query) if isinstance(query, list) else query
        for field, value in (("query", hashable_query), ("key", key)):
            if not _is_hashable(value):
                raise InvalidArgument(
                    f"The {field} of judgement {number} is "
                    f"{'several' if field == 'query' else 'no key'}: {value!r:.80}.",
                    hint=_HINT,
                )
        judged_query = queries.setdefault((by_row, hashable_query), _JudgedQuery(query, by_row, {}))
        judged_query.relevance[key] = max(judged_query.relevance.get(key, 0.0), float(relevance))
    if not queries:
        raise InvalidArgument("There are no judgements.", hint=_HINT)
    return list(queries.values())


def _is_weight(value: Any) -> bool:
    """Whether a value is a finite number from 0."""
    try:
        return hasattr(value, "__float__") and math.isfinite(value) and bool(value >= 0)
    except OverflowError:  # an integer too large for a float
        return False


def _is_hashable(value: Any) -> bool:
    """Whether a value can be hashed. `isinstance(value, Hashable)` also accepts a tuple that
    contains a list, so hash it."""
    try:
        hash(value)
    except TypeError:
        return False
    return True


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
                hint=_HINT,
            )
        rows = [
            dict(row) if isinstance(row, Mapping) else dict(zip(names, row, strict=False))
            for row in golden
        ]
    else:
        raise InvalidArgument(
            f"Judgements must be a frame or a list, got {type(golden).__name__}.", hint=_HINT
        )
    normalized = [{fold(str(name)): value for name, value in row.items()} for row in rows]
    if unknown := [name for row in normalized for name in row if name not in _COLUMNS]:
        raise InvalidArgument(f"Judgements have no column {unknown[0]!r}.", hint=_HINT)
    return normalized

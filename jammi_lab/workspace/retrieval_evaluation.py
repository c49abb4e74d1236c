"""Retrieval metrics of tables against relevance judgements: `ws.evaluate` and its results."""

import statistics
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from typing import TYPE_CHECKING, Any

from jammi_lab.core.dataframes import to_arrow
from jammi_lab.core.errors import InvalidArgument, ModelNotFound, WorkspaceReadOnly
from jammi_lab.core.forms import listing_table
from jammi_lab.core.html import Rendered, ReprMixin, count_noun
from jammi_lab.core.identifiers import fold, sql_literal
from jammi_lab.core.model_records import Evaluation
from jammi_lab.core.records import TableRecord
from jammi_lab.features.search.queries import SearchRequest
from jammi_lab.features.search.search import check_searchable
from jammi_lab.features.search.word_search import check_lexical
from jammi_lab.features.vectors.judgements import (
    JUDGEMENTS_HINT,
    JudgedQuery,
    discounted_gain,
    parse_judgements,
    to_table_keys,
)
from jammi_lab.steps.sql import Sql
from jammi_lab.workspace.result_table import ResultTable

if TYPE_CHECKING:
    import pyarrow as pa

    from jammi_lab.features.vectors.matrix import KeyedRows
    from jammi_lab.workspace.assembly import Services


# --------------------------------------------------------------------------------------------------
# The recipe that keeps retrieval metrics: a statement over `search(…)`, with verdict, plan and
# lineage like any other.


def metrics_recipe(
    table: str,
    words: str | None,
    mode: str,
    queries: Sequence[JudgedQuery],
    relevance: Sequence[Mapping[Hashable, float]],
    k: int,
) -> Sql:
    """One row with the columns table, mode, queries, recall, precision, mrr, ndcg. `table` and
    `words`: the names of what is searched; `relevance`: the judgements of each query.
    InvalidArgument for rows as queries."""
    if queries[0].by_row:
        raise InvalidArgument("as_table= needs queries that are texts or vectors, not rows.")
    ideal = [discounted_gain(sorted(each.values(), reverse=True)[:k]) for each in relevance]
    params = {
        "queries": [each.query for each in queries],
        "k": k,
        "numbers": list(range(len(queries))),
        "relevant": [sum(value > 0 for value in each.values()) for each in relevance],
        "ideal": ideal,
        "judged_queries": [number for number, each in enumerate(relevance) for _ in each],
        "judged_keys": [key for each in relevance for key in each],
        "relevance": [value for each in relevance for value in each.values()],
    }
    return Sql(_statement(table, words, mode), params)


def _statement(table_name: str, words_name: str | None, kind: str) -> str:
    table, mode = sql_literal(table_name), sql_literal(kind)
    words = "" if words_name is None else f", words := {sql_literal(words_name)}"
    # One query is several, too: with a list the hits have the number of their query.
    hits = (
        f"SELECT {table} AS tab, {mode} AS mode, query, key, rank FROM search({table}, $queries, "
        f"k := $k{words})"
    )
    return f"""
        WITH hits AS ({hits}),
        judged AS (
            SELECT unnest($judged_queries) AS query, unnest($judged_keys) AS key,
            unnest($relevance) AS relevance
        ),
        queries AS (
            SELECT unnest($numbers) AS query, unnest($relevant) AS relevant,
            unnest($ideal) AS ideal
        ),
        scored AS (
            SELECT s.tab, s.mode, q.query,
            count(CASE WHEN j.relevance > 0 THEN 1 END) / q.relevant AS recall,
            count(CASE WHEN j.relevance > 0 THEN 1 END) / $k AS precision,
            coalesce(1 / min(CASE WHEN j.relevance > 0 THEN h.rank END), 0) AS mrr,
            coalesce(sum(j.relevance / log2(h.rank + 1)), 0) / q.ideal AS ndcg
            FROM (VALUES ({table}, {mode})) s(tab, mode) CROSS JOIN queries q
            LEFT JOIN hits h ON h.tab = s.tab AND h.mode = s.mode AND h.query = q.query
            LEFT JOIN judged j ON j.query = h.query AND j.key = h.key
            GROUP BY s.tab, s.mode, q.query, q.relevant, q.ideal
        )
        SELECT tab AS "table", mode, count(*) AS queries,
        avg(recall) AS recall, avg("precision") AS "precision", avg(mrr) AS mrr, avg(ndcg) AS ndcg
        FROM scored GROUP BY ALL ORDER BY ALL
    """.replace(" AS precision", ' AS "precision"')


# --------------------------------------------------------------------------------------------------
# The metrics.


@dataclass(frozen=True, slots=True)
class RankingScores:
    """The metrics of one query."""

    recall: float
    """The share of the relevant keys that was found."""
    precision: float
    """The number of relevant keys found, by k."""
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
    best = discounted_gain(sorted(judgements.values(), reverse=True)[:k])
    return RankingScores(
        len(ranks) / relevant,
        len(ranks) / k,
        1 / ranks[0] if ranks else 0.0,
        discounted_gain([judgements.get(key, 0) for key in top_keys]) / best,
    )


_SCORE_NAMES = ("recall", "precision", "mrr", "ndcg")


def mean_scores(scores: Sequence[RankingScores]) -> RankingScores:
    """The mean of each metric."""
    means = (statistics.fmean(getattr(each, name) for each in scores) for name in _SCORE_NAMES)
    return RankingScores(*means)


class Metrics(ReprMixin, Mapping[str, float]):
    """The scores of one table: `metrics["recall@10"]`, `["precision@10"]`, `["mrr"]`,
    `["ndcg@10"]`; also `.recall`, `.precision`, `.mrr`, `.ndcg`. Means over the queries."""

    def __init__(
        self,
        table: ResultTable,
        k: int,
        mode: str,
        per_query: "Sequence[tuple[JudgedQuery, RankingScores]]",
        skipped: int,
    ) -> None:
        self.table, self.k, self.mode = table, k, mode
        """The table, the number of hits that count, and the kind of search: meaning, words or
        both."""
        self.kept: ResultTable | None = None
        """The table that keeps the scores, with `as_table=`."""
        self._per_query = list(per_query)
        mean = mean_scores([scores for _, scores in per_query])
        self.recall = mean.recall
        """The share of the relevant keys among the first k hits."""
        self.precision = mean.precision
        """The share of relevant keys among the first k hits; a place without a hit counts."""
        self.mrr = mean.mrr
        """The reciprocal rank of the first relevant key."""
        self.ndcg = mean.ndcg
        """The discounted cumulative gain, relative to that of the ideal order."""
        self.skipped = skipped
        """Number of queries without a relevant key, which are not scored."""
        self.recorded: Evaluation | None = None
        """The evaluation recorded for the model; None when the model is unknown here."""
        self._values = {
            f"recall@{k}": self.recall,
            f"precision@{k}": self.precision,
            "mrr": self.mrr,
            f"ndcg@{k}": self.ndcg,
        }

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
        """Columns query, recall, precision, mrr, ndcg: one row per query, in the order of the
        judgements."""
        return to_arrow(
            [(query.label, *astuple(scores)) for query, scores in self._per_query],
            query="string",
            **dict.fromkeys(_SCORE_NAMES, "float64"),
        )

    def _rendered(self) -> Rendered:
        note = count_noun(self.queries, "query", "queries")
        if self.skipped:
            note += f", {self.skipped:,} skipped without a relevant key"
        numbers = [f"{value:.4f}" for value in self.values()]
        return listing_table(
            ["table", "version", "model", "mode", *self],
            [(self.table.name, self.table.version, self.table.model_id, self.mode, *numbers)],
            aligned="lrllrrrr",
            note=note,
        )


@dataclass(frozen=True)
class _Searched:
    """What is searched: a table, and for both a lexical table beside it."""

    table: ResultTable
    words: ResultTable | None

    @property
    def mode(self) -> str:
        """The kind of search."""
        if self.words is not None:
            return "both"
        return "words" if self.table._record.recipe_class.has_words else "meaning"


class RetrievalEvaluator:
    """Scores tables that can be searched against judgements."""

    def __init__(self, services: "Services") -> None:
        self._services, self._search = services, services.search

    def evaluate(
        self,
        table: str | ResultTable,
        golden: Any,
        *,
        k: int,
        exact: bool | None,
        record: bool,
        words: str | ResultTable | None,
        as_table: str | None,
    ) -> Metrics:
        """The scores of a table. Raises as `ws.evaluate`."""
        from jammi_lab.storage.vector_arrays import check_exact, check_k

        if check_k(k) < 1:
            raise InvalidArgument("k must be at least 1.")
        exact = check_exact(exact)
        searched = self._searched(table, words)
        judged_queries = parse_judgements(golden)
        answerable = [
            each for each in judged_queries if any(value > 0 for value in each.relevance.values())
        ]
        if not answerable:
            raise InvalidArgument(
                "No query has a relevant key, so there is nothing to evaluate.",
                hint=JUDGEMENTS_HINT,
            )
        relevance = self._relevance(searched, answerable)
        rankings = self._rank(searched, answerable, k, exact)
        per_query = []
        for query, ranking, judged in zip(answerable, rankings, relevance, strict=True):
            per_query.append((query, score_ranking(ranking, judged, k)))
        skipped = len(judged_queries) - len(answerable)
        metrics = Metrics(searched.table, k, searched.mode, per_query, skipped)
        if record and searched.mode == "meaning":
            metrics.recorded = self._record(searched.table._record, metrics)
        if as_table is not None:
            lookup, both = self._services.lookup, searched.words
            recipe = metrics_recipe(
                lookup.lineage_name(searched.table) or "",
                None if both is None else lookup.lineage_name(both),
                searched.mode,
                answerable,
                relevance,
                k,
            )
            metrics.kept = self._services.materializer.materialize(as_table, recipe)
        return metrics

    def _searched(self, table: str | ResultTable, words: str | ResultTable | None) -> _Searched:
        """What is scored. TableNotFound, SchemaMismatch, InvalidArgument for several tables."""
        if not isinstance(table, str | ResultTable):
            raise InvalidArgument(
                f"table must be the name of one table, got {type(table).__name__}.",
                hint="pl.DataFrame([{'table': t, **ws.evaluate(t, golden)} for t in tables]) "
                "compares several.",
            )
        searched = _Searched(
            self._services.tables.find(table),
            None if words is None else self._services.tables.find(words),
        )
        if searched.words is not None:
            check_lexical(searched.words._record)
        if searched.mode != "words":
            check_searchable(searched.table._record)
        return searched

    def _keyed_rows(self, record: TableRecord) -> "KeyedRows":
        """The keys of a table with vectors or words."""
        if record.recipe_class.has_words:
            return self._search.words.table(record).keys
        return self._search.matrix(record)

    def _relevance(
        self, searched: _Searched, judged_queries: Sequence[JudgedQuery]
    ) -> list[dict[Hashable, float]]:
        """The judgements of each query by the keys of the table. SchemaMismatch; InvalidArgument
        when a row is judged about itself, as no row is its own hit."""
        record = searched.table._record
        rows = self._keyed_rows(record)
        keys = [key for each in judged_queries for key in each.relevance]
        remaining_keys = iter(to_table_keys(keys, rows, record))
        result = []
        for each in judged_queries:
            by_key: dict[Hashable, float] = {}
            for value in each.relevance.values():
                key = next(remaining_keys)
                # Two judged keys may mean one key: 17 and '17'.
                by_key[key] = max(by_key.get(key, 0.0), value)
            if each.by_row and rows.typed_key(each.query) in by_key:
                raise InvalidArgument(
                    f"The row {each.query!r} is judged about itself, but no row is its own hit.",
                    hint="Leave out the judgements whose key is their row.",
                )
            result.append(by_key)
        return result

    def _rank(
        self,
        searched: _Searched,
        judged_queries: Sequence[JudgedQuery],
        k: int,
        exact: bool | None,
    ) -> list[list[Any]]:
        """The keys of the hits of each query, best first. Raises as `search`."""
        record, asked = searched.table._record, [each.query for each in judged_queries]
        by_row = judged_queries[0].by_row
        if searched.mode != "meaning" and (by_row or not isinstance(asked[0], str)):
            raise InvalidArgument("A search by words needs text queries.")
        words = None if searched.words is None else searched.words._record
        request = SearchRequest(k=k, exact=exact, reads_source=False)
        if by_row:
            rows = map(self._keyed_rows(record).typed_key, asked)
            answers = (self._search.search(record, replace(request, row=row)) for row in rows)
            return [answer.table["key"].to_pylist() for answer in answers]
        hits = self._search.search(record, replace(request, query=asked), words).table
        rankings: list[list[Any]] = [[] for _ in asked]
        for query, key in zip(hits["query"].to_pylist(), hits["key"].to_pylist(), strict=True):
            rankings[query].append(key)
        return rankings

    def _record(self, record: TableRecord, metrics: Metrics) -> Evaluation | None:
        """Record the scores for the model that made the vectors; None when that model is unknown
        here or the workspace is read-only."""
        encoder = self._search.context.descriptor(record).get("encoder")
        version = str(encoder.get("version")) if isinstance(encoder, dict) else ""
        for number in dict.fromkeys(
            (int(version) if version.isdecimal() and int(version) else None, None)
        ):
            try:
                return self._services.models.record_evaluation(
                    record.model_id or "", dict(metrics), version=number
                )
            except ModelNotFound:
                continue
            except WorkspaceReadOnly:
                break
        return None

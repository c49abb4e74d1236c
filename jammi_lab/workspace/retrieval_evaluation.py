"""Retrieval metrics of tables against relevance judgements: `ws.evaluate` and its results."""

import statistics
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from jammi_lab.core.dataframes import ArrowExportMixin, to_arrow
from jammi_lab.core.errors import InvalidArgument, ModelNotFound, WorkspaceReadOnly
from jammi_lab.core.forms import listing_table
from jammi_lab.core.html import Rendered, ReprMixin, count_noun
from jammi_lab.core.identifiers import fold
from jammi_lab.core.model_records import Evaluation
from jammi_lab.core.records import TableRecord
from jammi_lab.features.search.search import check_searchable
from jammi_lab.features.search.word_search import check_lexical
from jammi_lab.features.vectors.judgements import (
    JUDGEMENTS_HINT,
    JudgedQuery,
    discounted_gain,
    parse_judgements,
    to_table_keys,
)
from jammi_lab.workspace.metrics_recipe import Search, metrics_recipe
from jammi_lab.workspace.result_table import ResultTable

if TYPE_CHECKING:
    import pyarrow as pa

    from jammi_lab.features.vectors.matrix import KeyedRows, Matrix
    from jammi_lab.workspace.assembly import Services


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


def _scores_frame(rows: Sequence[Mapping[str, Any]], **columns: str) -> "pa.Table":
    """A table of these columns, by Arrow type, and of the scores."""
    types = {**columns, **dict.fromkeys(_SCORE_NAMES, "float64")}
    return to_arrow([[row[name] for name in types] for row in rows], **types)


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
        recorded: Evaluation | None,
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
        self.recorded = recorded
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
        rows = [{"query": query.label, **asdict(scores)} for query, scores in self._per_query]
        return _scores_frame(rows, query="string")

    def _rendered(self) -> Rendered:
        return _scores_table([self])


class Comparison(ReprMixin, ArrowExportMixin):
    """The scores of several tables or modes on the same queries: iterable, with `len()`, by recipe
    name, mode or position; also a frame."""

    def __init__(self, rows: Sequence[Metrics]) -> None:
        self._rows = list(rows)

    def __iter__(self) -> Iterator[Metrics]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, name: str | int) -> Metrics:
        """The scores of one table or mode. KeyError, IndexError."""
        if isinstance(name, int):
            return self._rows[name]
        for row in self._rows:
            if fold(name) in (fold(row.table.name), fold(row.table.table_name)):
                return row
        for row in self._rows:
            if fold(name) == row.mode:
                return row
        raise KeyError(name)

    def arrow(self) -> "pa.Table":
        """Columns table, version, model, mode, queries, recall, precision, mrr, ndcg; one row per
        table or mode."""
        rows = [
            {
                "table": m.table.name,
                "version": m.table.version,
                "model": m.table.model_id,
                "mode": m.mode,
                "queries": m.queries,
                **{name: getattr(m, name) for name in _SCORE_NAMES},
            }
            for m in self
        ]

        return _scores_frame(
            rows, table="string", version="int64", model="string", mode="string", queries="int64"
        )

    def _rendered(self) -> Rendered:
        return _scores_table(self._rows)


def _scores_table(rows: Sequence[Metrics]) -> Rendered:
    k, skipped = rows[0].k, rows[0].skipped
    lines = []
    for m in rows:
        numbers = [f"{getattr(m, name):.4f}" for name in _SCORE_NAMES]
        lines.append((m.table.name, m.table.version, m.table.model_id, m.mode, *numbers))
    note = count_noun(rows[0].queries, "query", "queries")
    if skipped:
        note += f", {skipped:,} skipped without a relevant key"
    return listing_table(
        ["table", "version", "model", "mode"]
        + [name if name == "mrr" else f"{name}@{k}" for name in _SCORE_NAMES],
        lines,
        aligned="lrllrrrr",
        note=note,
    )


@dataclass(frozen=True)
class _Candidate:
    """One way of searching that is scored: a table, and for both a lexical table beside it."""

    table: ResultTable
    mode: str
    words: ResultTable | None = None


class RetrievalEvaluator:
    """Scores embedding tables against judgements."""

    def __init__(self, services: "Services") -> None:
        self._services, self._search = services, services.search

    def evaluate(
        self,
        table: str | ResultTable | Sequence[str | ResultTable],
        golden: Any,
        *,
        k: int,
        exact: bool | None,
        record: bool,
        words: str | ResultTable | None,
        as_table: str | None,
    ) -> Metrics | Comparison:
        """The scores of one table, or a comparison of several. Raises as `ws.evaluate`."""
        from jammi_lab.storage.vector_arrays import check_exact, check_k

        if check_k(k) < 1:
            raise InvalidArgument("k must be at least 1.")
        exact = check_exact(exact)
        candidates = self._candidates(table, words)
        judged_queries = parse_judgements(golden)
        answerable = [
            each for each in judged_queries if any(value > 0 for value in each.relevance.values())
        ]
        if not answerable:
            raise InvalidArgument(
                "No query has a relevant key, so there is nothing to evaluate.",
                hint=JUDGEMENTS_HINT,
            )
        skipped = len(judged_queries) - len(answerable)
        scores = [
            self._score(each, answerable, k, exact, skipped, record=record) for each in candidates
        ]
        if as_table is not None:
            kept = self._keep(as_table, candidates, answerable, k)
            for metrics in scores:
                metrics.kept = kept
        is_single = isinstance(table, str | ResultTable) and words is None
        return scores[0] if is_single else Comparison(scores)

    def _candidates(
        self,
        table: str | ResultTable | Sequence[str | ResultTable],
        words: str | ResultTable | None,
    ) -> list[_Candidate]:
        """What is scored. TableNotFound, SchemaMismatch, InvalidArgument."""
        names: Sequence[str | ResultTable] = (
            [table] if isinstance(table, str | ResultTable) else table
        )
        if not isinstance(names, Iterable):
            raise InvalidArgument(
                f"table must be a name or a list of names, got {type(table).__name__}."
            )
        tables = [self._services.tables.find(each) for each in names]
        if not tables:
            raise InvalidArgument("The list of tables to evaluate is empty.")
        candidates = [
            _Candidate(each, "words" if each._record.recipe_class.has_words else "meaning")
            for each in tables
        ]
        if words is not None:
            lexical = self._services.tables.find(words)
            check_lexical(lexical._record)
            candidates = [
                *candidates,
                _Candidate(lexical, "words"),
                *(_Candidate(each, "both", lexical) for each in tables),
            ]
        for each in candidates:
            if each.mode != "words":
                check_searchable(each.table._record)
        if len({each.table.source_id for each in candidates} - {None}) > 1:
            sources = dict.fromkeys(str(each.table.source_id) for each in candidates)
            raise InvalidArgument(
                f"The tables were computed from different sources: {', '.join(sources)}.",
                hint="Judgements refer to the keys of one source.",
            )
        return candidates

    def _keyed_rows(self, record: TableRecord) -> "KeyedRows":
        """The keys of a table with vectors or words."""
        if record.recipe_class.has_words:
            return self._search.words.table(record).keys
        return self._search.matrix(record)

    def _score(
        self,
        candidate: _Candidate,
        judged_queries: Sequence[JudgedQuery],
        k: int,
        exact: bool | None,
        skipped: int,
        *,
        record: bool,
    ) -> Metrics:
        table_record = candidate.table._record
        rankings = self._rank(candidate, judged_queries, k, exact)
        per_query = [
            (each, score_ranking(ranking, relevance, k))
            for each, ranking, relevance in zip(
                judged_queries, rankings, self._relevance(candidate, judged_queries), strict=True
            )
        ]
        metrics = Metrics(candidate.table, k, candidate.mode, per_query, skipped, None)
        if record and candidate.mode == "meaning":
            metrics.recorded = self._record(table_record, metrics)
        return metrics

    def _relevance(
        self, candidate: _Candidate, judged_queries: Sequence[JudgedQuery]
    ) -> list[dict[Hashable, float]]:
        """The judgements of each query by the keys of the table. SchemaMismatch; InvalidArgument
        when a row is judged about itself, as no row is its own hit."""
        record = candidate.table._record
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
        candidate: _Candidate,
        judged_queries: Sequence[JudgedQuery],
        k: int,
        exact: bool | None,
    ) -> list[list[Any]]:
        """The keys of the hits of each query, best first. Raises as `search`."""
        record = candidate.table._record
        if candidate.mode == "meaning":
            matrix = self._search.matrix(record)
            positions = self._rank_by_meaning(record, matrix, judged_queries, k, exact)
            return [matrix.keys_at(rows).to_pylist() for rows in positions]
        texts = [each.query for each in judged_queries]
        if judged_queries[0].by_row or not isinstance(texts[0], str):
            raise InvalidArgument("A search by words needs text queries.")
        if candidate.words is None:
            hits = self._search.words.hit_rows(record, texts, k)
        else:
            words = candidate.words._record
            _, hits = self._search.fused_hits(record, words, texts, k, exact=exact)
        rankings: list[list[Any]] = [[] for _ in texts]
        for query, key in zip(hits["query"].to_pylist(), hits["key"].to_pylist(), strict=True):
            rankings[query].append(key)
        return rankings

    def _rank_by_meaning(
        self,
        record: TableRecord,
        matrix: "Matrix",
        judged_queries: Sequence[JudgedQuery],
        k: int,
        exact: bool | None,
    ) -> list[Any]:
        """The row positions of the hits of each query. Raises as `search`."""
        asked = [each.query for each in judged_queries]
        if judged_queries[0].by_row:
            rows = [self._search.row_of(record, matrix, matrix.typed_key(key)) for key in asked]
            found = (self._search.neighbors(record, matrix, row, k, exact=exact) for row in rows)
            return [hits.rows[0] for hits in found]
        vectors, _ = self._search.query_vectors(record, asked)
        return list(self._search.hits(record, matrix, vectors, k, exact=exact).rows)

    def _keep(
        self, name: str, candidates: Sequence[_Candidate], queries: Sequence[JudgedQuery], k: int
    ) -> ResultTable:
        """The table of the scores: a recipe over the tables that are searched."""
        searches = [
            Search(
                self._services.lookup.lineage_name(each.table) or "",
                None if each.words is None else self._services.lookup.lineage_name(each.words),
                each.mode,
            )
            for each in candidates
        ]
        relevance = self._relevance(candidates[0], queries)
        recipe = metrics_recipe(searches, queries, relevance, k)
        return self._services.materializer.materialize(name, recipe)

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

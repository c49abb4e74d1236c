"""The recipe that keeps retrieval metrics: a statement over `search(…)`, with verdict, plan and
lineage like any other."""

from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

from jammi_lab.core.errors import InvalidArgument
from jammi_lab.core.identifiers import sql_literal
from jammi_lab.features.vectors.judgements import JudgedQuery, discounted_gain
from jammi_lab.steps.sql import Sql


class Search(NamedTuple):
    """One way of searching that is scored."""

    table: str
    words: str | None
    mode: str


def metrics_recipe(
    search: Search,
    queries: Sequence[JudgedQuery],
    relevance: Sequence[Mapping[Hashable, float]],
    k: int,
) -> Sql:
    """One row with the columns table, mode, queries, recall, precision, mrr, ndcg. `relevance`: the
    judgements of each query. InvalidArgument for rows as queries."""
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
    return Sql(_statement(search), params)


def _statement(search: Search) -> str:
    table, mode = sql_literal(search.table), sql_literal(search.mode)
    words = "" if search.words is None else f", words := {sql_literal(search.words)}"
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

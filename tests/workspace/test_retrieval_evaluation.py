"""`ws.evaluate`: scores against judged pairs, compared with an independent reference."""

import math
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jammi_lab as jl
from jammi_lab.core import errors
from jammi_lab.workspace.retrieval_evaluation import score_ranking

TITLES = [
    "graph networks",
    "networks of graphs",
    "pasta at home",
    "tomato sauce",
    "protein folding",
    "football results",
]
GOLDEN = [
    ("networks", 0),
    ("networks", 1),
    ("sauce for pasta", 3, 2),
    ("sauce for pasta", 2),
    ("football", 5),
]


@pytest.fixture
def lab(ws: Any) -> Any:
    ws.sources.add("papers", pa.table({"id": range(6), "title": TITLES}))
    ws.embed("v", "papers", key="id", text="title", model="hashing")
    return ws


@given(
    st.lists(st.integers(0, 3), min_size=2, max_size=12).filter(any),
    st.integers(1, 12),
    st.integers(0, 2**32 - 1),
)
def test_the_scores_of_a_ranking_are_those_of_the_reference(relevance, k, seed):
    from sklearn.metrics import ndcg_score  # 2 s, which every worker would wait for

    order = np.random.default_rng(seed).permutation(len(relevance))
    found = score_ranking([int(i) for i in order], dict(enumerate(map(float, relevance))), k)
    ranked = np.array(relevance)[order]
    guess = np.empty(len(relevance))
    guess[order] = np.arange(len(relevance), 0, -1)
    assert found.ndcg == pytest.approx(ndcg_score([relevance], [guess], k=k))
    assert found.recall == pytest.approx((ranked[:k] > 0).sum() / (ranked > 0).sum())
    assert found.precision == pytest.approx((ranked[:k] > 0).sum() / k)
    hits = np.flatnonzero(ranked[:k] > 0)
    assert found.mrr == (1 / (hits[0] + 1) if len(hits) else 0)


def test_queries_are_texts_vectors_or_rows_and_judgements_a_frame_or_a_list(lab):
    by_text = lab.evaluate("v", [(TITLES[0], 1)], k=2)
    assert (
        lab.evaluate("v", [(lab.vector("v", 0), 1)], k=2)["recall@2"] == by_text["recall@2"] == 1
        and by_text["mrr"] == 0.5
    )
    assert lab.evaluate("v", [{"row": 0, "key": 1}], k=1)["mrr"] == 1
    for frame in (
        pa.table({"row": [0], "key": [1]}),
        pl.DataFrame({"row": [0], "key": [1]}),
        pl.DataFrame({"ROW": [0], "Key": [1]}).to_pandas(),
    ):
        assert lab.evaluate("v", frame, k=1)["recall@1"] == 1
    vectors = pa.table(
        {"query": pa.array([lab.vector("v", 0).tolist()]), "key": [0], "relevance": [2.5]}
    )
    assert lab.evaluate("v", vectors, k=1)["ndcg@1"] == 1
    assert lab.evaluate("v", lab.sql("SELECT 'football results' AS query, 5 AS key"))["mrr"] == 1


def test_a_judged_key_that_the_table_lacks_is_not_found_and_lowers_the_recall(lab):
    assert lab.evaluate("v", [(TITLES[0], 0), (TITLES[0], 99)], k=6)["recall@6"] == 0.5
    assert (
        lab.evaluate("v", [(TITLES[0], "0")], k=1)["recall@1"] == 1
    )  # as a literal means a key in SQL


def test_the_highest_judgement_of_a_pair_counts_and_queries_without_a_relevant_key_do_not(
    lab,
):
    found = lab.evaluate("v", [("pasta", 2, 0), ("pasta", 2, 1), ("football", 1, 0)], k=1)
    assert found.queries == 1 and found.skipped == 1 and found.recall == 1
    assert "1 query, 1 skipped without a relevant key" in repr(found)


def test_a_row_is_named_as_a_judged_key_is(lab):
    named = [lab.evaluate("v", [{"row": row, "key": "1"}], k=1) for row in (0, "0", 0.0)]
    assert [each["recall@1"] for each in named] == [1, 1, 1]
    with pytest.raises(errors.RowNotFound):
        lab.evaluate("v", [{"row": "none", "key": 1}])


def test_scores_are_recorded_against_the_model_and_keep_it(lab):
    found = lab.evaluate("v", GOLDEN)
    [record] = lab.models.records("hashing")
    assert found.recorded == record and record.metrics == dict(found)
    lab.evaluate("v", GOLDEN, record=False)
    assert len(lab.models.records("hashing")) == 1
    lab.models.register(
        "mine",
        type(
            "E",
            (),
            {"name": "mine", "version": "1", "dimensions": 3, "encode": staticmethod(encode)},
        )(),
    )
    lab.embed("w", "papers", key="id", text="title", model="mine")
    lab.evaluate("w", GOLDEN)
    assert [r.edge for r in lab.models.get("mine").references] == ["result_tables", "evaluation"]


def encode(texts: list[str]) -> Any:
    return np.array([[len(t), t.count("a") + 1, 1] for t in texts], np.float32)


def test_vectors_of_a_model_that_is_not_known_are_scored_without_a_record(lab):
    lab.import_embeddings(
        "theirs", pa.table({"id": [0, 1], "vector": [[1.0, 0.0], [0.0, 1.0]]}), model_id="elsewhere"
    )
    found = lab.evaluate("theirs", [([1.0, 0.1], 0)], k=1)
    assert found.recall == 1 and found.recorded is None and lab.models.records() == []


def test_several_tables_are_compared_by_a_frame_of_their_scores(lab):
    lab.embed("w", "papers", key="id", text="title", model="hashing", where="id <> 5")
    frame = pl.DataFrame([{"table": t, **lab.evaluate(t, GOLDEN, k=3)} for t in ("v", "w")])
    assert frame["recall@3"][1] < frame["recall@3"][0] == lab.evaluate("v", GOLDEN, k=3).recall
    with pytest.raises(errors.InvalidArgument, match="must be the name of one table") as told:
        lab.evaluate(["v", "w"], GOLDEN)
    assert told.value.hint.startswith("pl.DataFrame([{'table': t, **ws.evaluate(t, golden)}")


@pytest.mark.parametrize(
    "golden",
    [
        [],
        "pasta",
        7,
        [("a",)],
        [("a", 1, 2, 3)],
        [{"query": "a"}],
        [{"key": 1}],
        [{"query": "a", "row": 1, "key": 1}],
        [{"query": "a", "key": 1, "weight": 1}],
        [("a", 1, -1)],
        [("a", 1, math.nan)],
        [("a", 1, "much")],
        [("a", 1, 1j)],
        [("a", 1, 10**400)],
        [({0.5, 1.0}, 1)],
        [({"a": 1.0}, 1)],
        [("a", [1])],
        [([[1.0, 2.0]], 1)],
        [("a", 1, 0)],
        [("a", 1), {"row": 0, "key": 1}],
        [("a", 1), ([1.0, 2.0], 1)],
        pa.table({"key": [1]}),
    ],
    ids=str,
)
def test_judgements_that_are_none_are_refused_and_nothing_is_recorded(lab, golden):
    with pytest.raises(errors.InvalidArgument):
        lab.evaluate("v", golden)
    assert lab.models.records() == []


def test_what_search_refuses_is_refused(lab):
    for k in (0, -1, 1.5, True):
        with pytest.raises(errors.InvalidArgument):
            lab.evaluate("v", GOLDEN, k=k)
    with pytest.raises(errors.InvalidArgument, match="exact must be True or False"):
        lab.evaluate("v", GOLDEN, exact="no")
    with pytest.raises(errors.SchemaMismatch, match="type"):
        lab.evaluate("v", [("pasta", "not a number")])
    with pytest.raises(errors.InvalidArgument, match="must be the name of one table"):
        lab.evaluate(5, GOLDEN)


def test_a_read_only_workspace_scores_and_records_nothing(lab, tmp_path):
    lab.import_embeddings(
        "g", pa.table({"id": [0, 1], "vector": [[1.0, 0.0], [0.0, 1.0]]}), model_id="hashing"
    )
    lab.close()
    with jl.open(tmp_path / "lab", read_only=True) as reading:
        assert reading.evaluate("g", [([1.0, 0.1], 0)], k=1).recorded is None


# -- modes, kept metrics


JUDGED = [*GOLDEN, ("a text without any word of a title", 5)]


@pytest.fixture
def both(lab: Any) -> Any:
    lab.lexical("w", "papers", key="id", text="title")
    return lab


METRICS = ("recall", "precision", "mrr", "ndcg")


def test_a_table_is_scored_as_its_searches_by_meaning_words_or_both_say(both):
    judged: dict[str, dict[int, float]] = {}
    for query, key, *relevance in GOLDEN:
        judged.setdefault(query, {})[key] = float(relevance[0]) if relevance else 1.0
    for table, mode, options in (
        ("v", "meaning", {}),
        ("w", "words", {}),
        ("v", "both", {"words": "w"}),
    ):
        found = both.evaluate(table, GOLDEN, k=2, **options)
        assert (found.table.name, found.mode, found.queries) == (table, mode, 3)
        assert list(found) == ["recall@2", "precision@2", "mrr", "ndcg@2"]
        assert found["recall"] == found.recall and found["nDCG@2"] == found.ndcg
        assert mode in repr(found) and "<table" in found._repr_html_()
        scores = [
            score_ranking(
                both.search(table, query, k=2, **options).arrow()["key"].to_pylist(), keys, 2
            )
            for query, keys in judged.items()
        ]
        for name in METRICS:
            assert getattr(found, name) == pytest.approx(
                np.mean([getattr(s, name) for s in scores])
            )
        assert found.per_query().to_pylist()[1] == {
            "query": "sauce for pasta",
            **{name: getattr(scores[1], name) for name in METRICS},
        }


def test_only_texts_are_searched_by_words(both):
    for query in ({"row": 0, "key": 1}, {"query": both.vector("v", 0), "key": 1}):
        with pytest.raises(errors.InvalidArgument, match="needs text queries"):
            both.evaluate("v", [query], words="w")
    with pytest.raises(errors.SchemaMismatch, match="not a lexical table"):
        both.evaluate("v", GOLDEN, words="v")


def test_kept_metrics_are_a_table_with_a_verdict(both):
    found = both.evaluate("v", JUDGED, k=2, words="w", as_table="quality")
    assert found.kept.name == "quality" and both.staleness("quality") == jl.Fresh()
    [row] = both.table("quality").arrow().to_pylist()
    assert (row["table"], row["mode"]) == ("v", "both")
    for name in ("queries", *METRICS):
        assert row[name] == pytest.approx(getattr(found, name))
    both.sources.add("papers", pa.table({"id": range(6), "title": TITLES[::-1]}), replace=True)
    assert not isinstance(both.staleness("quality"), jl.Fresh)
    assert set(both.recompute("quality").executed) == {"v", "w", "quality"}
    [changed] = both.table("quality").arrow().to_pylist()
    assert changed != row and both.staleness("quality") == jl.Fresh()
    again = both.evaluate("v", JUDGED, k=2, words="w", as_table="quality")
    assert again.kept.outcome == "reused"


def test_metrics_of_vectors_are_kept_and_those_of_rows_are_not(lab):
    golden = [{"query": lab.vector("v", 0), "key": 1}, {"query": lab.vector("v", 4), "key": 4}]
    found = lab.evaluate("v", golden, k=3, as_table="quality")
    [row] = lab.table("quality").arrow().to_pylist()
    assert row["mrr"] == pytest.approx(found.mrr)
    with pytest.raises(errors.InvalidArgument, match="as_table="):
        lab.evaluate("v", [{"row": 0, "key": 1}], as_table="other")

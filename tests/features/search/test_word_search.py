"""Searching a lexical table, end to end."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from jammi_lab.core import errors
from tests.features.search.papers import write
from tests.features.words import bm25

TITLES = [
    "graph networks",
    "networks of graphs",
    "pasta at home",
    "tomato sauce for pasta",
    "protein folding",
    "Graph Networks",
]


@pytest.fixture
def papers(tmp_path: Path) -> Path:
    write(tmp_path / "papers.parquet", TITLES)
    return tmp_path / "papers.parquet"


@pytest.fixture
def lab(ws: Any, papers: Path) -> Any:
    ws.sources.add("papers", papers)
    ws.lexical("w", "papers", key="id", text="title", analyzer="simple")
    return ws


def test_hits_are_ranked_by_bm25_with_ties_by_key(lab):
    result = lab.search("w", "networks graph", k=10)
    documents, query = [title.lower().split() for title in TITLES], ["networks", "graph"]
    scores = bm25.scores(documents, query)
    expected = bm25.ranked(documents, query, 10)
    rows = result.arrow()
    assert rows.column_names == ["key", "rank", "score", "source_missing"]
    assert rows["key"].to_pylist() == expected == [0, 5, 1]
    assert rows["rank"].to_pylist() == [1, 2, 3]
    assert rows["score"].to_pylist() == pytest.approx([scores[n] for n in expected], abs=1e-9)
    assert f"{scores[0]:.4f}  false" in repr(result)  # like similarities


def test_ties_are_by_key_whatever_the_order_of_the_rows(lab):
    statement = "SELECT 'k' || id AS id, 'same words' AS title FROM papers ORDER BY id DESC"
    lab.lexical("same", statement, key="id", text="title")
    assert lab.search("same", "words", k=3).arrow()["key"].to_pylist() == ["k0", "k1", "k2"]


def test_a_condition_and_selected_columns_are_of_the_source_as_it_is_now(lab, papers):
    found = lab.search("w", "pasta", where="year > $y", params={"y": 2002}, select="year").arrow()
    assert found.drop_columns("score").to_pylist() == [
        {"key": 3, "rank": 1, "year": 2003, "source_missing": False}
    ]
    write(papers, {3: TITLES[3], 9: "x"})
    found = lab.search("w", "pasta", select=["title"]).arrow()
    assert [(row["key"], row["title"], row["source_missing"]) for row in found.to_pylist()] == [
        (2, None, True),
        (3, TITLES[3], False),
    ]
    assert lab.search("w", "pasta").arrow()["source_missing"].to_pylist() == [True, False]


def test_several_texts_make_one_answer_with_as_many_hits_as_each_has(lab):
    rows = lab.search("w", ["pasta", "nothing", "protein"], k=1).arrow()
    assert rows.select(["query", "key", "rank"]).to_pylist() == [
        {"query": 0, "key": 2, "rank": 1},
        {"query": 2, "key": 4, "rank": 1},
    ]
    rows = lab.search("w", ["pasta", "protein"], k=2, select="year").arrow()
    assert rows.column_names == ["query", "key", "rank", "score", "year", "source_missing"]
    assert rows["year"].to_pylist() == [2002, 2003, 2004]


@pytest.mark.parametrize(
    "column", [pl.Series, pd.Series, np.array, pa.array, lambda t: pa.chunked_array([t])]
)
def test_a_column_of_texts_is_several_texts_also_in_a_recording(lab, column):
    texts = ["pasta", "protein"]
    expected = lab.search("w", texts).arrow()
    with lab.recording("columns"):
        assert lab.search("w", column(texts)).arrow().equals(expected)
    [row] = lab.recordings["columns"].replay().arrow().to_pylist()
    assert (row["query"], row["outcome"]) == ("pasta | protein", "same")


@pytest.mark.parametrize("text", ["", "absent", "…"])
def test_a_text_without_known_words_has_no_hits(lab, text):
    assert lab.search("w", text, select="year").arrow().num_rows == 0


def test_what_cannot_be_searched_by_words_is_refused(lab):
    with pytest.raises(errors.InvalidArgument, match="the query must be a string"):
        lab.search("w", [0.5, 0.5])
    with pytest.raises(errors.InvalidArgument, match="list of queries is empty"):
        lab.search("w", [])
    with pytest.raises(errors.SchemaMismatch, match="has no vectors"):
        lab.search("w", row=1)
    with pytest.raises(errors.InvalidArgument, match="k "):
        lab.search("w", "pasta", k=-1)
    with pytest.raises(errors.SchemaMismatch, match="'score' is a column of every search result"):
        lab.search("w", "pasta", select="score")
    with pytest.raises(errors.SqlError):
        lab.search("w", "pasta", where="nonsense = 1")


def test_a_source_column_named_score_is_selected_beside_similarities(ws):
    ws.sources.add("s", pa.table({"id": [1], "t": ["red"], "score": [0.123456]}))
    ws.embed("v", "s", key="id", text="t", model="hashing")
    found = ws.search("v", "red", select="score")
    assert found.arrow()["score"].to_pylist() == [0.123456] and "0.123456" in repr(found)

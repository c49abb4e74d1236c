"""`search(…)` in FROM over words, and over meaning and words."""

from pathlib import Path
from typing import Any

import pytest

import jammi_lab as jl
from tests.features.search.papers import write

TITLES = ["graph networks", "networks of graphs", "pasta at home", "tomato sauce", "error E17"]
WORDS = ("key", "terms")


@pytest.fixture
def papers(tmp_path: Path) -> Path:
    write(tmp_path / "papers.parquet", TITLES)
    return tmp_path / "papers.parquet"


@pytest.fixture
def lab(ws: Any, papers: Path) -> Any:
    ws.sources.add("papers", papers)
    ws.embed("v", "papers", key="id", text="title", model="hashing")
    ws.lexical("w", "papers", key="id", text="title", analyzer="simple")
    return ws


@pytest.mark.parametrize("query", ["graph networks", ["E17", "absent", "pasta"], ""])
@pytest.mark.parametrize(("table", "words"), [("w", None), ("v", "w")])
def test_the_rows_are_those_of_a_search_with_its_columns_and_types(lab, table, words, query):
    option = "" if words is None else ", words := 'w'"
    found = lab.sql(f"FROM search('{table}', $q, k := 3{option})", q=query).arrow()
    expected = lab.search(table, query, k=3, words=words).arrow()
    assert found.schema.names == expected.schema.names
    assert found.schema.types == expected.schema.types
    assert found.to_pylist() == expected.to_pylist()
    assert lab.sql(
        f"SELECT key FROM search('{table}', $q, k := 3{option})", q=query
    ).fetchall() == [(key,) for key in expected["key"].to_pylist()]


def test_where_vectors_and_words_have_other_keys_the_source_of_the_vectors_is_joined(lab, papers):
    lab.lexical("few", "papers", key="id", text="title", where="id > 2", analyzer="simple")
    write(papers, TITLES[:4])
    sql = "SELECT key, score, source_missing FROM search('v', 'E17 graph', words := 'few', k := 9)"
    found = {key: (score, missing) for key, score, missing in lab.sql(sql).fetchall()}
    assert [found[key][1] for key in sorted(found)] == [False, False, False, False, True]
    assert found[0][0] is None and found[4][0] > 0


def test_a_table_over_words_is_anchored_on_what_it_reads(lab, papers):
    def inputs(sql: str) -> list[tuple[str, tuple[str, ...]]]:
        table = lab.materialize("t", sql)
        assert str(table.staleness()) == "fresh"
        return [(each.name, each.columns) for each in table.inputs]

    assert inputs("SELECT key, score FROM search('w', 'pasta')") == [("w", WORDS)]
    assert inputs("FROM search('w', 'pasta')") == [("w", WORDS), ("papers", ("id",))]
    both = inputs("SELECT key, score FROM search('v', 'pasta', words := 'w')")
    assert sorted(both) == [("v", ("key", "vector")), ("w", WORDS)]
    write(papers, ["pasta pasta", *TITLES[1:]])
    lab.recompute("v")
    assert isinstance(lab.staleness("t"), jl.Stale | jl.PossiblyStale)
    assert lab.recompute("t").executed == ["w", "t"]
    assert str(lab.staleness("t")) == "fresh"
    assert lab.sql("SELECT min(key) FROM jammi.t WHERE score > 0").fetchall() == [(0,)]


def test_another_analyzer_is_another_question_even_where_the_words_are_equal(lab):
    lab.materialize("t", "SELECT key FROM search('w', 'Pasta')")
    assert lab.table("t").read().fetchall() == [(2,)]
    lab.lexical("w", "SELECT id, title FROM papers", key="id", text="title", analyzer="exact")
    assert not isinstance(lab.staleness("t"), jl.Fresh)
    lab.recompute("t")
    assert lab.table("t").read().fetchall() == []


def test_the_name_of_the_words_may_be_a_parameter(lab):
    found = lab.sql("SELECT key FROM search('v', 'E17', k := 1, words := $w)", w="w").fetchall()
    assert found == [(4,)]

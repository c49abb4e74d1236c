"""`search(…)` and `neighbors(…)` in FROM."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import jammi_lab as jl
from jammi_lab.core import errors
from jammi_lab.features.vectors.encoders.hashing import Hashing
from tests.cases import cases, lines
from tests.features.search.papers import TITLES, VECTORS, write

COLUMNS = {
    "key": pa.int64(),
    "rank": pa.int32(),
    "similarity": pa.float32(),
    "source_missing": pa.bool_(),
}


TEMPLATES = {"lab": VECTORS}


# -- what comes back -------------------------------------------------------------------------------


@pytest.mark.parametrize("query", ["tomato", "", "networks of graphs"])
def test_the_rows_are_those_of_a_search_with_its_columns_and_types(lab, query):
    found = lab.sql("SELECT * FROM search('v', $q, k := 4)", q=query).arrow()
    assert dict(zip(found.schema.names, found.schema.types, strict=True)) == COLUMNS
    assert found.to_pylist() == lab.search("v", query, k=4, exact=True).arrow().to_pylist()


def test_ten_rows_come_when_nothing_is_said(ws):
    ws.import_embeddings(
        "g",
        pa.table(
            {"id": range(12), "vector": pa.array(np.eye(12).tolist(), pa.list_(pa.float32(), 12))}
        ),
    )
    assert (
        len(ws.sql("FROM neighbors('g', 3)").arrow())
        == len(ws.sql("FROM search('g', $q)", q=[1.0] * 12).arrow())
        == 10
    )


def test_neighbours_are_those_of_a_row_without_the_row_itself(lab):
    rows = lab.sql("FROM neighbors('v', 0, 2)").arrow().to_pylist()
    assert rows == lab.search("v", row=0, k=2).arrow().to_pylist() and 0 not in [
        r["key"] for r in rows
    ]


def test_calls_join_with_sources_and_with_each_other(lab):
    sql = """
        SELECT p.title, n.similarity > 0.1 AS near FROM search('v', 'tomato sauce', k := 1) s JOIN papers p ON p.id = s.key,
        neighbors('v', 0, k := 1) n JOIN papers ON papers.id = n.key WHERE NOT s.source_missing
    """
    assert lab.sql(sql).fetchall() == [("tomato sauce", True)]
    assert lab.sql(
        "SELECT search.key FROM search('v', 'pasta at home', 1), (SELECT key AS k FROM jammi.v) b WHERE b.k = search.key"
    ).fetchall() == [(2,)]
    assert lab.sql("DESCRIBE FROM search('v', 'pasta')").fetchall()[1][:2] == ("rank", "INTEGER")
    assert lab.explain("FROM search('v', 'pasta')")


# -- errors ----------------------------------------------------------------------------------------


def test_what_is_not_there_or_does_not_fit_is_told_with_its_place(grid, lab):
    lab.materialize("plain", "SELECT 1 AS key")
    lab.lexical("w", "papers", key="id", text="title")
    for call, error, near in cases("statements/search_calls_refused", "call", "error", "near"):
        with pytest.raises(getattr(errors, error)) as caught:
            lab.sql(f"SELECT 'é'; SELECT * FROM {call}")
        assert caught.value.position == len("SELECT 'é'; SELECT * FROM ")
        assert caught.value.near == tuple(near)
        assert isinstance(caught.value, KeyError if error.endswith("NotFound") else ValueError)


@pytest.mark.parametrize(
    "values",
    [
        {"q": None},
        {"q": 7},
        {"q": [float("nan"), 1]},
        {"q": [1, None]},
        {"q": [1, 0], "k": "3"},
        {"q": [1, 0], "k": True},
        {"q": {"a": 1}},
    ],
)
def test_a_parameter_of_another_kind_is_refused(grid, values):
    with pytest.raises((errors.InvalidArgument, errors.SchemaMismatch)):
        grid.sql("FROM search('g', $q, k := $k)", params={"k": 1, **values})


def test_a_missing_or_unused_parameter_is_told(grid):
    with pytest.raises(errors.ParameterMissing, match=r"\$q"):
        grid.sql("FROM search('g', $q)")
    with pytest.raises(errors.InvalidArgument, match="k"):
        grid.sql("FROM search('g', $q)", q=[1, 0], k=3)


@pytest.mark.parametrize(
    "call",
    lines("statements/search_calls.sql"),
)  # fmt: skip
def test_nothing_but_values_stands_between_the_brackets(lab, call):
    with pytest.raises((errors.InvalidArgument, errors.StatementNotAllowed)):
        lab.sql(f"SELECT * FROM {call}")


def test_a_list_of_texts_is_several_queries(lab):
    written = lab.sql("FROM search('v', ['tomato', 'graph'], k := 1)").arrow()
    assert written.to_pylist() == lab.search("v", ["tomato", "graph"], k=1).arrow().to_pylist()
    assert written["query"].to_pylist() == [0, 1]


# -- definitions, verdicts, cache, lineage ---------------------------------------------------------


def inputs(table: Any) -> list[tuple[str, tuple[str, ...]]]:
    return [(i.name, i.columns) for i in table.inputs]


def test_a_table_over_a_search_is_anchored_on_the_embedding_table(lab):
    table = lab.materialize(
        "near", "SELECT key, similarity FROM search('v', $q, k := 3)", params={"q": "tomato"}
    )
    assert inputs(table) == [("v", ("key", "vector"))] and str(table.staleness()) == "fresh"
    assert lab.derives_from("v")[-1].derived == "near" and {
        e.derived for e in lab.derives_from_closure("papers")
    } == {"v", "near"}
    assert table.read().fetchall() == [
        (h["key"], h["similarity"]) for h in lab.search("v", "tomato", k=3).arrow().to_pylist()
    ]


def test_where_the_rows_are_missing_is_known_from_the_source_which_is_then_an_input(lab, papers):
    table = lab.materialize("near", "FROM search('v', 'tomato', k := 6)")
    assert (
        inputs(table) == [("v", ("key", "vector")), ("papers", ("id",))]
        and str(table.staleness()) == "fresh"
    )
    write(papers, TITLES[:3])
    again = lab.materialize("near", "FROM search('v', 'tomato', k := 6)")
    assert again.outcome == "computed" and [r[0] for r in again.read().fetchall() if r[3]] == [
        3,
        4,
        5,
    ]
    write(papers, TITLES)
    verdict = again.staleness()
    assert isinstance(verdict, jl.Stale) and [r.input.name for r in verdict.reasons] == ["papers"]
    assert str(table.staleness()) == "fresh"


def test_the_same_question_is_answered_from_the_cache_and_another_is_not(lab):
    def made(sql: str, **params: Any) -> str:
        return str(lab.materialize("near", sql, params=params).outcome)

    assert made("SELECT key FROM search('v', 'pasta', k := 2)") == "computed"
    assert made("select key  FROM SEARCH( 'v','pasta',2 ) AS s -- again") == "reused"
    assert lab.lookup("SELECT key FROM search('v', 'pasta', k := 2)") is not None
    for other in (
        "search('v', 'pasta', k := 3)",
        "search('v', 'Pasta', k := 2)",
        "neighbors('v', 2, k := 2)",
        "neighbors('v', '2', k := 2)",
    ):
        assert made(f"SELECT key FROM {other}") == "computed"
    assert made("SELECT key FROM search('v', $q, k := 2)", q="pasta") == "computed"
    assert made("SELECT key FROM search('v', $q, k := 2)", q="sauce") == "computed"
    assert made("SELECT key FROM search('v', $q, k := 2)", q="pasta") == "reused"


class Twin(Hashing):
    """The lexical encoder under another name; `settings` change what it says of itself and nothing
    else."""

    def __init__(self, version: str) -> None:
        super().__init__()
        self.name, self.version = "twin", version
        del self.identity


def test_the_encoder_of_a_text_is_in_the_definition_and_not_that_of_a_row(lab):
    definitions = []
    for version in ("1", "2"):
        lab.embed("w", "papers", key="id", text="title", model=Twin(version))
        definitions.append(
            [
                lab.materialize("near", f"SELECT key FROM {call}").definition_hash
                for call in ("search('w', 'pasta')", "neighbors('w', 2)")
            ]
        )
    (text, row), (other_text, other_row) = definitions
    assert text != other_text and row == other_row


def test_the_verdict_needs_no_encoder_and_the_recompute_says_that_it_is_missing(tmp_path, papers):
    with jl.open(tmp_path / "lab") as first:
        first.sources.add("papers", papers)
        first.embed("w", "papers", key="id", text="title", model=Twin("1"))
        first.materialize("near", "SELECT key FROM search('w', 'pasta', k := 1)")
    with jl.open(tmp_path / "lab") as later:
        ground = "on version 1 of its encoder twin, by way of w"
        assert str(later.staleness("near")) == f"fresh*, {ground}"
        with pytest.raises(errors.ModelNotFound, match="twin"):
            later.materialize("other", "SELECT key FROM search('w', 'sauce', k := 1)")
        assert later.sql("SELECT key FROM neighbors('w', 0, k := 1)").fetchall() == [(1,)]


def test_a_search_over_itself_is_a_cycle(lab):
    with pytest.raises(errors.DependencyCycle):
        lab.materialize("v", "SELECT key FROM search('v', 'pasta')")


def test_an_exact_version_is_searched_by_its_physical_name(lab, papers):
    old = lab.table("v")
    write(papers, ["pasta bolognese", *TITLES[1:]])
    lab.embed("v", "papers", key="id", text="title", model="hashing")
    assert lab.sql(f"SELECT key FROM search('{old.table_name}', 'pasta', k := 1)").fetchall() == [
        (2,)
    ]
    table = lab.materialize(
        "near", f"SELECT key FROM search('{old.table_name}', 'pasta bolognese', k := 1)"
    )
    assert (
        inputs(table) == [(old.table_name, ("key", "vector"))] and str(table.staleness()) == "fresh"
    )
    old.drop()
    assert str(lab.staleness("near")) == f"stale: {old.table_name} is gone"


def test_what_sql_was_embedded_is_read_whole_where_missing_rows_are_asked_for(lab):
    lab.embed(
        "w",
        "SELECT p.id, title FROM papers p JOIN (SELECT 3 AS id) USING (id)",
        key="id",
        text="title",
        model="hashing",
    )
    table = lab.materialize("near", "FROM search('w', 'pasta')")
    assert (
        inputs(table) == [("w", ("key", "vector")), ("papers", ("id", "title"))]
        and table.read().fetchall()[0][0] == 3
    )

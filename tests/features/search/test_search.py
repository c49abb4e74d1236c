"""Searching an embedding table, end to end."""

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jammi_lab.core import errors
from jammi_lab.features.vectors.encoders.base import EncoderIdentity
from tests.features.search.papers import TITLES, VECTORS, write

COLUMNS = ["key", "rank", "similarity", "source_missing"]


TEMPLATES = {"lab": VECTORS}


def keys(ws: Any, *asked: Any, **how: Any) -> list[Any]:
    """The keys of the hits."""
    return ws.search(*asked, **how).arrow()["key"].to_pylist()


# -- what comes back -------------------------------------------------------------------------------


def test_a_text_finds_its_own_row_first(lab):
    rows = lab.search("v", "tomato sauce", k=2, select="title").arrow()
    assert rows.column_names == ["key", "rank", "similarity", "title", "source_missing"]
    assert rows.schema.types == [pa.int64(), pa.int32(), pa.float32(), pa.string(), pa.bool_()]
    assert rows.to_pylist()[0] == {
        "key": 3,
        "rank": 1,
        "similarity": 1.0,
        "title": "tomato sauce",
        "source_missing": False,
    }


def test_a_vector_and_a_row_search_too_and_a_row_never_finds_itself(lab):
    assert keys(lab, "v", lab.vector("v", 0), k=2) == [0, 1]
    assert keys(lab, "v", lab.vector("v", 0).tolist(), k=1) == [0]
    assert keys(lab, "v", row=0, k=1) == [1]
    assert len(lab.search("v", row=0, k=99).arrow()) == 5


def test_ties_come_in_key_order(grid):
    assert keys(grid, "g", [1, 0]) == ["d", "e", "a", "b", "c"]
    assert grid.search("g", [1, 0]).arrow()["similarity"].to_pylist() == pytest.approx(
        [1, 1, 0.5**0.5, 0, -1]
    )


def test_k_may_be_none_or_more_than_there_are(lab):
    for k, found in (
        (0, 0),
        (1, 1),
        (6, 6),
        (7, 6),
        (10**12, 6),
    ):
        for options in ({}, {"select": "title"}, {"where": "true"}):
            rows = lab.search("v", "pasta", k=k, **options).arrow()
            assert (
                len(rows) == found
                and rows.column_names[:3] == COLUMNS[:3]
                and rows.column_names[-1] == "source_missing"
            )


def test_several_queries_make_one_answer_with_their_number_first(lab):
    rows = lab.search("v", ["pasta", "football"], k=2).arrow()
    assert (
        rows.column_names == ["query", *COLUMNS]
        and rows["query"].to_pylist() == [0, 0, 1, 1]
        and rows["rank"].to_pylist() == [1, 2, 1, 2]
    )
    both = lab.search(
        "v", np.stack([lab.vector("v", 2), lab.vector("v", 5)]), k=1, select="title"
    ).arrow()
    assert both["title"].to_pylist() == [TITLES[2], TITLES[5]] and both["query"].to_pylist() == [
        0,
        1,
    ]
    assert lab.search("v", [lab.vector("v", 2).tolist()], k=1).arrow()["query"].to_pylist() == [0]
    assert len(lab.search("v", np.empty((0, 256), np.float32)).arrow()) == 0


def test_several_vectors_are_several_queries_in_whatever_they_come(lab):
    for listed in (
        list,
        tuple,
        np.stack,
        pa.array,
        lambda rows: pa.chunked_array([pa.array(rows)]),
        lambda rows: pa.FixedSizeListArray.from_arrays(
            pa.array(np.concatenate(rows)), len(rows[0])
        ),
        lambda rows: pl.Series([row.tolist() for row in rows]),
        pd.Series,
        iter,
    ):
        rows = lab.search("v", listed([lab.vector("v", 2), lab.vector("v", 5)]), k=1).arrow()
        assert rows["query"].to_pylist() == [0, 1] and rows["key"].to_pylist() == [2, 5]


def test_one_vector_is_one_query_in_whatever_it_comes(lab):
    for listed in (
        list,
        pa.array,
        pl.Series,
        pd.Series,
        iter,
    ):
        assert lab.search("v", listed(lab.vector("v", 2)), k=1).fetchall()[0][0] == 2


def test_the_answer_says_what_was_read_and_tells_when_it_is_stale(lab, papers):
    answer = lab.search("v", "pasta", select="year")
    assert [(i.name, i.columns) for i in answer.inputs] == [
        ("v", ("key", "vector")),
        ("papers", ("id", "year")),
    ]
    write(papers, ["edited", *TITLES[1:]])
    shown = lab.search("v", "pasta")
    assert "v is stale" in repr(shown) and list(shown.staleness()) == ["v"]


@pytest.mark.parametrize("select", [None, "title"])
def test_similarities_are_shown_in_digits_that_every_processor_agrees_on_and_kept_whole(
    lab, select
):
    answer = lab.search("v", "networks", select=select)
    first = answer.arrow()["similarity"].to_pylist()[0]
    assert (
        f"{first:.4f}" in repr(answer)
        and f"{first:.5f}" not in repr(answer)
        and first != round(first, 4)
    )


# -- filters and columns of the source -------------------------------------------------------------


def test_where_comes_before_the_cut(lab):
    rows = lab.search(
        "v",
        "graph networks",
        k=2,
        where="year >= $least AND title LIKE '%o%'",
        params={"least": 2002},
    ).arrow()
    assert len(rows) == 2 and min(rows["key"].to_pylist()) >= 2


def test_where_knows_the_key_by_both_names(lab):
    assert keys(lab, "v", "x", where="key = 4") == [4]
    assert keys(lab, "v", "x", where="id = 4 -- the same") == [4]
    assert keys(lab, "v", "x", where="false") == []


def test_a_wrong_condition_is_told(lab):
    for where in (
        "year >",
        "yeer > 1",
        "1; SELECT 1",
        "true) OR (true",
        "$missing = 1",
        "title",
        "",
    ):
        with pytest.raises(errors.JammiError):
            lab.search("v", "x", where=where)


@pytest.mark.parametrize(
    "where",
    [
        "id IN (SELECT 1 FROM read_text('/etc/passwd'))",
        "id IN (FROM '/etc/passwd')",
        "getenv('HOME') = 'x'",
    ],
)
def test_a_hostile_condition_does_not_get_past_the_gate(lab, where):
    with pytest.raises(errors.StatementNotAllowed):
        lab.search("v", "x", where=where)


def test_an_unknown_column_is_told_with_the_near_name(lab):
    with pytest.raises(errors.SchemaMismatch, match="Did you mean title"):
        lab.search("v", "x", select=["year", "titel"])
    with pytest.raises(errors.InvalidArgument, match="got int"):
        lab.search("v", "x", select=5)


def test_columns_are_found_whatever_their_case_and_each_comes_once(lab):
    rows = lab.search("v", "x", select=["Title", "title", "ID"]).arrow()
    assert rows.column_names == ["key", "rank", "similarity", "title", "id", "source_missing"]


def test_a_column_called_like_one_of_the_answer_is_refused(lab, papers):
    write(papers, TITLES, rank=list(range(6)), key=list("abcdef"))
    for column in ("rank", "key"):
        with pytest.raises(errors.SchemaMismatch, match="column of every search result"):
            lab.search("v", "x", select=column)
    assert keys(lab, "v", "x", where="key = 'b'") == [1]  # the source's own column of that name


def test_a_key_that_stands_twice_by_now_is_one_hit(lab, papers):
    pq.write_table(pa.table({"id": [3, 3], "title": ["b", "a"], "year": [1, 2]}), papers)
    rows = lab.search("v", "tomato sauce", k=1, select="title").arrow().to_pylist()
    assert rows == [{"key": 3, "rank": 1, "similarity": 1.0, "title": "a", "source_missing": False}]


def test_columns_beside_imported_vectors_are_what_where_and_select_see(grid):
    rows = (
        grid.search("g", [1, 0], where="tag > 1 AND key <> 'a'", select=["tag"]).arrow().to_pylist()
    )
    assert [(r["key"], r["tag"], r["source_missing"]) for r in rows] == [
        ("d", 3, False),
        ("b", 2, False),
        ("c", 5, False),
    ]


def test_a_recipe_and_sql_can_be_behind(lab):
    lab.materialize("old", "SELECT * FROM papers WHERE year < 2004")
    lab.embed("w", "old", key="id", text="title", model="hashing")
    lab.embed(
        "x",
        "SELECT id AS k, title, year + 1 AS next FROM papers WHERE title <> ')'",
        key="k",
        text="title",
        model="hashing",
    )
    assert lab.search("w", "pasta", k=1, select="year").arrow()["year"].to_pylist() == [2002]
    assert lab.search("x", "pasta", k=1, select="next", where="next < 2999").arrow()[
        "next"
    ].to_pylist() == [2003]


# -- what is gone ----------------------------------------------------------------------------------


def test_a_removed_source_file_or_key_column_leaves_the_hits_and_marks_them(lab, papers):
    for remove in (
        lambda: pq.write_table(pa.table({"other": [1]}), papers),
        papers.unlink,
        lambda: lab.sources.remove("papers"),
    ):
        remove()
        hits = lab.search("v", "tomato sauce", k=2).arrow()
        assert hits["source_missing"].to_pylist() == [True, True]
    with pytest.raises(errors.TableNotFound, match="papers"):
        lab.search("v", "tomato sauce", select="title")


@pytest.mark.parametrize("searched_before", [False, True])
def test_a_damaged_table_is_not_searched(lab, searched_before):
    if searched_before:
        lab.search("v", "x")
    path = lab.table("v").path
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)
    with pytest.raises(errors.TableDamaged):
        lab.search("v", "x")
    with pytest.raises(errors.TableDamaged):
        lab.vector("v", 1)
    path.unlink()
    with pytest.raises(errors.TableDamaged):
        lab.search("v", "x")


# -- bad input -------------------------------------------------------------------------------------


BAD_QUERIES: dict[type[Exception], list[dict[str, Any]]] = {
    errors.InvalidArgument: [
        {},
        {"query": []},
        {"query": ["x", [1.0]]},
        *(
            {"query": "x", **more}
            for more in (
                *({"k": k} for k in (-1, 1.5, True)),
                *({"exact": exact} for exact in ("no", 0, np.ones(2, np.bool_))),
                {"row": 1},
                {"params": {"least": 1}},
            )
        ),
    ],
    errors.SchemaMismatch: [
        {"query": query}
        for query in (
            *([1.0, 2.0], object(), np.ones((2, 2, 2))),
            *(np.full(256, value) for value in (0, np.nan, np.inf)),
        )
    ],
    errors.RowNotFound: [{"row": 99}, {"row": "x"}],
}


def test_bad_queries_are_told(lab):
    for error, queries in BAD_QUERIES.items():
        for query in queries:
            with pytest.raises(error):
                lab.search("v", **query)


def test_an_unknown_row_has_no_vector(lab):
    with pytest.raises(KeyError, match="99"):
        lab.vector("v", 99)
    assert lab.vector("v", 1).dtype == np.float32


def test_a_text_cannot_search_vectors_from_elsewhere(grid):
    with pytest.raises(errors.ModelNotFound, match="Pass a vector"):
        grid.search("g", "x")


def test_only_tables_with_vectors_can_be_searched(lab):
    lab.materialize("t", "SELECT 1 AS a")
    with pytest.raises(errors.SchemaMismatch, match="no vectors"):
        lab.search("t", "x")
    with pytest.raises(errors.TableNotFound):
        lab.search("nothing", "x")


def test_a_version_can_be_searched_by_its_handle(lab, papers):
    first = lab.table("v")
    write(papers, {9: "quite another"})
    lab.recompute("v")
    assert keys(lab, "v", "x") == [9]
    assert (
        len(lab.search(first, "x").arrow()) == 6
        and len(lab.search(first.table_name, "x").arrow()) == 6
    )


class Weighted:
    """Vectors by a seed; two with one name and version and other seeds are two encoders."""

    name, version, dimensions = "weighted", "1", 4

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.identity = EncoderIdentity(
            name=self.name, version=self.version, dimensions=self.dimensions, weights=str(seed)
        )

    def encode(self, texts: list[str]) -> Any:
        return np.stack(
            [
                np.random.default_rng([self.seed, *t.encode()]).normal(size=self.dimensions)
                for t in texts
            ]
        ).astype(np.float32)


def test_a_text_is_searched_with_the_encoder_that_made_the_vectors_whatever_was_registered_since(
    ws,
):
    ws.models.register("weighted", Weighted(1))
    ws.embed(
        "v",
        "SELECT i AS id, 'text ' || i AS body FROM range(5) r(i)",
        key="id",
        text="body",
        model="weighted",
    )
    before = ws.search("v", "text 3", k=2).fetchall()
    ws.models.register("weighted", Weighted(2))
    assert ws.search("v", "text 3", k=2).fetchall() == before and before[0][1] == pytest.approx(1)


def test_sql_can_be_behind_imported_vectors(ws, papers):
    ws.sources.add("papers", papers)
    data = pa.table(
        {
            "id": [0, 1, 2],
            "vec": pa.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]], pa.list_(pa.float32(), 2)),
        }
    )
    ws.import_embeddings(
        "v",
        data,
        key="id",
        vector="vec",
        source="SELECT * FROM papers WHERE year < 2003",
    )
    assert [i.name for i in ws.table("v").inputs] == ["papers"]
    hits = ws.search("v", [1.0, 0.0], k=2, select=["title"], where="year > 2000").arrow()
    assert hits["title"].to_pylist() == [TITLES[1], TITLES[2]]
    assert not any(ws.search("v", [1.0, 0.0], k=3).arrow()["source_missing"].to_pylist())
    write(papers, {0: TITLES[0], 2: "another"})
    assert ws.search("v", [1.0, 0.0], k=3).arrow()["source_missing"].to_pylist() == [
        False,
        True,
        False,
    ]
    with pytest.raises(errors.SqlError):
        ws.import_embeddings("w", data, key="id", vector="vec", source="SELECT nothing FROM papers")
    with pytest.raises(errors.SourceUnavailable):
        ws.import_embeddings("w", data, key="id", vector="vec", source="nothing*.csv")

"""Graphs, neighbours and maps of vectors in a real kernel."""

import base64
import re

import pytest

TEXTS = "id,text\n1,fresh red tomatoes\n2,red tomatoes in a sauce\n3,a bicycle with two wheels\n4,wheels of a bicycle\n5,<b>sauce</b>\n"


@pytest.fixture
def vectors(papers, tmp_path):
    (tmp_path / "texts.csv").write_text(TEXTS)
    papers("%jammi add texts texts.csv")
    papers("%jammi embed v texts --key id --text text --model hashing")
    return papers


def picture(html):
    """The drawing inside the only image."""
    [found] = re.findall(r'<img [^>]*src="data:image/svg\+xml;base64,([^"]+)"', html)
    return base64.b64decode(found).decode()


def test_graph_makes_a_neighbour_graph_and_says_how_many_edges(vectors):
    shown = vectors("g = %jammi graph g v -k 2\ng")
    assert (
        "kind       neighbor_graph" in shown.text
        and "10 rows" in shown.text
        and vectors.value("g.kind") == "'neighbor_graph'"
    )
    assert (
        "reused" in vectors("%jammi graph g v -k 2").text
        and "computed" in vectors("%jammi graph g v -k 2 --bypass").text
    )
    assert "made from  v" in shown.text and "holds      20 rows" in vectors("%jammi graph h v").text


def test_neighbors_gives_the_nearest_rows_as_table_and_picture(vectors):
    assert vectors("n = %jammi neighbors v 3 -k 2 --select text\nn").error is None
    lines = vectors("print(n)").text.splitlines()
    assert lines[0] == "Nearest to 3 in v" and "wheels of a bicycle" in lines[4] and len(lines) == 7
    html = vectors("print(n._repr_html_())").text
    assert picture(html).count("<rect") == 2 and "<table" in html
    assert (
        vectors.value("n.key, n.table, n.hits.columns")
        == "(3, 'v', ['key', 'rank', 'similarity', 'text', 'source_missing'])"
    )


def test_neighbors_without_a_key_are_those_of_the_first_row(vectors):
    vectors("n = %jammi neighbors v")
    assert vectors("print(n)").text.startswith("Nearest to 1 in v\n")


def test_map_gives_every_row_as_a_point_and_as_a_table(vectors):
    assert vectors("m = %jammi map v\nm").error is None
    html, text = vectors("print(m._repr_html_())").text, vectors("print(m)").text
    drawing = picture(html)
    assert drawing.count("h0") == 5 and "<script" not in html and "stroke-linecap" in drawing
    assert (
        text.splitlines()[0].split() == ["key", "x", "y"]
        and "5 rows of v along the two directions" in text
    )
    assert vectors.value("m.arrow().column_names, len(m)") == "(['key', 'x', 'y'], 5)"


def test_what_is_not_there_or_has_no_vectors_is_said_in_a_line(vectors):
    assert vectors("%jammi graph g nothing").ename == "TableNotFound"
    assert vectors("%jammi neighbors v 99").ename == "RowNotFound"
    assert vectors("%jammi graph g v -k x").ename == "InvalidArgument"
    assert vectors("%jammi graph g v --min-similarity high").ename == "InvalidArgument"
    assert vectors("%jammi map texts").ename == "TableNotFound"
    vectors("%jammi graph g v")
    refused = vectors("%jammi map g")
    assert refused.ename == "SchemaMismatch" and "neighbor_graph" in refused.error[0]

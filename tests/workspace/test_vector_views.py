"""Neighbours of a row and maps of tables: what they hold, and pictures that no value of a person
can break."""

import base64
import re
import xml.etree.ElementTree as ET
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jammi_lab.features.vectors.projections import project_to_plane
from jammi_lab.workspace.vector_views import Colouring, VectorMap, _scatter
from tests.cases.texts import ENCODABLE
from tests.features.vectors.drawn import normal
from tests.features.vectors.test_neighbor_graph import given_one_and_none, given_vectors
from tests.sizes import examples


def drawings(html: str) -> list[ET.Element]:
    return [
        ET.fromstring(base64.b64decode(body))
        for body in re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', html)
    ]


# -- the plane -------------------------------------------------------------------------------------


@settings(max_examples=examples(60), deadline=None)
@given(st.integers(2, 60), st.integers(2, 8), st.integers(0, 2**32 - 1))
def test_points_are_those_of_a_singular_value_decomposition(n, width, seed):
    vectors = normal(seed, n, width)
    points, shares = project_to_plane(vectors)
    units = vectors.astype(np.float64) / np.linalg.norm(
        vectors.astype(np.float64), axis=1, keepdims=True
    )
    centred = units - units.mean(0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    wanted = np.zeros((n, 2))
    wanted[:, : min(2, n, width)] = (left * values)[:, :2]
    gaps = values[:2] - np.append(values[1:], 0)[:2]
    for axis in range(2):
        if axis < len(gaps) and min(gaps[: axis + 1]) > 1e-3:
            np.testing.assert_allclose(np.abs(points[:, axis]), np.abs(wanted[:, axis]), atol=1e-4)
    assert shares == pytest.approx(
        (*(values[:2] ** 2 / (values**2).sum()).tolist(), 0.0)[:2], abs=1e-6
    )


def test_equal_vectors_are_one_point_and_the_same_table_is_the_same_map():
    vectors = normal(0, 5000, 16)
    vectors[4321] = vectors[17]
    points, _ = project_to_plane(vectors)
    assert (
        points[4321].tobytes() == points[17].tobytes()
        and project_to_plane(vectors)[0].tobytes() == points.tobytes()
    )


@pytest.mark.parametrize(
    "vectors", [np.ones((1, 3)), np.ones((4, 3)), np.array([[1.0], [-1.0], [2.0]]), np.ones((0, 3))]
)
def test_rows_that_span_no_plane_have_points_all_the_same(vectors):
    points, shares = project_to_plane(vectors.astype(np.float32))
    assert (
        points.shape == (len(vectors), 2)
        and np.isfinite(points).all()
        and np.isfinite(shares).all()
        and not points[:, 1].any()
    )


# -- maps ------------------------------------------------------------------------------------------


def test_a_map_holds_every_row_and_draws_some_of_many(ws):
    given_vectors(ws, "v", list(range(9001)), np.random.default_rng(0).standard_normal((9001, 4)))
    found = ws.vector_map("v")
    assert (
        len(found) == 9001
        and found.arrow().num_rows == 9001
        and "9,001 rows of v" in repr(found)
        and "3,001 of them are drawn" in repr(found)
    )
    [drawing] = drawings(found._repr_html_())
    assert drawing[0].attrib["d"].count("h0") == 3001 and len(found._repr_html_()) < 120_000
    assert found.polars().columns == ["key", "x", "y"]


def test_an_empty_table_and_one_row_have_maps(ws):
    given_one_and_none(ws)
    assert (
        "1 row of one." in repr(ws.vector_map("one"))
        and len(drawings(ws.vector_map("one")._repr_html_())) == 1
    )
    assert "0 rows of none." in repr(ws.vector_map("none")) and not drawings(
        ws.vector_map("none")._repr_html_()
    )


HOSTILE = st.text(ENCODABLE, max_size=60)


@settings(max_examples=examples(80), deadline=None)
@given(st.lists(HOSTILE, min_size=1, max_size=30))
def test_no_value_breaks_a_picture_or_gets_out_of_it(values):
    points = normal(0, len(values), 2)
    legend = [(value, "#000", 1) for value in values]
    positions = np.arange(len(values), dtype=np.uint8)
    drawing = _scatter(points, Colouring("x", legend, positions))
    tags = {child.tag.rpartition("}")[2] for child in ET.fromstring(drawing).iter()}
    assert tags <= {"svg", "path", "text"}


@pytest.mark.parametrize(
    "show",
    [
        lambda ws: ws.vector_map("v"),
        lambda ws: ws.vector_map("v", "pca"),
        lambda ws: ws.neighbors("v", "a"),
    ],
)
def test_a_map_and_neighbours_say_above_them_that_their_table_is_not_fresh(ws, tmp_path, show):
    rows = tmp_path / "rows.csv"
    rows.write_text("id,text\na,one\nb,two\n")
    ws.sources.add("rows", rows)
    ws.embed("v", "rows", key="id", text="text", model="hashing")
    fresh = show(ws)
    assert "stale" not in repr(fresh) + fresh._repr_html_()
    rows.write_text("id,text\na,one\nb,three\n")
    found = show(ws)
    if (
        isinstance(found, VectorMap) and found.projection is not None
    ):  # asking for it by its method makes it true again
        rows.write_text("id,text\na,one\nb,four\n")
    name = found.table if getattr(found, "projection", None) is None else found.projection.name
    assert repr(found).startswith((f"{name} is stale: ", f"{name} is possibly stale: rows changed"))
    content = "<img" if isinstance(found, VectorMap) else "<table"
    assert "stale</span>" in found._repr_html_().partition(content)[0]
    assert found._repr_html_().count(content) == 1


# -- neighbours ------------------------------------------------------------------------------------


@pytest.fixture
def some(ws: Any) -> Any:
    given_vectors(ws, "v", [17, 3, 5], [[1.0, 0.0], [1.0, 0.1], [-1.0, 0.0]])
    return ws


def test_neighbours_are_those_of_a_search_by_row(some):
    found = some.neighbors("v", 17, k=2)
    assert (found.table, found.key) == ("v", 17) and found.hits.fetchall() == some.search(
        "v", row=17, k=2
    ).fetchall()
    assert (
        some.neighbors("v", "17", k=1).hits.fetchall()
        == some.neighbors("v", 17, k=1).hits.fetchall()
    )
    assert some.neighbors("v").key == 3

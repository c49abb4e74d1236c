"""The map's kernel side."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jammi_lab as jl
from jammi_widgets.map import EmbeddingMap, inside


@pytest.fixture
def points(tmp_path):
    with jl.open(tmp_path / "lab") as ws:
        rng = np.random.default_rng(3)
        vectors = rng.normal(size=(60, 5)).astype(np.float32)
        frame = {
            "id": list(range(60)),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 5),
            "group": [f"g{i % 13}" for i in range(60)],
        }
        ws.import_embeddings("points", pa.table(frame), key="id")
        yield ws


def slow(point, outline):
    x, y = map(float, point)
    odd = False
    for (ax, ay), (bx, by) in zip(outline, np.roll(outline, -1, axis=0), strict=True):
        if (ay > y) != (by > y) and x < (bx - ax) * (y - ay) / (by - ay) + ax:
            odd = not odd
    return odd


near = st.floats(-1, 1, width=32)


@given(st.lists(st.tuples(near, near), min_size=3, max_size=12), st.lists(st.tuples(near, near), min_size=1, max_size=40))
def test_a_point_is_inside_where_a_ray_crosses_the_outline_an_odd_number_of_times(outline, some):
    outline, some = np.array(outline, np.float64), np.array(some, np.float32)
    edge = np.isin(some[:, 1].astype(np.float64), outline[:, 1])
    found = inside(some, outline)
    assert all(found[i] == slow(p, outline) for i, p in enumerate(some) if not edge[i])


def test_a_lasso_chooses_rows_in_python_and_by_a_table(points, told):
    panel = EmbeddingMap(points, "points")
    answer = told(panel).ask("lasso", outline=[(-2, -2), (2, -2), (2, 2), (-2, 2)])
    assert answer["body"]["chosen"] == panel.count == 60
    assert panel.selected().column("key").to_pylist() == list(range(60))
    panel.selection = ["7", "3"]
    assert panel.selected().column("key").to_pylist() == [3, 7] and panel.count == 2
    panel.selection = []
    assert panel.count == panel.selected().num_rows == 0


def test_colours_are_by_the_most_frequent_values_and_the_rest_together(points, told):
    body = told(EmbeddingMap(points, "points")).ask("colour", column="group")["body"]
    assert len(body["legend"]) == 11 and body["legend"][-1][0] == "3 other values"
    assert sum(n for _, _, n in body["legend"]) == 60


def test_what_is_not_there_is_a_typed_error(points, told):
    with pytest.raises(jl.InvalidArgument, match="have no column"):
        EmbeddingMap(points, "points", color="nothing")
    points.materialize("plain", "SELECT 1 AS a")
    with pytest.raises(jl.SchemaMismatch):
        EmbeddingMap(points, "plain")
    line = told(EmbeddingMap(points, "points"))
    assert line.ask("hover", point=60)["kind"] == "refused"
    assert line.ask("colour", column="nothing")["kind"] == "refused"
    with pytest.raises(jl.RowNotFound):
        line.panel.selection = ["4711"]


def test_a_point_says_its_key_and_its_row(points, told):
    assert told(EmbeddingMap(points, "points")).ask("hover", point=4)["body"] == {"point": 4, "key": "4", "values": [["group", "g4"]]}


def test_the_saved_form_is_a_picture_of_the_points(points):
    data, _ = EmbeddingMap(points, "points")._repr_mimebundle_()
    assert data["text/plain"] == "Map of points, version 1: 60 rows by their first two principal components"
    assert 'src="data:image/svg+xml;base64,' in data["text/html"]

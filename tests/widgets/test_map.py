"""The map's kernel side."""

import base64
import datetime as dt
import re
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jammi_lab as jl
import jammi_widgets.map
from jammi_lab.core.html import to_text
from jammi_widgets.map import EmbeddingMap, points_inside
from jammi_widgets.value_scale import GRADIENT, NO_VALUE_CODE
from tests.templates import Template


def _import_rows(folder, **columns):
    vectors = np.random.default_rng(3).normal(size=(60, 5)).astype(np.float32)
    frame = {
        "id": list(range(60)),
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 5),
        **columns,
    }
    with jl.open(folder / "lab") as ws:
        ws.import_embeddings("points", pa.table(frame), key="id")


_grouped = Template(lambda folder: _import_rows(folder, group=[f"g{i % 13}" for i in range(60)]))
_measured = Template(
    lambda folder: _import_rows(
        folder,
        price=[None if i == 7 else float("nan") if i == 8 else i / 4 for i in range(60)],
        stars=[5 - i % 5 for i in range(60)],
        day=[dt.date(2024, 1, 1) + dt.timedelta(i) for i in range(60)],
        text=[f"t{i % 3}" for i in range(60)],
    )
)


@pytest.fixture
def points():
    with jl.open(_grouped.restore() / "lab") as ws:
        yield ws


def slow(point, outline):
    x, y = map(float, point)
    odd = False
    for (ax, ay), (bx, by) in zip(outline, np.roll(outline, -1, axis=0), strict=True):
        if (ay > y) != (by > y) and x < (bx - ax) * (y - ay) / (by - ay) + ax:
            odd = not odd
    return odd


near = st.floats(-1, 1, width=32)


@given(
    st.lists(st.tuples(near, near), min_size=3, max_size=12),
    st.lists(st.tuples(near, near), min_size=1, max_size=40),
)
def test_a_point_is_inside_where_a_ray_crosses_the_outline_an_odd_number_of_times(outline, some):
    outline, some = np.array(outline, np.float64), np.array(some, np.float32)
    edge = np.isin(some[:, 1].astype(np.float64), outline[:, 1])
    found = points_inside(some, outline)
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
    body = told(EmbeddingMap(points, "points")).answer("colour", column="group")
    assert len(body["legend"]) == 11 and body["legend"][-1][0] == "3 other values"
    assert sum(n for _, _, n in body["legend"]) == 60


def test_what_is_not_there_is_a_typed_error(points, told):
    with pytest.raises(jl.InvalidArgument, match="have no column"):
        EmbeddingMap(points, "points", color="nothing")
    with pytest.raises(jl.InvalidArgument, match="SELECT rank AS source_rank"):
        EmbeddingMap(points, "points", color="rank")
    points.materialize("plain", "SELECT 1 AS a")
    with pytest.raises(jl.SchemaMismatch):
        EmbeddingMap(points, "plain")
    line = told(EmbeddingMap(points, "points"))
    assert line.ask("hover", point=60)["kind"] == "refused"
    assert line.ask("colour", column="nothing")["kind"] == "refused"
    with pytest.raises(jl.RowNotFound):
        line.panel.selection = ["4711"]


def test_a_table_without_rows_is_a_map_without_points(points, told):
    points.embed(
        "none",
        "SELECT id, 'a' AS title FROM range(3) r(id) WHERE id > 5",
        key="id",
        text="title",
        model="hashing",
    )
    panel = EmbeddingMap(points, "none")
    line = told(panel)
    assert line.answer("open")["count"] == 0
    body = line.answer("points")
    assert (body["count"], body["chosen"]) == (0, 0)
    assert line.answer("lasso", outline=[(-1, -1), (1, -1), (1, 1)])["chosen"] == 0
    assert line.answer("colour", column="title")["legend"] == []


def test_a_condition_of_the_map_reads_no_other_table(points, told):
    points.materialize("secret", "SELECT 'T' AS s")
    panel = EmbeddingMap(points, "points")
    line = told(panel)
    panel.filter = "EXISTS (FROM jammi.secret)"
    said = line.messages[-1]
    assert said["kind"] == "said" and "without subqueries" in said["lines"][0]
    assert line.answer("points")["found"] is None


def test_of_very_many_rows_the_selection_names_the_first_and_the_table_all(
    points, told, monkeypatch
):
    monkeypatch.setattr(jammi_widgets.map, "MAX_SELECTED_KEYS", 10)
    panel = EmbeddingMap(points, "points")
    body = told(panel).answer("lasso", outline=[(-2, -2), (2, -2), (2, 2), (-2, 2)])
    assert body["chosen"] == panel.count == panel.selected().num_rows == 60
    assert panel.selection == [str(at) for at in range(10)]


def pictures(html):
    return [
        base64.b64decode(body).decode()
        for body in re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', html)
    ]


def test_the_saved_form_has_the_colours_that_were_chosen_and_says_what_they_mean(points):
    panel = EmbeddingMap(points, "points", color="group")
    data, _ = panel._repr_mimebundle_()
    [drawn] = pictures(data["text/html"])
    assert "60 rows of points along the two directions in which the vectors" in data["text/plain"]
    assert (
        "; coloured by group." in data["text/plain"]
        and drawn.count(f'stroke="{jammi_widgets.map.PALETTE[0]}"') == 2
    )
    assert (
        all(f">{said}</text>" in drawn for said in ("g0 5", "g10 4", "3 other values 12"))
        and "no value" not in drawn
    )
    panel.color = ""
    [plain] = pictures(panel._repr_mimebundle_()[0]["text/html"])
    assert jammi_widgets.map.PALETTE[0] not in plain and "coloured" not in repr(panel)


def moved(ws, rows):
    """The first rows of `points`, imported again."""
    ws.import_embeddings("points", ws.table("points").arrow().slice(0, rows), key="key")


def test_a_kept_map_says_what_it_is_of_when_it_is_stale_and_is_mended_from_the_panel(points, told):
    panel = EmbeddingMap(points, "points", projection="tsne")
    line = told(panel)
    about = line.answer("open")
    assert (about["source"], about["method"], about["verdict"], about["notes"]) == (
        "points_tsne",
        "tsne",
        "fresh",
        [],
    )
    assert (
        "by t-SNE with perplexity 19.7 (points_tsne, version 1)" in about["placed"]
        and about["table"] == "points"
    )
    panel.selection = ["7", "50"]
    moved(points, 40)
    about = line.answer("open")
    assert about["verdict"] == "stale" and about["notes"][0].startswith(
        "points_tsne is stale: points"
    )
    assert line.act("recompute", "points_tsne")["body"] == {"lines": ["points_tsne is fresh."]}
    assert line.answer("open")["verdict"] == "fresh" and line.answer("points")["count"] == 40
    assert panel.selection == ["7"] and panel.selected()["key"].to_pylist() == [7]


def test_a_missing_library_is_said_on_the_panel_with_its_extra(points, told, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    ended = told(EmbeddingMap(points, "points")).act("project", "tsne")
    assert ended["kind"] == "failed" and "jammi-lab[maps]" in " ".join(ended["lines"])


@pytest.mark.parametrize(
    "keys", [["a", "b", "é\n"], [1, 2, -3], [dt.date(2024, 1, 1), dt.date(2024, 1, 2), dt.date(2025, 1, 1)], [1.5, 2.0, 1e300]], ids=["texts", "numbers", "dates", "floats"]
)  # fmt: skip
def test_rows_are_found_by_what_is_shown_of_their_keys(ws, keys):
    ws.import_embeddings(
        "v",
        pa.table(
            {
                "id": pa.array(keys),
                "vector": pa.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], pa.list_(pa.float32(), 2)),
            }
        ),
    )
    panel = EmbeddingMap(ws, "v")
    panel.selection = [to_text(k) for k in keys]
    assert sorted(panel.selected()["key"].to_pylist()) == sorted(keys)
    with pytest.raises(jl.RowNotFound, match="'nothing'"):
        panel.selection = ["nothing"]


@pytest.fixture
def measured():
    """A panel over sixty rows with numbers, few integers, dates and texts."""
    with jl.open(_measured.restore() / "lab") as ws:
        yield EmbeddingMap(ws, "points")


def test_numbers_and_dates_have_a_gradient_from_low_to_high(measured, told):
    line = told(measured)
    price = line.answer("colour", column="price")["legend"]
    assert [label for label, _, _ in price] == [f"{i} – {i + 2}" for i in range(0, 16, 2)]
    assert sum(n for _, _, n in price) == 58
    colours = [colour for _, colour, _ in price]
    assert len(set(colours)) == 8 and (colours[0], colours[-1]) == (GRADIENT[0], GRADIENT[-1])
    positions = measured._colouring("price").legend_positions
    assert positions[[7, 8]].tolist() == [NO_VALUE_CODE, NO_VALUE_CODE]
    assert (positions[0], positions[59], measured._colouring("price").without_value) == (0, 7, 2)
    day = line.answer("colour", column="day")["legend"]
    assert [label for label, _, _ in day][::8] == [
        "2024-01-01 – 2024-01-08",
        "2024-02-26 – 2024-03-04",
    ]


def test_selected_rows_come_with_their_columns(measured, told):
    measured.selection = ["3", "9"]
    rows = measured.selected_rows()
    assert rows.column_names[:1] == ["key"]
    assert rows.select(["key", "stars"]).to_pydict() == {"key": [3, 9], "stars": [2, 1]}
    body = told(measured).answer("selected-rows")
    assert body["chosen"] == 2 and body["columns"][0] == "key"
    assert [row[0] for row in body["rows"]] == ["3", "9"]
    at = body["columns"].index("stars")
    assert [row[at] for row in body["rows"]] == ["2", "1"]
    measured.selection = []
    assert told(measured).answer("selected-rows")["rows"] == []


@pytest.fixture
def topics(tmp_path):
    """Vectors in two groups, and their texts."""
    rng = np.random.default_rng(3)
    vectors = rng.normal(0, 0.05, (200, 4)) + np.repeat(np.eye(4)[:2], 100, axis=0)
    with jl.open(tmp_path / "lab") as ws:
        ws.sources.add(
            "papers",
            pa.table(
                {
                    "the id": [f"p'{i}" for i in range(200)],
                    "title": [
                        f"{'graph network' if i < 100 else 'rye bread'} {i}" for i in range(200)
                    ],
                }
            ),
        )
        frame = pa.table(
            {
                "the id": [f"p'{i}" for i in range(200)],
                "vector": pa.FixedSizeListArray.from_arrays(
                    pa.array(vectors.astype(np.float32).ravel()), 4
                ),
            }
        )
        ws.import_embeddings("points", frame, key="the id", source="papers")
        yield ws


def test_selected_rows_are_given_as_sql_and_kept_as_a_table_with_lineage(topics, told):
    panel = EmbeddingMap(topics, "points")
    line = told(panel)
    panel.selection = [f"p'{i}" for i in range(100)]
    rows = topics.sql(panel.sql).arrow()
    assert sorted(rows["the id"].to_pylist()) == sorted(panel.selection)
    assert line.answer("selected-rows")["sql"] == panel.sql
    done = line.act("keep", "graphs")
    assert done["body"]["lines"] == [f"graphs has the {rows.num_rows} selected rows."]
    assert topics.table("graphs").row_count == rows.num_rows
    assert "papers" in str(topics.lineage("graphs")) and str(topics.staleness("graphs")).startswith(
        "fresh"
    )
    again = line.act("keep", "graphs")
    assert again["kind"] == "failed" and "already" in again["lines"][0]

"""What panels show of the rows behind a table, as they are now."""

import numpy as np
import pyarrow as pa
import pytest

from jammi_widgets.map import EmbeddingMap, rank_by_frequency
from jammi_widgets.neighbors import NeighborExplorer
from tests.widgets.conftest import N, write_things


@pytest.fixture
def plan(lab, told, things):
    return told(EmbeddingMap(lab, "v"))


@pytest.fixture
def explorer(lab, told, things):
    return told(NeighborExplorer(lab, "v"))


def hovered(line, point):
    return dict(line.answer("hover", point=point)["values"])


def coloured(line, column="group"):
    return {name: count for name, _, count in line.answer("colour", column=column)["legend"]}


def test_a_change_of_the_source_is_shown_at_once(lab, told, things, plan, explorer):
    for mark in "ghgk":  # of one length, and back to what was there before
        write_things(things, lambda i, mark=mark: f"{mark}{i % 13}")
        for _ in range(3):
            assert hovered(plan, 5)["group"] == f"{mark}5" and coloured(plan)[f"{mark}0"] == 4
            assert explorer.answer("near", row="5", k=2)["own"] == ["t5", f"{mark}5"]


def test_a_row_that_went_says_its_key_alone_and_one_that_came_back_its_columns(
    lab, told, things, plan, explorer
):
    for ids, own in ((range(N), "t39"), (range(N - 1), None), (range(N), "t39")):
        write_things(things, ids=ids)
        for _ in range(3):
            assert hovered(plan, 39).get("title") == own and sum(coloured(plan).values()) == len(
                ids
            )
            assert explorer.answer("near", row="39", k=1)["own"][0] == own


def test_a_table_that_was_made_anew_is_shown_with_its_own_rows(lab, told, things, plan, explorer):
    for _ in range(2):
        hovered(plan, 5), explorer.ask("near", row="5", k=2)
    write_things(things, ids=range(5, N))
    lab.recompute("v")
    assert [hovered(plan, point).get("title") for point in (4, 5)] == [
        None,
        "t5",
    ]  # still the points of the first version
    for line in (plan, explorer):
        line.ask("refresh")
    for _ in range(3):
        assert (
            hovered(plan, 0) == {"title": "t5", "group": "g5"}
            and sum(coloured(plan).values()) == N - 5
        )
        assert explorer.answer("near", row="6", k=2)["own"] == ["t6", "g6"]


def test_points_that_are_kept_take_the_columns_of_their_keys_from_a_newer_table(lab, told, things):
    lab.projection("p", "v", method="pca")
    write_things(things, ids=[*range(5, N), 99])
    lab.recompute("v")
    line = told(EmbeddingMap(lab, "p"))
    for _ in range(3):
        assert sum(coloured(line).values()) == N - 5
        assert hovered(line, 0) == {} and hovered(line, 5) == {"title": "t5", "group": "g5"}


def test_each_tenant_points_at_its_own_rows(ws, tmp_path, told):
    (tmp_path / "owned.csv").write_text("id,title,owner\n1,a,acme\n2,b,zeta\n")
    ws.sources.add("owned", tmp_path / "owned.csv", tenant_column="owner")
    vectors = pa.table(
        {"id": [1, 2], "vector": pa.array([[1.0, 0.0], [0.0, 1.0]], pa.list_(pa.float32(), 2))}
    )
    ws.import_embeddings("v", vectors, source="owned")
    lines = {}
    for tenant in ("acme", "zeta"):
        with ws.tenant(tenant):
            lines[tenant] = told(EmbeddingMap(ws, "v"))
    for _ in range(3):
        for tenant, titles in (("acme", ["a", None]), ("zeta", [None, "b"])):
            assert [hovered(lines[tenant], point).get("title") for point in (0, 1)] == titles


def test_a_source_without_columns_to_show_leaves_the_key(ws, told):
    ws.import_embeddings(
        "v",
        pa.table(
            {
                "id": [1, 2],
                "vector": pa.array([[1.0, 0.0], [0.0, 1.0]], pa.list_(pa.float32(), 2)),
            }
        ),
    )
    assert told(EmbeddingMap(ws, "v")).answer("hover", point=1) == {
        "point": 1,
        "key": "2",
        "values": [],
    }
    assert told(NeighborExplorer(ws, "v")).answer("near", row="1", k=1)["own"] == []


@pytest.mark.parametrize(
    ("values", "named"),
    [
        (pa.array([[1, 2], [1, 2], None, []]), [("[1, 2]", 2), ("[]", 1)]),
        (pa.array(["b", "a", "b"]).dictionary_encode(), [("b", 2), ("a", 1)]),
        (pa.array([1.5, float("nan"), float("nan")]), [("NaN", 2), ("1.5", 1)]),
        (
            pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"\0" * 16] * 2, pa.binary(16))),
            [("00000000-0000-0000-0000-000000000000", 2)],
        ),
        (pa.nulls(3), []),
    ],
    ids=["lists", "enums", "floats", "uuids", "nothing"],
)
def test_values_of_every_type_have_a_colour(values, named):
    codes, found, others = rank_by_frequency(pa.chunked_array([values]), 10)
    assert found == named and others == 0
    assert np.bincount(codes[codes < 255], minlength=len(named)).tolist() == [n for _, n in named]

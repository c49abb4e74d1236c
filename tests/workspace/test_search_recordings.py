"""Recorded searches, and what a replay says of them."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import jammi_lab as jl
from jammi_lab.core import errors

TEXTS = ["graph networks", "pasta at home", "error E17"]


def notes(texts: list[str]) -> pa.Table:
    return pa.table(
        {
            "id": list(range(len(texts))),
            "text": texts,
            "year": [2000 + i for i in range(len(texts))],
        }
    )


class Encoder:
    """Three numbers of a text; `scale` stands for other weights."""

    name, dimensions = "mine", 3

    def __init__(self, version: str, scale: float) -> None:
        self.version, self.scale = version, scale

    def encode(self, texts: list[str]) -> Any:
        return np.array([[len(t) * self.scale, t.count("a") + 1, 1] for t in texts], np.float32)


@pytest.fixture
def lab(ws: Any) -> Any:
    ws.sources.add("notes", notes(TEXTS))
    ws.models.register("mine", Encoder("1", 1.0))
    ws.embed("v", "notes", key="id", text="text", model="mine")
    ws.lexical("w", "notes", key="id", text="text")
    with ws.recording("chat"):
        ws.search("v", "pasta", k=2)
        ws.search("v", row=0, k=1, where="year > $y", params={"y": 2000}, select="year")
        ws.search("w", ["pasta", "E17"], k=1)
        ws.search("v", "E17", words="w", k=1)
        ws.search("v", ws.vector("v", 2), k=1)
    ws.search("w", "graph")
    return ws


def causes(ws: Any) -> list[tuple[str, str | None]]:
    rows = ws.recordings["chat"].replay().arrow().to_pylist()
    return [(row["outcome"], row["cause"]) for row in rows]


def test_searches_of_the_block_are_kept_and_come_out_the_same(lab):
    assert [each.name for each in lab.recordings] == ["chat"] and len(lab.recordings["chat"]) == 5
    rows = lab.recordings["chat"].replay().arrow().to_pylist()
    assert {row["outcome"] for row in rows} == {"same"} and {row["cause"] for row in rows} == {None}
    assert [row["query"] for row in rows] == ["pasta", "row 0", "pasta | E17", "E17", "vector"]
    assert rows[2]["keys"] == rows[2]["recorded_keys"] == ["1", "2"]
    assert "pasta | E17" in repr(lab.recordings["chat"])


def test_other_rows_are_the_cause_data(lab):
    lab.sources.add("notes", notes([*TEXTS, "pasta pasta"]), replace=True)
    lab.recompute()
    found = causes(lab)
    row = lab.recordings["chat"].replay().arrow().to_pylist()[2]
    assert (row["n"], row["missing"], row["added"]) == (2, ["1"], ["3"])
    assert ("differs", "data") in found and not {c for _, c in found} & {"model", "definition"}
    assert found[2] == ("differs", "data")


def test_a_hit_that_one_of_several_queries_lost_is_missing(lab):
    with lab.recording("several"):
        lab.search("w", ["pasta home", "home"], k=2)
    for texts, *expected in (
        (["home", "pasta"], ["1", "2", "1"], [], ["2"]),
        (["pasta", "food"], ["1"], ["1"], []),
    ):
        lab.sources.add("notes", notes([TEXTS[0], *texts]), replace=True)
        lab.recompute("w")
        [row] = lab.recordings["several"].replay().arrow().to_pylist()
        assert row["recorded_keys"] == ["1", "1"]
        assert [row["keys"], row["missing"], row["added"]] == expected


def test_a_recording_without_searches_is_empty(lab):
    with lab.recording("quiet") as recording:
        assert len(recording) == 0
    assert recording.replay().arrow().num_rows == 0 and "0 searches" in repr(recording)
    assert "quiet" not in lab.recordings


def test_another_recipe_is_the_cause_definition(lab):
    lab.lexical("w", "notes", key="id", text="text", where="id = 0")
    assert causes(lab)[2] == ("differs", "definition")
    assert causes(lab)[0] == ("same", None)


def test_another_model_is_the_cause_model(lab):
    lab.models.register("mine", Encoder("2", 50.0))
    lab.recompute("v")
    assert causes(lab)[0] == ("differs", "model") and causes(lab)[2] == ("same", None)


def test_a_search_that_fails_now_is_told(lab):
    lab.drop("w", force=True)
    [first, *_, fourth, _] = lab.recordings["chat"].replay().arrow().to_pylist()
    assert first["outcome"] == "same" and fourth["outcome"] == "fails" and "'w'" in fourth["cause"]


def test_recordings_are_continued_and_belong_to_a_tenant(lab):
    with lab.recording("chat"):
        lab.search("w", "graph")
    assert len(lab.recordings["chat"]) == 6
    with lab.tenant("acme"), lab.recording("own"):
        lab.search("w", "graph")
    assert [each.name for each in lab.recordings] == ["chat"]
    for listed in (lab.recordings, lab.recipes()):  # of one shape
        assert all(each.name in listed and len(listed[each.name].name) for each in listed)
        assert listed[0].name == next(iter(listed)).name
    with pytest.raises(errors.TopicNotFound, match="no recording 'caht'"):
        lab.recordings["caht"]
    with pytest.raises(errors.NameInvalid), lab.recording(""):
        pass


def test_other_candidates_of_an_index_are_the_cause_index(tmp_path):
    vectors = np.random.default_rng(0).normal(size=(3000, 32)).astype(np.float32)
    rows = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 32)
    few = {"vectors.oversample": 1, "vectors.search_expansion": 1}
    with jl.open(tmp_path / "lab", settings=few) as ws:
        ws.import_embeddings("v", pa.table({"id": range(3000), "vector": rows}))
        with ws.recording("chat"):
            ws.search("v", vectors[:20] + 1, k=10, exact=False)
            ws.search("v", vectors[0], k=10, exact=True)
        assert causes(ws) == [("same", None)] * 2
    with jl.open(tmp_path / "lab", settings={"vectors.search_expansion": 500}) as ws:
        assert causes(ws) == [("differs", "index"), ("same", None)]

"""Models in the lineage: which tables they made, and what becomes of verdicts when one is
replaced."""

import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jammi_lab as jl
from jammi_lab.core.records import Edge
from tests.features.vectors.encoders import Letters
from tests.freshness.lab import Lab, said


@pytest.fixture
def made(papers: Lab) -> Lab:
    """Vectors of the papers, and what their neighbours are."""
    papers.embed("vectors", "papers", key="id", text="title", model="hashing")
    papers.neighbor_graph("near", "vectors", k=1)
    return papers


def embed_by_both(papers: Lab) -> None:
    """Vectors by the newest version of `mine`, and by the first."""
    for name, model in (("by name", "mine"), ("by version", "mine::1")):
        papers.embed(name, "papers", key="id", text="title", model=model)


def named(lineage: Any) -> list[tuple[str, str]]:
    return [(n.kind, n.name) for n in lineage.nodes]


def test_the_model_of_a_table_is_a_node_above_it_and_above_what_derives_from_it(made):
    whole = [
        ("source", "papers"),
        ("model", "hashing"),
        ("embedding", "vectors"),
        ("neighbor_graph", "near"),
    ]
    assert named(made.lineage("near", direction="up")) == whole
    assert named(made.lineage("vectors")) == whole
    assert Edge(input="hashing", derived="vectors", kind="model") in made.lineage("near").edges
    assert {("model", "hashing"), ("sql", "titles")} < set(named(made.lineage()))
    assert ("model", "hashing") not in named(made.lineage("titles"))


def test_from_a_model_down_to_all_that_rests_on_it(made):
    assert named(made.lineage("HASHING")) == [
        ("model", "hashing"),
        ("embedding", "vectors"),
        ("neighbor_graph", "near"),
    ]
    assert made.derives_from("hashing") == [Edge(input="hashing", derived="vectors", kind="model")]
    assert [e.derived for e in made.derives_from_closure("hashing")] == ["vectors", "near"]
    with pytest.raises(jl.TableNotFound):
        made.lineage("minilm")


def test_depth_counts_the_hop_to_a_model(made):
    assert named(made.lineage("near", direction="up", depth=1)) == [
        ("embedding", "vectors"),
        ("neighbor_graph", "near"),
    ]
    assert ("model", "hashing") in named(made.lineage("near", direction="up", depth=2))
    assert named(made.lineage("hashing", depth=1)) == [
        ("model", "hashing"),
        ("embedding", "vectors"),
    ]


def test_a_former_version_has_the_model_that_it_was_made_with(made):
    former = made.table("vectors")
    made.embed("vectors", "papers", key="id", text="title", model=Letters())
    assert ("model", "mine") in named(made.lineage("vectors"))
    assert ("model", "hashing") not in named(made.lineage("vectors"))
    assert made.derives_from("mine") == [Edge(input="mine", derived="vectors", kind="model")]
    assert (
        Edge(input="hashing", derived=former.table_name, kind="model")
        in made.lineage(former, direction="up").edges
    )


def test_a_model_a_source_and_a_recipe_of_one_name_are_three_nodes(lab):
    lab.csv("x", "id,title", "1,a")
    lab.embed("x", "x", key="id", text="title", model=Letters("x"))
    lineage = lab.lineage()
    assert named(lineage) == [("source", "x"), ("model", "x"), ("embedding", "x")]
    graph = lineage.to_networkx()
    assert sorted(graph.edges(data="kind")) == [
        ("model:x", "x", "model"),
        ("source:x", "x", "source_version"),
    ]
    assert '{{"x"}}' in lineage.to_mermaid()
    lab.csv("y", "id,title", "1,a")
    lab.embed("of y", "y", key="id", text="title", model=Letters("y"))
    assert sorted(lab.lineage("of y").to_networkx().nodes) == ["model:y", "of y", "y"]


def test_a_model_of_imported_vectors_is_known_when_it_was_registered_before(papers):
    import pyarrow as pa

    rows = pa.table({"id": [1], "vector": [np.ones(3, np.float32)]})
    papers.models.register("Their Model", dimensions=3)
    for name, model in (("theirs", "their model"), ("others", "another model")):
        papers.import_embeddings(
            name, rows, key="id", vector="vector", source="papers", model_id=model
        )
    assert ("model", "another model") not in named(papers.lineage("others"))
    assert ("model", "Their Model") in named(papers.lineage("theirs"))
    assert named(papers.lineage("their model")) == [
        ("model", "Their Model"),
        ("imported", "theirs"),
    ]


def test_sql_and_open_lineage_tell_of_models(made):
    rows = made.sql(
        "SELECT input, derived FROM jammi_catalog.lineage WHERE kind = 'model'"
    ).fetchall()
    assert rows == [("hashing", "vectors")]
    made.export_openlineage(made.path("events.ndjson"))
    events = [
        json.loads(line) for line in Path(made.path("events.ndjson")).read_text().splitlines()
    ]
    read = {
        e["job"]["name"]: {i["name"]: i["facets"] for i in e["inputs"]}
        for e in events
        if e["eventType"] == "COMPLETE"
    }
    assert read["vectors"]["model.hashing"]["version"]["datasetVersion"]
    assert "model.hashing" not in read["near"]


def test_another_tenants_models_are_not_seen(made):
    with made.tenant("acme"):
        made.embed("own", "papers", key="id", text="title", model=Letters("secret"))
        assert ("model", "secret") in named(made.lineage())
        assert ("model", "hashing") in named(made.lineage("near"))
    with made.tenant("other"):
        assert ("model", "secret") not in named(made.lineage())
        with pytest.raises(jl.TableNotFound):
            made.lineage("secret")


def test_a_model_that_was_registered_again_with_other_weights_makes_its_tables_stale(
    papers,
):
    papers.models.register("mine", Letters(), version=1)
    papers.embed("vectors", "papers", key="id", text="title", model="mine::1")
    with pytest.raises(jl.ModelReferenced):
        papers.models.delete("mine")
    with papers.open() as other:  # has not the encoder
        assert other.staleness("vectors") == jl.Fresh()
        papers.models.register("mine", Letters(dimensions=4))
        assert (papers.verdict("vectors"), other.staleness("vectors")) == (
            "fresh",
            jl.Fresh(),
        )  # a new version beside the one that was used
        papers.models.register("mine", Letters(dimensions=5), version=1)
        assert said(papers.staleness("vectors")) == ["definition"]
        assert isinstance(other.staleness("vectors"), jl.Undecidable)
        assert "registered again" in str(other.staleness("vectors"))
        assert {row.name: row.verdict for row in other.status()}["vectors"] != jl.Fresh()


def test_a_name_means_the_newest_version_and_a_version_is_that_version(papers):
    papers.models.register("mine", Letters())
    embed_by_both(papers)
    first = papers.table("by name").arrow()
    with papers.open() as other:  # has no encoder
        papers.models.register("mine", Letters(dimensions=4))
        assert said(papers.staleness("by name")) == ["definition"]
        assert papers.verdict("by version") == "fresh"
        assert isinstance(other.staleness("by name"), jl.Undecidable)
        assert other.staleness("by version") == jl.Fresh()
    report = papers.recompute()
    assert [step.name for step in report.steps] == ["by name"]
    assert papers.table("by name").arrow().schema.field("vector").type.list_size == 4
    assert {papers.verdict(name) for name in ("by name", "by version")} == {"fresh"}
    papers.recompute("by version")
    assert papers.table("by version").arrow() == first
    with pytest.raises(jl.ModelNotFound):
        papers.embed("third", "papers", key="id", text="title", model="mine::3")


def files_of(folder: Path, weights: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "weights").write_text(weights)
    return folder


def test_files_count_in_a_kernel_that_cannot_load_them(papers, tmp_path, monkeypatch):
    """Where the library of a model is missing, a newer version of its files is not overlooked."""

    def load(path: str, local_files_only: bool) -> Letters:
        assert local_files_only
        return Letters(version=Path(path, "weights").read_text())

    library = types.ModuleType("sentence_transformers")
    library.SentenceTransformer = load  # type: ignore[attr-defined]
    with monkeypatch.context() as installed:
        installed.setitem(sys.modules, "sentence_transformers", library)
        papers.models.register("mine", files_of(tmp_path / "first", "1"))
        embed_by_both(papers)
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    names = ("by name", "by version")
    with papers.open() as other:
        assert [other.staleness(name) for name in names] == [jl.Fresh()] * 2
        papers.models.register("mine", files_of(tmp_path / "second", "2"))
        assert isinstance(other.staleness("by name"), jl.Undecidable)
        assert other.staleness("by version") == jl.Fresh()
        papers.models.register("mine", files_of(tmp_path / "third", "3"), version=1)
        papers.models.register("mine", tmp_path / "first", version=3)
        assert isinstance(other.staleness("by version"), jl.Undecidable)
        assert other.staleness("by name") == jl.Fresh()


def test_a_version_that_is_known_by_name_alone_is_not_the_one_before_it(papers):
    papers.models.register("mine", Letters())
    embed_by_both(papers)
    papers.models.register("mine")
    assert isinstance(papers.staleness("by name"), jl.Undecidable)
    assert papers.staleness("by version") == jl.Fresh()

"""Projections: places that separate what is apart, and tables like any other."""

import importlib
import importlib.metadata
import sys
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import jammi_lab as jl
from jammi_lab.core import errors
from jammi_lab.features.vectors import projections as placing
from jammi_lab.features.vectors.exact_search import ExactSearch
from jammi_lab.features.vectors.projections import project_to_plane
from tests.cases import cases
from tests.features.vectors.test_neighbor_graph import given_vectors
from tests.waiting import in_threads


def clouds(n: int = 90, width: int = 12) -> Any:
    """Three clouds of vectors far from each other, row after row in turn."""
    rng = np.random.default_rng(3)
    return (3 * np.eye(3, width)[np.arange(n) % 3] + 0.2 * rng.standard_normal((n, width))).astype(
        np.float32
    )


def points_of(table: Any) -> Any:
    found = table.arrow()
    return np.stack([found["x"].to_numpy(), found["y"].to_numpy()], 1)


@pytest.fixture
def three(ws: Any) -> Any:
    given_vectors(ws, "v", list(range(90)), clouds())
    return ws


# -- where the points are --------------------------------------------------------------------------


def test_a_kept_plane_is_the_plane_of_the_components(three):
    table = three.projection("p", "v")
    assert (table.kind, table.key, table.derived_from, table.model_id) == (
        "projection",
        ["key"],
        "v",
        None,
    )
    assert [(c.name, c.type) for c in table.manifest.columns] == [
        ("key", "BIGINT"),
        ("x", "FLOAT"),
        ("y", "FLOAT"),
    ]
    assert points_of(table).tobytes() == project_to_plane(clouds())[0].tobytes() and table.arrow()[
        "key"
    ].to_pylist() == list(range(90))


def test_what_is_alike_is_nearest_on_a_map_by_tsne(three):
    points = points_of(three.projection("p", "v", method="tsne", perplexity=10))
    apart = np.linalg.norm(points[:, None] - points[None], axis=2) + np.diag(np.full(90, np.inf))
    assert ((apart.argmin(1) - np.arange(90)) % 3 == 0).all()


def test_equal_vectors_make_an_equal_map_in_every_thread():
    found = in_threads(
        lambda _: placing.tsne(ExactSearch(clouds()), 10, 0, lambda *_: None).tobytes(), range(3)
    )
    assert (
        len(set(found)) == 1
        and found[0] != placing.tsne(ExactSearch(clouds()), 10, 1, lambda *_: None).tobytes()
    )


@pytest.mark.parametrize(
    "vectors",
    [
        np.ones((0, 3)), np.ones((1, 3)), np.eye(2), np.eye(4), np.eye(5), np.eye(7), np.ones((40, 3)), np.array([[1.0], [-1.0]] * 10),
        np.repeat(np.eye(3), 10, 0), np.linspace(1, 2, 30)[:, None] * [1.0, 0.0],
    ],
    ids=["none", "one", "two", "four", "five", "seven", "all equal", "two directions", "three copied", "one direction"],
)  # fmt: skip
def test_few_or_equal_rows_have_a_map_too(ws, vectors):
    kind = pa.list_(pa.float32(), vectors.shape[1])
    ws.import_embeddings(
        "v",
        pa.table(
            {"id": range(len(vectors)), "vector": pa.array(list(vectors.astype(np.float32)), kind)}
        ),
    )
    for method in ("pca", "tsne"):
        points = points_of(ws.projection("p", "v", method=method))
        assert points.shape == (len(vectors), 2) and np.isfinite(points).all()
    assert f"{len(vectors)} row" in repr(ws.vector_map("p"))


# -- as a table like any other ---------------------------------------------------------------------


def test_another_release_of_the_library_is_another_definition(three, monkeypatch):
    table, plain = three.projection("p", "v", method="tsne"), three.projection("q", "v")
    # the components ask for neither
    unread = three.projection("r", "v", perplexity=7, seed=7)
    assert unread.definition_hash == plain.definition_hash
    assert (
        table.manifest.environment["scikit-learn"] == importlib.metadata.version("scikit-learn")
        and "scikit-learn" not in plain.manifest.environment
    )
    monkeypatch.setattr(placing, "installed_version", lambda: "99.0")
    assert [type(r) for r in three.staleness("p").reasons] == [
        jl.DefinitionChanged
    ] and three.staleness("q") == jl.Fresh()


def test_without_the_library_the_extra_is_named_and_kept_maps_stay(three, monkeypatch):
    three.projection("p", "v", method="tsne")
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    monkeypatch.setattr(placing, "installed_version", lambda: None)
    with pytest.raises(errors.ExtensionMissing, match="scikit-learn") as missing:
        three.vector_map("v", "tsne")
    assert "jammi-lab[maps]" in missing.value.hint
    assert (
        three.staleness("p") == jl.Fresh()
        and len(three.vector_map("p")) == 90
        and len(three.vector_map("v", "pca")) == 90
    )
    given_vectors(three, "v", [1, 2], [[1.0, 0.0], [0.0, 1.0]])
    assert "scikit-learn" in str(three.plan("p")) and isinstance(three.staleness("p"), jl.Stale)


def test_what_makes_no_sense_is_refused_before_anything_runs(three):
    for told, said in cases("statements/projections_refused", "told", "said"):
        with pytest.raises(errors.InvalidArgument, match=f"^{said} must be "):
            three.projection("p", "v", **told)
        assert "p" not in [r.name for r in three.recipes()]


def test_only_what_has_vectors_is_projected(three):
    three.projection("p", "v")
    for name, what in {"p": errors.SchemaMismatch, "nothing": errors.TableNotFound}.items():
        with pytest.raises(what):
            three.projection("q", name)


def test_progress_tells_rows_then_the_beginning_of_the_iterations(three):
    told: list[Any] = []
    three.projection("p", "v", method="tsne", progress=told.append)
    said = [(p.stage, p.done, p.total, p.unit) for p in told]
    assert ("neighbours for p", 90, 90, "rows") in said
    assert ("projection p", 0, placing.MAX_ITERATIONS, "iterations") in said


# -- maps that are kept ----------------------------------------------------------------------------


def test_a_map_by_a_method_is_kept_and_true_again_when_asked_again(three):
    found = three.vector_map("v", "tsne")
    assert found.projection.name == "v_tsne" and (found.table, found.version) == ("v", 1)
    assert "90 rows of v by t-SNE with perplexity 29.7 (v_tsne, version 1)." in repr(found)
    given_vectors(three, "v", [1, 2, 3], [[1.0, 0.0], [0.0, 1.0], [1.0, 0.1]])
    assert (
        len(three.vector_map("v_tsne")) == 90
        and len(three.vector_map("v", "tsne")) == 3
        and three.staleness("v_tsne") == jl.Fresh()
    )


def test_what_was_said_of_a_map_stays_and_a_name_that_means_something_else_is_left_alone(
    three,
):
    three.projection("v_tsne", "v", method="tsne", perplexity=7, seed=3)
    assert three.vector_map("v", "tsne").projection.manifest.descriptor["perplexity"] == 7.0
    three.materialize("v_pca", "SELECT 1 AS a")
    with pytest.raises(errors.InvalidArgument, match="exists already and is not the map"):
        three.vector_map("v", "pca")
    three.projection("mine", "v")
    assert (
        three.vector_map("mine").arrow().column_names == ["key", "x", "y"]
        and three.table("v_pca").kind == "sql"
    )


def test_a_map_of_one_version_is_not_the_map_of_the_newest(three):
    old = three.table("v")
    given_vectors(three, "v", [1, 2], [[1.0, 0.0], [0.0, 1.0]])
    three.vector_map("v", "pca")
    with pytest.raises(errors.InvalidArgument, match="exists already and is not the map"):
        three.vector_map(old, "pca")
    assert len(three.vector_map(old)) == 90 and three.vector_map(old).version == 1

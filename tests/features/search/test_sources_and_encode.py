"""Searching by the name of a source, and `ws.encode`."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from jammi_lab.core import errors


@pytest.fixture
def lab(ws: Any) -> Any:
    texts = ["graph networks", "pasta at home", "error E17"]
    ws.sources.add("notes", pa.table({"id": [0, 1, 2], "text": texts}))
    return ws


def keys(ws: Any, *args: Any, **options: Any) -> list[int]:
    found: list[int] = ws.search(*args, k=1, **options).arrow()["key"].to_pylist()
    return found


def test_a_source_means_the_one_table_that_searches_it(lab):
    with pytest.raises(errors.TableNotFound, match="No table with this kind of search"):
        lab.search("notes", "pasta")
    lab.lexical("w", "notes", key="id", text="text")
    assert keys(lab, "notes", "pasta") == [1]
    lab.embed("v", "notes", key="id", text="text", model="hashing")
    with pytest.raises(errors.AmbiguousMatch, match="'v', 'w'"):
        lab.search("notes", "pasta")
    # Only one of them has vectors, or can be combined with words.
    assert keys(lab, "Notes", row=0) != [0]
    assert keys(lab, "notes", lab.vector("v", 2)) == [2]
    assert keys(lab, "notes", "E17", words="w") == [2]
    lab.embed("other", "notes", key="id", text="text", model="hashing", where="id > 0")
    with pytest.raises(errors.AmbiguousMatch, match="'other', 'v'"):
        lab.search("notes", "pasta", words="w")


def test_only_newest_versions_and_tables_of_that_source_count(lab):
    lab.lexical("w", "notes", key="id", text="text")
    lab.sources.add("others", pa.table({"id": [7], "text": ["pasta"]}))
    lab.lexical("w", "others", key="id", text="text")
    assert keys(lab, "others", "pasta") == [7]
    with pytest.raises(errors.TableNotFound):
        lab.search("notes", "pasta")
    with pytest.raises(errors.TableNotFound, match="no recipe"):
        lab.search("note", "pasta")


def test_encode_gives_the_vectors_that_embed_would_store(lab):
    lab.embed("v", "notes", key="id", text="text", model="hashing")
    vectors = lab.encode("hashing", ["error E17", "graph networks", "error E17"])
    assert vectors.dtype == np.float32 and vectors.shape == (3, lab.table("v").dimensions)
    assert np.array_equal(vectors, np.stack([lab.vector("v", key) for key in (2, 0, 2)]))
    assert np.array_equal(lab.encode("hashing", "error E17"), vectors[:1])
    assert lab.encode("hashing", []).shape == (0, lab.table("v").dimensions)
    with pytest.raises(errors.ModelNotFound):
        lab.encode("absent", ["x"])
    for wrong in (["x", 1], 3, [None], b"x"):
        with pytest.raises(errors.InvalidArgument):
            lab.encode("hashing", wrong)

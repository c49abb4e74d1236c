"""What a handle says of how its table is searched, and what derived vectors come from."""

import numpy as np
import pyarrow as pa


def test_fields_of_each_kind(ws):
    ws.sources.add(
        "notes", pa.table({"id": [1, 2, 3], "title": ["a", "b", "c"], "text": ["x", "y", "z"]})
    )
    words = ws.lexical("w", "notes", key="id", text=["title", "text"])
    vectors = ws.embed("v", "notes", key="id", text="title", model="hashing")
    graph = ws.neighbor_graph("g", "v", k=1)
    smooth = ws.propagate("p", "v", "g", hops=1)
    ws.materialize("m", "SELECT 1 AS target, key AS member FROM jammi.v")
    pooled = ws.context_set("c", "v", members="m")
    plain = ws.materialize("s", "SELECT 1 AS x")
    found = {
        each.name: (each.task, each.metric, each.text_columns, each.derived_from)
        for each in (words, vectors, graph, smooth, pooled, plain)
    }
    assert found == {
        "w": ("lexical", "bm25", ["title", "text"], None),
        "v": ("embedding", "cosine", ["title"], None),
        "g": ("neighbor_graph", "cosine", None, "v"),
        "p": ("graph_propagation", "cosine", None, "v"),
        "c": ("context_set", "cosine", None, "v"),
        "s": ("sql", None, None, None),
    }
    assert words.index_path is None and plain.index_path is None


def test_the_index_of_vectors_is_named_once_it_exists(ws):
    rng = np.random.default_rng(0).normal(size=(600, 8)).astype(np.float32)
    column = pa.FixedSizeListArray.from_arrays(rng.reshape(-1), 8)
    table = ws.import_embeddings("v", pa.table({"id": range(600), "vector": column}))
    ws.search("v", rng[0], k=1, exact=False)
    assert table.index_path.exists() and table.index_path.stem.startswith(table.table_name)

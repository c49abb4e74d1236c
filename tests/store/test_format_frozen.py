"""A refactoring changes no byte on disk: definitions, anchors, manifests and rows of every
producer, equal the committed ones.

`python -m tests.store.test_format_frozen` writes the fixture anew; do so only together with a new
manifest version or a producer's revision.
"""

import hashlib
import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import jammi_lab as jl
from tests.releases import ONLY_ON_1_5

FIXTURE = Path(__file__).resolve().parents[1] / "data" / "frozen.json"
VARYING = {"engine_version", "produced_by", "produced_at", "seconds", "seal"}
STAMP = re.compile(r"\d{8}T\d{15}_[0-9a-f]{8}")
"""The part of a physical name that is new each time."""
VECTOR_KINDS = {"embedding", "neighbor_graph", "graph_propagation", "context_set", "projection"}
"""Their rows are floats that may differ in the last bit between processors: only what was asked for
is compared."""


def shorten(docs: Any, most: int) -> Any:
    """A Python step."""
    return docs.arrow().slice(0, most).select(["id"])


def write_sources() -> None:
    Path("docs.csv").write_text("id,text,day\n1,red,1\n2,green,2\n3,blue,3\n4,grey,4\n")
    Path("facts.csv").write_text("day,rain\n1,0.5\n3,2.5\n")


def make_tables(ws: Any) -> None:
    ws.sources.add("docs", "docs.csv")
    ws.sources.add("facts", "facts.csv")
    ws.materialize(
        "short", "SELECT id, text FROM docs WHERE id < $most", params={"most": 4}, key="id"
    )
    ws.materialize(
        "counted",
        "SELECT length(d.text) AS n, count(*) AS c, avg(d.id) AS a FROM docs d JOIN jammi.short s USING (id) GROUP BY 1 ORDER BY 1",
    )
    ws.embed("vecs", "docs", key="id", text="text", model="hashing")
    ws.lexical("words", "docs", key="id", text="text")
    ws.neighbor_graph("graph", "vecs", k=2)
    ws.propagate("smooth", "vecs", "graph", hops=2)
    ws.context_set("ctx", "vecs", members="SELECT id % 2 AS target, id AS member FROM docs")
    ws.projection("flat", "vecs", method="pca")
    ws.asof_join(
        "joined", "SELECT id, day FROM docs", "facts", spine_time="day", facts_time="day", by=[]
    )
    ws.compute("step", shorten, inputs="docs", params={"most": 2}, version="1")
    vectors = pa.array(list(np.eye(4, dtype=np.float32)), pa.list_(pa.float32()))
    ws.import_embeddings("theirs", pa.table({"id": [1, 2, 3, 4], "vector": vectors}), source="docs")
    ws.register("outside", pa.table({"x": [1, 2]}), producer="job", inputs=["docs"])


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def attested(table: Any) -> dict[str, str]:
    """What must not change of one table."""
    manifest = json.loads(table.path.with_suffix(".materialization.json").read_bytes())
    defined = {"descriptor": manifest["descriptor"], "definition_hash": manifest["definition_hash"]}
    if table.kind in VECTOR_KINDS:
        inputs = [anchor["input"] for anchor in manifest["anchors"]]
        return {"definition": sha256(json.dumps([defined, inputs], sort_keys=True).encode())}
    manifest = {key: value for key, value in manifest.items() if key not in VARYING}
    for anchor in manifest["anchors"]:
        del anchor["cost"]  # how it was observed: by a stat when the file is old enough
    return {
        "definition": sha256(json.dumps(defined, sort_keys=True).encode()),
        "manifest": sha256(STAMP.sub("*", json.dumps(manifest, sort_keys=True)).encode()),
        "rows": sha256(table.path.read_bytes()),
    }


def made() -> dict[str, dict[str, str]]:
    """All tables, made in the current folder."""
    write_sources()
    with jl.open(".") as ws:
        make_tables(ws)
        return {
            name: attested(ws.table(name))
            for name in sorted(recipe.name for recipe in ws.recipes())
        }


@ONLY_ON_1_5  # the release is part of definitions
def test_what_is_written_equals_the_committed_bytes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert made() == json.loads(FIXTURE.read_text())


if __name__ == "__main__":
    from tests.store import test_format_frozen as module  # a step is defined by its module, too

    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        FIXTURE.write_text(json.dumps(module.made(), indent=1) + "\n")

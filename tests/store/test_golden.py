"""A refactoring moves no definition: the hash, the canonical text and the read columns of some 500
statements, what is stored of recipes of every other kind, and the state of each kind of file that they read, equal the committed ones.

`python -m tests.store.test_golden` writes the lines anew. A hash that moves makes every such table
of every user stale: the commit that moves one says why.
"""

import contextlib
import datetime
import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet

import jammi_lab as jl
from tests.engine.shelf import ACCENTS, PAPERS, TOP, VENUES
from tests.inside import services_of
from tests.releases import ONLY_ON_1_5

FOLDER = Path(__file__).resolve().parents[1]
CASES = FOLDER / "cases"
GOLDEN = FOLDER / "data" / "golden.jsonl"
PEOPLE = pa.table(
    {
        "id": pa.array([1, 2], pa.int32()),
        "name": ["Ada", "Grace"],
        "height": [1.65, None],
        "town": ["London", "New York"],
    }
)
VECTORS = pa.table({"id": PEOPLE["id"], "v": [[1.0, 0.0], [0.5, 0.5]]})
FILES = {
    "papers.parquet": PAPERS,
    "venues.parquet": VENUES,
    "accents.parquet": ACCENTS,
    "people.csv": PEOPLE,
    "towns.json": PEOPLE.select(["id", "town"]),
    "heights.arrow": PEOPLE.select(["id", "height"]),
}


def statements() -> Iterator[str]:
    """Every statement of the cases, once."""
    seen = set[str]()
    for file in ("canonical/same", "canonical/different", "gate/passes", "readset/readset"):
        lines = (CASES / f"{file}.sql").read_text(encoding="utf-8").splitlines()
        step = 2 if file.startswith("readset") else 1
        for line in [line for line in lines if line and not line.startswith("#")][::step]:
            if line not in seen:
                seen.add(line)
                yield line


def write_files() -> None:
    """The sources, in the current folder."""
    for name, table in FILES.items():
        match name.rpartition(".")[2]:
            case "parquet":
                pyarrow.parquet.write_table(table, name)
            case "csv":
                pyarrow.csv.write_csv(table, name)
            case "arrow":
                pyarrow.feather.write_feather(table, name, compression="uncompressed")
            case "json":
                Path(name).write_text(json.dumps(table.to_pylist()))


def parameters(statement: str) -> dict[str, int]:
    """A value for each parameter of a statement."""
    return dict.fromkeys(re.findall(r"(?<!\$)\$([A-Za-z]\w*)", statement), 1)


def double(height: float) -> dict[str, float]:
    """The function of a row map."""
    return {"doubled": 2 * height}


def recipes() -> Iterator[Any]:
    """Recipes of every kind that is written as a value, with the usual settings and with others."""
    texts: dict[str, Any] = {"key": "id", "text": ["name", "town"]}
    yield jl.Sql("SELECT id, $x AS x FROM people", {"x": 1}, key="id")
    yield jl.Embedding("people", key="id", text="name", model="hashing")
    yield jl.Embedding("SELECT * FROM people", model="hashing", where="id < 9", **texts)
    yield jl.Lexical("people", key="id", text="name")
    yield jl.Lexical("people", analyzer="exact", where="id < 9", **texts)
    yield jl.NeighborGraph("vectors")
    yield jl.NeighborGraph("jammi.vectors", k=1, min_similarity=0, mutual=True, exact=False)
    edges = "SELECT 1 AS src, 2 AS dst, 0.5 AS similarity"
    yield jl.Propagation("vectors", edges)
    yield jl.Propagation(
        "vectors",
        edges,
        hops=3,
        alpha=0.5,
        direction="both",
        weighting="similarity",
        output="concat",
    )
    yield jl.ContextSet("vectors", members="SELECT town AS target, id AS member FROM people")
    yield jl.ContextSet("vectors", members="SELECT 1 AS target, 2 AS member", pool="max")
    yield jl.Projection("vectors")
    yield jl.Projection("vectors", method="tsne", perplexity=2, seed=7)
    yield jl.AsofJoin("people", "heights", spine_time="id", facts_time="ID")
    yield jl.AsofJoin(
        "people",
        "SELECT id, height AS h, TIMESTAMP '2020-01-01' AS t FROM heights",
        spine_time="id",
        facts_time="id",
        by=[("height", "h")],
        direction="nearest",
        boundary="exclusive",
        tolerance=2,
        tie_break="t",
        project="h",
    )
    yield jl.PythonStep(double, params={"height": 1.5}, key="doubled")
    yield jl.PythonStep(dict, inputs=["people", "SELECT 1 AS x"], version="2")
    yield jl.RowMap(double, "people", key="id", inputs="height")
    yield jl.RowMap(
        dict,
        "SELECT * FROM people",
        key="id",
        inputs=["name", "height"],
        schema={"doubled": "double"},
        params={"x": datetime.date(2020, 1, 1), "y": [1, 1.0, "1"]},
        version="1",
        on_error="record",
        batch=2,
        concurrency=3,
        cost=0.5,
    )


def recorded(catalog: Any, name: str) -> dict[str, Any]:
    """A recipe as the catalog has it, but for the module of this file, which depends on its call."""
    recipe = catalog.recipes.get(name)
    return {
        "descriptor": {k: v for k, v in sorted(recipe.descriptor.items()) if k != "function"},
        "environment": recipe.environment,
        "definition_hash": recipe.definition_hash,
        "inputs": recipe.inputs,
    }


def definitions() -> Iterator[dict[str, Any]]:
    """What a workspace in the current folder records of each source and statement."""
    write_files()
    with jl.open("lab") as ws:
        for file in FILES:
            name = file.partition(".")[0]
            ws.sources.add(name, file)
            anchor = ws.sources[name].anchor()
            types = [f"{column.name} {column.type}" for column in ws.sources[name].columns()]
            # the bytes of a Parquet file hold the release of its writer
            state = None if file.endswith("parquet") else anchor.value
            yield {"source": file, "columns": types, "method": anchor.method, "state": state}
        ws.register("top", TOP, producer="job")
        catalog = services_of(ws).catalog
        for number, statement in enumerate(statements()):
            try:
                ws.define(f"r{number}", statement, params=parameters(statement))
            except jl.JammiError as error:
                yield {"statement": statement, "refused": type(error).__name__}
                continue
            recipe = catalog.recipes.get(f"r{number}")
            assert recipe is not None
            yield {
                "statement": statement,
                "definition_hash": recipe.definition_hash,
                "canonical": recipe.descriptor["canonical"]["digest"],
                "inputs": recipe.inputs,
            }
        ws.import_embeddings("vectors", VECTORS, key="id", vector="v", source="people")
        yield recorded(catalog, "vectors")
        yield recorded(catalog, "top")
        for number, value in enumerate(recipes()):
            ws.define(f"v{number}", value)
            yield recorded(catalog, f"v{number}")


def golden_lines() -> list[str]:
    return [json.dumps(each, ensure_ascii=False) for each in definitions()]


@ONLY_ON_1_5  # the release is part of definitions
def test_no_definition_moves(tmp_path):
    with contextlib.chdir(tmp_path):
        found = golden_lines()
    expected = GOLDEN.read_text(encoding="utf-8").splitlines()
    moved = [pair for pair in zip(expected, found, strict=False) if pair[0] != pair[1]]
    assert not moved, f"{len(moved)} lines moved; the first: {moved[0]}"
    assert len(found) == len(expected) > 450


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        GOLDEN.write_text("\n".join(golden_lines()) + "\n", encoding="utf-8")

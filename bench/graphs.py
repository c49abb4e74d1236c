"""Measures of graphs, derived vectors and as-of joins: beside jammi-ai, a bare matrix product, and
the as-of joins of DuckDB and polars."""

import statistics
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

import jammi_lab as jl
from bench import fixtures, rival
from bench.harness import Line, measure_pair, unmeasured_line, wall_timer
from jammi_lab.features.vectors.all_pairs import nearest_others
from jammi_lab.features.vectors.encoders.blas_threads import one_blas_thread
from jammi_lab.features.vectors.exact_search import ExactSearch

_ROWS, _WIDTH, _K = 20_000, 384, 10
_RIVAL = """
import statistics, sys, time
import jammi, pyarrow as pa, pyarrow.parquet as pq

folder, data, k = sys.argv[1], sys.argv[2], int(sys.argv[3])
table = pq.read_table(data)
pq.write_table(table.rename_columns(["_row_id", "vector"]), f"{folder}/given.parquet", use_dictionary=False, compression="none")
pq.write_table(pa.table({"id": table["id"], "text": table["id"]}), f"{folder}/texts.parquet")
db = jammi.connect(f"file://{folder}/lab")
db.add_source("texts", url=f"file://{folder}/texts.parquet", format="parquet")
db.import_embeddings(source="texts", model="m", vectors_url=f"file://{folder}/given.parquet", key="id", dimensions=table["vector"].type.list_size)
took = []
for _ in range(2):
    began = time.perf_counter()
    db.build_neighbor_graph("texts", k=k, cache="bypass")
    took.append(time.perf_counter() - began)
print(statistics.median(took))
"""


def data(folder: Path) -> Path:
    """The vectors with their keys as a Parquet file."""
    column = pa.FixedSizeListArray.from_arrays(
        pa.array(fixtures.clustered_vectors(_ROWS, _WIDTH).reshape(-1)), _WIDTH
    )
    path = folder / "vectors.parquet"
    pq.write_table(
        pa.table({"id": [f"k{i:06d}" for i in range(_ROWS)], "vector": column}),
        path,
        use_dictionary=False,
        compression="none",
    )
    return path


def graphs(folder: Path, repeats: int) -> Iterator[Line]:
    """Neighbour graphs, until they are ready tables: against approximate ones of jammi-ai (its
    exact ones take a quarter of an hour), and every pair against the matrix product that it
    takes."""
    given = data(folder)
    vectors = fixtures.clustered_vectors(_ROWS, _WIDTH)
    product = wall_timer(partial(_product, vectors))
    yield measure_pair(f"nearest {_K} of {_ROWS:,} × {_WIDTH}, every pair: against the bare products", wall_timer(partial(_every_pair, ExactSearch(vectors))), product,
               repeats=max(2, repeats // 2), limit=1.5)  # fmt: skip
    with jl.open(folder / "lab") as ws:
        ws.import_embeddings("vectors", pq.read_table(given))
        ours = {
            exact: wall_timer(
                partial(ws.neighbor_graph, "graph", "vectors", k=_K, exact=exact, cache="bypass")
            )
            for exact in (False, True)
        }
        took: dict[bool, list[float]] = {
            exact: [run() for _ in range(2)] for exact, run in ours.items()
        }
        python, what = rival.interpreter(), f"graph of {_ROWS:,} × {_WIDTH} against jammi-ai"
        if python is None:
            yield unmeasured_line(
                what, f"not installed ({rival.VARIABLE} names the interpreter that has it)"
            )
            return
        (folder / "rival").mkdir()
        command = [python, "-c", _RIVAL, str(folder / "rival"), str(given), str(_K)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        for way, run in ours.items():
            took[way] += [run() for _ in range(max(1, repeats - 2))]
    its_approximate = float(done.stdout.split()[-1])
    approximate, exact = statistics.median(took[False]), statistics.median(took[True])
    yield Line(
        f"{what}: both approximate",
        approximate,
        its_approximate,
        approximate / its_approximate,
        0.25,
    )
    yield Line(
        f"{what}: ours exact, its approximate", exact, its_approximate, exact / its_approximate, 1.0
    )


def _every_pair(exact: ExactSearch) -> None:
    for _ in nearest_others(exact, _K):
        pass


def _product(vectors: NDArray[np.float32]) -> None:
    with one_blas_thread():
        for at in range(0, len(vectors), 512):
            vectors[at : at + 512] @ vectors.T


def points_in_time(folder: Path, repeats: int) -> Iterator[Line]:
    """A million rows with as many facts of a thousand groups, until they are a ready table, against
    writing what DuckDB and polars find."""
    draw, rows = np.random.default_rng(0), 1_000_000
    epoch = np.datetime64("2020-01-01", "us")
    frames: dict[str, Any] = {}
    for name, column in (("spine", "id"), ("facts", "value")):
        when = np.sort(draw.choice(10 * rows, rows, replace=False))
        frames[name] = pa.table(
            {
                "who": draw.integers(0, 1000, rows),
                "at": epoch + when * np.timedelta64(1, "s"),
                column: np.arange(rows),
            }
        )
        pq.write_table(frames[name], folder / f"{name}.parquet")
    with jl.open(folder / "lab") as ws, duckdb.connect() as con:
        for name in frames:
            ws.sources.add(name, str(folder / f"{name}.parquet"))
        ours = wall_timer(
            partial(
                ws.asof_join,
                "joined",
                "spine",
                "facts",
                spine_time="at",
                facts_time="at",
                by="who",
                cache="bypass",
            )
        )
        what = f"as-of join of {rows:,} with {rows:,} rows, made into a table"
        yield measure_pair(
            f"{what}: against DuckDB",
            ours,
            wall_timer(partial(_by_duckdb, con, folder)),
            repeats=repeats,
            limit=2.0,
        )
        yield measure_pair(
            f"{what}: against polars",
            ours,
            wall_timer(partial(_by_polars, folder)),
            repeats=repeats,
            limit=None,
        )


def _by_duckdb(con: duckdb.DuckDBPyConnection, folder: Path) -> None:
    con.execute(
        "COPY (SELECT s.*, f.at AS at_facts, f.value FROM (SELECT *, row_number() OVER () "
        f"AS n FROM '{folder}/spine.parquet') s "
        f"ASOF LEFT JOIN '{folder}/facts.parquet' f ON s.who = f.who AND s.at >= f.at ORDER "
        f"BY n) TO '{folder}/copy.parquet'"
    )


def _by_polars(folder: Path) -> None:
    spine = pl.read_parquet(folder / "spine.parquet")
    facts = pl.read_parquet(folder / "facts.parquet")
    found = (
        spine.with_row_index("n")
        .sort("at")
        .join_asof(facts.sort("at"), on="at", by="who", check_sortedness=False)
        .sort("n")
    )
    found.write_parquet(folder / "copy.parquet")


CASES = {"graphs": graphs, "asof": points_in_time}
"""What is measured here."""

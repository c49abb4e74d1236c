"""Other libraries that search vectors, as the other side of a comparison. They live in an
environment of their own, whose interpreter is named by JAMMI_ANN_PYTHON (`python3 -m venv DIR;
DIR/bin/pip install faiss-cpu hnswlib lancedb usearch numpy pyarrow`); this file never imports
them, and each runs in a process of its own: faiss beside usearch ends the process."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

VARIABLE = "JAMMI_ANN_PYTHON"
_BEGIN = """
import statistics, sys, time
import numpy as np
import pyarrow as pa
folder = sys.argv[1]
vectors, queries, truth = (np.load(f"{folder}/{name}.npy") for name in ("vectors", "queries", "truth"))
WIDTHS = (24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768)
def tell(built, search, widen=None, widths=(0,)):
    for width in widths:
        if widen is not None:
            widen(width)
        took, found = [], 0
        for query, best in zip(queries, truth):
            began = time.perf_counter()
            rows = search(query)
            took.append(time.perf_counter() - began)
            found += len(set(map(int, rows)) & set(best.tolist()))
        if found >= 0.99 * truth.size:
            break
    print(built, statistics.median(took[1:]), found / truth.size)
"""
_PEERS = {
    "numpy, exact": """
def search(query):
    near = vectors @ query
    best = np.argpartition(-near, 10)[:10]
    return pa.table({"key": best, "similarity": near[best]})["key"].to_pylist()
tell(float("nan"), search)
""",
    "usearch bf16": """
from usearch.index import Index
began = time.process_time()
index = Index(ndim=vectors.shape[1], metric="ip", dtype="bf16", connectivity=16, expansion_add=128)
index.add(np.arange(len(vectors)), vectors)
def widen(width):
    index.expansion_search = width
def search(query):
    keys = index.search(query, 20).keys.astype(np.int64)
    return keys[np.argsort(-(vectors[keys] @ query))[:10]]
tell(time.process_time() - began, search, widen, WIDTHS)
""",
    "hnswlib": """
import hnswlib
began = time.process_time()
index = hnswlib.Index(space="ip", dim=vectors.shape[1])
index.init_index(len(vectors), M=16, ef_construction=128)
index.add_items(vectors)
tell(time.process_time() - began, lambda query: index.knn_query(query, 10)[0][0], index.set_ef, WIDTHS)
""",
    "faiss IVF,SQ8": """
import faiss
began = time.process_time()
lists = int(4 * len(vectors) ** 0.5)
index = faiss.index_factory(vectors.shape[1], f"IVF{lists},SQ8", faiss.METRIC_INNER_PRODUCT)
index.train(vectors[:: max(1, len(vectors) // (40 * lists))])
index.add(vectors)
def widen(width):
    index.nprobe = width
def search(query):
    keys = index.search(query[None], 20)[1][0]
    return keys[np.argsort(-(vectors[keys] @ query))[:10]]
tell(time.process_time() - began, search, widen, (1, 2, 4, 8, 16, 32, 64))
""",
    "faiss HNSW": """
import faiss
began = time.process_time()
index = faiss.IndexHNSWFlat(vectors.shape[1], 16, faiss.METRIC_INNER_PRODUCT)
index.hnsw.efConstruction = 128
index.add(vectors)
def widen(width):
    index.hnsw.efSearch = width
tell(time.process_time() - began, lambda query: index.search(query[None], 10)[1][0], widen, WIDTHS)
""",
    "lancedb IVF_HNSW_SQ": """
import lancedb
began = time.process_time()
column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
table = lancedb.connect(f"{folder}/lance").create_table("t", pa.table({"id": np.arange(len(vectors)), "vector": column}))
table.create_index(metric="cosine", index_type="IVF_HNSW_SQ", vector_column_name="vector")
took = time.process_time() - began
tell(took, lambda query: table.search(query).metric("cosine").nprobes(20).refine_factor(4).limit(10).to_arrow()["id"].to_pylist())
""",
}


class Peer(NamedTuple):
    """The results of one library."""

    name: str
    built: float
    """Processor seconds to build its index; NaN for a library without one."""
    searched: float
    """Seconds of the median search."""
    recall: float
    """The share of the true nearest neighbours that it found, with the smallest search width that
    finds 99 %, else with the largest that was tried."""


def interpreter() -> str | None:
    """The interpreter with the libraries; None if not configured."""
    return os.environ.get(VARIABLE) or None


def measure_peers(
    python: str,
    folder: Path,
    vectors: NDArray[np.float32],
    queries: NDArray[np.float32],
    truth: NDArray[np.int64],
) -> Iterator[Peer]:
    """Measure each library that is installed in that environment."""
    for name, array in (("vectors", vectors), ("queries", queries), ("truth", truth)):
        np.save(folder / f"{name}.npy", array)
    for name, code in _PEERS.items():
        done = subprocess.run(
            [python, "-c", _BEGIN + code, str(folder)], check=False, capture_output=True, text=True
        )
        if done.returncode == 0:
            yield Peer(name, *map(float, done.stdout.split()[-3:]))
        elif "ModuleNotFoundError" not in done.stderr:
            raise RuntimeError(f"{name}: {done.stderr[-2000:]}")

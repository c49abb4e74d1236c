"""Measures of a million vectors: made, indexed and searched, each in a process of its own, whose
peak memory is counted from its start; and the same vectors in other libraries."""

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from bench import ann_peers, fixtures
from bench.harness import Line
from bench.indexes import recall_line

SIZES = (50_000, 200_000, 1_000_000)
_WIDTH, _K, _QUERIES = 384, 10, 200
_CHUNK_ROWS = 50_000
_FILTER_EVERY = 100
"""One row in this many passes the filter."""
_BUILD_SECONDS, _SEARCH_SECONDS, _RESTART_SECONDS, _MEMORY_BYTES = 720, 3e-3, 2.0, 4e9
ROOT = Path(__file__).resolve().parent.parent
Vectors = NDArray[np.float32]
_MAKE = """
import sys, time
import polars as pl
import jammi_lab as jl

moments = []
def note(progress):
    if progress.stage.startswith("index") and not moments:
        moments.append((time.perf_counter(), time.process_time()))

with jl.open(sys.argv[1]) as ws:
    began, cpu = time.perf_counter(), time.process_time()
    ws.import_embeddings("vectors", pl.read_parquet(sys.argv[2]), progress=note)
    [(indexing, indexing_cpu)] = moments
    ended, cpu_ended = time.perf_counter(), time.process_time()
print(indexing - began, ended - indexing, cpu_ended - indexing_cpu, cpu_ended - cpu)
"""
_SEARCH = """
import sys, time
began = time.perf_counter()
import numpy as np
import jammi_lab as jl

queries = np.load(f"{sys.argv[2]}/queries.npy")
with jl.open(sys.argv[1]) as ws:
    ws.search("vectors", queries[0], k=10).arrow()
    restarted = time.perf_counter() - began
    for name, where in (("truth", None), ("filtered", "id_part = 7")):
        truth = np.load(f"{sys.argv[2]}/{name}.npy")
        took, found = [], 0
        for query, best in zip(queries, truth):
            began = time.perf_counter()
            hits = ws.search("vectors", query, k=10, where=where).arrow()
            took.append(time.perf_counter() - began)
            found += len(set(hits["key"].to_pylist()) & set(best.tolist()))
        print(np.median(took[1:]), found / truth.size)
    print(restarted)
"""
_PEAK = """
[line] = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(int(line.split()[1]) * 1024)
"""


def million(folder: Path, repeats: int, *, rows: int) -> Iterator[Line]:  # noqa: ARG001  # an index is made once
    """Import with an index, searches, those of one row in a hundred, a restart, memory."""
    what, nothing = f"{rows:,} × {_WIDTH} in groups", float("nan")
    made, queries = _write_vectors(folder, rows)
    truth = _true_neighbors(made, queries, 1)
    for name, array in (
        ("queries", queries),
        ("truth", truth),
        ("filtered", _true_neighbors(made, queries, _FILTER_EVERY)),
    ):
        np.save(folder / f"{name}.npy", array)
    lab = folder / "lab"
    importing, wall, processor, whole, peak = _measured(_MAKE, lab, folder / "vectors.parquet")
    yield Line(f"import {what}, without the index", importing, nothing, nothing, None)
    yield Line(f"index of {what}", wall, _BUILD_SECONDS, wall / _BUILD_SECONDS, 1.0)
    yield Line(f"index of {what}, processor", processor, nothing, nothing, None)
    yield _memory_line(f"import {what} with its index", peak)
    searched, recall, filtered, recall_filtered, restarted, peak = _measured(_SEARCH, lab, folder)
    yield Line(f"search of {what}, p50", searched, _SEARCH_SECONDS, searched / _SEARCH_SECONDS, 1.0)
    yield recall_line(f"recall@10 of {what}", recall, 0.98)
    yield Line(f"search of {what}, 1 % pass a filter, p50", filtered, nothing, nothing, None)
    yield recall_line(f"recall@10 of {what}, 1 % pass a filter", recall_filtered, 0.95)
    yield Line(
        f"a new process until its first hits of {what}",
        restarted,
        _RESTART_SECONDS,
        restarted / _RESTART_SECONDS,
        1.0,
    )
    yield _memory_line(f"search of {what}", peak)
    if python := ann_peers.interpreter():
        for peer in ann_peers.measure_peers(python, folder, made, queries, truth):
            at = f"{what}, against {peer.name} at recall {peer.recall:.3f}"
            yield Line(
                f"import with index (processor): {at}", whole, peer.built, whole / peer.built, None
            )
            yield Line(
                f"search → Arrow: {at}", searched, peer.searched, searched / peer.searched, None
            )


def _write_vectors(folder: Path, rows: int) -> tuple[Vectors, Vectors]:
    """The vectors, mapped from a file, and queries; the vectors are also written as Parquet, with
    their row numbers as keys, and the part of each for the filter."""
    made = np.lib.format.open_memmap(
        folder / "made.npy", "w+", dtype=np.float32, shape=(rows, _WIDTH)
    )
    schema = pa.schema(
        {"id": pa.int64(), "id_part": pa.int64(), "vector": pa.list_(pa.float32(), _WIDTH)}
    )
    with pq.ParquetWriter(
        folder / "vectors.parquet", schema, use_dictionary=False, compression="none"
    ) as file:
        for start in range(0, rows, _CHUNK_ROWS):
            chunk = fixtures.clustered_vectors(_CHUNK_ROWS, _WIDTH, seed=2 + start)
            made[start : start + len(chunk)] = chunk
            ids = np.arange(start, start + len(chunk))
            column = pa.FixedSizeListArray.from_arrays(pa.array(chunk.reshape(-1)), _WIDTH)
            file.write_table(pa.table([ids, ids % _FILTER_EVERY, column], schema=schema))
    return made, fixtures.clustered_vectors(_QUERIES, _WIDTH, seed=1)


def _true_neighbors(vectors: Vectors, queries: Vectors, every: int) -> NDArray[np.int64]:
    """(queries, k): the nearest of all rows, or of those that the filter lets pass."""
    passing = np.arange(7 % every, len(vectors), every)
    near = np.empty((len(queries), 0), np.float32)
    best = np.empty((len(queries), 0), np.int64)
    for start in range(0, len(passing), _CHUNK_ROWS):
        part = passing[start : start + _CHUNK_ROWS]
        near = np.hstack([near, queries @ vectors[part].T])
        best = np.hstack([best, np.broadcast_to(part, (len(queries), len(part)))])
        order = np.argsort(-near, axis=1)[:, :_K]
        near, best = np.take_along_axis(near, order, 1), np.take_along_axis(best, order, 1)
    return best


def _measured(code: str, *arguments: Path) -> list[float]:
    """The numbers that a process of its own prints, with its peak memory as the last."""
    path = os.pathsep.join(str(ROOT / part) for part in ("", "kernel_ext", "widgets"))
    done = subprocess.run(
        [sys.executable, "-c", code + _PEAK, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": path},
        check=True,
        capture_output=True,
        text=True,
    )
    return [float(number) for number in done.stdout.split()]


def _memory_line(what: str, peak: float) -> Line:
    """A line for a peak of memory, relative to what it may be."""
    nothing = float("nan")
    return Line(
        f"{what}: peak memory of {peak / 1e9:.2f} GB",
        nothing,
        nothing,
        peak / _MEMORY_BYTES,
        1.0,
    )


CASES = {f"{rows} vectors": partial(million, rows=rows) for rows in SIZES}
"""Minutes long: run where they are named."""

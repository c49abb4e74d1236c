"""Measures of the index: what it finds, how fast it is searched beside its bare parts and beside
other libraries, how long it takes to make."""

import contextlib
import itertools
import os
import sqlite3
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

import jammi_lab as jl
from bench import ann_peers, fixtures
from bench.harness import Line, Timer, cpu_timer, measure_pair, unmeasured_line
from jammi_lab.features.vectors.encoders.blas_threads import one_blas_thread

_ROWS, _WIDTH, _K = 100_000, 384, 10
_QUERIES, _AT_ONCE = 200, 50
_NEWEST = """SELECT v.*, t.* FROM versions v JOIN result_tables t ON t.table_name = v.table_name
    WHERE v.recipe_fold = ? AND t.status = 'ready' ORDER BY v.version DESC LIMIT 1"""
_MILLISECOND = 1e-3
Vectors = NDArray[np.float32]


def searching(folder: Path, repeats: int) -> Iterator[Line]:
    """One query after the other through the index, as Arrow, beside the calls that cannot be left
    out: what the name means and whether the file has moved, usearch, the exact similarities of what
    it gives, and a table of it."""
    vectors = fixtures.clustered_vectors(_ROWS, _WIDTH)
    queries = fixtures.clustered_vectors(_QUERIES, _WIDTH, seed=1)
    with (
        jl.open(folder / "lab") as ws,
        contextlib.closing(sqlite3.connect(folder / "lab" / "catalog.sqlite3")) as catalog,
    ):
        began = time.process_time()
        table = ws.import_embeddings("vectors", keyed_table(vectors))
        made = time.process_time() - began
        index = ws._services.vectors.index(table._record)
        matrix = ws._services.vectors.matrix(table._record)
        assert index is not None
        keys, expansion, path = matrix.keys, index.shape.expansion, table.path

        def search_index(query: Vectors) -> None:
            ws.search("vectors", query, k=_K).arrow()

        def search_parts(query: Vectors) -> None:
            catalog.execute(_NEWEST, ("vectors",)).fetchone()
            os.stat(path)
            found = index.graph.search(query, 2 * _K, threads=1).keys.astype(np.int64)
            near = vectors[found].astype(np.float64) @ query.astype(np.float64)
            best = np.argsort(-near)[:_K]
            rank = pa.array(np.arange(1, _K + 1, dtype=np.int32))
            pa.table(
                {
                    "key": keys.take(pa.array(found[best])),
                    "rank": rank,
                    "similarity": pa.array(near[best].astype(np.float32)),
                }
            )

        what = "search: 10 of 100,000 × 384 through the index, one query, against "
        line = measure_pair(
            what + "its bare parts",
            median_timer(search_index, queries),
            median_timer(search_parts, queries),
            repeats=4 * repeats,
            limit=2.0,
        )
        yield line
        yield Line(what + "a millisecond", line.ours, _MILLISECOND, line.ours / _MILLISECOND, 1.0)
        found = ws.search("vectors", queries, k=_K).arrow()["key"].to_numpy().reshape(-1, _K)
        yield recall_line(
            f"recall@10: 100,000 × 384 in groups, bf16, expansion {expansion}",
            recall_of(vectors, queries, found),
        )
        yield Line(
            "import 100,000 × 384 with its index (processor)",
            made,
            float("nan"),
            float("nan"),
            None,
        )


def reading_all(folder: Path, repeats: int) -> Iterator[Line]:
    """One query after the other over vectors without structure, for which no index is of use, as
    Arrow, against a product with every vector in one thread: processor time of fifty."""
    vectors = fixtures.vectors(_ROWS + _QUERIES, _WIDTH)
    queries, vectors = vectors[_ROWS:], np.ascontiguousarray(vectors[:_ROWS])
    with jl.open(folder / "lab") as ws, one_blas_thread():
        ws.import_embeddings("vectors", keyed_table(vectors), index="later")
        turns = itertools.cycle(queries)

        def search_all() -> None:
            for query in itertools.islice(turns, _AT_ONCE):
                ws.search("vectors", query, k=_K, exact=True).arrow()

        def multiply_all() -> None:
            for query in itertools.islice(turns, _AT_ONCE):
                np.argpartition(-(vectors @ query), _K)[:_K]

        yield measure_pair(
            "search: 10 of 100,000 × 384 without structure, fifty queries, against a product",
            cpu_timer(search_all),
            cpu_timer(multiply_all),
            repeats=repeats,
            limit=0.5,
        )
        found = [ws.search("vectors", query, k=_K, exact=True).arrow()["key"] for query in queries]
        yield recall_line(
            "recall@10: 100,000 × 384 without structure, every vector compared",
            recall_of(vectors, queries, np.array([keys.to_numpy() for keys in found])),
        )


def selecting(folder: Path, repeats: int) -> Iterator[Line]:
    """Searches that give a column of the source, and those of the rows that pass a condition,
    against what they may take; those for the neighbours of a row against others."""
    vectors = fixtures.clustered_vectors(_ROWS, _WIDTH)
    queries = fixtures.clustered_vectors(_QUERIES, _WIDTH, seed=1)
    rows = pa.table(
        {
            "id": np.arange(_ROWS),
            "title": [f"title {i}" for i in range(_ROWS)],
            "year": np.arange(_ROWS) % 50,
        }
    )
    pq.write_table(rows, folder / "rows.parquet")
    pc.write_csv(rows, folder / "rows.csv")
    with jl.open(folder / "lab") as ws:
        for kind in ("parquet", "csv"):
            ws.sources.add(kind, str(folder / f"rows.{kind}"))
            ws.import_embeddings(f"of_{kind}", keyed_table(vectors), source=kind)

            def search(query: Vectors, table: str = f"of_{kind}", **options: Any) -> None:
                ws.search(table, query, k=_K, **options).arrow()

            def of_row(query: Vectors, table: str = f"of_{kind}") -> None:
                ws.search(table, row=int(abs(query[0]) * 1e6) % _ROWS, k=_K).arrow()

            what = f"search: 10 of 100,000 × 384, rows in {kind}, "
            yield measure_pair(
                what + "of a row, against a query",
                median_timer(of_row, queries),
                median_timer(search, queries),
                repeats=2 * repeats,
                limit=2.5,
            )
            for how, limit, asked in (
                ("with a column of theirs", 0.020, partial(search, select="title")),
                ("of those that pass a condition", 0.040, partial(search, where="year < 20")),
            ):
                took = median_timer(asked, queries)()
                yield Line(what + how, took, limit, took / limit, 1.0)


def recall(folder: Path, repeats: int) -> Iterator[Line]:  # noqa: ARG001  # what is found is the same each time
    """What is found of the ten nearest, for each precision, on vectors in groups, in groups that
    all point nearly one way, and without any structure, through the index alone."""
    for kind, make in (
        ("in groups", fixtures.clustered_vectors),
        ("all nearly one way", fixtures.aligned_vectors),
        ("uniform", fixtures.vectors),
    ):
        vectors = make(20_000 + _QUERIES, _WIDTH)
        queries, vectors = vectors[20_000:], np.ascontiguousarray(vectors[:20_000])
        for precision in ("bf16", "f16", "i8", "f32"):
            with jl.open(folder / f"{precision} {kind}") as ws:
                table = ws.import_embeddings("vectors", keyed_table(vectors), precision=precision)
                began = time.perf_counter()
                found = (
                    ws.search("vectors", queries, k=_K, exact=False)
                    .arrow()["key"]
                    .to_numpy()
                    .reshape(-1, _K)
                )
                took = time.perf_counter() - began
                index = ws._services.vectors.index(table._record)
                how = (
                    "read one after the other"
                    if index is None or index.shape.expansion == 0
                    else f"expansion {index.shape.expansion}"
                )
                line = recall_line(
                    f"recall@10: 20,000 × 384 {kind}, {precision}, {how}",
                    recall_of(vectors, queries, found),
                )
                yield Line(line.what, took / _QUERIES, line.other, line.ratio, line.limit)


def beside_peers(folder: Path, repeats: int) -> Iterator[Line]:  # noqa: ARG001  # an index is made once
    """The same vectors in other libraries, in an environment of their own: how long the index takes
    to make, and a search at which recall."""
    what = "100,000 × 384 in groups"
    python = ann_peers.interpreter()
    if python is None:
        yield unmeasured_line(
            f"search of {what} in other libraries",
            f"not installed ({ann_peers.VARIABLE} names the interpreter that has them)",
        )
        return
    vectors = fixtures.clustered_vectors(_ROWS, _WIDTH)
    queries = fixtures.clustered_vectors(_QUERIES, _WIDTH, seed=1)
    truth = np.argsort(-(queries @ vectors.T), axis=1)[:, :_K]
    with jl.open(folder / "lab") as ws:
        began = time.process_time()
        ws.import_embeddings("vectors", keyed_table(vectors))
        made = time.process_time() - began
        took = []
        for query in queries:
            began = time.perf_counter()
            ws.search("vectors", query, k=_K).arrow()
            took.append(time.perf_counter() - began)
        mine = statistics.median(took[1:])
    for peer in ann_peers.measure_peers(python, folder, vectors, queries, truth):
        yield Line(
            f"import with index (processor): {what}, against {peer.name}",
            made,
            peer.built,
            made / peer.built,
            None,
        )
        yield Line(
            f"search → Arrow: {what}, against {peer.name} at recall {peer.recall:.3f}",
            mine,
            peer.searched,
            mine / peer.searched,
            None,
        )


def median_timer(search: Callable[[Vectors], None], queries: Vectors) -> Timer:
    """A timer of the median wall time of several searches, each with another query. The median
    ignores searches that another process interrupts."""
    turns = itertools.cycle(queries)

    def run() -> float:
        took = []
        for query in itertools.islice(turns, _AT_ONCE):
            began = time.perf_counter()
            search(query)
            took.append(time.perf_counter() - began)
        return statistics.median(took)

    return run


def keyed_table(vectors: Vectors) -> pa.Table:
    """A table of vectors with their row numbers as keys."""
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
    return pa.table({"id": np.arange(len(vectors)), "vector": column})


def recall_of(vectors: Vectors, queries: Vectors, neighbors: NDArray[np.int64]) -> float:
    """The share of the nearest that was found."""
    truth = np.argpartition(-(queries @ vectors.T), _K, axis=1)[:, :_K]
    return float(
        np.mean(
            [
                len(set(a) & set(b)) / _K
                for a, b in zip(neighbors.tolist(), truth.tolist(), strict=True)
            ]
        )
    )


def recall_line(what: str, measured_recall: float, minimum: float = 0.99) -> Line:
    """A line for a minimum recall: its ratio is the missed share relative to the allowed one."""
    nothing = float("nan")
    return Line(
        f"{what}: {measured_recall:.4f}",
        nothing,
        nothing,
        (1 - measured_recall) / (1 - minimum),
        1.0,
    )

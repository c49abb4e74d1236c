"""The cases. Each takes an empty folder and a number of repeats, and yields lines of the table."""

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import duckdb
import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

import jammi_lab as jl
from bench import (
    cells,
    checks,
    fixtures,
    graphs,
    growth,
    healing,
    increments,
    indexes,
    limits,
    live,
    million,
    panels,
    prose,
    row_maps,
    scale,
    sensing,
    sources,
    text_files,
    vectors,
    words,
)
from bench.harness import Line, Timer, measure_pair, pausing, wall_timer
from jammi_lab.features.vectors.encoders.blas_threads import one_blas_thread
from jammi_lab.features.vectors.encoders.minilm import MiniLM
from jammi_lab.storage.digests import sha256_file

Case = Callable[[Path, int], Iterator[Line]]
ROOT = Path(__file__).resolve().parent.parent


def opening(folder: Path, repeats: int) -> Iterator[Line]:
    """A full workspace opens as fast as an empty one: there is no work per table."""
    empty = wall_timer(partial(open_and_close, fixtures.workspace_with_rows(folder / "empty", 0)))
    for tables in (1_000, 10_000):
        full = fixtures.workspace_with_rows(folder / f"full{tables}", tables)
        ours = wall_timer(partial(open_and_close, full))
        yield measure_pair(
            f"open and close: {tables:,} tables against none",
            ours,
            empty,
            repeats=repeats,
            limit=1.5,
        )


FAST_SUMS = {"engine.float_sums": "fast"}


def open_and_close(folder: Path) -> None:
    """Open a workspace and close it."""
    jl.open(folder).close()


def status(folder: Path, repeats: int) -> Iterator[Line]:
    """Sensing grows with the tables, not faster, and unchanged files are not read again."""
    few = fixtures.workspace_of_files(folder / "few", 100)
    many = fixtures.workspace_of_files(folder / "many", 1_000)
    with jl.open(few) as small, jl.open(many) as large:
        yield measure_pair(
            "status: 1,000 tables against ten times 100",
            wall_timer(large.status),
            wall_timer(small.status),
            repeats=repeats,
            limit=1.5,
            scale=10,
        )


def unchanged_file_status(folder: Path, repeats: int) -> Iterator[Line]:
    """The status over a large unchanged file, which is not read again."""
    data = fixtures.csv_of_rows(folder / "rows.csv", 1_000_000)
    with jl.open(folder / "lab", settings={"look.racy_seconds": 0}) as ws:
        ws.sources.add("rows", str(data))
        ws.materialize("groups", "SELECT grp, count(*) AS n FROM rows GROUP BY grp")
        reading = wall_timer(partial(sha256_file, data))
        yield measure_pair(
            "status: over an unchanged CSV of 1 M rows, against hashing it",
            wall_timer(ws.status),
            reading,
            repeats=repeats,
            limit=0.5,
        )


def materialising(folder: Path, repeats: int) -> Iterator[Line]:
    """Writing, digesting and publishing a million rows against DuckDB writing the same Parquet
    file."""
    rows = fixtures.parquet_of_rows(folder / "rows.parquet", 1_000_000)
    in_order = "SELECT id, grp, x * 2 AS y, label FROM {} WHERE x >= 0"
    grouped = "SELECT id, grp, count(*) AS n, max(x) AS top FROM {} GROUP BY id, grp"
    with jl.open(folder / "lab") as ws, duckdb.connect() as con:
        ws.sources.add("rows", str(rows))
        for what, statement, order in (
            ("as they come", in_order, ""),
            ("sorted", grouped, " ORDER BY id, grp"),
        ):
            ours = wall_timer(
                partial(ws.materialize, "bench", statement.format("rows"), cache="bypass")
            )
            other = wall_timer(
                partial(copy, con, statement.format(f"'{rows}'") + order, folder / "copy.parquet")
            )
            yield measure_pair(
                f"materialise 1 M rows, {what}, against DuckDB COPY",
                ours,
                other,
                repeats=repeats,
                limit=2.0,
            )


def summing(folder: Path, repeats: int) -> Iterator[Line]:
    """Sums that do not depend on the order of the rows against those of DuckDB."""
    rows = fixtures.parquet_of_rows(folder / "rows.parquet", 10_000_000)
    grouped = "SELECT grp, sum(x) AS total, avg(x) AS mean FROM rows GROUP BY grp"
    with jl.open(folder / "exact") as exact, jl.open(folder / "fast", settings=FAST_SUMS) as fast:
        for ws in (exact, fast):
            ws.sources.add("rows", str(rows))
        yield measure_pair(
            "materialise sums of 10 M numbers by group, against DuckDB's sums",
            wall_timer(partial(exact.materialize, "bench", grouped, cache="bypass")),
            wall_timer(partial(fast.materialize, "bench", grouped, cache="bypass")),
            repeats=repeats,
            limit=3.0,
        )


def copy(con: duckdb.DuckDBPyConnection, statement: str, path: Path) -> None:
    """Write the same rows in the same row groups with DuckDB, and fsync."""
    con.execute(
        f"COPY ({statement}) TO '{path}' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 122880)"
    )
    with path.open("rb") as file:
        os.fsync(file.fileno())


def extension(folder: Path, repeats: int) -> Iterator[Line]:
    """`%load_ext jammi_lab` in a fresh shell against the bare shell, in processor time."""
    shell = (
        "from IPython.core.interactiveshell import InteractiveShell\nip = "
        "InteractiveShell.instance()\n"
    )
    ours = child_timer(folder, shell + "ip.run_line_magic('load_ext', 'jammi_lab')")
    other = child_timer(folder, shell)
    yield measure_pair(
        "a shell with %load_ext against bare IPython (processor)",
        ours,
        other,
        repeats=2 * repeats,
        limit=1.25,
    )


def child_timer(folder: Path, code: str) -> Timer:
    """A timer of the processor time of a Python process that runs `code`."""
    path = os.pathsep.join(str(ROOT / part) for part in ("", "kernel_ext", "widgets"))
    environment = {**os.environ, "PYTHONPATH": path, "IPYTHONDIR": str(folder / "ipython")}

    def run() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            check=True,
            capture_output=True,
            cwd=folder,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    return run


def embedding(folder: Path, repeats: int) -> Iterator[Line]:
    """After one text in a hundred was edited, about one in a hundred is encoded by the sentence
    model, and little else is done."""
    rows, edited = 1_000, 10
    with jl.open(folder / "lab") as ws:
        ws.sources.add("texts", str(fixtures.parquet_of_texts(folder / "texts.parquet", rows)))
        encoder = CountingEncoder()
        embed_all = wall_timer(
            partial(
                ws.embed, "vectors", "texts", key="id", text="text", model=encoder, cache="bypass"
            )
        )
        embed_all()
        calls: list[float] = []

        def embed_again() -> float:
            fixtures.parquet_of_texts(
                folder / "texts.parquet", rows, edited=edited * (1 + len(calls))
            )
            encoder.texts = 0
            took = wall_timer(
                partial(ws.embed, "vectors", "texts", key="id", text="text", model=encoder)
            )()
            calls.append(encoder.texts / rows)
            return took

        yield measure_pair(
            "embed again: 1 % of 1,000 texts edited, against all of them",
            embed_again,
            embed_all,
            repeats=repeats,
            limit=0.10,
        )
        yield Line(
            "embed again: share of texts that are encoded, against all",
            max(calls),
            1.0,
            max(calls),
            0.02,
        )


class CountingEncoder(MiniLM):
    """The sentence model, counting the texts that it encodes."""

    name = "counting"
    identity = msgspec.structs.replace(MiniLM.identity, name=name)
    texts = 0

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Encode with the sentence model, and count the texts."""
        self.texts += len(texts)
        return super().encode(texts)


def searching(folder: Path, repeats: int) -> Iterator[Line]:
    """Exact search over 100,000 vectors against a matrix product with a partial sort, as numpy does
    it, all processors each."""
    vectors = fixtures.vectors(100_000)
    query = vectors[7] + vectors[8]
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
    with jl.open(folder / "lab") as ws:
        ws.import_embeddings("vectors", pa.table({"id": np.arange(len(vectors)), "vector": column}))

        def search_exactly() -> None:
            for _ in range(10):
                ws.search("vectors", query, k=10, exact=True)

        def product() -> None:
            for _ in range(10):
                near = vectors @ query
                best = np.argpartition(-near, 10)[:10]
                best[np.argsort(-near[best])].tolist()

        yield measure_pair(
            "search: 10 of 100,000 × 384, exact, against a matrix product",
            pausing(wall_timer(search_exactly)),
            pausing(wall_timer(product)),
            repeats=2 * repeats,
            limit=1.3,
        )


def importing(folder: Path, repeats: int) -> Iterator[Line]:
    """From vectors in a Parquet file to the first exact answer, against what cannot be left out:
    read, write the file, sync it, one product."""
    vectors = fixtures.vectors(100_000)
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
    data = folder / "vectors.parquet"
    pq.write_table(
        pa.table({"id": [f"k{i:06d}" for i in range(len(vectors))], "vector": column}),
        data,
        use_dictionary=False,
        compression="none",
    )
    query = vectors[7].tolist()
    counter = iter(range(1_000_000))

    def import_and_search() -> None:
        with jl.open(folder / f"lab{next(counter)}") as ws:
            ws.import_embeddings("vectors", pq.read_table(data), index="later")
            ws.search("vectors", query, k=10, exact=True)

    def write_and_multiply() -> None:
        table = pq.read_table(data)
        pq.write_table(table, folder / "copy.parquet", use_dictionary=False, compression="none")
        with (folder / "copy.parquet").open("rb") as file:
            os.fsync(file.fileno())
        with one_blas_thread():
            table["vector"].combine_chunks().flatten().to_numpy().reshape(len(table), -1) @ vectors[
                7
            ]

    yield measure_pair(
        "import 100,000 × 384 and search, against writing them and a product",
        wall_timer(import_and_search),
        wall_timer(write_and_multiply),
        repeats=repeats,
        limit=4.0,
    )


CASES: dict[str, Case] = {
    "opening": opening,
    "status": status,
    "unchanged": unchanged_file_status,
    "materialising": materialising,
    "summing": summing,
    "extension": extension,
    "embedding": embedding,
    "searching": searching,
    "importing": importing,
    "recovering": healing.recovering,
    "publishing": healing.publishing,
    "together": healing.asking,
    "rival": vectors.beside_rival,
    "small": vectors.small_beside_rival,
    "sentences": vectors.sentences,
    "memory": vectors.memory,
    "words": words.words,
    "words-rival": words.beside_rival,
    "indexes": indexes.searching,
    "reading all": indexes.reading_all,
    "selecting": indexes.selecting,
    "recall": indexes.recall,
    "peers": indexes.beside_peers,
    **row_maps.CASES,
    **increments.CASES,
    **graphs.CASES,
    "cells": cells.cells,
    "panels": panels.panels,
    **sources.CASES,
    **text_files.CASES,
    **live.CASES,
    **checks.CASES,
    **prose.CASES,
    **sensing.CASES,
}
LONG_CASES: dict[str, Case] = {
    **growth.CASES,
    **limits.CASES,
    **million.CASES,
    **scale.CASES,
}
"""Cases that only run when they are named."""

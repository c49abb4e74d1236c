"""Measures of vectors: import and search beside jammi-ai, the sentence model beside onnxruntime,
and the memory that a search takes."""

import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import jammi_lab as jl
from bench import fixtures, onnx_peer, rival
from bench.harness import Line, cpu_timer, unmeasured_line, wall_timer

ROOT = Path(__file__).resolve().parent.parent
_ROWS, _WIDTH = 100_000, 384
_RIVAL = """
import os, statistics, sys, time
import jammi, pyarrow as pa, pyarrow.parquet as pq

folder, data = sys.argv[1:]
table = pq.read_table(data)
given = table.rename_columns(["_row_id", "vector"])
pq.write_table(given, f"{folder}/given.parquet", use_dictionary=False, compression="none")
pq.write_table(pa.table({"id": table["id"], "text": table["id"]}), f"{folder}/texts.parquet")
query = table["vector"][7].as_py()
db = jammi.connect(f"file://{folder}/lab")
db.add_source("texts", url=f"file://{folder}/texts.parquet", format="parquet")
began = time.perf_counter()
db.import_embeddings(source="texts", model="m", vectors_url=f"file://{folder}/given.parquet", key="id", dimensions=len(query))
db.search("texts", query=query, k=10, exact=True)
print(time.perf_counter() - began)
os.sync()
for exact in (False, True):
    took = []
    for _ in range(6 if exact else 60):
        began = time.perf_counter()
        found = db.search("texts", query=query, k=10, exact=exact, select=["id"])
        took.append(time.perf_counter() - began)
    assert found.num_rows == 10
    print(statistics.median(took[1:]))
took = []
for _ in range(60):
    began = time.perf_counter()
    found = db.search("texts", query=query, k=10, select=["text"])
    took.append(time.perf_counter() - began)
assert found.num_rows == 10
print(statistics.median(took[1:]))
"""
_PEAK = """
import sys
import time
import jammi_lab as jl

def peak():  # not `ru_maxrss`, which a process takes over from the one that started it
    [line] = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024
"""
_MEMORY = (
    _PEAK
    + """
with jl.open(sys.argv[1]) as ws:
    ws.search("few", [1.0] * 384)
    before = peak()
    ws.search("many", [1.0] * 384)
    ws.search("many", [1.0] * 384)
    print((peak() - before) / (100_000 * 384 * 4))
"""
)
_MAKING = (
    _PEAK
    + """
import numpy as np

class Given:
    name, version, dimensions = "given", "1", 384
    vectors = np.load(sys.argv[2])

    def encode(self, texts):
        return self.vectors[[int(text) for text in texts]]

with jl.open(sys.argv[1]) as ws:
    texts = "SELECT i AS id, i::VARCHAR AS text FROM range({}) t(i)"
    ws.embed("few", texts.format(5000), key="id", text="text", model=Given())
    before = peak()
    ws.embed("many", texts.format(100_000), key="id", text="text", model=Given())
    print((peak() - before) / (100_000 * 384 * 4))
"""
)


def data(folder: Path) -> Path:
    """The vectors with their keys as a Parquet file."""
    vectors = fixtures.clustered_vectors(_ROWS, _WIDTH)
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), _WIDTH)
    path = folder / "vectors.parquet"
    pq.write_table(
        pa.table({"id": [f"k{i:06d}" for i in range(_ROWS)], "vector": column}),
        path,
        use_dictionary=False,
        compression="none",
    )
    return path


def beside_rival(folder: Path, repeats: int) -> Iterator[Line]:
    """Import until an exact search has answered and until the index is there, and search, against
    jammi-ai: once in a process of its own, as its import takes most of a minute."""
    python = rival.interpreter()
    what = f"{_ROWS:,} × {_WIDTH} against jammi-ai"
    if python is None:
        yield unmeasured_line(
            f"import and search of {what}",
            f"not installed ({rival.VARIABLE} names the interpreter that has it)",
        )
        return
    given = data(folder)
    query = pq.read_table(given, columns=["vector"])["vector"][7].as_py()
    turns = iter(range(1_000_000))

    def import_vectors() -> None:
        with jl.open(folder / f"lab{next(turns)}") as ws:
            ws.import_embeddings("vectors", pq.read_table(given), index="later")
            ws.search("vectors", query, k=10, exact=True)

    def import_and_index() -> None:
        with jl.open(folder / f"indexed{next(turns)}") as ws:
            ws.import_embeddings("vectors", pq.read_table(given))

    ours = [wall_timer(import_vectors)() for _ in range(max(2, repeats))]
    whole = [wall_timer(import_and_index)()]
    place = folder / "rival"
    place.mkdir()
    done = subprocess.run(
        [python, "-c", _RIVAL, str(place), str(given)], check=True, capture_output=True, text=True
    )
    its_import, its_search, its_exact, its_column = map(float, done.stdout.split()[-4:])
    ours += [wall_timer(import_vectors)() for _ in range(max(2, repeats))]
    whole += [wall_timer(import_and_index)()]
    made = next(folder.glob("indexed*"))
    os.sync()  # gigabytes were just imported, and would be written meanwhile
    with jl.open(made) as ws:
        searched, exactly = (_median(ws, query, repeats, exact) for exact in (None, True))
        ws.sources.add("texts", str(place / "texts.parquet"))
        ws.import_embeddings("of_texts", pq.read_table(given), source="texts")
        column = _median(ws, query, repeats, None, table="of_texts", select="text")
    took, index = statistics.median(ours[1:]), statistics.median(whole)
    yield Line(
        f"import until exactly searchable: {what}", took, its_import, took / its_import, 0.05
    )
    yield Line(
        f"import until the index is there: {what}", index, its_import, index / its_import, 1 / 3
    )
    yield Line(
        f"search through the index: {what}, its exact search",
        searched,
        its_exact,
        searched / its_exact,
        0.01,
    )
    yield Line(
        f"search through the index: {what}, its index",
        searched,
        its_search,
        searched / its_search,
        0.1,
    )  # not 0.01: our walk of the graph alone takes that
    yield Line(
        f"search with a column of the source: {what}", column, its_column, column / its_column, 0.2
    )
    yield Line(
        f"search, exact: {what}, its exact search", exactly, its_exact, exactly / its_exact, 0.05
    )


SMALL = {
    "count the rows of a file": "the file is observed and bound again: it may be another one",
    "verdict on one table": "theirs compares a hash from the caller, and observes no input",
    "direct dependents": "the names are read in one snapshot of the catalog",
    "add a source": "the file is opened, its columns are checked, and the row is synced",
    "import 64 × 384": "three syncs, manifest, key and index; theirs syncs nothing",
}
"""What small verbs do that those of jammi-ai do not."""


def small_beside_rival(folder: Path, repeats: int) -> Iterator[Line]:
    """Small verbs against jammi-ai: processor time, each side in its own process. Lines without a
    limit: their names say what the difference is for."""
    if (python := rival.interpreter()) is None:
        yield unmeasured_line("small verbs against jammi-ai", f"not installed ({rival.VARIABLE})")
        return
    vectors, keys = fixtures.vectors(64, _WIDTH), [f"k{i}" for i in range(64)]
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), _WIDTH)
    given, texts = pa.table({"_row_id": keys, "vector": column}), folder / "texts.parquet"
    pq.write_table(given, folder / "given.parquet")
    pq.write_table(pa.table({"id": keys, "text": keys}), texts)
    turns, rows = iter(range(1_000_000)), given.rename_columns(["id", "vector"])
    with jl.open(folder / "lab", settings={"look.racy_seconds": 0}) as ws:
        ws.sources.add("texts", str(texts))
        ws.import_embeddings("vectors", rows, key="id")
        deeds: list[Callable[[], object]] = [
            lambda: ws.sql("SELECT count(*) FROM texts").fetchall(),
            lambda: ws.staleness("vectors"),
            lambda: ws.derives_from("vectors"),
            lambda: ws.sources.add(f"more{next(turns)}", str(texts)),
            lambda: ws.import_embeddings(f"more{next(turns)}", rows, key="id"),
        ]
        times = 10 * repeats
        ours = [statistics.median([cpu_timer(deed)() for _ in range(times)]) for deed in deeds]
    theirs = rival.measure_small(python, folder, times)
    for (verb, why), mine, other in zip(SMALL.items(), ours, theirs, strict=True):
        yield Line(f"{verb} against jammi-ai ({why})", mine, other, mine / other, None)


def _median(
    ws: jl.Workspace,
    query: list[float],
    repeats: int,
    exact: bool | None,
    table: str = "vectors",
    select: str | None = None,
) -> float:
    """The median of calls that follow each other, as those of the other side do."""
    took = []
    for _ in range(20 * repeats):
        began = time.perf_counter()
        ws.search(table, query, k=10, exact=exact, select=select).arrow()
        took.append(time.perf_counter() - began)
    return statistics.median(took[1:])


def sentences(folder: Path, repeats: int) -> Iterator[Line]:
    """The sentence model against the same weights in onnxruntime, in processor time on one core
    each; texts of one length are not padded."""
    python = onnx_peer.interpreter()
    what = "embed 128 texts of {} words against onnxruntime (processor, one core)"
    if python is None:
        yield unmeasured_line(
            what.format(32),
            f"not installed ({onnx_peer.VARIABLE} names the interpreter that has "
            "onnxruntime and onnx)",
        )
        return
    words = re.findall(r"[a-z]+", (ROOT / "README.md").read_text(encoding="utf-8"))
    draw = np.random.default_rng(0)
    with onnx_peer.sides(python, folder) as (ours, other):
        for length in (8, 32, 100):
            texts = [
                " ".join(words[i] for i in draw.integers(len(words), size=length))
                for _ in range(128)
            ]
            pairs = [(ours(texts), other(texts)) for _ in range(repeats + 1)][1:]
            mine, theirs = map(statistics.median, zip(*pairs, strict=True))
            yield Line(
                what.format(length),
                mine,
                theirs,
                statistics.median(a / b for a, b in pairs),
                1 / 0.9 if length == 32 else None,
            )


def memory(folder: Path, repeats: int) -> Iterator[Line]:  # noqa: ARG001  # a process that has run once has its peak behind it
    """What the first search over a table takes of memory at most, and what making one with its
    index takes, against the size of its vectors."""
    what, nothing = "search{}: memory over 100,000 × 384, against the vectors", float("nan")
    if not Path("/proc/self/status").exists():
        yield unmeasured_line(what.format(""), "only Linux tells")
        return
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(str(ROOT / part) for part in ("", "kernel_ext", "widgets")),
    }
    indexed = (" through the index", fixtures.clustered_vectors(_ROWS, _WIDTH), True)
    for how, vectors, through in ((", exact", fixtures.vectors(_ROWS, _WIDTH), False), indexed):
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), _WIDTH)
        with jl.open(folder / how) as ws:
            for name, rows in (("few", 100), ("many", _ROWS)):
                ws.import_embeddings(
                    name,
                    pa.table({"id": np.arange(rows), "vector": column.slice(0, rows)}),
                    index="now" if through else "later",
                )
        environment["JAMMI_VECTORS__EXACT_MAX_ROWS"] = str(20_000 if through else _ROWS)
        yield Line(
            what.format(how),
            nothing,
            nothing,
            _last_number(_MEMORY, folder / how, environment),
            1.5,
        )
    what = "embed 100,000 × 384 with its index: memory, against the vectors"
    np.save(folder / "vectors.npy", fixtures.clustered_vectors(_ROWS, _WIDTH))
    yield Line(
        what,
        nothing,
        nothing,
        _last_number(_MAKING, folder / "made", environment, folder / "vectors.npy"),
        1.5,
    )


def _last_number(code: str, folder: Path, environment: dict[str, str], *more: Path) -> float:
    """The last number that a separate process prints."""
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder), *map(str, more)],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    return float(done.stdout.split()[-1])

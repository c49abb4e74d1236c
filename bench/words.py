"""Measures of words: build, query and re-index of a lexical table beside bm25s, tantivy and DuckDB's
full-text search."""

import json
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

import jammi_lab as jl
from bench import word_peers
from bench.harness import Line, unmeasured_line
from tests.words import bm25

_TEXTS, _WORDS, _VOCABULARY = 50_000, 40, 20_000


def words(folder: Path, repeats: int) -> Iterator[Line]:  # noqa: ARG001  each side is built once
    """50 000 texts of 40 words, by Zipf's law; the median of 200 queries of three words."""
    rng = np.random.default_rng(0)
    ranks = np.minimum(rng.zipf(1.2, (_TEXTS, _WORDS)), _VOCABULARY)
    texts = [" ".join(f"w{rank}" for rank in row) for row in ranks.tolist()]
    queries = [" ".join(f"w{rank}" for rank in row) for row in rng.integers(20, 5_000, (200, 3))]
    with jl.open(folder / "lab") as ws:
        ws.sources.add("texts", pa.table({"id": range(_TEXTS), "text": texts}))
        began = time.perf_counter()
        ws.lexical("words", "texts", key="id", text="text", analyzer="simple")
        build = time.perf_counter() - began
        took = []
        for query in queries:
            began = time.perf_counter()
            ws.search("words", query, k=10)
            took.append(time.perf_counter() - began)
        query_seconds = statistics.median(took[1:])
        found = ws.search("words", queries[0], k=10).arrow()
        scores = bm25.scores([text.split() for text in texts], queries[0].split())
        error = max(
            abs(scores[key] - score)
            for key, score in zip(found["key"].to_pylist(), found["score"].to_pylist(), strict=True)
        )
        changed = [f"{text} more" if n % 100 == 0 else text for n, text in enumerate(texts)]
        ws.sources.add("texts", pa.table({"id": range(_TEXTS), "text": changed}), replace=True)
        began = time.perf_counter()
        ws.recompute("words")
        again = time.perf_counter() - began
    yield Line("words: index again after 1 % against a build", again, build, again / build, 0.05)
    yield Line("words: query against 2 ms", query_seconds, 0.002, query_seconds / 0.002, 1.0)
    yield Line("words: error of scores against 1e-6", error, 1e-6, error / 1e-6, 1.0)
    python = word_peers.interpreter()
    if python is None:
        yield unmeasured_line("words beside others", f"{word_peers.VARIABLE} is not set")
        return
    for name, rows in (("texts", texts), ("queries", queries)):
        (folder / f"{name}.json").write_text(json.dumps(rows))
    peers = word_peers.measure(python, folder / "texts.json", folder / "queries.json")
    for name, (built, theirs) in peers.items():
        limit = 1.5 if name == "bm25s" else None
        yield Line(f"words: build against {name}", build, built, build / built, limit)
        yield Line(
            f"words: query against {name}", query_seconds, theirs, query_seconds / theirs, None
        )

"""Measures of words: build, query and indexing again of a lexical table beside bm25s, tantivy and
DuckDB's full-text search."""

import json
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import jammi_lab as jl
from bench import rival, word_peers
from bench.harness import Line, Timer, cpu_timer, unmeasured_line, wall_timer
from tests.features.words import bm25

_TEXTS, _WORDS, _VOCABULARY = 50_000, 40, 20_000
_RIVAL_TEXTS = 10_000
_RACY_SECONDS = 2.5
"""More than `look.racy_seconds`."""


def words(folder: Path, repeats: int) -> Iterator[Line]:  # noqa: ARG001  each side is built once
    """50 000 texts of 40 words, by Zipf's law; the median of 200 queries of three words. Seconds
    are of the processor, over all threads; queries also by the clock."""
    texts, queries, source = _make_texts(folder, _TEXTS, queries=200)
    with jl.open(folder / "lab") as ws:
        ws.sources.add("texts", str(source))
        build = cpu_timer(
            lambda: ws.lexical("words", "texts", key="id", text="text", analyzer="simple")
        )()
        ws.materialize("one_row", "SELECT sum(hash(id, text)) AS total FROM texts")
        found = ws.search("words", queries[0], k=10).arrow()
        query, query_wall = (
            _median_seconds(timer, queries, lambda q: ws.search("words", q, k=10))
            for timer in (cpu_timer, wall_timer)
        )
        scores = bm25.scores([text.split() for text in texts], queries[0].split())
        error = max(
            abs(scores[key] - score)
            for key, score in zip(found["key"].to_pylist(), found["score"].to_pylist(), strict=True)
        )
        _write_texts(source, _change_hundredth(texts, 0))
        again = cpu_timer(lambda: ws.recompute("words"))()
        _write_texts(source, _change_hundredth(texts, 1))
        one_row_again = cpu_timer(lambda: ws.recompute("one_row"))()
    yield Line("words: index again after 1 % against a build", again, build, again / build, 0.5)
    yield Line(
        "words: a one-row table of the same texts again after 1 % against a build of words",
        one_row_again,
        build,
        one_row_again / build,
        None,
    )
    yield Line("words: query against 2 ms", query, 0.002, query / 0.002, 1.0)
    yield Line("words: query by the clock against 2 ms", query_wall, 0.002, query_wall / 0.002, 1.0)
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
        yield Line(f"words: query against {name}", query, theirs, query / theirs, None)


def beside_rival(folder: Path, repeats: int) -> Iterator[Line]:  # noqa: ARG001  each side is built once
    """The lexical and fusion verbs of jammi-ai: seconds of the processor. Its fusion takes the two
    ranked lists; ours is one search, which also encodes the text."""
    what = f"{_RIVAL_TEXTS:,} texts against jammi-ai"
    if (python := rival.interpreter()) is None:
        yield unmeasured_line(
            f"words and fusion of {what}",
            f"not installed ({rival.VARIABLE} names the interpreter that has it)",
        )
        return
    _, queries, source = _make_texts(folder, _RIVAL_TEXTS, queries=40)
    with jl.open(folder / "lab") as ws:
        ws.sources.add("texts", str(source))
        build = cpu_timer(lambda: ws.lexical("words", "texts", key="id", text="text"))()
        ws.embed("vectors", "texts", key="id", text="text", model="hashing")
        by_words = _median_seconds(cpu_timer, queries, lambda q: ws.search("words", q, k=10))
        both = _median_seconds(
            cpu_timer, queries, lambda q: ws.search("vectors", q, words="words", k=10)
        )
        pq.write_table(ws.table("vectors").arrow(), folder / "vectors.parquet")
        encoded = ws.encode("hashing", queries).tolist()
    (folder / "queries.json").write_text(json.dumps([queries, encoded]))
    theirs = rival.measure_words(python, folder)
    verbs = ("lexical index", "search by words", "search by both, fused")
    for verb, mine, other in zip(verbs, (build, by_words, both), theirs, strict=True):
        yield Line(f"{verb}: {what}", mine, other, mine / other, None)


def _median_seconds(
    timer: Callable[[Callable[[], object]], Timer],
    queries: list[str],
    search: Callable[[str], object],
) -> float:
    """The median over the queries but the first."""
    return statistics.median(timer(partial(search, query))() for query in queries[1:])


def _make_texts(folder: Path, texts: int, *, queries: int) -> tuple[list[str], list[str], Path]:
    """Texts by Zipf's law, queries of three words, and a file with the texts."""
    rng = np.random.default_rng(0)
    ranks = np.minimum(rng.zipf(1.2, (texts, _WORDS)), _VOCABULARY)
    rows, query_texts = (
        [" ".join(f"w{rank}" for rank in row) for row in numbers.tolist()]
        for numbers in (ranks, rng.integers(20, 5_000, (queries, 3)))
    )
    source = folder / "texts.parquet"
    _write_texts(source, rows)
    return rows, query_texts, source


def _change_hundredth(texts: list[str], first: int) -> list[str]:
    """The texts with each hundredth changed."""
    return [f"{t} more" if n % 100 == first else t for n, t in enumerate(texts)]


def _write_texts(path: Path, texts: list[str]) -> None:
    """The texts as a file that is old enough for its stat to stand for its bytes: one written just
    now is read again at each look."""
    pq.write_table(pa.table({"id": range(len(texts)), "text": texts}), path)
    time.sleep(_RACY_SECONDS)

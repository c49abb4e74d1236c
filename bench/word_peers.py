"""Other libraries that search words, as the other side of a comparison. They live in an environment
of their own, whose interpreter is named by JAMMI_WORDS_PYTHON (`python3 -m venv DIR; DIR/bin/pip
install bm25s tantivy numpy duckdb==1.5.5 duckdb-extensions duckdb-extension-fts`); this file never
imports them."""

import os
import subprocess
from pathlib import Path

VARIABLE = "JAMMI_WORDS_PYTHON"
_BEGIN = """
import json, statistics, sys, time
texts = json.load(open(sys.argv[1])); queries = json.load(open(sys.argv[2]))
def tell(built, search):
    took = []
    for query in queries:
        began = time.process_time()
        search(query)
        took.append(time.process_time() - began)
    print(built, statistics.median(took[1:]))
"""
_PEERS = {
    "bm25s": """
import bm25s
began = time.process_time()
index = bm25s.BM25(k1=1.2, b=0.75, method="lucene")
index.index(bm25s.tokenize(texts, stopwords=None, show_progress=False), show_progress=False)
tell(time.process_time() - began, lambda q: index.retrieve(bm25s.tokenize([q], stopwords=None, show_progress=False), k=10, show_progress=False))
""",
    "tantivy": """
import tantivy
began = time.process_time()
schema = tantivy.SchemaBuilder().add_integer_field("id", stored=True).add_text_field("text").build()
index = tantivy.Index(schema)
writer = index.writer()
for number, text in enumerate(texts):
    writer.add_document(tantivy.Document(id=number, text=text))
writer.commit()
index.reload()
searcher = index.searcher()
tell(time.process_time() - began, lambda q: searcher.search(index.parse_query(q, ["text"]), 10).hits)
""",
    "duckdb fts": """
import duckdb
from duckdb_extensions import import_extension
import_extension("fts")
con = duckdb.connect()
con.execute("LOAD fts")
con.execute("CREATE TABLE t(id INTEGER, text VARCHAR)")
con.execute("INSERT INTO t SELECT unnest(range(len(?))), unnest(?)", [texts, texts])
began = time.process_time()
con.execute("PRAGMA create_fts_index('t', 'id', 'text', stemmer='none', stopwords='none')")
queries = queries[:6]
tell(time.process_time() - began, lambda q: con.execute("SELECT id, fts_main_t.match_bm25(id, ?) AS s FROM t WHERE s IS NOT NULL ORDER BY s DESC LIMIT 10", [q]).fetchall())
""",
}


def interpreter() -> str | None:
    """The interpreter with the libraries; None if not configured."""
    return os.environ.get(VARIABLE) or None


def measure(python: str, texts: Path, queries: Path) -> dict[str, tuple[float, float]]:
    """Processor seconds of a build and of the median query, by library; one that does not run is
    left out."""
    found = {}
    for name, code in _PEERS.items():
        done = subprocess.run(
            [python, "-c", _BEGIN + code, str(texts), str(queries)],
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode == 0:
            built, query = done.stdout.split()[-2:]
            found[name] = (float(built), float(query))
    return found

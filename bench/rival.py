"""The package `jammi-ai[embedded]` as the other side of a comparison. It lives in an environment of
its own, whose interpreter is named by JAMMI_RIVAL_PYTHON (`python3 -m venv DIR; DIR/bin/pip install
'jammi-ai[embedded]'`); this file never imports it."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

VARIABLE = "JAMMI_RIVAL_PYTHON"

CRASHED = """
import os, shutil, sqlite3, sys, time
import jammi, pyarrow as pa, pyarrow.parquet as pq

folder, count, whole = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "whole"
vectors = pa.array([[1.0, 0.0], [0.0, 1.0]], pa.list_(pa.float32(), 2))
pq.write_table(pa.table({"_row_id": ["a", "b"], "vector": vectors}), f"{folder}/vectors.parquet")
pq.write_table(pa.table({"id": ["a", "b"], "text": ["x", "y"]}), f"{folder}/texts.parquet")
db = jammi.connect(f"file://{folder}/lab")
db.add_source("texts", url=f"file://{folder}/texts.parquet", format="parquet")
db.import_embeddings(source="texts", model="m", vectors_url=f"file://{folder}/vectors.parquet", key="id", dimensions=2)
db.close()

con = sqlite3.connect(f"{folder}/lab/catalog.db")
con.row_factory = sqlite3.Row
[made] = [dict(row) for row in con.execute("SELECT * FROM result_tables")]
path = made["parquet_path"].removeprefix("file://")
body = open(path, "rb").read()
attested = path.removesuffix(".parquet") + ".materialization.json"
manifest = open(attested).read()
for number in range(count):
    name = f"{made['table_name'][:-8]}{number:08x}"
    row = {**made, "table_name": name, "parquet_path": "file://" + path.replace(made["table_name"], name), "status": "building"}
    row |= {"lease_expires_at": "2020-01-01T00:00:00.000000Z", "completed_at": None}
    con.execute(f"INSERT INTO result_tables({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", list(row.values()))
    open(path.replace(made["table_name"], name), "wb").write(body if whole else body[: len(body) // 2])
    if whole:
        open(attested.replace(made["table_name"], name), "w").write(manifest.replace(made["table_name"], name))
con.commit()
con.close()

os.sync()
jammi.connect(f"file://{folder}/other").close()  # what only the first connection of a process takes is not counted
began = time.perf_counter()
db = jammi.connect(f"file://{folder}/lab")
took = time.perf_counter() - began
db.close()
con = sqlite3.connect(f"{folder}/lab/catalog.db")
[(settled,)] = con.execute("SELECT count(*) FROM result_tables WHERE status = ?", ["ready" if whole else "failed"])
assert settled == count + whole, (settled, count)
print(took)
"""


def interpreter() -> str | None:
    """The interpreter with the package; None if not configured."""
    return os.environ.get(VARIABLE) or None


def recovering(python: str, folder: Path, tables: int, how: str) -> Callable[[], float]:
    """A timer of opening a new workspace with crashed builds, torn or whole."""
    turns = iter(range(1_000_000))

    def run() -> float:
        place = folder / f"rival{next(turns)}"
        place.mkdir(parents=True)
        done = subprocess.run(
            [python, "-c", CRASHED, str(place), str(tables), how],
            check=True,
            capture_output=True,
            text=True,
        )
        return float(done.stdout.split()[-1])

    return run


LIVING = """
import sys, time, uuid
import jammi, pyarrow as pa

folder, what, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
db = jammi.connect(f"file://{folder}/lab")
db.set_tenant(str(uuid.uuid4()))
rows = pa.table({"id": list(range(100)), "word": ["word"] * 100})

def session():
    with db.ephemeral_session(timeout_seconds=600) as s:
        s.create_ephemeral_table("scratch", schema=rows.schema, primary_key=["id"])
        s.insert("scratch", batch=rows)

def publish():
    db.publish_topic("events", batch=rows)

def replay():
    assert db.subscribe_collect("events", from_offset=0).num_rows == 100 * (count + 1)

db.register_topic("events", schema=rows.schema)
deed = session if what == "sessions" else publish
deed()
if what == "replay":
    for _ in range(count):
        publish()
began = time.perf_counter()
if what == "replay":
    replay()
else:
    for _ in range(count):
        deed()
print(time.perf_counter() - began)
db.close()
"""


def living(python: str, folder: Path, what: str, count: int) -> Callable[[], float]:
    """A timer of `count` `sessions`, of `count` events to `publish`, or of the `replay` of `count`
    events."""
    turns = iter(range(1_000_000))

    def run() -> float:
        place = folder / f"rival{next(turns)}"
        place.mkdir(parents=True)
        done = subprocess.run(
            [python, "-c", LIVING, str(place), what, str(count)],
            check=True,
            capture_output=True,
            text=True,
        )
        return float(done.stdout.split()[-1])

    return run


WORDS = """
import json, statistics, sys, time
import jammi, pyarrow as pa, pyarrow.compute as pc, pyarrow.parquet as pq

folder = sys.argv[1]
queries, encoded = json.load(open(f"{folder}/queries.json"))
texts, given = pq.read_table(f"{folder}/texts.parquet"), pq.read_table(f"{folder}/vectors.parquet")
pq.write_table(texts.set_column(0, "id", pc.cast(texts["id"], pa.string())), f"{folder}/keyed.parquet")
vectors = pa.table({"_row_id": pc.cast(given["key"], pa.string()), "vector": given["vector"]})
pq.write_table(vectors, f"{folder}/given.parquet", use_dictionary=False, compression="none")
db = jammi.connect(f"file://{folder}/rival")
db.add_source("texts", url=f"file://{folder}/keyed.parquet", format="parquet")
db.import_embeddings(source="texts", model="m", vectors_url=f"file://{folder}/given.parquet", key="id", dimensions=len(encoded[0]))
began = time.process_time()
db.build_lexical_index("texts", columns=["text"], key="id")
print(time.process_time() - began)

def by_words(query, vector, k=10):
    return db.lexical_search("texts", text=query, k=k, select=["id"])["id"].to_pylist()

def both(query, vector):
    near = db.search("texts", query=vector, k=50, select=["id"])["id"].to_pylist()
    return db.rrf_fuse([near, by_words(query, vector, 50)])[:10]

for search in (by_words, both):
    took = []
    for query, vector in zip(queries, encoded):
        began = time.process_time()
        search(query, vector)
        took.append(time.process_time() - began)
    print(statistics.median(took[1:]))
"""


def measure_words(python: str, folder: Path) -> list[float]:
    """Processor seconds of a lexical index, and of the median search by words and by both, over the
    files texts.parquet, vectors.parquet and queries.json of a folder."""
    done = subprocess.run(
        [python, "-c", WORDS, str(folder)], check=True, capture_output=True, text=True
    )
    return [float(line) for line in done.stdout.split()[-3:]]


SMALL = """
import statistics, sys, time
import jammi

folder, times = sys.argv[1], int(sys.argv[2])
db = jammi.connect(f"file://{folder}/rival")
tables, turns = [], iter(range(1_000_000))

def add():
    db.add_source(f"more{next(turns)}", url=f"file://{folder}/texts.parquet", format="parquet")

def import_vectors():
    tables.append(db.import_embeddings(source="texts", model=f"m{next(turns)}", vectors_url=f"file://{folder}/given.parquet", key="id", dimensions=384))

db.add_source("texts", url=f"file://{folder}/texts.parquet", format="parquet")
import_vectors()
for deed in (
    lambda: db.sql("SELECT count(*) FROM texts.public.texts"),
    lambda: db.staleness(tables[0], "0" * 64),
    lambda: db.derives_from(tables[0]),
    add,
    import_vectors,
):
    took = []
    for _ in range(times):
        began = time.process_time()
        deed()
        took.append(time.process_time() - began)
    print(statistics.median(took))
db.close()
"""


def measure_small(python: str, folder: Path, times: int) -> list[float]:
    """Processor seconds of small verbs over the files texts.parquet and given.parquet of a folder:
    count a file's rows, a verdict, dependents, add a source, import the vectors."""
    done = subprocess.run(
        [python, "-c", SMALL, str(folder), str(times)], check=True, capture_output=True, text=True
    )
    return [float(line) for line in done.stdout.split()[-5:]]

"""Arrow data that somebody else wrote: its digest is right and its texts lie beyond the end of its
buffers. Arrow reads such a place without a check, which ends the process: each case has its own."""

import contextlib
import hashlib
import sqlite3
import struct
from types import SimpleNamespace

import msgspec
import pyarrow as pa
import pytest

import jammi_lab as jl
from jammi_lab.catalog.logs import Entry, entries_table
from jammi_lab.steps import increment
from jammi_lab.steps.checkpoint import Checkpoint

ROWS = pa.table({"id": [1, 2, 3, 4], "label": ["aa", "bb", "cc", "dd"]})
USE = """
import sys, pyarrow as pa, jammi_lab as jl
with jl.open(sys.argv[1]) as ws:
    for use in {uses}:
        try:
            print(use(ws))
        except {error} as error:
            print(type(error).__name__)
"""


def led_astray(body):
    """The bytes with other places of the texts of `ROWS`."""
    places = struct.pack("<4i", 0, 2, 4, 6)
    assert places in body
    return body.replace(places, struct.pack("<4i", 0, 0x7F7F7F70, 0x7F7F7FFF, 6))


def as_stream(rows=ROWS):
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as stream:
        stream.write_table(rows)
    return sink.getvalue().to_pybytes()


def as_file(rows=ROWS):
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, rows.schema) as file:
        file.write_table(rows)
    return sink.getvalue().to_pybytes()


def said(run_python, folder, *uses, error="jl.JammiError"):
    code = USE.format(uses=f"({', '.join(uses)},)", error=error)
    return run_python(code, str(folder)).stdout.split()


@pytest.mark.parametrize("form", [as_stream, as_file])
def test_of_a_source(tmp_path, run_python, form):
    (tmp_path / "a.arrow").write_bytes(form())
    with jl.open(tmp_path / "lab") as ws:
        ws.sources.add("a", tmp_path / "a.arrow")
    (tmp_path / "a.arrow").write_bytes(led_astray(form()))
    query = 'lambda ws: ws.sql("SELECT max(label) FROM a").fetchall()'
    state = """lambda ws: str(ws.sources["a"].anchor()) and ws.materialize("t", "FROM a")"""
    assert said(run_python, tmp_path / "lab", query, state) == ["SourceUnavailable"] * 2


def test_of_a_mutable_table_and_a_topic(tmp_path, run_python):
    schema = {"id": "int64", "label": "string"}
    with jl.open(tmp_path / "lab") as ws:
        ws.mutable.create("m", schema, primary_key=["id"]).insert(ROWS)
        ws.topics.register("t", schema)
        ws.topics.publish("t", ROWS)
    with contextlib.closing(sqlite3.connect(tmp_path / "lab" / "catalog.sqlite3")) as db, db:
        for (log_id,) in db.execute("SELECT log_id FROM logs").fetchall():
            table, names = entries_table(log_id), Entry.__struct_fields__
            [row] = db.execute(f"SELECT {', '.join(names)} FROM {table}").fetchall()
            entry = Entry(*row)
            forged = msgspec.structs.replace(entry, body=led_astray(entry.body)).seal()
            assert forged.digest != entry.digest
            db.execute(f"UPDATE {table} SET body = ?, digest = ?", [forged.body, forged.digest])
    uses = (
        'lambda ws: ws.sql("SELECT max(label) FROM mutable.m").fetchall()',
        """lambda ws: ws.mutable["m"].delete("label = 'bb'")""",
        'lambda ws: [event.batch.to_pylist() for event in ws.topics.replay("t")]',
    )
    assert said(run_python, tmp_path / "lab", *uses) == ["TableDamaged"] * 3


def test_of_a_checkpoint(tmp_path, run_python):
    path = tmp_path / "abc.log"
    checkpoint = Checkpoint(path)
    checkpoint.append(ROWS)
    checkpoint.close()
    whole = path.read_bytes()
    start = whole.index(as_stream()) - 16
    forged = led_astray(as_stream())
    path.write_bytes(whole[:start] + hashlib.sha256(forged).digest()[:16] + forged)
    load = (
        "lambda ws: [part.to_pylist() for part in "
        "__import__('jammi_lab.steps.checkpoint').steps.checkpoint.Checkpoint("
        f"__import__('pathlib').Path({str(path)!r})).load()]"
    )
    assert said(run_python, tmp_path / "lab", load) == ["[]"]


def test_of_partial_sums(tmp_path):
    """The digest that a manifest has of them is right, too."""
    (tmp_path / "t.sums.arrow").write_bytes(body := led_astray(as_file()))
    results = SimpleNamespace(parquet=lambda _: tmp_path / "t.parquet")
    base = SimpleNamespace(version=1, recipe="t")
    with pytest.raises(increment.NotIncremental, match="damaged or gone"):
        increment._partial_rows(results, base, hashlib.sha256(body).hexdigest())


def test_values_that_duckdb_has_beyond_the_range_of_their_type_are_read(tmp_path):
    number, midnight = 2**127 - 1, "'24:00'::TIME"
    query = f"SELECT 1 AS id, {number}::HUGEINT AS n, {midnight} AS t, [{midnight}] AS many"
    with jl.open(tmp_path / "lab") as ws:
        rows = ws.sql(query).arrow()
        ws.topics.register("t", rows.schema)
        ws.topics.publish("t", rows)
        (tmp_path / "a.arrow").write_bytes(as_file(rows))
        ws.sources.add("a", tmp_path / "a.arrow")
        for name in ("topics.t", "a"):
            read = ws.sql(f"SELECT n::VARCHAR, t::VARCHAR, many::VARCHAR FROM {name}").fetchall()
            assert read == [(str(number), "24:00:00", "['24:00:00']")]

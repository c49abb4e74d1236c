"""Columns by the footer of a Parquet file, against DuckDB's own answer."""

import datetime
import os
import time

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jammi_lab as jl
from jammi_lab.core.anchors import Cost
from jammi_lab.core.records import SourceRecord
from jammi_lab.engine.engine import Engine
from jammi_lab.sources.files import parquet_schemas
from jammi_lab.sources.files.connector import FileConnector
from jammi_lab.sources.registry import connector_for
from tests.contracts.connector import DictMemo, look
from tests.sizes import examples

TYPES = [
    pa.int32(),
    pa.int64(),
    pa.uint8(),
    pa.float32(),
    pa.string(),
    pa.large_string(),
    pa.binary(),
    pa.bool_(),
    pa.date32(),
    pa.duration("s"),
    pa.timestamp("us"),
    pa.timestamp("us", "UTC"),
    pa.timestamp("ns"),
    pa.decimal128(10, 2),
    pa.decimal128(12, 2),
    pa.list_(pa.int64()),
    pa.struct([("x", pa.int64()), ("y", pa.string())]),
    pa.dictionary(pa.int32(), pa.string()),
    pa.null(),
]
SCHEMAS = st.lists(
    st.tuples(st.sampled_from(["a", "b", "A", "day=1"]), st.sampled_from(TYPES)),
    min_size=1,
    max_size=3,
    unique_by=lambda field: field[0].lower(),
).map(pa.schema)
FOLDERS = st.lists(
    st.tuples(st.sampled_from(["", "", "", "year=2020", "year=x", "a=b=c", "sub"]), SCHEMAS),
    min_size=1,
    max_size=3,
)


def write_folder(folder, files):
    folder.mkdir()
    for number, (part, schema) in enumerate(files):
        (folder / part).mkdir(exist_ok=True)
        pq.write_table(schema.empty_table(), folder / part / f"{number}.parquet")
    long_ago = time.time() - 60
    for file in folder.rglob("*.parquet"):
        os.utime(file, (long_ago, long_ago))
    return FileConnector(SourceRecord(name="f", kind="parquet", location=str(folder)))


def described(connector):
    body = connector.relation(None).read.body
    return {name: kind for name, kind, *_ in duckdb.sql(f"DESCRIBE {body}").fetchall()}


@settings(max_examples=examples(200))
@given(st.lists(FOLDERS, min_size=1, max_size=4), st.booleans())
def test_known_columns_are_those_that_duckdb_describes(tmp_path_factory, folders, by_name):
    base = tmp_path_factory.mktemp("folders")
    for number, files in enumerate(folders):
        connector = write_folder(base / str(number), files)
        if by_name:
            connector.record.options["union_by_name"] = True
        source_files = connector.file_set.list_files("parquet")
        try:
            expected = described(connector)
        except (duckdb.Error, jl.SourceUnavailable):
            continue  # the files cannot be read together
        schemas = parquet_schemas.schemas_of(connector.file_set, source_files)
        known = parquet_schemas.known_columns(source_files, schemas)
        assert known is None or list(known.items()) == list(expected.items())
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(parquet_schemas, "is_settled", lambda *_: True)
            parquet_schemas.keep_columns(source_files, schemas, expected, look())
        kept = parquet_schemas.known_columns(source_files, schemas)
        if any(part.startswith("year=") for part, _ in files) or len(set(schemas)) > 1:
            assert kept is None
        else:
            assert list(kept.items()) == list(expected.items())


def test_files_of_one_schema_are_described_once(tmp_path, monkeypatch):
    """Also when they were written with other numbers of rows, which pandas notes in the footer."""
    folder = tmp_path / "days"
    folder.mkdir()
    statement = "SELECT day, sum(n) AS n FROM days GROUP BY day"

    def add(number):
        frame = pa.table({"day": [datetime.date(2026, 1, 1)] * number, "n": [1] * number})
        frame.to_pandas().to_parquet(folder / f"{number:07}.parquet")

    def count_descriptions(engine, body, *rest):
        described.append(body)
        return describe(engine, body, *rest)

    described, describe = [], Engine.describe
    add(200_000)
    with jl.open(tmp_path / "lab", settings={"look.racy_seconds": 0}) as ws:
        ws.sources.add("days", str(folder))
        ws.materialize("total", statement)
        monkeypatch.setattr(Engine, "describe", count_descriptions)
        for number in (300_001, 300_002):
            add(number)
            table = ws.materialize("total", statement)
            assert table.manifest.increment is not None
        assert ws.sql("SELECT n FROM jammi.total").fetchall() == [(800_003,)]
        assert described == []


@pytest.mark.parametrize("change", ["rewritten", "not settled"])
def test_columns_of_a_file_that_may_have_changed_are_not_kept(tmp_path, change):
    """The columns may be those of the earlier file."""
    schema = pa.schema([(f"c_{change.replace(' ', '_')}", pa.int64())])
    connector = write_folder(tmp_path / "f", [("", schema)])
    source_files = connector.file_set.list_files("parquet")
    racy = 3600.0 if change == "not settled" else 0.0
    ctx = look(racy_seconds=racy)
    if change == "rewritten":
        os.utime(tmp_path / "f" / "0.parquet")
    schemas = parquet_schemas.schemas_of(connector.file_set, source_files)
    parquet_schemas.keep_columns(source_files, schemas, {"other": "BIGINT"}, ctx)
    assert parquet_schemas.known_columns(source_files, schemas) is None


def test_columns_are_described_anew_where_stats_are_not_trusted(tmp_path):
    """`anchor="content"`: a file with an unchanged stat may have other columns."""
    file = tmp_path / "t.csv"
    file.write_text("id,name\n1,a\n")
    record = SourceRecord(name="t", kind="csv", location=str(file), anchor="content")
    connector, memo = connector_for(record, None, None), DictMemo()
    assert connector.observe(None, look(memo, later=True)).columns["id"] == "BIGINT"
    before = connector.file_set.list_files("csv")
    file.write_text("ix,name\n1,a\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(connector.file_set), "list_files", lambda *_: before)
        assert list(connector.observe(None, look(memo, later=True)).columns) == ["ix", "name"]


def test_a_path_that_is_not_plain_is_cached_under_one_key(tmp_path):
    write_folder(tmp_path / "f", [("", pa.schema([("a", pa.int64())]))])
    record = SourceRecord(name="t", kind="parquet", location=f"{tmp_path}//./f/*.parquet")
    connector, memo = FileConnector(record), DictMemo()
    costs = [connector.observe(None, look(memo, later=True)).cost for _ in range(2)]
    assert costs == [Cost.SCAN, Cost.FREE]

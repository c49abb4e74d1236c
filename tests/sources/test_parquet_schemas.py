"""How often the columns of files are asked for, and the cached states of files."""

import datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import jammi_lab as jl
from jammi_lab.core.records import SourceRecord
from jammi_lab.engine.engine import Engine
from jammi_lab.sources.files import parquet_schemas
from jammi_lab.sources.files.file_sets import LocalFileSet
from jammi_lab.sources.registry import connector_for
from tests.contracts.source import DictMemo, observed


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


def test_columns_are_described_anew_where_stats_are_not_trusted(tmp_path):
    """`anchor="content"`: a file with an unchanged stat may have other columns."""
    file = tmp_path / "t.csv"
    file.write_text("id,name\n1,a\n")
    record = SourceRecord(name="t", kind="csv", location=str(file), anchor="content")
    connector, memo = connector_for(record), DictMemo()
    assert observed(connector, memo, later=True).columns["id"] == "BIGINT"
    before = connector.file_set.list_files("csv")
    file.write_text("ix,name\n1,a\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(connector.file_set), "list_files", lambda *_: before)
        assert list(observed(connector, memo, later=True).columns) == ["ix", "name"]


@pytest.mark.parametrize(("grain_seconds", "reads"), [(-1.0, 1), (3600.0, 2)])
def test_a_schema_within_the_clocks_grain_is_not_kept(tmp_path, monkeypatch, grain_seconds, reads):
    pq.write_table(pa.table({"n": [1]}), tmp_path / "t.parquet")
    read, opened = parquet_schemas._read_schema, []
    monkeypatch.setattr(parquet_schemas, "_read_schema", lambda f: opened.append(f) or read(f))
    monkeypatch.setattr(parquet_schemas, "CLOCK_SECONDS", grain_seconds)
    files = LocalFileSet(str(tmp_path / "t.parquet")).list_files("parquet")
    for _ in range(2):
        parquet_schemas.schemas_of(files)
    assert len(opened) == reads

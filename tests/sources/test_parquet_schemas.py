"""How often the columns of files are asked for, and the cached states of files."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jammi_lab.core.records import SourceRecord
from jammi_lab.sources.files import parquet_schemas
from jammi_lab.sources.files.file_sets import LocalFileSet
from jammi_lab.sources.registry import connector_for
from tests.contracts.source import DictMemo, observed


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

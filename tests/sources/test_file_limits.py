"""What files may hold without ending the process or keeping it busy for minutes."""

import gzip
import json
import os
import shutil
import subprocess
import sys
import zipfile

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest

from jammi_lab.core.errors import SourceUnavailable
from jammi_lab.sources import scratch_duckdb
from tests.sources.kinds import workbook
from tests.verdicts import is_fresh


def nested(depth, shape):
    return {"list": "[" * depth + "]" * depth, "object": '{"a":' * depth + "1" + "}" * depth}[shape]


@pytest.mark.parametrize("path", [b"\xff.csv", b"\xff/a.csv"])
def test_a_file_whose_path_is_not_utf8_concerns_its_folder_alone(ws, tmp_path, path):
    for folder in ("good", "bad"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.csv").write_text("a\n1\n")
        ws.sources.add(folder, tmp_path / folder)
        ws.materialize(f"of_{folder}", f"SELECT * FROM {folder}")
    added = os.path.join(os.fsencode(tmp_path / "bad"), path)
    os.makedirs(os.path.dirname(added), exist_ok=True)
    shutil.copy(tmp_path / "bad/a.csv", added)
    assert is_fresh(ws, "of_good")
    assert "not valid text; rename it" in str(ws.staleness("of_bad"))
    with pytest.raises(SourceUnavailable, match="not valid text; rename it"):
        ws.sql("SELECT * FROM bad").fetchall()
    os.remove(added)
    assert {row.name: str(row.verdict) for row in ws.status()} == {
        "of_good": "fresh",
        "of_bad": "fresh",
    }


@pytest.mark.parametrize("shape", ["list", "object"])
@pytest.mark.parametrize("name", ["x.json", "x.ndjson", "x.json.gz"])
def test_json_nested_too_deep_is_refused(ws, tmp_path, name, shape):
    text = f'{{"k": 1, "v": {nested(20_000, shape)}}}\n'.encode()
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    with pytest.raises(SourceUnavailable, match=r"nested 20,001 deep or deeper; at most 1,000"):
        ws.sources.add("t", tmp_path / name)


@pytest.mark.parametrize("shape", ["list", "object"])
def test_json_deeper_than_arrow_types_is_json(ws, tmp_path, shape):
    (tmp_path / "x.json").write_text(f'{{"k": 1, "v": {nested(900, shape)}}}')
    ws.sources.add("t", tmp_path / "x.json")
    assert ws.sql("SELECT k FROM t").fetchall() == [(1,)]
    assert ws.sql("SELECT v FROM t").arrow().num_rows == 1


def test_brackets_in_texts_are_not_nesting(ws, tmp_path):
    text = 'a\\"' + "[" * 5_000
    rows = [{"k": 1, "v": text}, {"k": 2, "v": "\\" + "}" * 5_000 + "\\\\"}]
    (tmp_path / "x.ndjson").write_text("\n".join(map(json.dumps, rows)))
    ws.sources.add("t", tmp_path / "x.ndjson")
    assert ws.sql("SELECT v FROM t ORDER BY k").fetchall() == [(row["v"],) for row in rows]


@pytest.mark.parametrize("name", ["x.csv", "x.parquet", "x.arrow"])
def test_too_many_columns_are_refused(ws, tmp_path, name):
    table = pa.table({f"c{i}": [1] for i in range(10_001)})
    match name:
        case "x.csv":
            (tmp_path / name).write_text(",".join(table.column_names) + "\n" + "1," * 10_000 + "1")
        case "x.parquet":
            pyarrow.parquet.write_table(table, tmp_path / name)
        case _:
            pyarrow.feather.write_feather(table, tmp_path / name)
    with pytest.raises(SourceUnavailable, match=rf"{name} has 10,001 columns; at most 10,000"):
        ws.sources.add("t", tmp_path / name)


def test_too_many_keys_are_refused_before_they_are_detected(ws, tmp_path, monkeypatch):
    """300,000 keys of a line kept DuckDB busy for minutes."""
    record = {f"c{place}": place if place % 2 else [place] for place in range(10_001)}
    monkeypatch.setattr(scratch_duckdb, "describe", lambda _: pytest.fail("they were detected"))
    (tmp_path / "x.ndjson").write_text(json.dumps(record))
    with pytest.raises(SourceUnavailable, match=r"x.ndjson has 10,001 columns; at most 10,000"):
        ws.sources.add("t", tmp_path / "x.ndjson")


def test_too_many_keys_of_many_records_are_refused_before_they_are_columns(ws, tmp_path):
    lines = [json.dumps({f"c{place}": place}) for place in range(10_001)]
    (tmp_path / "x.ndjson").write_text("\n".join(lines))
    with pytest.raises(SourceUnavailable, match=r"x.ndjson has 10,001 columns; at most 10,000"):
        ws.sources.add("t", tmp_path / "x.ndjson")


@pytest.mark.parametrize("number", [(1 << 20) + 1, (1 << 32) - 1, 10**30])
def test_a_row_number_beyond_a_sheet_is_refused(ws, tmp_path, number):
    workbook(tmp_path / "plain.xlsx", people=[["a"], [1]])
    with (
        zipfile.ZipFile(tmp_path / "plain.xlsx") as plain,
        zipfile.ZipFile(tmp_path / "x.xlsx", "w") as book,
    ):
        for name in plain.namelist():
            body = plain.read(name)
            if "sheet1" in name:
                row = f'<row r="{number}"><c r="A{number}"><v>1</v></c></row></sheetData>'
                body = body.replace(b"</sheetData>", row.encode())
            book.writestr(name, body)
    with pytest.raises(SourceUnavailable, match=r"a row numbered|too large for memory|is damaged"):
        ws.sources.add("t", tmp_path / "x.xlsx")


def test_a_sheet_is_read_where_less_memory_is_allowed_than_a_reader_may_take(tmp_path):
    workbook(tmp_path / "x.xlsx", people=[["a"], [1]])
    program = f"""if True:
        import resource, jammi_lab
        resource.setrlimit(resource.RLIMIT_AS, (7 << 29, 7 << 29))
        with jammi_lab.open({str(tmp_path / "lab")!r}) as ws:
            ws.sources.add("t", {str(tmp_path / "x.xlsx")!r})
            print(len(ws.sql("FROM t").fetchall()))
    """
    env = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0

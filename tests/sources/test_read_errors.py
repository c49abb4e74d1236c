import errno

import duckdb
import pytest

from jammi_lab.sources.files.csv_errors import csv_error
from jammi_lab.sources.read_errors import read_error, reason_of, unreadable_error


def said(sql, read=read_error):
    with duckdb.connect() as connection, pytest.raises(duckdb.Error) as error:
        connection.execute(sql).fetchall()
    failure = read(str(error.value))
    assert failure is not None
    assert len(failure.lines()) <= 5 and "\n" not in failure.message
    return failure


def said_of_csv(text, tmp_path, columns="{'a': 'BIGINT', 'b': 'BIGINT'}", **options):
    (tmp_path / "f.csv").write_text(text)
    return said(
        f"SELECT sum(a) FROM read_csv('{tmp_path}/f.csv', delim=',', auto_detect=false, "
        f"header=true, quote='\"', columns={columns})",
        lambda message: csv_error(message, "f.csv", 0, options),
    )


def test_a_late_ragged_line_is_named(tmp_path):
    failure = said_of_csv("a,b\n" + "1,2\n" * 40_000 + "1,2,3\n", tmp_path)
    assert failure.message == "f.csv, line 40002: 3 values where 2 are expected: '1,2,3'."
    assert '"names": […], "header": True, "null_padding": True' in failure.hint
    assert "skip" not in failure.hint
    assert 'options={"skip": 1}' in said_of_csv("a,b\n1,2,3\n", tmp_path).hint


def test_advice_is_never_what_is_already_so(tmp_path):
    text = "a,b\n1\n"
    assert "null_padding" in said_of_csv(text, tmp_path).hint
    assert "null_padding" not in said_of_csv(text, tmp_path, null_padding=True).hint
    assert "names" not in said_of_csv("a,b\n1,2,3\n", tmp_path, names=["a", "b"]).hint


def test_a_late_value_of_another_type_is_named(tmp_path):
    failure = said_of_csv("a,b\n" + "1,2\n" * 40_000 + "NA,2\n", tmp_path)
    assert failure.message == (
        "f.csv, line 40002: column 'a' contains 'NA', which is not a BIGINT."
    )
    assert '{"a": "VARCHAR"}' in failure.hint


def test_a_long_line_names_the_option_that_reads_it(tmp_path):
    failure = said_of_csv("a,b\n1," + "2" * 3_000_000 + "\n", tmp_path)
    assert failure.message.startswith("f.csv, line 2: the line has 3,000,0")
    assert '"max_line_size": 6' in failure.hint


@pytest.mark.parametrize(
    ("text", "form", "where"),
    [
        ('{"a":1}\n{"a":2\n', "newline_delimited", "line 2"),
        ("{a:\n", "newline_delimited", "line 1"),
        ('{"a":1}\n' * 30_000 + '{"a" 2}\n', "newline_delimited", "line 30001"),
        ('[{"a":1},\n{"a":2},\n{"a" 3}]', "auto", "value 3"),
    ],
)
def test_malformed_json_is_named_with_its_place(tmp_path, text, form, where):
    (tmp_path / "f.ndjson").write_text(text)
    assert (
        said(f"SELECT * FROM read_json('{tmp_path}/f.ndjson', format='{form}')").message
        == f"f.ndjson, {where}: this is not JSON."
    )


@pytest.mark.parametrize("data", [b"", b"PAR1", b"x" * 100])
def test_a_torn_parquet_is_named(tmp_path, data):
    (tmp_path / "f.parquet").write_bytes(data)
    assert (
        said(f"SELECT * FROM read_parquet('{tmp_path}/f.parquet')").message
        == "f.parquet is not a complete Parquet file."
    )


def test_a_file_that_went_is_named(tmp_path):
    assert (
        said(f"SELECT * FROM read_parquet('{tmp_path}/f.parquet')").message
        == "f.parquet no longer exists."
    )


def test_what_is_not_about_a_file_is_not_taken_for_it():
    with duckdb.connect() as connection:
        for sql in ("SELECT nope", "SELEC 1", "SELECT 'x'::INT"):
            with pytest.raises(duckdb.Error) as error:
                connection.execute(sql)
            assert read_error(str(error.value)) is None


def test_permission_is_told_from_other_trouble():
    assert (
        "permission denied"
        in unreadable_error("f.csv", PermissionError(errno.EACCES, "Permission denied")).message
    )
    assert (
        "input/output error"
        in unreadable_error("f.csv", OSError(errno.EIO, "Input/output error")).message
    )


def test_a_doubt_is_one_clause():
    assert reason_of(RuntimeError("first line.\nsecond")) == "first line"


def test_a_name_with_a_line_break_stays_on_one_line(tmp_path):
    assert unreadable_error("a\nb\u202e.csv", PermissionError()).message.startswith(
        "a\\nb\\u202e.csv cannot be read"
    )

"""Text files as people have them: what a reader makes of situations that are reported of CSV and
JSON readers, with the values written by hand. Whatever cannot be read in one way is text, or is
refused with the file, the line and an option that helps."""

import bz2
import gzip
import io
import json
import lzma
import re
import resource
import zipfile
from datetime import date

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jammi_lab.core.errors import (
    InvalidArgument,
    JammiError,
    ResourceExhausted,
    SourceUnavailable,
)
from jammi_lab.sources.files.formats import OPTIONS
from tests.cases import cases, plain
from tests.sources.kinds import workbook
from tests.verdicts import is_fresh, is_stale


@pytest.fixture
def read(ws, tmp_path):
    """Writes a file, adds it as the source `a` with these options, and returns its types and
    rows."""

    def read_file(data, name="a.csv", kind=None, **options):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        source = ws.sources.add("a", path, kind=kind, options=options, replace=True)
        types = [column.type for column in source.columns()]
        return types, ws.sql("SELECT * FROM a").fetchall()

    return read_file


def column(*values):
    """A CSV file of one column beside a number."""
    return "n,v\n" + "".join(f"{n},{value}\n" for n, value in enumerate(values))


@pytest.mark.parametrize(
    ("values", "kind", "read_as"),
    cases("sources/text_columns", "values", "kind", "read_as"),
)
def test_the_type_of_a_column_holds_all_its_values(read, values, kind, read_as):
    types, rows = read(column(*values))
    assert (types[1], plain([value for _, value in rows])) == (kind, read_as)


@pytest.mark.parametrize("last", ["2.5", "x", "007", "2024-01-02", "99999999999999999999"])
def test_the_last_of_many_values_has_its_say(ws, tmp_path, last):
    lines = "".join(f"{n},{n % 9},{'x' * 20}\n" for n in range(60_000))
    (tmp_path / "a.csv").write_text(f"id,v,p\n{lines}60000,{last},z\n")
    ws.sources.add("a", tmp_path / "a.csv")
    [(value,)] = ws.sql("SELECT CAST(v AS VARCHAR) FROM a WHERE id = 60000").fetchall()
    assert value == last


@pytest.mark.parametrize(
    ("name", "data", "options", "types", "notes", "rows"),
    cases("sources/text_read", "name", "data", "options", "types", "notes", "rows"),
)
def test_what_is_read_of_a_text(ws, read, name, data, options, types, notes, rows):
    """Dialects, situations that are reported of other readers, and those that an option reads;
    where no types or notes are said, any will do."""
    found = read(data, name, **options)
    assert plain(found) == [types or found[0], rows]
    assert notes is None or ws.sources["a"].notes == notes


@pytest.mark.parametrize(
    ("written", "said"),
    [
        *((each, each) for each in ("cp1252", "latin-1", "utf-16-le", "cp1250")),
        *((each, "utf-16") for each in ("utf-16-le", "utf-16-be")),
    ],
)
def test_an_encoding_of_python_is_read(read, written, said):
    """The order of bytes is found without a mark."""
    text = "id;pays\n1;Köln\n2;Zürich\n"
    assert read(text.encode(written), encoding=said)[1] == [(1, "Köln"), (2, "Zürich")]


def test_a_japanese_file_is_read_under_an_encoding_that_its_refusal_names(read):
    data = "id,都市\n1,東京\n2,大阪\n".encode("shift_jis")
    with pytest.raises(SourceUnavailable, match=r"a\.csv.* is not UTF-8") as refused:
        read(data)
    assert "shift_jis" in refused.value.hint
    assert read(data, encoding="shift_jis")[1] == [(1, "東京"), (2, "大阪")]


def test_a_file_in_utf8_is_not_read_as_another_encoding(read):
    with pytest.raises(SourceUnavailable, match=r"a\.csv is UTF-8, not cp1252"):
        read("id,n\n1,Säge\n", encoding="cp1252")
    assert read("id,n\n1,a\n", encoding="cp1252")[1] == [(1, "a")]  # the same in both


def test_one_file_of_a_folder_has_an_encoding_of_its_own(ws, tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d/1.csv").write_text("name\nSäge\n", encoding="utf-8")
    (tmp_path / "d/2.csv").write_text("name\nDübel\n", encoding="cp1252")
    with pytest.raises(SourceUnavailable) as refused:
        ws.sources.add("d", tmp_path / "d")
    assert '{"encoding": {"2.csv": "cp1252"}}' in refused.value.hint
    ws.sources.add("d", tmp_path / "d", options={"encoding": {"2.csv": "cp1252"}})
    assert ws.sql("FROM d").fetchall() == [("Säge",), ("Dübel",)]


def zipped(*members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(zipfile.ZipInfo(name), data)
    return file.getvalue()


CSV = b"id,n\n1,a\n2,b\n"


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.csv.gz", gzip.compress(CSV, mtime=0)),
        ("a.csv.zst", pa.compress(CSV, codec="zstd", asbytes=True)),
        ("a.csv.bz2", bz2.compress(CSV)),
        ("a.csv.xz", lzma.compress(CSV)),
        ("a.csv.zip", zipped(("a.csv", CSV))),
        ("a.zip", zipped(("t/a.csv", CSV), ("__MACOSX/._a.csv", b"x"), ("t/.DS_Store", b"x"))),
        ("a.ndjson.xz", lzma.compress(b'{"id":1,"n":"a"}\n{"id":2,"n":"b"}\n')),
    ],
    ids=["gz", "zst", "bz2", "xz", "csv.zip", "zip", "ndjson.xz"],
)
def test_containers_are_opened(read, name, data):
    assert read(data, name)[1] == [(1, "a"), (2, "b")]
    with pytest.raises(SourceUnavailable, match="not a complete"):
        read(data[:-9], name)


HIDDEN = "contains only {name!r}; a file in an archive is left out if its name"


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["a.csv", "b.csv"], "2 files"),
        *(([name], HIDDEN.format(name=name)) for name in ("../a.csv", "_a.csv", "__MACOSX/a.csv")),
    ],
)
def test_an_archive_is_one_table(read, names, says):
    with pytest.raises(SourceUnavailable) as refused:
        read(zipped(*((name, CSV) for name in names)), "a.csv.zip")
    assert says in refused.value.message


def test_a_copy_that_does_not_fit_into_the_temporary_folder_is_a_typed_error(read):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    data = lzma.compress(CSV + b"3,c\n" * 2_000_000)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4_000_000, limits[1]))
        with pytest.raises(
            ResourceExhausted, match=r"No space is left in /.* for a copy of a\.csv"
        ):
            read(data, "a.csv.xz")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize(
    ("place", "value"), [(8, 1), (8, 32), (10, 99)], ids=["key", "patch", "method"]
)
def test_an_archive_that_cannot_be_unpacked_is_refused(read, place, value):
    """With a flag or a method in its directory that Python's reader does not know."""
    archive = bytearray(zipped(("a.csv", CSV)))
    for entry in (archive.rfind(b"PK\x01\x02") + place, place - 2):
        archive[entry] = value
    with pytest.raises(SourceUnavailable, match="is encrypted, or packed in a way"):
        read(bytes(archive), "a.csv.zip")


def test_whole_texts_are_rows(ws, tmp_path):
    (tmp_path / "kb/in").mkdir(parents=True)
    (tmp_path / "kb/one.md").write_text("# one")
    (tmp_path / "kb/in/two.md").write_text("# two\n")
    ws.sources.add("kb", tmp_path / "kb")
    assert ws.sql("SELECT name, text FROM kb ORDER BY name").fetchall() == [
        ("in/two.md", "# two\n"),
        ("one.md", "# one"),
    ]
    (tmp_path / "kb/table.csv").write_text("a\n1\n")
    ws.sources.add("kb", tmp_path / "kb", replace=True)  # a README beside data is none of them
    assert ws.sql("FROM kb").fetchall() == [(1,)]


@pytest.mark.parametrize(
    ("data", "options", "says", "hint"),
    cases("sources/text_refused", "data", "options", "says", "hint"),
)
def test_what_cannot_be_read_is_refused_with_its_place_and_an_option_that_helps(
    read, data, options, says, hint
):
    with pytest.raises(SourceUnavailable) as refused:
        read(data, **options)
    assert refused.value.message.startswith(("a.csv", "The option")) and says in str(refused.value)
    assert hint in refused.value.hint


@pytest.mark.parametrize(
    ("data", "note"),
    [
        ('n,v\n0,"1.234,50"\n1,"9,95"\n', r"v: text, because .*decimal_separator"),
        ("n,v\n0,31/12/2024\n1,01/02/2024\n", r"v: text, because .*%d/%m/%Y"),
        ("n,v\n0,01010\n1,94110\n", "v: text, because .*begins with 0"),
        ("n,v\n0,1\n1,n/a\n", "v: text, because .*nullstr"),
        ("n,v\n0,0.1234567890123456789\n", "v: text, because .*not exact"),
        ("1,2.5\n2,3.5\n", r"heading: none, as all .* are values; options=\{'header'"),
        ("alice,3\nbob,4\n", 'heading: the first line, although "3" could be a value; '),
        ('n,v\n1,"1,500"\n', r".*'thousands': '\.'\} or options=\{'thousands': ','\}"),
        ("n,v\n1,03/04/2024\n", r".*'%d/%m/%Y'\} or options=\{'dateformat': '%m/%d/%Y'\}"),
    ],
)
def test_what_was_decided_is_told_with_what_else_it_could_be(ws, read, data, note):
    read(data)
    [told] = ws.sources["a"].notes
    assert re.match(note, told)
    assert told[:20] in str(ws.sources["a"])


def test_a_heading_that_is_not_utf8_and_a_file_of_blank_lines_are_refused(read):
    with pytest.raises(SourceUnavailable, match=r"a\.csv, line 1 is not UTF-8"):
        read("é,ü\n1,2\n".encode("latin-1"))
    with pytest.raises(SourceUnavailable, match=r"a\.csv is empty"):
        read("\n\n")


def test_the_first_look_shows_columns_three_rows_and_what_was_decided(ws, tmp_path):
    lines = "".join(f"{n},0{n}{n}\n" for n in range(1, 9))
    (tmp_path / "a.csv").write_text(f"id,zip\n{lines}")
    shown = [
        " ".join(line.split()) for line in str(ws.sources.add("a", tmp_path / "a.csv")).split("\n")
    ]
    assert "columns id bigint, zip varchar" in shown
    assert 'note zip: text, because "011" begins with 0' in shown
    assert shown[-4:] == ["1 011", "2 022", "3 033", "first 3 rows"]


# -- folders ---------------------------------------------------------------------------------------


def folder(ws, tmp_path, files, **options):
    for name, text in files.items():
        path = tmp_path / "d" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    ws.sources.add("a", tmp_path / "d", options=options, replace=True)
    return ws.sql("FROM a").fetchall()


@pytest.mark.parametrize(
    ("files", "rows"),
    [
        (
            {"1.csv": "a,b\n1,\n", "2.csv": "a,b\n2.5,2024-01-02\n"},
            [(1.0, None), (2.5, date(2024, 1, 2))],
        ),
        (
            {"1.csv": "a,b\n1,x\n", "2.csv": "B,A\ny,2\n", "3.csv": "a,b\n3,z\n"},
            [(1, "x"), (2, "y"), (3, "z")],
        ),
    ],
    ids=["one decision over all files", "names in any order"],
)
def test_files_of_a_folder_are_one_table(ws, tmp_path, files, rows):
    assert folder(ws, tmp_path, files) == rows


@pytest.mark.parametrize("second", ["3,4\n", "a,c\n"])
def test_the_only_line_of_a_file_is_checked_like_any_heading(ws, tmp_path, second):
    with pytest.raises(SourceUnavailable, match=r"2\.csv"):
        folder(ws, tmp_path, {"1.csv": "a,b\n1,2\n", "2.csv": second})


def test_folders_of_unequal_depth_or_with_a_key_that_is_a_column_are_refused(ws, tmp_path):
    with pytest.raises(SourceUnavailable, match="other key=value folders"):
        folder(ws, tmp_path, {"k=1/1.csv": "a\n1\n", "2.csv": "a\n2\n"})
    (tmp_path / "d/2.csv").unlink()
    with pytest.raises(SourceUnavailable, match="in a folder"):
        folder(ws, tmp_path, {"k=1/1.csv": "K\n1\n"})


@pytest.mark.parametrize(
    ("name", "text", "hint"),
    [
        ("x.psv", "a|b\n1|2\n", '"delim": "|"'),
        ("x.txt", "a b\n1 2\n", '"delim": " "'),
        ("x.csv", "a,b\n'x, y',1\n", '"quote": "\'"'),
    ],
)
def test_the_option_that_a_hint_names_reads_the_file(ws, tmp_path, name, text, hint):
    (tmp_path / name).write_text(text)
    with pytest.raises(SourceUnavailable) as caught:
        ws.sources.add("x", tmp_path / name)
    assert hint in caught.value.hint
    [option] = [json.loads(f"{{{hint.replace(chr(92), '')}}}")]
    ws.sources.add("x", tmp_path / name, options=option)
    assert ws.sql("SELECT count(*), count(a), count(b) FROM x").fetchall() == [(1, 1, 1)]


def test_compressed_files_keep_the_columns_of_their_folders(ws, tmp_path):
    (tmp_path / "d/k=x").mkdir(parents=True)
    (tmp_path / "d/k=x/1.csv.bz2").write_bytes(bz2.compress(b"a\n1\n"))
    assert folder(ws, tmp_path, {"k=y/2.csv": "a\n2\n"}) == [(1, "x"), (2, "y")]


def test_a_list_of_files_is_one_table(ws, tmp_path):
    for name, row in (("a", 1), ("b", 2), ("c", 3)):
        (tmp_path / f"{name}.csv").write_text(f"id\n{row}\n")
    source = ws.sources.add("picked", [tmp_path / "c.csv", tmp_path / "a.csv"])
    assert ws.sql("FROM picked").fetchall() == [(1,), (3,)]
    assert "files=['a.csv', 'c.csv']" in str(source)
    (tmp_path / "c.csv").unlink()
    with pytest.raises(SourceUnavailable, match=r"c\.csv"):
        ws.sql("FROM picked").fetchall()


# -- JSON ------------------------------------------------------------------------------------------


def test_a_long_number_of_json_is_found_between_two_blocks(read):
    filler = '{"a": 1}\n' * 116_508  # 28 bytes less than a block
    with pytest.raises(SourceUnavailable, match=r"line 116509: column 'b' contains 0\.12345"):
        read(filler + '{"b":  0.1234567890123456789}\n', "a.ndjson", types={"b": "VARCHAR"})


@pytest.mark.parametrize(
    ("data", "kind", "named"),
    [
        ('{"v": 1}\n{"v": 0.12345678901234567891}', "DECIMAL(25,20)", "line 2: column 'v'"),
        ('{"v": -123456789012345678.5, "w": 2}', "VARCHAR", "only -1.2345678901234568e.17 would"),
        ('{"\\u0056": 0.1234567890123456789e1}', "DECIMAL(25,20)", "column 'v' contains 0.12345"),
        ('{"v": 0.1234567890123456789e-9}', "JSON", r'options={"types": {"v": "DOUBLE"}}'),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_number_of_json_that_a_declared_type_would_hold_rounded_is_refused(
    read, data, kind, named, encoding
):
    with pytest.raises(SourceUnavailable, match=named):
        read(data.encode(encoding), "a.ndjson", types={"v": kind})
    assert read(data.encode(encoding), "b.ndjson", types={"v": "DOUBLE"})[0][0] == "DOUBLE"


@pytest.mark.parametrize(
    ("values", "kind", "read_as"),
    cases("sources/json_columns", "values", "kind", "read_as"),
)
@pytest.mark.parametrize("name", ["a.json", "a.ndjson"])
@pytest.mark.parametrize("keys", ["nv", "Vv", ["v_1", "v"], ["C0", "v"], ["", "v"], ["json"], []])
def test_types_of_json(read, name, keys, values, kind, read_as):
    """Also where DuckDB makes another name of a key, where a key looks like one that it made, and
    of values that are no records."""
    records = [dict(zip(keys, (value, value), strict=False)) or value for value in values]
    text = json.dumps(records)
    if name == "a.ndjson":
        text = "".join(json.dumps(record) + "\r\n" for record in records)
    if not keys and re.search(r"\d{20}", text):
        return  # DuckDB takes such a number for several
    types, rows = read(text, name)
    assert (types[-1], plain([row[-1] for row in rows])) == (kind, read_as)


def test_keys_that_differ_by_case_beside_one_with_a_number_are_refused(read):
    with pytest.raises(SourceUnavailable, match=r"a\.json has keys that differ only by case, and"):
        read('[{"A":1,"a":2,"a_1":"x"}]', "a.json")


@pytest.mark.parametrize(
    ("part", "data", "columns", "values"),
    [
        ("json=1", '{"a":1.5,"A":2.5}', "a, A_1, json", (1.5, 2.5, 1)),
        ("v=1", '{"a":1.5,"A":2.5,"v":3}', "a, A_1, v", (1.5, 2.5, 1)),
        ("v=1", '{"v":3,"V":2.5}', "v, V_1", (1, 2.5)),
        ("b=1", '{"b":3,"":2.5}', "b, C1", (1, 2.5)),
        ("é=1", '{"a":1.5,"A":2.5,"É":3}', "a, A_1", (1.5, 2.5)),
    ],
)
def test_a_folder_hides_a_key_of_its_name_alone(ws, tmp_path, part, data, columns, values):
    (tmp_path / part).mkdir()
    (tmp_path / part / "a.ndjson").write_text(data)
    ws.sources.add("s", str(tmp_path / "*=1" / "a.ndjson"))
    assert ws.sql(f"SELECT {columns} FROM s").fetchall() == [values]


def test_a_file_of_which_folders_hide_all_keys_is_refused(ws, tmp_path):
    (tmp_path / "v=1").mkdir()
    (tmp_path / "v=1" / "a.ndjson").write_text('{"v":3}')
    with pytest.raises(SourceUnavailable, match="no key that is not the name of a folder"):
        ws.sources.add("s", str(tmp_path / "*=1" / "a.ndjson"))


def test_a_key_that_comes_late_is_a_column(read):
    lines = "".join(f'{{"a": {n}}}\n' for n in range(30_000))
    types, rows = read(lines + '{"a": 1, "late": "x"}\n', "a.ndjson")
    assert types == ["BIGINT", "VARCHAR"] and rows[-1] == (1, "x")


def test_a_value_that_does_not_fit_is_told_with_its_file_and_record(ws, tmp_path):
    files = {"0.json": '[{"w": 3}]', "1.json": '[{"v": 1}]', "2.json": '[{"v": 2},\n\n{"v": 2.5}]'}
    with pytest.raises(SourceUnavailable, match=r"2\.json, record 2: column 'v' contains '2.5'"):
        folder(ws, tmp_path, files, types={"v": "BIGINT"})


def test_values_of_several_kinds_are_json_and_the_option_of_the_note_reads_text(read, ws):
    data = '[{"a": 1, "n": null}, {"a": "x"}, {"a": {"b": 1}}]'
    assert read(data, "a.json")[0] == ["JSON", "JSON"]
    [note] = ws.sources["a"].notes
    assert note.startswith("a: JSON, because it has values of several kinds")
    assert "options={'types': {'a': 'VARCHAR'}}" in note
    rows = read(data, "a.json", types={"a": "VARCHAR"})[1]
    assert [row[0] for row in rows] == ["1", "x", '{"b":1}']


def test_records_of_many_different_keys_are_columns(read):
    """Events of many kinds; beyond 200 keys DuckDB would make one value of each record."""
    kinds = 21
    records = [
        {"id": n, **{f"k{n % kinds}_{m}": f"v{n}" for m in range(10)}} for n in range(2 * kinds)
    ]
    types, rows = read("\n".join(map(json.dumps, records)), "a.ndjson")
    assert types == ["BIGINT", *["VARCHAR"] * (10 * kinds)]
    assert rows[kinds + 1][:22] == (kinds + 1, *[None] * 10, *[f"v{kinds + 1}"] * 10, None)


@pytest.mark.parametrize(
    ("values", "kind", "read_as"),
    cases("sources/json_nested", "values", "kind", "read_as"),
)
def test_nested_values_of_json_are_what_they_are(read, values, kind, read_as):
    """Where `read_as` is None, the JSON itself."""
    for beside in ('"n":1,"v"', '"v_1":1,"v"', '"V":1,"v"', '"json"'):
        line = f"{{{{{beside}:{{}}}}}}\n"
        types, rows = read("".join(map(line.format, values)), "a.ndjson")
        expected = values if read_as is None else read_as
        assert (types[-1], plain([row[-1] for row in rows])) == (kind, expected), line


@pytest.mark.parametrize(
    "data",
    [
        '[{"a":{"X":1,"x":2}}]',
        '[{"a":{"x":1,"x":2}}]',
        '[{"a":1,"a":2,"A":3}]',
        '[{"":{"x":1,"x":2}}]',
    ],
)
def test_equal_keys_of_an_object_are_refused_without_advice_that_is_impossible(read, data):
    with pytest.raises(SourceUnavailable, match=r"a\.json.*twice") as refused:
        read(data, "a.json")
    assert "ignore_errors" not in str(refused.value)


# -- options ---------------------------------------------------------------------------------------


def test_a_wrong_option_is_named_with_the_near_one(ws, tmp_path):
    (tmp_path / "a.csv").write_text("a\n1\n")
    with pytest.raises(InvalidArgument) as refused:
        ws.sources.add("a", tmp_path / "a.csv", options={"decimal_seperator": ","})
    assert refused.value.near[0] == "decimal_separator"
    with pytest.raises(JammiError) as refused:
        ws.sql(f"SELECT * FROM read_csv('{tmp_path}/a.csv', date_format = '%d')")
    assert refused.value.near[:1] == ("dateformat",)


@pytest.mark.parametrize("name", ["dateformat", "timestampformat"])
@pytest.mark.parametrize("given", ["%d.%m", "DD.MM.YYYY"])
def test_a_format_without_a_year_is_refused(read, name, given):
    with pytest.raises(InvalidArgument, match=f"'{name}' cannot be '{given}'.\n.* year"):
        read("a,d\n1,31.12\n", **{name: given})


def test_options_in_a_statement_are_those_of_a_source(ws, tmp_path):
    (tmp_path / "a.csv").write_text("x\na;p;d\n1;1.234,5;-\n2;7;31.12.2024\n")
    text = (
        f"SELECT * FROM read_csv('{tmp_path}/a.csv', skip = 1, decimal_separator = ',', "
        "thousands = '.', nullstr = ['-', 'NA'], dateformat = '%d.%m.%Y', types = {'a': 'SMALLINT'})"
    )
    assert ws.sql(text).fetchall() == [(1, 1234.5, None), (2, 7.0, date(2024, 12, 31))]
    table = ws.materialize("t", text)
    assert is_fresh(ws, table)
    (tmp_path / "a.csv").write_text("x\na;p;d\n1;1;-\n")
    assert is_stale(ws, table)
    ws.recompute()
    assert ws.sql("FROM jammi.t").fetchall() == [(1, 1, None)]


def test_options_are_part_of_the_state(ws, tmp_path):
    (tmp_path / "a.csv").write_text("v\nNA\nx\n")
    ws.sources.add("a", tmp_path / "a.csv")
    table = ws.materialize("t", "SELECT v FROM a")
    options = {"nullstr": "NA"}  # which leaves the columns as they are
    ws.sources.add("a", tmp_path / "a.csv", options=options, replace=True)
    assert is_stale(ws, table)
    assert "nullstr='NA'" in str(ws.sources["a"])
    ws.recompute()
    assert ws.sql("FROM jammi.t").fetchall() == [(None,), ("x",)]


OPTION_PAIRS = cases(
    "sources/reader_options", "kind", "data", "first", "then", "columns", "rows", "says"
)


def written(folder, kind, data, encoding):
    """Where the data are, written as one file or as those of a folder."""
    path = folder / f"a.{kind}"
    if kind == "xlsx":
        workbook(path, **data)
        return path
    if isinstance(data, str):
        path.write_bytes(data.encode(encoding))
        return path
    (folder / "d").mkdir()
    for name, content in data.items():
        if kind == "parquet":
            pq.write_table(pa.table(content), folder / "d" / f"{name}.parquet")
        else:
            (folder / "d" / f"{name}.{kind}").write_text(content)
    return folder / "d"


@pytest.mark.parametrize(("kind", "data", "first", "then", "columns", "rows", "says"), OPTION_PAIRS)
def test_what_was_decided_with_one_option_is_not_read_with_another(
    ws, tmp_path, monkeypatch, kind, data, first, then, columns, rows, says
):
    monkeypatch.setattr("jammi_lab.sources.files.decisions.CLOCK_SECONDS", -1.0)
    path = written(tmp_path, kind, data, first.get("encoding", "utf-8"))
    ws.sources.add("a", path, options=first)
    ws.sql("FROM a").fetchall()
    if says is not None:
        with pytest.raises(SourceUnavailable, match=says):
            ws.sources.add("b", path, options=then)
        return
    source = ws.sources.add("b", path, options=then)
    assert {column.name: column.type for column in source.columns()} == columns
    assert plain(ws.sql("FROM b").fetchall()) == rows


def test_every_option_of_a_reader_has_such_a_case():
    tried = {
        (kind, option)
        for kind, _, first, then, *_ in OPTION_PAIRS
        for option in first | then
        if first.get(option) != then.get(option)
    }
    kinds = ("csv", "json", "parquet", "xlsx")
    known = {(kind, option) for kind in kinds for option in OPTIONS[kind]}
    assert tried == known - {("json", "union_by_name")}  # which records do not need


def test_an_export_is_read_back_equal(ws, tmp_path):
    rows = [(1, "", None), (2, None, "NULL"), (3, 'a "q"\n,', "é")]
    ws.sources.add(
        "rows",
        pa.table(dict(zip(("id", "s", "t"), map(list, zip(*rows, strict=True)), strict=True))),
    )
    ws.materialize("m", "FROM rows").export(str(tmp_path / "o.csv"))
    ws.sources.add("o", tmp_path / "o.csv")
    assert ws.sql("FROM o ORDER BY id").fetchall() == rows


def test_files_without_a_heading_are_told_the_option_that_reads_them(ws, tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "0.csv").write_text("1,a\n2,b\n")
    (tmp_path / "d" / "1.csv").write_text("3,c\n")
    with pytest.raises(SourceUnavailable, match="do not have the same columns") as caught:
        ws.sources.add("d", tmp_path / "d")
    assert 'no heading: options={"header": False}' in str(caught.value.hint)
    ws.sources.add("d", tmp_path / "d", options={"header": False})
    assert ws.sql("FROM d").fetchall() == [(1, "a"), (2, "b"), (3, "c")]


def test_parquet_without_columns_is_refused(ws, tmp_path):
    pq.write_table(pa.table({}), tmp_path / "a.parquet")
    with pytest.raises(SourceUnavailable, match=r"a\.parquet has no columns"):
        ws.sources.add("a", tmp_path / "a.parquet")


@pytest.mark.parametrize(
    ("values", "kind"),
    cases("sources/folder_values", "values", "kind"),
)
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_value_of_a_folder_has_one_meaning_in_files_of_any_kind(
    ws, tmp_path, suffix, values, kind
):
    for number, value in enumerate(values):
        (tmp_path / "d" / f"k={value}").mkdir(parents=True)
        path = tmp_path / "d" / f"k={value}" / f"0.{suffix}"
        if suffix == "csv":
            path.write_text(f"v\n{number}\n")
        else:
            pq.write_table(pa.table({"v": [number]}), path)
    source = ws.sources.add("d", tmp_path / "d")
    assert {column.name: column.type for column in source.columns()}["k"] == kind
    assert ws.sql("SELECT k::VARCHAR FROM d ORDER BY v").fetchall() == [(each,) for each in values]


def test_a_folder_of_the_missing_key_leaves_the_others_numbers(ws, tmp_path):
    for key in ("1", "__HIVE_DEFAULT_PARTITION__"):
        (tmp_path / "d" / f"k={key}").mkdir(parents=True)
        (tmp_path / "d" / f"k={key}" / "0.csv").write_text("v\n5\n")
    ws.sources.add("d", tmp_path / "d")
    assert sorted(ws.sql("SELECT k, v FROM d").fetchall(), key=str) == [(1, 5), (None, 5)]


def test_names_lines_above_and_a_changed_copy(ws, read, tmp_path):
    assert read("top\na,b\n1,2\n", skip=1, names=["x"])[1] == [(1, 2)]
    assert [column.name for column in ws.sources["a"].columns()] == ["x", "b"]
    for letter in "üö":
        text = f"a,b\n1,{letter}\n".encode("cp1252")
        assert read(text, encoding="cp1252")[1] == [(1, letter)]

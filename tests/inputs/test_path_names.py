"""Files that a statement names by their path."""

import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jammi_lab as jl
from jammi_lab.core.errors import JammiError, SourceUnavailable, StatementNotAllowed
from jammi_lab.core.records import SourceRecord
from jammi_lab.core.verdicts import Fresh, Stale
from jammi_lab.inputs.path_names import name_of, record_of
from tests.cases import cases, plain


@pytest.fixture
def data(tmp_path, monkeypatch):
    folder = tmp_path / "data"
    folder.mkdir()
    pq.write_table(pa.table({"id": [1, 2], "name": ["a", "b"]}), folder / "x.parquet")
    (folder / "x.csv").write_text("id;name\n1;a\n2;NA\n")
    (folder / "x.json").write_text('[{"id": 1}, {"id": 2}]')
    (folder / "x.ndjson").write_text('{"id": 1}\n{"id": 2}\n')
    monkeypatch.chdir(tmp_path)
    return folder


READ = cases("statements/paths", "sql", "rows")


def test_a_path_is_read_where_no_tenant_is_bound(ws, data):
    for sql, rows in READ:
        assert plain(ws.sql(sql).fetchall()) == rows


def test_no_path_is_read_under_a_tenant(ws, data):
    for sql, _ in READ:
        with ws.tenant("acme"), pytest.raises(StatementNotAllowed) as error:
            ws.sql(sql)
        assert "ws.sources.add" in str(error.value)


@pytest.mark.parametrize(
    "sql",
    """read_text('data/x.csv') ¦ read_blob('data/x.csv') ¦ glob('data/*') ¦ parquet_scan('data/x.parquet') ¦ parquet_metadata('data/x.parquet')
    ¦ read_csv_auto('data/x.csv') ¦ read_json_auto('data/x.json') ¦ read_ndjson('data/x.ndjson') ¦ sniff_csv('data/x.csv') ¦ sqlite_scan('x.db', 't')
    ¦ postgres_scan('host=h', 'public', 't') ¦ mysql_query('m', 'select 1') ¦ delta_scan('data') ¦ iceberg_scan('data') ¦ read_xlsx('x.xlsx')
    ¦ read_parquet(['data/x.parquet']) ¦ read_parquet($p) ¦ read_parquet('data/' || 'x.parquet') ¦ read_parquet(getenv('HOME'))
    ¦ read_csv('data/x.csv', store_rejects=true) ¦ read_csv('data/x.csv', delim=$p) ¦ read_csv('data/x.csv', ';') ¦ read_csv(header=true)
    ¦ read_parquet('data/x.parquet', hive_partitioning=true) ¦ read_csv('data/x.csv', delim=(SELECT ';')) ¦ main.read_parquet('data/x.parquet')
    ¦ 's3://bucket/x.parquet' ¦ 'https://host/x.csv' ¦ read_csv('https://me:hunter2@host/x.csv') ¦ 'data/x.db' ¦ 'data/x.duckdb'
    ¦ 'x.xlsx'""".split("¦"),
)
def test_every_other_file_function_and_address_is_refused_and_shows_what_to_do(ws, data, sql):
    with pytest.raises(StatementNotAllowed) as error:
        ws.sql(f"SELECT * FROM {sql.strip()}", {"p": "data/x.parquet"} if "$p" in sql else None)
    assert "ws.sources.add" in str(error.value) or "main." in sql
    assert "hunter2" not in str(error.value) + repr(error.value) + str(vars(error.value))


def test_a_registered_name_wins_over_a_path(ws, data):
    ws.sources.add("x.csv", data / "x.parquet")
    os.chdir(data)
    assert ws.sql("FROM 'x.csv'").fetchall() == [(1, "a"), (2, "b")]


def test_a_missing_file_is_said_with_near_names(ws, data):
    with pytest.raises(SourceUnavailable) as error:
        ws.sql("FROM 'data/x.pq'")
    assert "x.parquet" in error.value.near or error.value.near


def test_the_input_is_the_file_with_the_columns_read(ws, data):
    [read] = ws.sql("SELECT name FROM 'data/x.parquet'").inputs
    assert (read.kind, read.columns) == ("source", ("name",))
    assert read.name == "'../data/x.parquet'"


def test_a_table_over_paths_goes_stale_and_is_recomputed_also_after_a_restart(tmp_path, data):
    with jl.open(tmp_path / "lab") as ws:
        ws.materialize("p", "SELECT id FROM 'data/x.parquet'")
        ws.materialize("c", "FROM read_csv('data/x.csv', delim=';')")
        assert ws.staleness("p") == ws.staleness("c") == Fresh()
        pq.write_table(pa.table({"id": [1, 2], "name": ["a", "Z"]}), data / "x.parquet")
        assert ws.staleness("p") == Fresh(), "a column that is not read"
    with jl.open(tmp_path / "lab") as ws:
        assert ws.staleness("c") == Fresh()
        pq.write_table(pa.table({"id": [1, 2, 3], "name": ["a", "Z", "c"]}), data / "x.parquet")
        (data / "x.csv").write_text("id;name\n1;Z\n")
        assert isinstance(ws.staleness("p"), Stale) and isinstance(ws.staleness("c"), Stale)
        ws.recompute()
        assert ws.staleness("p") == ws.staleness("c") == Fresh()
        assert (ws.table("p").row_count, ws.table("c").row_count) == (3, 1)
        (data / "x.csv").unlink()
        assert "gone" in str(ws.staleness("c"))


def test_options_are_part_of_what_is_read(ws, data):
    (data / "x.csv").write_text("1;a\n2;b\n")
    one = ws.materialize("one", "FROM read_csv('data/x.csv', header=true)")
    two = ws.materialize("two", "FROM read_csv('data/x.csv', header=false)")
    assert (one.row_count, two.row_count) == (1, 2) and one.definition_hash != two.definition_hash


def test_the_workspace_s_own_files_are_refused_by_whatever_way(ws, tmp_path, data, monkeypatch):
    with ws.tenant("acme"):
        path = str(ws.materialize("t", "SELECT 1 AS x").path)
    os.symlink(path, data / "link.parquet")
    os.symlink(os.path.dirname(path), data / "folder")
    (tmp_path / "lab" / "models").mkdir(exist_ok=True)
    (tmp_path / "lab" / "models" / "m.csv").write_text("a\n1\n")
    for way in (
        path,
        "lab/results/acme/*.parquet",
        "lab/results/**/*.parquet",
        "data/../lab/results/acme/*.parquet",
        "data/link.parquet",
        "data/folder/*.parquet",
        "lab/models/m.csv",
        "lab/models/",
    ):
        for statement in (f"FROM '{way}'", f"FROM read_parquet('{way}')"):
            with pytest.raises(JammiError) as error:
                ws.sql(statement)
            assert isinstance(error.value, StatementNotAllowed), (statement, error.value)
        for check in (True, False):
            if check or "*" not in way or "folder" not in way:
                with pytest.raises(JammiError, match="belongs to the workspace itself"):
                    ws.sources.add("own", way, check=check, kind="parquet")
    assert "own" not in ws.sources


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)


@given(
    TEXTS.filter(str.strip),
    st.fixed_dictionaries(
        {}, optional={"delimiter": TEXTS, "header": st.booleans(), "null": TEXTS}
    ),
    st.sampled_from(["csv", "parquet", "ndjson", "tsv"]),
)
def test_a_name_leads_back_to_the_very_source(location, options, kind):
    record = SourceRecord(
        name="", kind=kind, location="/" + location, options=options if kind == "csv" else {}
    )
    named = name_of(record)
    assert record_of(named) == SourceRecord(
        name=named, kind=record.kind, location=record.location, options=record.options
    )


@pytest.mark.parametrize(
    "name",
    [
        "papers",
        "'x'",
        "read_x('a.csv')",
        "'a.csv' x",
        "'s3://b/x.csv'",
        "'a' '.csv'",
        "read_csv('x', skip={1})",
        "read_csv('x', skip={[]: 1})",
        "read_csv('x', skip=b'1')",
        "read_csv('x', **{'skip': 1})",
        pytest.param(f"read_csv('x', skip={'-' * 100_000}1)", id="many signs"),
        pytest.param(f"read_csv('x', skip={'1+' * 100_000}1)", id="a long sum"),
        "read_csv('a.csv', delimiter=$p)",
        "",
        "'a.csv''",
    ],
)
def test_other_names_are_no_paths(name):
    assert record_of(name) is None


@pytest.mark.parametrize(
    "sql",
    [
        *(sql for sql, _ in READ),
        "SELECT \"data/x.csv\".* FROM 'data/x.csv'",
        "SELECT 'data/x.csv' AS p, \"data/x.csv\" FROM 'data/x.csv' -- 'data/x.csv'",
        "/* é */ SELECT 'é', id FROM read_csv /* ' */ ( 'data/x.csv' , delim = ';' ) ;",
        'WITH "data/x.json" AS (FROM \'data/x.csv\') FROM "data/x.json"',
        "PIVOT 'data/x.parquet' ON name IN ('a', 'b') USING sum(id)",
        'FROM "Data/../data/x.parquet" TABLESAMPLE 100%',
    ],
)
def test_a_path_is_bound_once_to_the_directory_of_its_definition(ws, data, tmp_path, sql):
    if "Data/" in sql:
        (data.parent / "Data").mkdir()
    first = ws.materialize("t", sql)
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "data").mkdir(parents=True)
    os.chdir(elsewhere)
    recipe = ws.recipes()["t"]
    assert recipe.definition_hash == first.definition_hash
    again = ws.recompute("t")
    assert [step.outcome for step in again.steps] in ([], ["computed"])
    assert ws.table("t").definition_hash == first.definition_hash
    assert ws.table("t").arrow() == first.arrow()
    rerun = ws.materialize("t", recipe.definition)
    assert rerun.definition_hash == first.definition_hash


def test_recompute_reads_the_file_that_the_verdict_is_about(ws, data, tmp_path):
    ws.materialize("t", "FROM read_csv('data/x.csv', delim=';')")
    ws.compute("p", _rows_of, inputs=["data/x.csv"], version="1")
    ws.materialize("g", "FROM 'data/*.csv'")
    (data / "x.csv").write_text("id;name\n7;z\n")
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "data").mkdir(parents=True)
    (elsewhere / "data" / "x.csv").write_text("id;name\n99;wrong\n")
    os.chdir(elsewhere)
    assert all(isinstance(row.verdict, Stale) for row in ws.status())
    ws.recompute()
    assert all(str(row.verdict).startswith("fresh") for row in ws.status())
    assert ws.table("t").arrow().to_pylist() == [{"id": 7, "name": "z"}]
    for name in ("p", "g"):
        assert "wrong" not in str(ws.table(name).arrow())


def _rows_of(rows):
    return rows.arrow()


def test_a_path_inside_the_workspace_moves_with_it(tmp_path):
    with jl.open(tmp_path / "lab") as ws:
        (tmp_path / "lab" / "data").mkdir()
        (tmp_path / "lab" / "data" / "x.csv").write_text("id\n1\n")
        ws.materialize("t", f"FROM '{tmp_path}/lab/data/x.csv'")
        ws.materialize("q", f"SELECT id FROM read_csv('{tmp_path}/lab/data/x.csv')")
    (tmp_path / "lab").rename(tmp_path / "moved")
    with jl.open(tmp_path / "moved") as ws:
        assert "fresh" in str(ws.staleness("t"))
        (tmp_path / "moved" / "data" / "x.csv").write_text("id\n1\n2\n")
        ws.recompute()
        assert [ws.table(name).row_count for name in ("t", "q")] == [2, 2]
        assert "fresh" in str(ws.staleness("t")) and "fresh" in str(ws.staleness("q"))


def test_a_bound_name_with_wildcards_matches_no_other_file_later(ws, data):
    (data / "x[1].csv").write_text("id\n1\n")
    (data / "x1.csv").write_text("id\n99\n")
    ws.materialize("t", "FROM 'data/x[1].csv'")
    (data / "x[1].csv").unlink()
    assert "gone" in str(ws.staleness("t"))
    assert [step.outcome for step in ws.recompute().steps] == ["blocked"]
    assert ws.table("t").arrow().to_pylist() == [{"id": 1}]

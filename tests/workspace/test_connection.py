"""The DB-API connection of a workspace: what tools that read SQL ask of it, and the verdict as a
warning."""

import warnings

import pandas as pd
import pytest

import jammi_lab as jl


@pytest.fixture
def lab(ws, tmp_path):
    (tmp_path / "papers.csv").write_text("id,year\n1,2019\n2,2020\n")
    ws.sources.add("papers", str(tmp_path / "papers.csv"))
    ws.materialize("late", "SELECT * FROM papers")
    return ws


def test_a_cursor_hands_out_the_rows_of_a_statement(lab):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the table is fresh
        cursor = lab.connection().cursor().execute("FROM jammi.late ORDER BY id")
    assert [column[:2] for column in cursor.description] == [("id", "BIGINT"), ("year", "BIGINT")]
    assert cursor.fetchone() == (1, 2019) and cursor.fetchmany() == [(2, 2020)]
    assert cursor.fetchone() is None and cursor.fetchall() == []
    cursor.execute("SELECT $x AS x", {"x": 7})
    assert list(cursor) == [(7,)]
    cursor.execute("SELECT 1")
    cursor.close()
    assert cursor.fetchall() == []


def test_pandas_reads_through_it_and_the_verdict_is_a_warning(lab, tmp_path):
    (tmp_path / "papers.csv").write_text("id,year\n1,2019\n2,2020\n3,2021\n")
    with pytest.warns(RuntimeWarning, match="late is stale: papers changed, 2 → 3 rows"):
        frame = pd.read_sql(
            "SELECT * FROM jammi.late WHERE year > $y", lab.connection(), params={"y": 2019}
        )
    assert frame.to_dict("list") == {"id": [2], "year": [2020]}


def test_it_writes_nothing_and_leaves_the_workspace_open(lab):
    connection = lab.connection()
    cursor = connection.cursor()
    for statement in ("DELETE FROM jammi.late", "CREATE TABLE t (a INTEGER)"):
        with pytest.raises(jl.StatementNotAllowed):
            cursor.execute(statement)
    with pytest.raises(jl.InvalidArgument, match="bound by name"):
        cursor.execute("SELECT 1", [1])
    connection.commit()
    connection.rollback()
    connection.close()
    assert lab.sql("SELECT count(*) FROM jammi.late").fetchall() == [(2,)]


def test_a_mutable_table_cannot_be_changed_through_it(ws):
    ws.mutable.create("notes", {"k": "BIGINT", "t": "VARCHAR"}, primary_key=["k"])
    ws.sql("INSERT INTO mutable.notes VALUES (1, 'a')")
    with pytest.raises(jl.StatementNotAllowed):
        ws.connection().cursor().execute("INSERT INTO mutable.notes VALUES (2, 'b')")
    assert ws.connection().cursor().execute("FROM mutable.notes").fetchall() == [(1, "a")]


# The tests below run where the package is installed; only SQLAlchemy comes with the tests' own.


def test_sqlalchemy_runs_a_text(lab):
    sqlalchemy = pytest.importorskip("sqlalchemy")
    dialects = sqlalchemy.dialects.registry
    dialects.register("jammi", "sqlalchemy.engine.default", "DefaultDialect")
    connection = lab.connection()
    engine = sqlalchemy.create_engine("jammi://", creator=lab.connection, module=connection)
    with engine.connect() as opened:
        rows = opened.execute(sqlalchemy.text("FROM jammi.late WHERE year < 2020")).fetchall()
    engine.dispose()
    assert rows == [(1, 2019)]


def test_marimo_takes_it_for_an_engine(lab, tmp_path):
    marimo = pytest.importorskip("marimo", reason="marimo is not installed")
    query = "SELECT id FROM jammi.late ORDER BY id"
    (tmp_path / "papers.csv").write_text("id,year\n1,2019\n3,2020\n")
    with pytest.warns(RuntimeWarning, match="late is stale"):
        frame = marimo.sql(query, engine=lab.connection(), output=False)
    assert frame.to_dict(as_series=False) == {"id": [1, 2]}


def test_ibis_takes_the_rows_of_a_table(lab):
    ibis = pytest.importorskip("ibis", reason="ibis-framework is not installed")
    late = ibis.memtable(lab.table("late"))
    assert late.filter(late.year > 2019).execute().to_dict("list") == {"id": [2], "year": [2020]}

"""Sources whose rows say in a column whose they are."""

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from jammi_lab.core.anchors import Cost, Snapshot, Unknown
from jammi_lab.core.errors import InvalidArgument
from jammi_lab.core.records import SourceRecord
from jammi_lab.core.verdicts import Stale
from jammi_lab.sources.files.connector import FileConnector
from jammi_lab.sources.row_security import METHOD, TenantFilteredConnector, predicate
from jammi_lab.storage.arrow_digests import RunningDigests, arrow_digests
from tests.contracts.source import DictMemo, observed
from tests.sources.kinds import Delta, Sqlite
from tests.verdicts import doubt, is_fresh

ROWS = [(1, "acme", "a"), (2, "globex", "b"), (3, None, "c"), (4, "Acme", "d")]


def table(rows, column="owner"):
    return pa.table(
        {
            "id": [r[0] for r in rows],
            column: pa.array([r[1] for r in rows], pa.string()),
            "name": [r[2] for r in rows],
        }
    )


def view(path, tenant, column="owner", **more):
    return TenantFilteredConnector(
        FileConnector(SourceRecord(name="s", kind="parquet", location=str(path), **more)),
        column,
        tenant,
        str(path),
    )


@pytest.mark.parametrize("column", ['te"n', "a.b", "select", "it's", "ünï 😀", "x;--"])
def test_a_tenant_column_may_have_any_name(ws, tmp_path, column):
    pq.write_table(table(ROWS, column), tmp_path / "f.parquet")
    ws.sources.add("p", tmp_path / "f.parquet", tenant_column=column)
    ws.sources.add("f", table(ROWS, column), tenant_column=column)
    with ws.tenant("acme"):
        for source in "pf":
            assert ws.sql(f"SELECT id FROM {source}").fetchall() == [(1,), (3,), (4,)]
            assert ws.sources[source].preview().num_rows == 3
            assert [c.name for c in ws.sources[source].columns()] == ["id", column, "name"]


def test_no_text_of_a_statement_reaches_another_tenant_s_rows(ws, tmp_path):

    pq.write_table(table(ROWS), tmp_path / "f.parquet")
    ws.sources.add("p", tmp_path / "f.parquet", tenant_column="owner")
    with ws.tenant("acme"):
        for text in (
            "SELECT name FROM p WHERE owner = 'globex'",
            "SELECT name FROM p WHERE owner = 'globex' OR true",
            "SELECT p.name FROM p p2 FULL JOIN p ON p2.id = p.id",
            "SELECT name FROM p UNION ALL SELECT name FROM p WHERE owner IS NOT NULL OR true",
            "SELECT max(name) OVER () AS m FROM p",
        ):
            assert "b" not in [row[0] for row in ws.sql(text).fetchall()]


def test_a_column_that_a_tenant_does_not_read_moves_nothing(ws, tmp_path):
    path = tmp_path / "f.parquet"
    pq.write_table(table(ROWS), path)
    ws.sources.add("p", path, tenant_column="owner")
    with ws.tenant("acme"):
        ws.materialize("t", "SELECT id FROM p")
        assert ws.table("t").inputs[0].columns == ("id",)
        pq.write_table(table([(1, "acme", "A!"), *ROWS[1:]]), path)
        assert is_fresh(ws)
        pq.write_table(table([(5, "acme", "a"), *ROWS[1:]]), path)
        verdict = ws.staleness("t")
        assert isinstance(verdict, Stale) and verdict.reasons[0].current.method == METHOD
        pq.write_table(table(ROWS).drop_columns("owner"), path)
        assert doubt(ws)


def test_a_column_that_is_not_there_is_refused_with_near_names(ws):

    with pytest.raises(InvalidArgument, match="'ownr'") as error:
        ws.sources.add("f", table(ROWS), tenant_column="ownr")
    assert error.value.near == ("owner",) and "f" not in ws.sources


def test_of_a_database_only_tables_with_the_column_are_read(ws, tmp_path):
    import duckdb

    from jammi_lab.core.errors import JammiError

    with duckdb.connect(str(tmp_path / "d.duckdb")) as db:
        db.execute(
            "CREATE TABLE orders AS SELECT 1 AS id, 'acme' AS owner; CREATE TABLE secrets AS SELECT 'all' AS of_all"
        )
    ws.sources.add("d", tmp_path / "d.duckdb", tenant_column="owner")
    with ws.tenant("acme"):
        assert ws.sql("SELECT id FROM d.orders").fetchall() == [(1,)]
        with pytest.raises(JammiError, match="owner"):
            ws.sql("FROM d.secrets")
    with pytest.raises(InvalidArgument, match="'nobody'"):
        ws.sources.add("e", tmp_path / "d.duckdb", tenant_column="nobody")


def test_the_memo_spares_the_rows_while_the_source_does_not_move(tmp_path):
    pq.write_table(table(ROWS), tmp_path / "f.parquet")
    memo = DictMemo()
    costs = [
        observed(view(tmp_path / "f.parquet", "acme"), memo, later=True).cost for _ in range(2)
    ]
    assert costs == [Cost.SCAN, Cost.FREE]
    other = observed(view(tmp_path / "f.parquet", "globex"), memo, later=True)
    assert isinstance(other, Snapshot) and other.cost is Cost.SCAN and other.row_count == 2


def test_on_the_owner_s_word_the_method_says_so(tmp_path):
    pq.write_table(table(ROWS), tmp_path / "f.parquet")
    assert observed(view(tmp_path / "f.parquet", "acme", anchor="column:id")).method == "column:id"
    assert isinstance(observed(view(tmp_path / "f.parquet", "acme", anchor="none")), Unknown)


def test_digests_of_batches_are_those_of_the_whole():
    whole = pa.table(
        {
            "a": pa.array([1, None, 3, 4, 5], pa.int64()),
            "t": ["x", None, "", "yy", "z"],
            "l": pa.array([[1], None, [], [2, 3], [4]], pa.list_(pa.int32())),
            "b": pa.array([True, None, False, True, True]),
        }
    )
    for size in (1, 2, 3, 9):
        running = RunningDigests(whole.schema)
        for batch in whole.to_batches(max_chunksize=size):
            running.update(batch)
        assert running.digests() == arrow_digests(whole) and running.rows == 5
    assert RunningDigests(whole.schema).digests() == arrow_digests(whole.schema.empty_table())


def test_the_condition_quotes_what_it_is_given():
    assert predicate('a"b', None) == '("a""b" IS NULL)'
    assert "'o''hara'" in predicate("a", "o'hara")


def first_of(rows):
    return pa.table({"id": rows.arrow()["id"].to_pylist()[:1]})


@pytest.mark.parametrize("kind", [Sqlite(), Delta()], ids=str)
def test_what_depends_on_an_order_is_made_of_the_tenant_s_rows_in_one(ws, tmp_path, kind):
    kind.types = {"id": "INTEGER", "owner": "TEXT"}
    kind.first = {"id": [1, 2, 3], "owner": ["acme", "acme", "globex"]}
    kind.make(tmp_path, None)
    kind.add(ws, tenant_column="owner")
    statement = f"SELECT list(id) AS ids, first(id) AS id FROM {kind.address}"
    with ws.tenant("acme"):
        listed = ws.materialize("listed", statement)
        step = ws.compute("step", first_of, inputs=[kind.address])
        kind.put(pa.table(kind.first).take([1, 0, 2]))
        assert listed.manifest.order_sensitive and is_fresh(ws, "listed") and is_fresh(ws, "step")
        again = ws.materialize("listed", statement, cache="bypass")
        assert again.manifest.artifact == listed.manifest.artifact
        step_again = ws.compute("step", first_of, inputs=[kind.address], cache="bypass")
        assert step_again.manifest.artifact == step.manifest.artifact

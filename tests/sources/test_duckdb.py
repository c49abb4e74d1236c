"""DuckDB files as sources, written by DuckDB; where it matters in a process of its own, as their owner would."""

import concurrent.futures
import contextlib
import json
import subprocess
import sys

import duckdb
import pytest

import jammi_lab as jl
from jammi_lab.core.anchors import Snapshot
from jammi_lab.core.errors import SourceUnavailable, TableNotFound
from jammi_lab.core.records import SourceRecord
from jammi_lab.sources.databases import duckdb as duckdb_files
from jammi_lab.sources.databases.duckdb import DuckdbConnector
from tests import processes
from tests.cases import cases
from tests.contracts.source import DictMemo, look, same_state
from tests.sources.kinds import write_duckdb as write
from tests.sources.kinds import write_sqlite
from tests.verdicts import doubt, is_fresh, is_stale

ROWS = [(1, "a"), (2, "b"), (3, "c")]
_WRITER = "import duckdb, json, sys; path, *statements = json.load(sys.stdin); c = duckdb.connect(path); [c.execute(s) for s in statements]; c.close()"


def write_elsewhere(path, *statements):
    """In a process of its own, which meets the locks of this one."""
    processes.run(
        [sys.executable, "-c", _WRITER],
        input=json.dumps([str(path), *statements]),
        text=True,
        check=True,
        capture_output=True,
    )


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "x.duckdb"
    write(
        path,
        "CREATE TABLE t(id INTEGER, name VARCHAR)",
        *(f"INSERT INTO t VALUES {row}" for row in ROWS),
    )
    return path


@pytest.fixture
def ws(ws, file):
    """A workspace with the file as its source s."""
    ws.sources.add("s", file)
    return ws


def source(path, name="s", **how):
    return DuckdbConnector(SourceRecord(name=name, kind="duckdb", location=str(path), **how))


def test_a_name_means_a_table_of_the_default_schema_or_of_the_schema_before_it(ws, file):
    write(
        file,
        "CREATE SCHEMA o",
        "CREATE TABLE o.first AS SELECT 1 AS a",
        "CREATE TABLE o.alone AS SELECT 2 AS a",
        "CREATE VIEW first AS SELECT id FROM t LIMIT 1",
    )
    for name in ("first", "main.first"):  # cannot be read, and hides no other one
        with pytest.raises(TableNotFound, match=r"'first' in x\.duckdb cannot be read"):
            ws.sql(f"FROM s.{name}")
    for name in ("alone", "main.alone"):
        with pytest.raises(TableNotFound, match="There is no table") as caught:
            ws.sql(f"FROM s.{name}")
        assert caught.value.near == ("s.o.alone",)
    assert ws.sql("FROM s.O.Alone").fetchall() == [(2,)]
    ws.materialize("alone", "FROM s.o.alone")
    write(file, 'CREATE TABLE "o.alone" AS SELECT 3 AS a')
    with pytest.raises(TableNotFound, match=r"Several tables of s are called o\.alone"):
        ws.sql("FROM s.o.alone")
    assert is_stale(ws, "alone")


def seen(connector, table="t", memo=None, **how):
    observed = connector.observe(table, look(memo, **how))
    assert isinstance(observed, Snapshot), observed
    return observed


@contextlib.contextmanager
def held(path):
    """The file is open for writing in another process."""
    text = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    with processes.Popen(
        [sys.executable, "-c", text, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as owner:
        owner.stdout.readline()
        yield owner.pid
        owner.stdin.close()


class TestItsOwner:
    def test_nothing_stays_open_after_a_statement_or_a_look(self, ws, file):
        result = ws.sql("FROM s.t")
        write_elsewhere(
            file, "INSERT INTO t VALUES (4, 'd')"
        )  # while the rows of the statement are still to be taken
        assert len(result.fetchall()) == 3
        ws.materialize("t", "FROM s.t")
        ws.staleness("t")
        write_elsewhere(file, "INSERT INTO t VALUES (5, 'e')")
        assert is_stale(ws)

    def test_while_another_process_writes_it_is_undecidable_and_says_who(self, ws, file):
        ws.materialize("t", "FROM s.t")
        write_elsewhere(file, "INSERT INTO t VALUES (4, 'd')")
        with held(file) as pid:
            with pytest.raises(SourceUnavailable, match=f"open for writing by process {pid}"):
                ws.sql("FROM s.t")
            assert str(pid) in doubt(ws)
        assert is_stale(ws)

    def test_while_this_kernel_has_it_open_it_says_so(self, ws, file):
        with (
            duckdb.connect(str(file)),
            pytest.raises(SourceUnavailable, match="is open in this kernel") as caught,
        ):
            ws.sql("FROM s.t")
        assert "close()" in caught.value.hint
        assert ws.sql("SELECT count(*) FROM s.t").fetchall() == [(3,)]

    def test_two_statements_at_once_read_one_file(self, ws, file):
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            counts = list(
                pool.map(
                    lambda _: ws.sql("SELECT count(*) FROM s.t a, s.t b").fetchall(), range(12)
                )
            )
        assert counts == [[(9,)]] * 12


class TestWhatItIs:
    def test_schemas_are_listed_and_the_default_one_is_left_out(self, file):
        write(file, "CREATE SCHEMA o", "CREATE TABLE o.u AS SELECT 1 AS a")
        assert source(file).tables() == ["t", "o.u"]
        assert seen(source(file), "o.u").columns == {"a": "INTEGER"}

    def test_a_file_of_a_later_version_is_told_so(self, file):
        said = "Trying to read a database file with version number 99, but we can only read versions between 64 and 68."
        error = source(file).explain(said)
        assert (
            isinstance(error, SourceUnavailable)
            and "newer DuckDB" in error.message
            and "99" in error.message
            and "STORAGE_VERSION 'v1.5.0'" in str(error.hint)
        )


class TestState:
    @pytest.mark.parametrize(
        ("kind", "one", "other"),
        cases("sources/duckdb_values", "kind", "one", "other"),
    )
    def test_a_changed_value_of_any_type_is_seen_and_an_unchanged_one_is_not(
        self, file, kind, one, other
    ):
        write(file, f"CREATE TABLE v(a {kind})", f"INSERT INTO v VALUES ({one})")
        before = seen(source(file), "v")
        write(file, f"UPDATE v SET a = {one}")
        assert before.by_column == seen(source(file), "v").by_column
        write(file, "DROP TABLE v", f"CREATE TABLE v(a {kind})", f"INSERT INTO v VALUES ({other})")
        assert before.by_column != seen(source(file), "v").by_column

    def test_nested_texts_of_a_file_with_collations_are_not_listed(self, ws, file):
        write(
            file,
            "CREATE TABLE w(name VARCHAR COLLATE NOCASE)",
            "CREATE VIEW v AS SELECT {'a': name} AS name FROM w",
        )
        assert ws.sources["s"].tables() == ["t", "w"]
        with pytest.raises(TableNotFound, match="cannot be read: it has nested texts"):
            ws.sql("SELECT name FROM s.v")

    @pytest.mark.parametrize(
        "statement",
        [
            "CREATE TABLE v(name VARCHAR COLLATE NOCASE); INSERT INTO v VALUES ('é'), ('É'), (NULL)",
            "CREATE VIEW v AS SELECT unnest(['é', 'É', NULL]) COLLATE NOCASE AS name",
        ],
    )
    def test_text_compares_by_its_bytes_whatever_the_collation_of_the_column(
        self, ws, file, statement
    ):
        write(file, statement)
        rows = ws.sql("SELECT name, count(*) FROM s.v GROUP BY name ORDER BY name NULLS LAST")
        assert rows.fetchall() == [("É", 1), ("é", 1), (None, 1)]
        assert ws.sql("SELECT name FROM s.v WHERE name = 'É'").fetchall() == [("É",)]
        anyhow = ws.sql("SELECT count(*) FROM s.v WHERE name = 'É' COLLATE NOCASE")
        assert anyhow.fetchall() == [(2,)]


class TestForeignText:
    """What a file brings along would be bound with the rights of the workspace."""

    @pytest.fixture
    def file(self, file, tmp_path):
        (tmp_path / "secret.csv").write_text("word\nxyzzy\n")
        write(
            file,
            "CREATE VIEW good AS SELECT id, id + 1 AS next FROM t WHERE id > 1",
            "CREATE VIEW nested(total) AS SELECT sum(next) FROM good",
            "CREATE MACRO lower(x) AS 'shadowed'",
            "CREATE VIEW shadowed AS SELECT lower(name) AS name FROM t",
            f"CREATE VIEW reader AS SELECT * FROM read_csv('{tmp_path}/secret.csv')",
            f"CREATE VIEW path AS SELECT * FROM '{tmp_path}/secret.csv'",
            "CREATE VIEW setting AS SELECT current_setting('memory_limit') AS s",
            "CREATE VIEW lucky AS SELECT random() AS r FROM t",
            "CREATE VIEW unlucky AS SELECT * FROM lucky",
            "CREATE VIEW today AS SELECT current_date AS d",
            "CREATE VIEW first AS SELECT id FROM t LIMIT 1",
            "CREATE TABLE computed(a INTEGER, b INTEGER GENERATED ALWAYS AS (a + 1))",
        )
        return file

    def test_only_views_of_plain_parts_of_the_file_are_listed(self, ws, file):
        assert ws.sources["s"].tables() == ["t", "good", "nested"]
        assert ws.sql("SELECT total FROM s.nested").fetchall() == [(7,)]
        for name in (
            "reader",
            "path",
            "setting",
            "lucky",
            "unlucky",
            "shadowed",
            "today",
            "first",
            "computed",
        ):
            with pytest.raises(TableNotFound):
                ws.sql(f"FROM s.{name}")

    def test_looking_into_the_file_opens_no_other_one(self, file, tmp_path, monkeypatch):
        opened = []
        monkeypatch.setattr(duckdb_files, "check_view", lambda sql: opened.append(sql))
        assert source(file).tables() == ["t"] and len(opened) == 10

    def test_a_view_has_a_state_of_its_own(self, ws, file):
        ws.materialize("n", "SELECT total FROM s.nested")
        write(file, "UPDATE t SET name = 'z'", "UPDATE t SET id = -5 WHERE id = 1")
        assert is_fresh(ws, "n")
        write(file, "UPDATE t SET id = 9 WHERE id = 2")
        assert is_stale(ws, "n")

    def test_the_state_of_a_view_is_that_in_the_time_zone_of_statements(self, file, tmp_path):
        write(
            file,
            "UPDATE t SET name = '2024-01-01 22:00:00Z'",
            "CREATE VIEW days AS SELECT name::TIMESTAMPTZ::DATE AS day FROM t",
        )
        with jl.open(tmp_path / "oslo", settings={"engine.timezone": "Europe/Oslo"}) as oslo:
            oslo.sources.add("s", file)
            oslo.materialize("t", "FROM s.days")
            write(file, "UPDATE t SET name = '2024-01-01 23:30:00Z'")
            assert is_stale(oslo)


def test_a_commit_is_seen_behind_a_link_whose_log_lies_beside_the_file_itself(file, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "link.duckdb").symlink_to(file)
    connector, memo = source(tmp_path / "elsewhere" / "link.duckdb"), DictMemo()
    before = connector.observe("t", look(memo, racy_seconds=0.0))
    dies = f"import duckdb, os; c = duckdb.connect({str(file)!r}); c.execute('UPDATE t SET id = 7 WHERE id = 2'); os._exit(0)"
    processes.run([sys.executable, "-c", dies], check=True)
    assert (tmp_path / "x.duckdb.wal").stat().st_size
    after = connector.observe("t", look(memo, racy_seconds=0.0))
    assert isinstance(after, Snapshot) and not same_state(before, after)


def test_the_default_schema_of_a_file_may_be_named_like_that_of_a_server(ws, tmp_path):
    write(
        tmp_path / "a.duckdb",
        "CREATE TABLE T AS SELECT 1 AS x",
        "CREATE SCHEMA s",
        "CREATE TABLE s.t AS SELECT 2 AS x",
    )
    write_sqlite(tmp_path / "b.sqlite", "CREATE TABLE T (x INTEGER)", "INSERT INTO T VALUES (3)")
    for name, file, rows in (("a", "a.duckdb", [(1,)]), ("b", "b.sqlite", [(3,)])):
        added = ws.sources.add(name, tmp_path / file)
        for table in (f"{name}.main.t", f"{name}.t", f'{name}."MAIN"."T"'):
            assert ws.sql(f"SELECT x FROM {table}").fetchall() == rows
        assert (
            added.columns("main.T") == added.columns("t")
            and added.anchor("main.t").value == added.anchor("T").value
        )
        ws.materialize("long", f"SELECT x FROM {name}.main.t")
        ws.materialize("short", f"SELECT x FROM {name}.t")
        assert (
            ws.table("long").inputs == ws.table("short").inputs
            and ws.table("long").inputs[0].table == "T"
        )
        with pytest.raises(TableNotFound, match=f"There is no table main.nope in {name}"):
            ws.sql(f"SELECT x FROM {name}.main.nope")
        with pytest.raises(TableNotFound, match="is a database, not a table"):
            ws.sql(f"SELECT x FROM {name}")
    assert ws.sql("SELECT x FROM a.s.t").fetchall() == [(2,)]

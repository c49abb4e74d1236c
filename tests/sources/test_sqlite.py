"""SQLite files as sources, written by Python's sqlite3."""

import contextlib
import os
import sqlite3
import subprocess
import sys

import duckdb
import pytest

import jammi_lab
from jammi_lab.core.anchors import Cost, Snapshot, Unknown
from jammi_lab.core.errors import (
    InvalidArgument,
    SourceUnavailable,
    TableNotFound,
)
from jammi_lab.core.records import SourceRecord
from jammi_lab.core.verdicts import Stale, Undecidable
from jammi_lab.sources.databases import reader_process as outside_process
from jammi_lab.sources.databases.sqlite import SqliteConnector
from jammi_lab.sources.registry import infer_kind
from jammi_lab.sources.scratch_duckdb import describe, query
from tests import processes
from tests.contracts.source import DictMemo, look, rows, same_state
from tests.sources.kinds import write_sqlite as write
from tests.verdicts import doubt, is_fresh, is_stale

ROWS = [(1, "a"), (2, "b"), (3, "c")]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "x.db"
    write(
        path,
        "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT)",
        *(f"INSERT INTO t VALUES {row}" for row in ROWS),
    )
    return path


def source(path, name="s", **how):
    return SqliteConnector(SourceRecord(name=name, kind="sqlite", location=str(path), **how))


def seen(connector, memo=None, table="t", **how):
    observed = connector.observe(table, look(memo, **how))
    assert isinstance(observed, Snapshot), observed
    return observed


def elsewhere(*statements, path):
    """What another process says when it runs statements on the file, and does not wait for
    locks."""
    text = "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None)\nfor s in sys.argv[2:]: c.execute(s)"
    done = processes.run(
        [sys.executable, "-c", text, str(path), *statements], capture_output=True, text=True
    )
    return done.stderr.strip().splitlines()[-1] if done.returncode else "ok"


class TestWhatItIs:
    def test_first_bytes_tell_what_a_db_file_is(self, file, tmp_path):
        file.rename(tmp_path / "crm")
        assert infer_kind(tmp_path / "crm") == "sqlite"
        with contextlib.closing(duckdb.connect(str(tmp_path / "d.db"))):
            pass
        assert infer_kind(tmp_path / "d.db") == "duckdb"

    def test_a_url_with_three_slashes_is_relative(self, ws, file, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        ws.sources.add("s", "sqlite:///x.db")
        assert ws.sources["s"].location == str(file)
        with pytest.raises(InvalidArgument, match="no path"):
            ws.sources.add("other", "sqlite://")

    @pytest.mark.parametrize(
        "bytes_",
        [b"", b"id,name\n1,a\n"],
        ids=["empty", "a CSV"],
    )
    def test_what_is_no_database_is_told_so(self, tmp_path, bytes_):
        path = tmp_path / "x.sqlite"
        path.write_bytes(bytes_)
        if not bytes_:
            assert source(path).tables() == []  # to SQLite an empty file is an empty database
            return
        with pytest.raises(SourceUnavailable, match=r"x\.sqlite is not a complete SQLite database"):
            source(path).check()
        assert isinstance(source(path).observe("t", look()), Unknown)

    def test_a_glob_of_databases_is_refused(self, tmp_path):
        with pytest.raises(InvalidArgument, match="matches several files"):
            source(tmp_path / "*.db")


class TestTypes:
    def test_a_column_without_a_type_is_text(self, file):
        write(
            file,
            "CREATE TABLE u(a, b INT)",
            "INSERT INTO u VALUES ('x', 1), (17, 2), (1.5, 3), (NULL, 4)",
        )
        relation = source(file).relation("u")
        assert describe(relation) == {"a": "VARCHAR", "b": "BIGINT"}
        assert query(relation, "FROM it") == [("x", 1), ("17", 2), ("1.5", 3), (None, 4)]

    @pytest.mark.parametrize(
        ("declared", "value", "said"),
        [
            ("INT", "'many'", "column 'a' is declared as integer but contains 'many'"),
            ("DATE", "'soon'", "a column is declared as date but contains 'soon'"),
            ("TEXT", "x'FF00'", "column 'a' is declared as text but contains '\ufffd"),
        ],
    )
    def test_a_value_of_another_type_is_told_with_its_column_and_can_be_read_as_text(
        self, ws, file, declared, value, said
    ):
        write(
            file,
            f"CREATE TABLE m(a {declared}, id INTEGER)",
            f"INSERT INTO m VALUES (NULL, 1), ({value}, 2)",
        )
        ws.sources.add("s", file)
        with pytest.raises(SourceUnavailable, match=said) as caught:
            ws.sql("SELECT a FROM s.m").arrow()
        assert "text" in caught.value.hint
        assert ws.sql("SELECT id FROM s.m").fetchall() == [(1,), (2,)]
        assert ws.sources["s"].anchor("m").pinned  # the digest takes each value as SQLite holds it
        ws.sources.add("s", file, options={"text": True}, replace=True)
        assert ws.sql("SELECT a, id FROM s.m ORDER BY id").fetchall() == [
            (None, "1"),
            (value.strip("x'"), "2"),
        ]

    @pytest.mark.parametrize("options", [{}, {"text": True}])
    @pytest.mark.parametrize("declared", ["TEXT", ""])
    def test_a_text_that_is_not_utf_8_is_no_value_and_a_view_reads_its_bytes(
        self, ws, file, declared, options
    ):
        write(
            file,
            f"CREATE TABLE m(a {declared})",
            "INSERT INTO m VALUES (CAST(x'ff41' AS TEXT))",
            "CREATE VIEW bytes AS SELECT CAST(a AS BLOB) AS a FROM m",
        )
        ws.sources.add("s", file, options=options)
        with pytest.raises(SourceUnavailable, match="a text that is not UTF-8") as caught:
            ws.sql("SELECT a FROM s.m").arrow()
        assert "CAST(column AS BLOB)" in caught.value.hint
        assert ws.sql("SELECT a FROM s.bytes").fetchall() == [("FF41" if options else b"\xffA",)]

    def test_values_that_sql_prints_alike_are_told_apart(self, file):
        write(file, "CREATE TABLE v(a)", "INSERT INTO v VALUES (1)")
        states = [seen(source(file), table="v").by_column["a"]]
        for value in ("'1'", "1.0", "x'31'", "NULL", "'1 '"):
            write(file, f"UPDATE v SET a = {value}")
            states.append(seen(source(file), table="v").by_column["a"])
        assert len(set(states)) == 6

    def test_text_that_is_not_utf_8_has_a_state_all_the_same(self, file):
        write(file, "UPDATE t SET name = CAST(x'ff41' AS TEXT) WHERE id = 1")
        before = seen(source(file))
        write(file, "UPDATE t SET name = CAST(x'fe41' AS TEXT) WHERE id = 1")
        assert before.by_column["name"] != seen(source(file)).by_column["name"]


class TestViews:
    @pytest.fixture
    def file(self, file):
        write(
            file,
            "CREATE VIEW good AS SELECT id, upper(name) AS name FROM t WHERE id > 1",
            "CREATE VIEW lucky AS SELECT random() AS r FROM t",
            "CREATE VIEW today AS SELECT date() AS d",
            "CREATE VIEW instant AS SELECT CURRENT_TIMESTAMP AS d",
            'CREATE VIEW stray AS SELECT * FROM "/etc/passwd"',
            "CREATE VIEW viastray AS SELECT * FROM lucky",
            "CREATE VIEW first AS SELECT id, name FROM t LIMIT 1",
            "CREATE VIEW viafirst AS SELECT id FROM first",
        )
        with contextlib.suppress(sqlite3.OperationalError):
            write(file, "CREATE VIRTUAL TABLE words USING fts5(body)")
        return file

    def test_only_those_that_depend_on_their_file_alone_are_listed(self, file):
        assert source(file).tables() == ["good", "t"]

    def test_one_that_is_not_listed_says_why(self, file):
        with pytest.raises(
            TableNotFound, match=r"may change while the file does not: it uses random"
        ):
            source(file).relation("lucky")
        assert isinstance(source(file).observe("lucky", look()), Unknown)

    def test_a_view_is_a_table_with_a_state(self, file):
        connector = source(file)
        assert rows(connector.relation("good")) == [(2, "B"), (3, "C")]
        before = seen(connector, table="good")
        write(file, "UPDATE t SET name = 'z' WHERE id = 1")
        assert before.by_column == seen(connector, table="good").by_column
        write(file, "UPDATE t SET name = 'z' WHERE id = 2")
        assert before.by_column != seen(connector, table="good").by_column

    def test_sqlite_runs_its_text_and_duckdb_never_does(self, ws, file, tmp_path):
        (tmp_path / "passwd.csv").write_text("secret\n1\n")
        write(file, f'CREATE VIEW leak AS SELECT * FROM "{tmp_path}/passwd.csv"')
        ws.sources.add("s", file)
        with pytest.raises(TableNotFound):
            ws.sql("FROM s.leak")
        assert ws.sql("SELECT count(*) FROM s.good").fetchall() == [(2,)]


class TestItsOwner:
    def test_nothing_stays_open_after_a_statement_or_a_look(self, ws, file):
        ws.sources.add("s", file)
        result = ws.sql("FROM s.t")
        assert (
            not outside_process.is_open_here(str(file))
            and elsewhere("BEGIN EXCLUSIVE", "UPDATE t SET name = 'z'", "COMMIT", path=file) == "ok"
        )
        ws.materialize("t", "FROM s.t")
        ws.staleness("t")
        assert not outside_process.is_open_here(str(file))
        assert len(result.fetchall()) == 3

    @pytest.mark.parametrize("mode", ["DELETE", "WAL"])
    def test_reading_never_drops_a_lock_that_this_process_holds(self, ws, file, mode):
        """POSIX locks go when any descriptor of the file is closed: another process could then
        write, and the update of this one be lost."""
        write(file, f"PRAGMA journal_mode = {mode}")
        with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as mine:
            mine.execute("BEGIN IMMEDIATE")
            mine.execute("UPDATE t SET name = 'mine' WHERE id = 1")
            ws.sources.add("s", file)
            assert ws.sql("SELECT name FROM s.t ORDER BY id").fetchall() == [("a",), ("b",), ("c",)]
            ws.materialize("t", "FROM s.t")
            assert is_fresh(ws)
            assert "locked" in elsewhere("BEGIN IMMEDIATE", path=file)
            mine.execute("COMMIT")
            assert ws.sql("SELECT name FROM s.t WHERE id = 1").fetchall() == [("mine",)]
            assert is_stale(ws)

    def test_a_writer_who_is_soon_done_is_waited_for(self, file):
        text = "import sqlite3, sys, time\nc = sqlite3.connect(sys.argv[1])\nc.execute('BEGIN EXCLUSIVE')\nprint('x', flush=True)\ntime.sleep(0.5)\nc.commit()"
        with processes.Popen(
            [sys.executable, "-c", text, str(file)], stdout=subprocess.PIPE
        ) as holder:
            holder.stdout.readline()
            assert seen(source(file)).row_count == 3

    def test_a_transaction_that_its_writer_did_not_finish_is_told_so(self, ws, file):
        write(file, *(f"INSERT INTO t VALUES ({n}, '{'n' * 2000}')" for n in range(10, 60)))
        ws.sources.add("s", file)
        ws.materialize("t", "FROM s.t")
        killed = (
            "import os, signal, sqlite3, sys\nc = sqlite3.connect(sys.argv[1], isolation_level=None)\nc.execute('PRAGMA cache_size = 1')\n"
            "c.execute('BEGIN IMMEDIATE')\nc.execute(\"UPDATE t SET name = 'x' || name\")\nos.kill(os.getpid(), signal.SIGKILL)"
        )
        processes.run([sys.executable, "-c", killed, str(file)], check=False)
        assert os.path.exists(f"{file}-journal")
        assert "unfinished transaction" in doubt(ws)
        with pytest.raises(SourceUnavailable, match="unfinished transaction"):
            ws.sql("FROM s.t")
        write(file, "UPDATE t SET name = name WHERE id < 0")
        assert is_fresh(ws), "whoever may write has rolled it back"

    def test_a_log_that_was_not_merged_yet_is_read(self, file):
        write(file, "PRAGMA journal_mode = WAL")
        before = seen(source(file))
        done = "import sqlite3, sys, os\nc = sqlite3.connect(sys.argv[1])\nc.execute(\"UPDATE t SET name = 'z'\")\nc.commit()\nos._exit(0)"
        processes.run([sys.executable, "-c", done, str(file)], check=True)
        assert os.path.getsize(f"{file}-wal") > 0
        assert not same_state(before, seen(source(file)), ("name",)) and rows(
            source(file).relation("t")
        )[0] == (1, "z")

    def test_an_index_of_the_log_with_a_second_name_is_not_written_to(self, file):
        """As in copies by `cp -al`: SQLite would write to that of the database in use."""
        write(file, "PRAGMA journal_mode = WAL")
        other, index = file.with_name("other"), f"{file}-shm"
        other.write_bytes(b"precious" * 4096)
        os.link(other, index)
        with pytest.raises(SourceUnavailable, match="a link, or not a regular file"):
            rows(source(file).relation("t"))
        assert other.read_bytes() == b"precious" * 4096

    def test_reading_writes_nothing(self, file):
        write(file, "PRAGMA journal_mode = WAL")
        processes.run(
            [
                sys.executable,
                "-c",
                f"import sqlite3, os; c = sqlite3.connect({str(file)!r}); c.execute('INSERT INTO t VALUES (9, 9)'); c.commit(); os._exit(0)",
            ],
            check=True,
        )
        kept = [file.read_bytes(), file.with_name("x.db-wal").read_bytes()]
        seen(source(file))
        rows(source(file).relation("t"))
        assert [file.read_bytes(), file.with_name("x.db-wal").read_bytes()] == kept

    def test_a_file_that_is_written_while_it_is_read_is_read_again_and_at_last_unknown(
        self, file, monkeypatch
    ):
        real, tries = SqliteConnector.digest_table, []

        def content(self, inside, looking):
            found = real(self, inside, looking)
            tries.append(1)
            if len(tries) < times:
                write(file, "INSERT INTO t(name) VALUES ('n')")
            return found

        monkeypatch.setattr(SqliteConnector, "digest_table", content)
        times = 2
        assert seen(source(file)).row_count == 4
        times, tries = 99, []
        observed = source(file).observe("t", look())
        assert isinstance(observed, Unknown) and "changes while it is observed" in observed.why


class TestCost:
    def test_a_stat_of_this_moment_proves_nothing(self, file):
        memo = DictMemo()
        seen(source(file), memo)
        assert seen(source(file), memo).cost is Cost.SCAN

    @pytest.mark.parametrize(
        ("setting", "bound", "would"),
        [("scan_bytes", 100, "scan 8,192 bytes"), ("scan_rows", 1, "scan about")],
    )
    def test_a_look_that_may_not_scan_says_what_would(self, file, tmp_path, setting, bound, would):
        with jammi_lab.open(tmp_path / "ws", settings={f"look.{setting}": bound}) as ws:
            ws.sources.add("s", file)
            ws.materialize("t", "FROM s.t")
            write(file, "UPDATE t SET name = 'x'")
            verdict = ws.status()["t"].verdict
            assert isinstance(verdict, Undecidable) and f"would {would}" in str(verdict)
            assert "ws.status(deep=True)" in str(verdict)
            assert isinstance(ws.status(deep=True)["t"].verdict, Stale)
            write(file, "DROP TABLE t")
            assert setting == "scan_bytes" or isinstance(ws.status()["t"].verdict, Stale)


def test_another_table_of_the_file_may_be_dropped_and_an_unreadable_one_leaves_the_rest(ws, file):
    write(file, "CREATE TABLE other(a INT)", "INSERT INTO other VALUES ('not a number')")
    ws.sources.add("s", file)
    ws.materialize("t", "FROM s.t")
    with pytest.raises(SourceUnavailable):
        ws.sql("FROM s.other").arrow()
    write(file, "DROP TABLE other")
    assert is_fresh(ws) and ws.sources["s"].tables() == ["t"]
    with pytest.raises(TableNotFound):
        ws.sql("FROM s.other")


def test_a_column_of_another_type_is_told_as_a_change_of_the_columns(ws, file):
    write(file, "CREATE TABLE typed (id INTEGER, v INTEGER)", "INSERT INTO typed VALUES (1, 1)")
    ws.sources.add("own", file)
    ws.materialize("t", "SELECT id, v FROM own.typed")
    write(file, "DROP TABLE typed", "CREATE TABLE typed (id INTEGER, v TEXT)")
    write(file, "INSERT INTO typed VALUES (1, 1)")
    assert str(ws.staleness("t")) == "stale: own.typed changed its columns"


def test_a_commit_is_seen_behind_a_link_whose_log_lies_beside_the_file_itself(file, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "link.db").symlink_to(file)
    connector, memo = source(tmp_path / "elsewhere" / "link.db"), DictMemo()
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as owner:
        owner.execute("PRAGMA journal_mode = WAL")
        owner.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        before = connector.observe("t", look(memo, racy_seconds=0.0))
        owner.execute("UPDATE t SET name = 'x' WHERE id = 2")
        assert not same_state(before, connector.observe("t", look(memo, racy_seconds=0.0)))

"""The child processes that read database files: one for each request, which outlives nobody."""

import concurrent.futures
import contextlib
import os
import signal
import sqlite3
import subprocess
import threading

import duckdb
import pytest

import jammi_lab as jl
from jammi_lab.sources.databases import reader_process as outside_process
from jammi_lab.sources.databases.reader_process import ReaderError
from tests.conftest import settled


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "x.db"
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT)")
    return str(path)


@pytest.fixture
def endless(tmp_path):
    """A question about what never ends."""
    path = tmp_path / "endless.db"
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "CREATE VIEW v AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x FROM n"
        )
    return {"do": "content", "path": str(path), "table": "v", "view": True, "columns": ["x"]}


def running(pid):
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0] != "Z"
    return False


def is_read_by_child(path, seconds=None):
    asked = {"do": "query", "path": path, "select": "SELECT count(*) FROM t"}
    return outside_process.request(asked, seconds)["rows"] == [[0]]


def test_a_child_answers(file):
    assert is_read_by_child(file)
    assert outside_process.request({"do": "tables", "path": file})["tables"][0]["columns"] == [
        ["id", "INTEGER"],
        ["name", "TEXT"],
    ]
    with pytest.raises(ReaderError, match="no such table"):
        outside_process.request(
            {"do": "content", "path": file, "table": "u", "view": False, "columns": ["id"]}
        )
    with pytest.raises(ReaderError, match="no such table"):
        outside_process.request({"do": "query", "path": file, "select": "SELECT id FROM u"})


def test_whatever_goes_wrong_in_the_child_the_next_request_is_answered(file):
    with pytest.raises(ReaderError) as wrong:
        outside_process.request({"do": "query", "path": file})
    assert wrong.value.kind == "other" and "select" in str(wrong.value)
    assert is_read_by_child(file)


def test_a_file_that_kills_each_child_is_told_as_such(file, monkeypatch):
    monkeypatch.setattr(outside_process, "CHILD", os.devnull)
    with pytest.raises(ReaderError, match="the reader process exited"):
        outside_process.head(file)


def test_a_child_that_cannot_be_started_is_a_failure_with_a_reason(file, monkeypatch):
    monkeypatch.setattr(outside_process.sys, "executable", file)
    with pytest.raises(ReaderError, match="Permission denied"):
        outside_process.head(file)


@pytest.fixture
def children(monkeypatch):
    """The children that were started."""
    started = []

    class Child(subprocess.Popen):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            started.append(self)

    monkeypatch.setattr(outside_process.subprocess, "Popen", Child)
    return started


def test_a_child_that_does_not_answer_in_time_is_ended(endless, children):
    with pytest.raises(ReaderError, match=r"no answer within 0\.2 s") as slow:
        outside_process.request(endless, 0.2)
    [child] = children
    assert slow.value.kind == "slow" and not running(child.pid)


def test_an_interrupt_ends_the_wait_and_the_child(endless, children):
    threading.Timer(0.3, os.kill, [os.getpid(), signal.SIGINT]).start()
    with pytest.raises(KeyboardInterrupt):
        outside_process.request(endless)
    [child] = children
    assert not settled(lambda: running(child.pid))


@pytest.mark.parametrize("seconds", [None, 30])
def test_a_timeout_of_the_caller_is_not_taken_for_the_childs(endless, children, seconds):
    def ring(*_):
        raise TimeoutError("my own time is up")

    former = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with pytest.raises(TimeoutError, match="my own time is up"):
            outside_process.request(endless, seconds)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)
    [child] = children
    assert not running(child.pid)


def test_a_pipe_in_the_place_of_a_file_is_no_file_to_wait_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for ask in (
        {"do": "head", "paths": [str(tmp_path / "pipe")]},
        {"do": "tables", "path": str(tmp_path / "pipe")},
    ):
        with pytest.raises(ReaderError, match="not a regular file"):
            outside_process.request(ask, 20)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "suffix", [".sqlite", ".sqlite-wal", ".sqlite-journal", ".duckdb", ".duckdb.wal"]
)
def test_a_pipe_in_the_place_of_a_database_file_or_its_log_is_refused(tmp_path, suffix):
    with contextlib.closing(sqlite3.connect(tmp_path / "d.sqlite")) as db:
        db.execute("CREATE TABLE t (n INTEGER)")
    with duckdb.connect(str(tmp_path / "d.duckdb")) as db:
        db.execute("CREATE TABLE t (n INTEGER)")
    path = tmp_path / f"d{suffix}"
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    with jl.open(tmp_path / "lab") as ws:
        ws.sources.add("d", tmp_path / f"d.{suffix[1:7]}", check=False)
        with pytest.raises(jl.SourceUnavailable, match="not a regular file"):
            ws.sql("FROM d.t").fetchall()


def test_a_child_that_works_for_another_thread_gets_no_interrupt_of_the_group(endless, children):
    with concurrent.futures.ThreadPoolExecutor() as pool:
        asked = pool.submit(outside_process.request, endless, 2)
        assert not settled(lambda: not children)
        [child] = children
        assert os.getpgid(child.pid) != os.getpgrp()
        with pytest.raises(ReaderError, match="no answer within 2 s"):
            asked.result()


def test_threads_have_children_of_their_own(tmp_path):
    paths = [tmp_path / f"{number}" for number in range(40)]
    for number, path in enumerate(paths):
        path.write_bytes(bytes([number]) * (number << 12))
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        heads = list(pool.map(lambda path: outside_process.head(str(path)), paths))
    assert heads == [path.read_bytes()[:10_000] for path in paths]


@pytest.mark.parametrize("end", ["os._exit(0)", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_the_child_ends_with_the_kernel_also_in_the_middle_of_an_answer(run_python, endless, end):
    code = f"""
import os, signal, subprocess, threading, time
from jammi_lab.sources.databases import reader_process as outside_process
threading.Thread(target=outside_process.request, args=[{endless!r}], daemon=True).start()
time.sleep(1)
children = subprocess.check_output(["ps", "-o", "pid=", "--ppid", str(os.getpid())], text=True)
print(children.split()[0], flush=True)
{end}
"""
    child = int(run_python(code, check=False).stdout)
    assert not settled(lambda: running(child))


def test_no_descriptor_is_left_by_children_that_ended(file, endless):
    outside_process.head(file)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(ReaderError):
            outside_process.request(endless, 0.05)
    outside_process.head(file)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_relative_path_in_another_folder_is_another_file(file, monkeypatch, tmp_path):
    outside_process.head(file)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "x.db").write_bytes(b"others")
    monkeypatch.chdir(tmp_path / "there")
    assert outside_process.head("x.db") == b"others"

"""The child process that reads database files: one for many requests, which nothing confuses and
which outlives nobody."""

import concurrent.futures
import contextlib
import os
import signal
import threading
import time
from itertools import product

import pytest

import jammi_lab as jl
from jammi_lab.sources.databases import reader_process as outside_process
from jammi_lab.sources.databases.reader_process import ReaderError
from tests.conftest import settled
from tests.sources.kinds import write_duckdb, write_sqlite


@pytest.fixture(autouse=True)
def no_reader():
    """None is there from an earlier test, nor is one left."""
    outside_process.end_idle()
    yield
    outside_process.end_idle()


@pytest.fixture
def file(tmp_path):
    write_sqlite(tmp_path / "x.db", "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT)")
    return str(tmp_path / "x.db")


@pytest.fixture
def endless(tmp_path):
    """A question about what never ends."""
    path = tmp_path / "endless.db"
    write_sqlite(
        path,
        "CREATE VIEW v AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x FROM n",
    )
    return {"do": "content", "path": str(path), "table": "v", "view": True, "columns": ["x"]}


def readers():
    return [reader._process.pid for reader in outside_process.idle_readers]


def open_in(pid):
    return [os.readlink(f"/proc/{pid}/fd/{number}") for number in os.listdir(f"/proc/{pid}/fd")]


def running(pid):
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0] != "Z"
    return False


@pytest.fixture
def child(file):
    """The process that has read the file."""
    outside_process.head(file)
    [child] = readers()
    return child


def is_read_by_child(path, seconds=None):
    asked = {"do": "query", "path": path, "select": "SELECT count(*) FROM t"}
    return outside_process.request(asked, seconds)["rows"] == [[0]]


def test_one_child_answers_one_request_after_the_other_and_keeps_no_file_open(file, child):
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
    assert readers() == [child] and not [
        path for path in open_in(child) if path.startswith(os.path.dirname(file))
    ]


def test_whatever_goes_wrong_in_the_child_the_next_request_is_answered(file):
    with pytest.raises(ReaderError) as wrong:
        outside_process.request({"do": "query", "path": file})
    assert wrong.value.kind == "other" and "select" in str(wrong.value)
    assert is_read_by_child(file)


def test_a_child_that_died_meanwhile_is_replaced(file, child):
    os.kill(child, signal.SIGKILL)
    assert settled(lambda: running(child)) is False
    assert is_read_by_child(file) and readers() != [child]


def test_children_that_died_together_are_no_failure(file):
    kept = [outside_process._Reader() for _ in range(2)]
    outside_process.idle_readers.extend(kept)
    for child in readers():
        os.kill(child, signal.SIGKILL)
        assert settled(lambda child=child: running(child)) is False
    assert is_read_by_child(file)


def test_a_file_that_kills_each_child_is_told_as_such(file, monkeypatch):
    monkeypatch.setattr(outside_process, "CHILD", os.devnull)
    with pytest.raises(ReaderError, match="the reader process exited"):
        outside_process.head(file)
    assert readers() == []


def test_a_child_that_cannot_be_started_is_a_failure_with_a_reason(file, monkeypatch):
    monkeypatch.setattr(outside_process.sys, "executable", file)
    with pytest.raises(ReaderError, match="Permission denied"):
        outside_process.head(file)


def test_an_answer_that_came_too_late_is_never_taken_for_the_next_one(file, endless, child):
    with pytest.raises(ReaderError, match=r"no answer within 0\.2 s") as slow:
        outside_process.request(endless, 0.2)
    assert slow.value.kind == "slow" and not running(child) and readers() == []
    assert is_read_by_child(file, 30)


def test_an_interrupt_ends_the_wait_and_the_child(file, endless, child):
    threading.Timer(0.3, os.kill, [os.getpid(), signal.SIGINT]).start()
    with pytest.raises(KeyboardInterrupt):
        outside_process.request(endless)
    assert not running(child) and is_read_by_child(file)


@pytest.mark.parametrize("seconds", [None, 30])
def test_a_timeout_of_the_caller_is_not_taken_for_the_childs(file, endless, seconds):
    def ring(*_):
        raise TimeoutError("my own time is up")

    outside_process.head(file)
    former = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with pytest.raises(TimeoutError, match="my own time is up"):
            outside_process.request(endless, seconds)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)
    assert readers() == [] and is_read_by_child(file)


def test_a_program_that_dies_of_broken_pipes_does_not_die_of_a_child_that_died(run_python, file):
    code = f"""
import os, signal, time
from jammi_lab.sources.databases import reader_process as outside_process
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
outside_process.head({file!r})
child = outside_process.idle_readers[0]._process
child.kill()
child.wait()
print(len(outside_process.head({file!r})))
"""
    assert run_python(code).stdout == f"{os.path.getsize(file)}\n"


def test_a_pipe_in_the_place_of_a_file_is_no_file_to_wait_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for ask in (
        {"do": "head", "paths": [str(tmp_path / "pipe")]},
        {"do": "tables", "path": str(tmp_path / "pipe")},
    ):
        with pytest.raises(ReaderError, match="not a regular file"):
            outside_process.request(ask, 20)


def link_elsewhere(path):
    path.with_suffix(".elsewhere").touch()
    path.symlink_to(path.with_suffix(".elsewhere"))


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("suffix", "make"),
    [
        (".sqlite", os.mkfifo),
        (".duckdb", os.mkfifo),
        *product((".sqlite-wal", ".sqlite-journal", ".duckdb.wal"), (os.mkfifo, link_elsewhere)),
    ],
)
def test_a_pipe_for_a_database_file_and_a_pipe_or_link_for_its_log_is_refused(
    tmp_path, suffix, make
):
    write_sqlite(tmp_path / "d.sqlite", "CREATE TABLE t (n INTEGER)")
    write_duckdb(tmp_path / "d.duckdb", "CREATE TABLE t (n INTEGER)")
    path = tmp_path / f"d{suffix}"
    path.unlink(missing_ok=True)
    make(path)
    with jl.open(tmp_path / "lab") as ws:
        ws.sources.add("d", tmp_path / f"d.{suffix[1:7]}", check=False)
        with pytest.raises(jl.SourceUnavailable, match="not a regular file"):
            ws.sql("FROM d.t").fetchall()


def test_an_interrupt_of_the_whole_group_leaves_a_child_that_works_for_another_thread(file, child):
    os.kill(child, signal.SIGINT)
    time.sleep(0.1)
    assert is_read_by_child(file) and readers() == [child]


def test_threads_have_children_of_their_own_of_which_few_stay(file, tmp_path):
    paths = [tmp_path / f"{number}" for number in range(40)]
    for number, path in enumerate(paths):
        path.write_bytes(bytes([number]) * (number << 12))
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        heads = list(pool.map(lambda path: outside_process.head(str(path)), paths))
    assert heads == [path.read_bytes()[:10_000] for path in paths]
    assert 1 <= len(readers()) <= 2


def test_a_process_that_was_forked_off_asks_a_child_of_its_own(file, child):
    with open(os.devnull, "wb"):
        pid = os.fork()
    if not pid:
        right = is_read_by_child(file) and readers() != [child]
        outside_process.end_idle()
        os._exit(0 if right else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert is_read_by_child(file) and readers() == [child]


@pytest.mark.parametrize("left", ["daemon thread", "forked process"])
def test_the_child_ends_also_in_the_middle_of_an_answer_or_when_another_process_has_what_was_the_kernels(
    run_python, file, endless, left
):
    code = f"""
import os, threading, time
from jammi_lab.sources.databases import reader_process as outside_process
outside_process.head({file!r})
child = outside_process.idle_readers[0]._process.pid
if {left == "daemon thread"}:
    threading.Thread(target=outside_process.request, args=[{endless!r}], daemon=True).start()
    time.sleep(0.3)
elif not (forked := os.fork()):
    os.closerange(0, 3)
    time.sleep(60)
print(child, {"0" if left == "daemon thread" else "forked"}, flush=True)
os._exit(0)
"""
    child, forked = map(int, run_python(code).stdout.split())
    try:
        assert not settled(lambda: running(child))
    finally:
        if forked:
            os.kill(forked, signal.SIGKILL)


@pytest.mark.parametrize("end", ["", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_the_child_ends_with_the_kernel_whatever_way_that_ends(run_python, file, end):
    code = f"""
import os, signal, sys
from jammi_lab.sources.databases import reader_process as outside_process
outside_process.head({file!r})
print(outside_process.idle_readers[0]._process.pid, flush=True)
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

"""A machine without memory or threads: a typed error, and nothing acknowledged is lost."""

import errno
import os
import sys
import tempfile
import threading
from unittest.mock import Mock

import duckdb
import polars
import pyarrow as pa
import pytest
from pyarrow import dataset

import jammi_lab as jl
from jammi_lab.core import packaged_tables, thread_pool
from jammi_lab.core.interrupts import Signal
from jammi_lab.engine.duckdb_errors import StatementContext, to_jammi_error
from jammi_lab.sources import scratch_duckdb
from jammi_lab.workspace.result_table import Tables
from tests import processes


@pytest.fixture
def no_threads(monkeypatch):
    """A context in which no thread whose name begins so can be started."""

    def refuse(name):
        def start(thread):
            if thread.name.startswith(name):
                raise RuntimeError("can't start new thread")
            begin(thread)

        monkeypatch.setattr(threading.Thread, "start", start)

    begin = threading.Thread.start
    return refuse


def test_without_a_folder_for_temporary_files_opening_says_so(tmp_path, monkeypatch):
    def find():
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_get_default_tempdir", find)
    with pytest.raises(jl.errors.ResourceExhausted, match="No folder for temporary files"):
        jl.open(tmp_path / "lab")
    monkeypatch.undo()
    with jl.open(tmp_path / "lab") as ws:
        assert ws.sql("SELECT 1").fetchall() == [(1,)]


def test_a_workspace_that_can_start_no_thread_is_refused_and_opens_later(
    tmp_path, no_threads, monkeypatch
):
    no_threads("jammi")
    with pytest.raises(jl.ResourceExhausted, match="No more threads can be started"):
        jl.open(tmp_path / "lab")
    monkeypatch.undo()
    jl.open(tmp_path / "lab").close()


def test_a_build_whose_heartbeat_cannot_start_is_refused_and_leaves_no_build(
    ws, no_threads, monkeypatch
):
    no_threads("jammi-heartbeat")
    for _ in range(2):
        with pytest.raises(jl.ResourceExhausted):
            ws.materialize("t", "SELECT 1 AS a")
    monkeypatch.undo()
    assert ws.materialize("t", "SELECT 1 AS a").outcome == "computed"


def test_a_frame_is_not_read_where_arrow_could_start_no_thread(ws, no_threads, monkeypatch):
    """DuckDB would wait for that thread for ever."""
    ws.mutable.create("m", {"k": "int64", "v": "string"}, primary_key="k")
    ws.sql("INSERT INTO mutable.m VALUES (1, 'a')")
    scratch_duckdb._start_arrow_threads.cache_clear()
    no_threads("jammi-arrow")
    for statement in ("UPDATE mutable.m SET v = 'b'", "FROM mutable.m"):
        with pytest.raises(jl.ResourceExhausted, match="No more threads can be started"):
            ws.sql(statement).fetchall()
    monkeypatch.undo()
    assert ws.sql("FROM mutable.m").fetchall() == [(1, "a")]


def test_nor_is_it_where_others_took_the_last_threads_meanwhile(monkeypatch):
    """Arrow waits for a thread that could not start."""
    never = Signal()
    monkeypatch.setattr(dataset, "dataset", lambda _: never.wait(5))
    monkeypatch.setattr(scratch_duckdb, "START_TIMEOUT_SECONDS", 0.05)
    scratch_duckdb._start_arrow_threads.cache_clear()
    with pytest.raises(RuntimeError, match="can't start new thread"):
        scratch_duckdb._start_arrow_threads()
    never.set()


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="needs Linux")
@pytest.mark.parametrize("exact", [False, True])
def test_a_pandas_frame_starts_no_thread_of_arrow(exact):
    """Where one of several cannot start, Arrow ends the process."""
    code = (
        "import os, pandas, pyarrow as pa\n"
        "from jammi_lab.core.dataframes import to_pandas\n"
        "table = pa.table({name: [1.5] * 100_000 for name in 'abcd'})\n"
        "before = set(os.listdir('/proc/self/task'))\n"
        f"assert len(to_pandas(table, exact={exact})) == 100_000\n"
        "assert set(os.listdir('/proc/self/task')) == before"
    )
    ran = processes.run([sys.executable, "-c", code], capture_output=True)
    assert ran.returncode == 0, ran.stderr


def test_nor_is_it_in_a_forked_child_which_has_none_of_the_threads(tmp_path, no_threads):
    table = pa.table({"x": [1]})
    with jl.open(tmp_path / "lab") as ws:
        ws.sources.add("a", table)
        ws.sql("FROM a").fetchall()
    if not (child := os.fork()):
        code = 1
        try:
            no_threads("jammi-arrow")
            with jl.open(tmp_path / "child") as ws:
                ws.sources.add("a", table)
                ws.sql("FROM a").fetchall()
        except jl.ResourceExhausted:
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0


def test_sessions_and_forms_say_that_no_thread_can_be_started(ws, no_threads, monkeypatch):
    ws.sources.add("a", pa.table({"x": [1]}))
    ws.materialize("t", "SELECT x FROM a")
    lineage = ws.lineage()
    with ws.tenant("acme"), ws.ephemeral() as session:
        session.create("p", {"id": "int64"}, primary_key="id")
        thread_pool.idle_workers.clear()
        no_threads("jammi")
        for act in (lambda: repr(lineage), lambda: session.sql("p", "FROM {table}").fetchall()):
            with pytest.raises(jl.ResourceExhausted, match="No more threads can be started"):
                act()
        monkeypatch.undo()


@pytest.mark.parametrize(
    "claim",
    [
        jl.SchemaMismatch("Column 'x' has the type int64, which pandas cannot hold."),
        jl.SourceUnavailable("a.csv cannot be read: Failed to allocate block."),
        jl.TableDamaged("The file of 't' is damaged."),
    ],
    ids=lambda error: type(error).__name__,
)
def test_want_of_memory_is_not_said_of_the_data(ws, monkeypatch, claim):
    """The reader made that of what a library raised."""

    def fail(*_):
        try:
            raise pa.ArrowMemoryError("malloc of size 64 failed")
        except pa.ArrowException:
            raise claim from None

    monkeypatch.setattr(Tables, "from_versions", fail)
    with pytest.raises(jl.ResourceExhausted, match="Memory is exhausted"):
        ws.tables()
    again = type(claim)(claim.message)
    monkeypatch.setattr(Tables, "from_versions", lambda *_: (_ for _ in ()).throw(again))
    with pytest.raises(type(claim)):
        try:
            raise MemoryError
        except MemoryError:  # older than the call
            ws.tables()


class PanicException(BaseException):
    """As polars raises it."""


MEMORY = "Memory is exhausted"
DISK = "cannot be read or written: "
THREADS = "No more threads can be started"
EXHAUSTED = [
    (ImportError("x.so: failed to map segment from shared object"), MEMORY),
    (MemoryError(), MEMORY),
    (pa.ArrowMemoryError("malloc of size 491584 failed"), MEMORY),
    (duckdb.OutOfMemoryException("Out of Memory Error: could not allocate"), MEMORY),
    (OSError(errno.ESTALE, "Stale file handle"), f"{DISK}Stale file handle"),
    (OSError("Error writing bytes to file. Detail: [errno 5] Input/output error"), f"{DISK}Input"),
    (PermissionError(errno.EACCES, "Permission denied", "/lab/x"), f"{DISK}Permission denied"),
    (PanicException("could not spawn threads: ThreadPoolBuildError { kind: IOError(Os {"), THREADS),
    (PanicException("failed to spawn polars-ooc cleaner thread: Os { code: 11"), THREADS),
    (
        to_jammi_error(
            duckdb.InvalidInputException(
                "Invalid Input Error: arrow_scan: get_next failed(): Unknown error: Failed to "
                "launch worker thread: Resource temporarily unavailable"
            ),
            StatementContext("FROM m"),
        ),
        THREADS,
    ),
]


def test_whatever_meets_an_exhausted_machine_is_one_error(ws, monkeypatch):
    """Also if there is too little memory to read the table of messages; then what Python itself
    says."""
    for error, said in EXHAUSTED:
        monkeypatch.setattr(Tables, "from_versions", Mock(side_effect=error))
        with pytest.raises(jl.ResourceExhausted, match=said):
            ws.tables()
    monkeypatch.setattr(Tables, "from_versions", Mock(side_effect=MemoryError()))
    for unread in (MemoryError(), OSError(errno.ENOMEM, "no memory")):
        monkeypatch.setattr(packaged_tables, "packaged_table", Mock(side_effect=unread))
        with pytest.raises(jl.ResourceExhausted, match=MEMORY):
            ws.tables()


def test_polars_without_its_library_is_said_to_be_loaded_in_part(tmp_path, monkeypatch):
    """It suppresses the error of the import."""

    def fail(_):
        raise NameError("name 'PyDataFrame' is not defined")

    with jl.open(tmp_path / "lab") as ws:
        rows = ws.sql("SELECT 1 AS a")
        monkeypatch.setattr(polars, "from_arrow", fail)
        with pytest.raises(jl.ResourceExhausted, match="loaded in part") as caught:
            rows.polars()
    assert caught.value.hint == "Restart the kernel."


@pytest.mark.parametrize(
    "line",
    [
        "accept: Too many open files (24)",
        "write: No space left on device",
        "can't start new thread",
        "Failed to launch worker thread: x",
        "Failed to allocate block",
    ],
)
def test_words_in_rows_and_names_tell_nothing_of_the_machine(tmp_path, line):
    """A log of another program holds such lines."""
    lab, log = tmp_path / "lab", pa.table({"line": [line, line]})
    (tmp_path / "log.csv").write_text(f'line\n"{line}"\n')
    with jl.open(lab) as ws:
        ws.sources.add("log", log)
        ws.mutable.create("seen", {"line": "string"}, primary_key="line")
        acts = [
            lambda: ws.sql("SELECT line::INT FROM log").fetchall(),
            lambda: ws.sql("SELECT error(line) FROM log").fetchall(),
            lambda: ws.sql(f'SELECT "{line}" FROM log'),
            lambda: ws.materialize("lines", "SELECT line FROM log", key="line"),
            lambda: ws.mutable["seen"].insert(log),
            lambda: ws.sources.add("gone", tmp_path / line),
            lambda: ws.sources.add(
                "typed", tmp_path / "log.csv", options={"types": {"line": "INTEGER"}}
            ),
        ]
        for number, act in enumerate(acts):
            with pytest.raises(jl.JammiError) as caught:
                act()
            assert not isinstance(caught.value, jl.ResourceExhausted), (number, caught.value)

"""Work that fails for want of space or of descriptors. A limit of file sizes is set in a process of
its own."""

import contextlib
import errno
import importlib
import itertools
import os
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import jammi_lab as jl
from jammi_lab.core.attribute_suggestions import missing_attribute_message
from jammi_lab.core.entry_points import package_entries
from jammi_lab.core.packaged_tables import packaged_table
from jammi_lab.core.suggestions import translate_advice
from jammi_lab.store.storage_errors import removal_error, storage_error
from jammi_lab.workspace.copy import copy_workspace

WRITE = """
import resource, signal, jammi_lab
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with jammi_lab.open("lab") as ws:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
    try:
        ws.materialize("t", "SELECT range AS k, md5(range::VARCHAR) AS v FROM range(1000000)")
    except jammi_lab.errors.ResourceExhausted as error:
        print(error.message)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(ws.materialize("t", "SELECT 1 AS k").outcome)
"""


FULL = """
import ctypes, itertools, os, jammi_lab
os.makedirs("disk")
if ctypes.CDLL(None, use_errno=True).mount(b"tmpfs", b"disk", b"tmpfs", 0, b"size=8m"):
    raise SystemExit(77)
fillers = itertools.count()
def fill():
    try:
        with open(f"disk/{next(fillers)}", "wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
    except OSError:
        pass
try:
    ws = jammi_lab.open("disk/lab")
    for number in range(4):
        ws.materialize("t", f"SELECT range AS k FROM range({number + 1})")
        ws.materialize(f"u{number}", f"SELECT range AS k FROM range({number + 10})")
    fill()
    try:
        ws.materialize("z", "SELECT 1 AS x")
    except jammi_lab.errors.ResourceExhausted:
        print("full")
    print(len(ws.expire("t")))
    ws.drop("u0")
    fill()
    ws.table("u1").drop()
    ws.close()
    fill()
    ws = jammi_lab.open("disk/lab")
    fill()
    ws.drop("t")
    print([table.name for table in ws.tables()], ws.fsck().orphans)
    ws.close()
    for number in range(next(fillers)):
        if os.path.exists(f"disk/{number}"):
            os.unlink(f"disk/{number}")
    with jammi_lab.open("disk/lab") as ws:
        print(os.stat("disk/lab/space.reserve").st_size, ws.recovery, ws.verify("u3"))
finally:
    ctypes.CDLL(None).umount2(b"disk", 2)
"""


FULL_RESULTS = """
import ctypes, os, jammi_lab, numpy, pyarrow
libc = ctypes.CDLL(None)
os.makedirs("lab/results")
if libc.mount(b"tmpfs", b"lab/results", b"tmpfs", 0, b"size=16m"):
    raise SystemExit(77)
def fill(spare):
    free = os.statvfs("lab/results")
    with open("lab/results/filler", "wb") as file:
        file.write(bytes(free.f_bavail * free.f_frsize - spare))
def data(seed):
    rows = numpy.random.default_rng(seed).normal(size=(3000, 16)).astype("float32")
    vectors = pyarrow.FixedSizeListArray.from_arrays(rows.ravel(), 16)
    return pyarrow.table({"id": range(3000), "text": [f"{seed} {n}" for n in range(3000)], "vec": vectors})
def longer(id, text):
    return {"n": text + "x"}
try:
    with jammi_lab.open("lab") as ws:
        ws.import_embeddings("v", data(0), key="id", vector="vec")
        ws.materialize("base", "SELECT range AS id, md5(range::VARCHAR) AS text FROM range(3000)")
        acts = {
            "materialize": lambda: ws.materialize("t", "SELECT id, text || 'x' AS text FROM jammi.base"),
            "step": lambda: ws.materialize("s", jammi_lab.PythonStep(lambda base: base.arrow(), inputs="base", version="1")),
            "import": lambda: ws.import_embeddings("i", data(1), key="id", vector="vec"),
            "embed": lambda: ws.embed("e", "base", key="id", text="text", model="hashing"),
            "lexical": lambda: ws.lexical("l", "base", key="id", text="text"),
            "graph": lambda: ws.neighbor_graph("g", "v", k=5),
            "projection": lambda: ws.projection("p", "v"),
            "map": lambda: ws.map("m", longer, "base", key="id", inputs=["id", "text"], version="1"),
        }
        before = len(ws.tables())
        for number, (name, act) in enumerate(acts.items()):
            for spare in (0, 20_000):
                fill(spare)
                try:
                    act()
                    print(name, "has room")
                except jammi_lab.ResourceExhausted:
                    pass
                os.unlink("lab/results/filler")
            assert len(ws.tables()) == before + number, name
            act()
        assert not ws.recovery and not ws.fsck(deep=True), ws.fsck(deep=True)
finally:
    libc.umount2(b"lab/results", 2)
"""


FULL_LOG = """
import ctypes, os, jammi_lab
libc = ctypes.CDLL(None)
os.makedirs("disk")
if libc.mount(b"tmpfs", b"disk", b"tmpfs", 0, b"size=20m"):
    raise SystemExit(77)
try:
    with jammi_lab.open("disk/lab") as ws:
        for number in range(9):
            ws.materialize(f"t{number}", "SELECT 1 AS n")
        ws.topics.register("news", {"text": "VARCHAR"})
        try:
            while True:
                ws.topics.publish("news", [{"text": "x" * 1_000_000}])
        except jammi_lab.ResourceExhausted:
            pass
    for number in range(9):
        with jammi_lab.open("disk/lab") as ws:
            ws.drop(f"t{number}")
            print(len(ws.tables()), ws.recovery, end="; ")
finally:
    libc.umount2(b"disk", 2)
"""


FULL_BACKUP = """
import ctypes, os, jammi_lab
libc = ctypes.CDLL(None)
os.makedirs("disk")
if libc.mount(b"tmpfs", b"disk", b"tmpfs", 0, b"size=100k"):
    raise SystemExit(77)
try:
    with jammi_lab.open("lab") as ws:
        try:
            ws.backup("disk/b.sqlite3")
        except jammi_lab.ResourceExhausted as error:
            print(error.message)
        print(os.listdir("disk"))
finally:
    libc.umount2(b"disk", 2)
"""


needs_a_mount = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs a mount"
)


def run_on_a_disk(script, folder):
    """What a script prints that mounts a disk of its own; it ends with 77 where it may not."""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode == 77:
        pytest.skip("this process may not mount")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs_a_mount
def test_a_backup_to_a_full_disk_names_it_and_leaves_nothing(tmp_path):
    said, left = run_on_a_disk(FULL_BACKUP, tmp_path).splitlines()
    assert said.endswith("disk/b.sqlite3 could not be written: No space left on device.")
    assert left == "[]"


NO_INODES = """
import ctypes, itertools, jammi_lab, os
libc = ctypes.CDLL(None)
os.makedirs("disk")
if libc.mount(b"tmpfs", b"disk", b"tmpfs", 0, b"nr_inodes=40"):
    raise SystemExit(77)
try:
    jammi_lab.open("disk/lab").close()
    os.unlink("disk/lab/space.reserve")  # which gives up an inode, too
    try:
        for number in itertools.count():
            open(f"disk/{number}", "w").close()
    except OSError:
        pass
    for free in range(4):
        try:
            with jammi_lab.open("disk/lab") as ws:
                ws.backup("disk/b.sqlite3")
                print("done")
        except jammi_lab.JammiError as error:
            print(error.message, error.hint)
        os.unlink(f"disk/{free}")
finally:
    libc.umount2(b"disk", 2)
"""


@needs_a_mount
def test_a_disk_without_inodes_is_named(tmp_path):
    said = run_on_a_disk(NO_INODES, tmp_path).splitlines()
    assert said and all("space" in line or "inodes" in line for line in said), said


READ_ONLY = """
import ctypes, os, jammi_lab
libc = ctypes.CDLL(None)
os.makedirs("disk")
if libc.mount(b"tmpfs", b"disk", b"tmpfs", 1, b""):  # MS_RDONLY
    raise SystemExit(77)
try:
    with jammi_lab.open("lab") as ws:
        table = ws.materialize("t", "SELECT 1 AS n")
        for act in (lambda: ws.backup("disk/b.sqlite3"), lambda: table.export("disk/t.csv")):
            try:
                act()
            except jammi_lab.JammiError as error:
                print(error.message)
finally:
    libc.umount2(b"disk", 2)
"""


@needs_a_mount
def test_what_is_written_to_a_read_only_disk_is_a_typed_error(tmp_path):
    """There the removal of a file that is missing fails, too."""
    said = run_on_a_disk(READ_ONLY, tmp_path).splitlines()
    assert len(said) == 2 and all("Read-only file system" in line for line in said)


@pytest.mark.parametrize("verb", ["rebuild", "copy"])
def test_a_new_catalog_whose_log_stays_beside_it_is_not_put_in_place(tmp_path, monkeypatch, verb):
    """On a full disk SQLite closes without a word, and its log stays. Here another reader keeps
    it."""
    lab, filler = tmp_path / "lab", "fill_catalog" if verb == "rebuild" else "rebase_sources"
    module = importlib.import_module(
        "jammi_lab.store.rebuild" if verb == "rebuild" else "jammi_lab.workspace.copy"
    )
    fill, readers = getattr(module, filler), list[sqlite3.Connection]()

    def fill_and_read(catalog, *rest):
        readers.append(sqlite3.connect(catalog.database.dialect.file))
        readers[0].execute("SELECT count(*) FROM sqlite_schema").fetchone()
        return fill(catalog, *rest)

    def act():
        if verb == "rebuild":
            return jl.rebuild(lab)
        with jl.open(lab) as ws:
            return copy_workspace(ws, tmp_path / "copy")

    with jl.open(lab) as ws:
        ws.materialize("t", "SELECT 1 AS n")
    monkeypatch.setattr(module, filler, fill_and_read)
    with pytest.raises(jl.ResourceExhausted, match="could not be written as one file"):
        act()
    readers[0].close()
    monkeypatch.undo()
    assert not (tmp_path / "copy").exists()
    assert not list(lab.glob(".catalog*"))
    with jl.open(lab) as ws:
        assert ws.verify("t") == jl.Match()
    act()


@needs_a_mount
def test_a_log_of_the_catalog_that_filled_the_disk_takes_none_of_the_reserve(tmp_path):
    """A checkpoint would: it stops half-way, and the log stays."""
    assert run_on_a_disk(FULL_LOG, tmp_path) == "".join(
        f"{8 - n} recovery: nothing to do; " for n in range(9)
    )


@needs_a_mount
def test_a_full_disk_is_a_typed_error_of_every_producer_and_leaves_nothing(tmp_path):
    assert run_on_a_disk(FULL_RESULTS, tmp_path) == ""


@needs_a_mount
def test_a_full_disk_lets_expire_drop_and_open_succeed(tmp_path):
    full, expired, left, after = run_on_a_disk(FULL, tmp_path).splitlines()
    assert (full, expired, left) == ("full", "3", "['u3', 'u2'] []")
    assert after.startswith("1048576") and after.endswith("match")


def test_a_parquet_file_that_exceeds_the_limit_of_its_process_is_a_typed_error(run_python):
    message, outcome = run_python(WRITE).stdout.splitlines()
    assert "No space is left" in message and "too large" in message and outcome == "computed"


@contextlib.contextmanager
def no_descriptors(spare: int) -> Iterator[None]:
    """This process can open only `spare` more files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir("/proc/self/fd")))
    held: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 24, hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                held.append(os.dup(0))
        for _ in range(spare):
            os.close(held.pop())
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in held:
            os.close(descriptor)


FIRST_STATEMENT = """
import jammi_lab as jl
from jammi_lab.core.attribute_suggestions import missing_attribute_message
from jammi_lab.core.packaged_tables import packaged_table
from jammi_lab.core.suggestions import translate_advice
from jammi_lab.store.storage_errors import removal_error, storage_error
from tests.store.test_full_disk import no_descriptors

with jl.open("lab") as ws:
    for spare in range(4):
        try:
            with no_descriptors(spare):
                ws.sql("SELECT 1").fetchall()
        except jl.ResourceExhausted as error:
            print(error.message)
    print(ws.sql("SELECT 1").fetchall())
"""


LOOK_AT_DELTA = """
import deltalake, pyarrow
import jammi_lab as jl
from tests.store.test_full_disk import no_descriptors

deltalake.write_deltalake("delta", pyarrow.table({"a": [1]}))
with jl.open("lab") as ws:
    ws.sources.add("d", "delta")
    for spare in range(4, 20, 2):
        with no_descriptors(spare):
            try:
                ws.sources["d"].preview(1)
            except jl.JammiError:
                pass
    print(len(ws.sources["d"].preview(1)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_look_at_a_delta_table_with_few_descriptors_does_not_end_the_process(run_python):
    assert run_python(LOOK_AT_DELTA, start=True).stdout == "1\n"


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_first_statement_without_descriptors_does_not_end_the_process(run_python):
    """DuckDB ends the process when it cannot read the limits of its control group."""
    *refusals, rows = run_python(FIRST_STATEMENT, start=True).stdout.splitlines()
    assert rows == "[(1,)]"
    assert len(refusals) == 4
    assert refusals[0] == "A part of jammi_lab cannot be loaded: Too many open files."
    assert refusals[-1] == "DuckDB cannot be opened: too many open files."


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_advice_stays_as_it_is_when_no_descriptor_is_left_to_read_its_table():
    packaged_table.cache_clear()
    with no_descriptors(0):
        errors = [
            storage_error(OSError(errno.EMFILE, "Too many open files"), "t"),
            removal_error(OSError(errno.ENFILE, "Too many open files"), "t"),
            storage_error(OSError("DuckDB: Too many open files"), "t"),
        ]
        advice = translate_advice('ws.table("t")', "cells")
        with pytest.raises(AttributeError, match="Workspace has no attribute 'query'"):
            raise AttributeError(missing_attribute_message("Workspace", "query", ["sql"]))
    assert {error.message for error in errors} == {
        "The files of 't' cannot be opened: too many open files."
    }
    assert advice == 'ws.table("t")'
    assert translate_advice('ws.table("t")', "cells") == "jammi.t"


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_no_descriptor_left_is_named_and_damages_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("p.csv").write_text("x\n1\n")
    pq.write_table(pa.table({"x": [1]}), "q.parquet")
    with jl.open("lab") as ws:
        ws.sources.add("p", "p.csv")
        ws.sources.add("q", "q.parquet")
        ws.materialize("t", "SELECT x FROM p")
        ws.sources.add("texts", pa.table({"id": [1, 2], "text": ["an oak", "a lime"]}))
        ws.lexical("words", "texts", key="id", text=["text"])
        ws.embed("vectors", "texts", key="id", text=["text"], model="hashing")
        acts = [
            lambda: ws.search("words", "oak").arrow(),
            lambda: ws.search("vectors", "oak").arrow(),
            lambda: ws.sql("SELECT x FROM q").arrow(),
            lambda: ws.sql("SELECT x FROM jammi.t").arrow(),
            lambda: ws.materialize("u", "SELECT x + 1 AS x FROM p", cache="bypass"),
            lambda: ws.table("t").read().arrow(),
            lambda: ws.verify("t"),
            lambda: jl.open("lab").close(),
            ws.status,
            ws.plan,
            lambda: repr(ws.lineage()),
            lambda: ws.mutable.drop(
                ws.mutable.create(f"m{len(refusals)}", {"k": "int64"}, primary_key="k").name
            ),
        ]
        refusals = list[str]()
        for spare in range(5):
            for act in acts:
                package_entries.cache_clear()
                try:
                    with no_descriptors(spare):
                        act()
                except jl.ResourceExhausted as error:
                    refusals.append(str(error))
        assert len(refusals) > len(acts)
        assert all("oo many open files" in refusal for refusal in refusals)
        assert ws.verify("t") == jl.Match() and isinstance(ws.staleness("t"), jl.Fresh)
        jl.open("lab").close()  # settles what opens that failed left
    with jl.open("lab", settings={"look.racy_seconds": 0}) as again:
        again.status()  # then only the footer has to be read
        with (
            no_descriptors(0),
            pytest.raises(jl.ResourceExhausted, match="A file cannot be opened: too many"),
        ):
            again.projection("points", "vectors")


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_catalog_for_which_too_few_descriptors_are_left_is_no_unreadable_one(tmp_path):
    jl.open(tmp_path / "lab").close()
    for spare, name in itertools.product(range(3), ("lab", "new")):
        with (
            no_descriptors(spare),
            pytest.raises(jl.ResourceExhausted, match="too many open files"),
        ):
            jl.open(tmp_path / name)
    jl.open(tmp_path / "lab").close()

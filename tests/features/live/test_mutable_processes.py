"""Other processes: they write at once and lose nothing, and one that is killed in the middle of
anything leaves all of it or nothing."""

import pytest

import jammi_lab as jl
from tests.inside import services_of
from tests.sizes import product

ADD = """
import sys, jammi_lab as jl
with jl.open(sys.argv[1]) as ws:
    print("open", flush=True)
    sys.stdin.readline()
    for n in range(int(sys.argv[2])):
        ws.sql("UPDATE mutable.counter SET n = n + 1")
        ws.mutable["log"].insert([{"who": sys.argv[3], "n": n}])
"""
DIE = """
import os, signal, sys, jammi_lab as jl
from jammi_lab.storage.files import install_fault_hook
folder, point, what = sys.argv[1:]
with jl.open(folder) as ws:
    def hook(name):
        if name == point:
            os.kill(os.getpid(), signal.SIGKILL)
    table = ws.mutable["t"]
    install_fault_hook(hook)
    if what == "create":
        ws.mutable.create("new", {"id": "int64"}, primary_key=["id"])
    elif what == "drop":
        ws.mutable.drop("t")
    elif what == "insert":
        table.insert([{"id": n, "v": "new"} for n in range(100, 1100)])
    else:
        ws.sql(what)
"""
ROWS = [{"id": n, "v": "old"} for n in range(10)]


def check_that_two_writers_lose_no_update(ws, tmp_path, start_python):
    ws.mutable.create("counter", {"id": "int64", "n": "int64"}, primary_key=["id"]).insert(
        [{"id": 1, "n": 0}]
    )
    ws.mutable.create("log", {"who": "string", "n": "int64"}, primary_key=["who", "n"])
    two = [start_python(ADD, tmp_path / "lab", 12, who) for who in "ab"]
    for each in two:
        assert each.stdout.readline() == "open\n"
    for each in two:
        each.stdin.write("go\n")
        each.stdin.flush()
    assert [each.wait(60) for each in two] == [0, 0]
    assert (
        ws.mutable["counter"].read().fetchall() == [(1, 24)] and ws.mutable["counter"].version == 25
    )
    assert ws.mutable["log"].version == len(ws.mutable["log"]) == 24


def test_two_processes_that_write_at_once_lose_no_update(ws, tmp_path, start_python):
    check_that_two_writers_lose_no_update(ws, tmp_path, start_python)


@product
@pytest.mark.parametrize("point", ["catalog:before-commit", "catalog:after-commit"])
@pytest.mark.parametrize(
    "what",
    [
        "create",
        "drop",
        "insert",
        "UPDATE mutable.t SET v = 'new'",
        "DELETE FROM mutable.t WHERE id > 3",
    ],
)
def test_a_kill_leaves_all_of_a_change_or_nothing(tmp_path, run_python, point, what):
    with jl.open(tmp_path / "lab") as ws:
        ws.mutable.create("t", {"id": "int64", "v": "string"}, primary_key=["id"]).insert(ROWS)
    run_python(DIE, str(tmp_path / "lab"), point, what, check=False)
    done = point == "catalog:after-commit"
    with jl.open(tmp_path / "lab") as ws:
        tables = {m.name: (m.version, len(m), len(m.read())) for m in ws.mutable.list()}
        assert ws.sql(
            "SELECT name, version FROM jammi_catalog.mutable_tables ORDER BY 1"
        ).fetchall() == [(n, v) for n, (v, *_) in sorted(tables.items())]
        before = {"t": (1, 10, 10)}
        after = {
            "create": before | {"new": (0, 0, 0)},
            "drop": {},
            "insert": {"t": (2, 1010, 1010)},
            "UPDATE mutable.t SET v = 'new'": {"t": (2, 10, 10)},
            "DELETE FROM mutable.t WHERE id > 3": {"t": (2, 4, 4)},
        }
        assert tables == (after[what] if done else before)
        if "t" in tables:
            assert len(ws.mutable["t"].changes(1)) == (
                0
                if not done or what == "create"
                else {"insert": 1000}.get(what, 10 if "UPDATE" in what else 6)
            )
            ws.mutable["t"].insert([{"id": -1, "v": "goes on"}])
        names = services_of(ws).catalog.database
        with names.read() as tx:
            made = {
                name
                for (name,) in tx.fetch(
                    "SELECT name FROM sqlite_master WHERE name LIKE 'log\\_%' ESCAPE '\\'"
                )
            }
        assert len(made) == len(tables)


def test_a_forked_child_may_not_touch_the_tables_of_its_parent(tmp_path, run_python):
    code = """
import os, sys, jammi_lab as jl
with jl.open(sys.argv[1]) as ws:
    t = ws.mutable.create("t", {"id": "int64"}, primary_key=["id"]); t.insert([{"id": 1}]); t.read().arrow()
    child = os.fork()
    if child == 0:
        said = 0
        for act in (lambda: t.insert([{"id": 2}]), t.read, lambda: ws.sql("DELETE FROM mutable.t"), lambda: ws.mutable.drop("t"), lambda: t.version):
            try:
                act()
            except jl.ForkedWorkspace:
                said += 1
        os._exit(said)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), t.version)
"""
    assert run_python(code, str(tmp_path / "lab")).stdout.split() == ["5", "1"]

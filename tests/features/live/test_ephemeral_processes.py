"""Ephemeral sessions when their kernel dies: the next one ends them, tells it, and leaves no value.
Over both kinds of catalog."""

import contextlib
import json
import os
import signal
import tempfile

import pytest

import jammi_lab as jl
from jammi_lab.catalog.logs import entries_table
from tests.features.live.test_ephemeral_sessions import AUDIT, CANARY, files_with
from tests.inside import services_of
from tests.services.servers import run_postgres
from tests.sizes import product
from tests.waiting import until

HOLDER = """
import sys, jammi_lab as jl
folder, catalog, tenant = sys.argv[1], sys.argv[2] or None, sys.argv[3]
ws = jl.open(folder, catalog=catalog, tenant=tenant)
s = ws.ephemeral(timeout=600.0)
s.create("scratch", {"id": "int64", "word": "string"}, primary_key=["id"])
s.insert("scratch", [{"id": n, "word": "xyzzy-canary-value-plugh" * 50} for n in range(200)])
print(s.id, s.table_ref("scratch"), flush=True)
for line in sys.stdin:
    exec(line)
    print("done", flush=True)
"""


@pytest.fixture
def holder(place, start_python):
    """Starts a kernel that holds a session with rows: `holder(tenant)` → process, id,
    reference."""

    def start(tenant="acme"):
        process = start_python(HOLDER, *place, tenant)
        return process, *process.stdout.readline().split()

    return start


def tell(process, line):
    """Let a kernel run a line."""
    process.stdin.write(f"{line}\n")
    process.stdin.flush()


def run_until(process, place, point, line):
    """Let a kernel run a line and die at a point of it."""
    with dying(place):
        hook = f"lambda passed: os._exit(9) if passed == {point!r} else None"
        tell(
            process,
            f"import os, jammi_lab.storage.files as f; f.install_fault_hook({hook}); {line}",
        )
        assert process.wait(30) == 9


def held_locks(place):
    return run_postgres(
        place[1],
        "SELECT count(*) FROM pg_locks JOIN pg_database d ON d.oid = database "
        "WHERE locktype = 'advisory' AND mode = 'ExclusiveLock' AND datname = current_database()",
    )[0][0]


@contextlib.contextmanager
def dying(place):
    """A block in which a kernel dies. A server notices it a moment later, and until then it counts
    as alive."""
    before = held_locks(place) if place[1] else 0
    yield
    assert not place[1] or until(lambda: held_locks(place) < before)


def kill(process, place):
    with dying(place):
        process.kill()
        process.wait()


def events(ws, tenant="acme"):
    with ws.tenant(tenant):
        told = [
            json.loads(row)
            for event in ws.topics.replay(AUDIT)
            for row in event.batch["record"].to_pylist()
        ]
    return [(each["session_id"], each["event"], each["deleted_row_count"]) for each in told]


def reopened(place, **how):
    return jl.open(place[0], catalog=place[1] or None, **how)


def test_the_next_open_ends_a_dead_kernels_session(place, holder):
    process, session, reference = holder()
    kill(process, place)
    if not place[1]:
        assert files_with(place[0], CANARY)
    for _ in range(2):
        with reopened(place) as ws:
            assert events(ws) == [(session, "opened", 0), (session, "abandoned", 200)]
            with ws.tenant("acme"):
                assert ws.sessions() == []
                with pytest.raises(jl.JammiError):
                    ws.sql(f"SELECT * FROM {reference}")
            assert files_with(place[0], CANARY) == []


def test_what_a_dead_kernels_statement_had_spilled_goes_with_its_session(
    place, holder, tmp_path, monkeypatch
):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    process, *_ = holder()
    tell(
        process,
        "(ws._services.engine.instances_of('acme').spill / 'duckdb_temp_storage_DEFAULT-0.tmp').write_text('xyzzy-canary-value-plugh')",
    )
    assert process.stdout.readline() == "done\n"
    kill(process, place)
    assert files_with(tmp_path / "tmp", CANARY)
    with reopened(place):
        assert files_with(tmp_path / "tmp", CANARY) == []


def test_an_open_kernel_ends_an_overdue_session_of_a_dead_one_by_itself(place, holder, monkeypatch):
    monkeypatch.setattr("jammi_lab.features.live.ephemeral_sessions.WATCH_SECONDS", 0.1)
    with reopened(place) as ws:
        alive, (process, session, _) = holder("bolt"), holder("acme")
        kill(process, place)
        assert events(ws) == [(session, "opened", 0)]
        sessions = services_of(ws).catalog.sessions
        # A deadline of a few seconds might pass before its kernel is killed.
        assert sessions.set_deadline(sessions.get(session, "acme"), "2026-01-01T00:00:00.000000Z")
        assert until(lambda: (session, "abandoned", 200) in events(ws), 40)
        assert events(ws, "bolt") == [(alive[1], "opened", 0)]


def test_only_dead_kernels_sessions_are_ended_and_each_is_told_to_its_tenant(place, holder):
    dead, alive, stopped = holder("acme"), holder("bolt"), holder("acme")
    os.kill(stopped[0].pid, signal.SIGSTOP)
    kill(dead[0], place)
    with reopened(place) as ws:
        assert {e[:2] for e in events(ws, "acme")} == {
            (dead[1], "opened"),
            (stopped[1], "opened"),
            (dead[1], "abandoned"),
        }
        assert [e[1] for e in events(ws, "bolt")] == ["opened"]
        with ws.tenant("acme"):
            assert [each.id for each in ws.sessions()] == [stopped[1]]
            assert ws.sql(f"SELECT count(*) FROM {stopped[2]}").fetchall() == [(200,)]
        os.kill(stopped[0].pid, signal.SIGCONT)
        for process, *_ in (alive, stopped):
            tell(process, "s.close()")
            assert process.stdout.readline() == "done\n"
        assert [e[1] for e in events(ws, "bolt")] == ["opened", "closed"]
        assert files_with(place[0], CANARY) == []


@pytest.mark.parametrize("point", ["catalog:before-commit", "catalog:after-commit"])
def test_a_kernel_that_dies_while_it_closes_has_closed_or_not(place, holder, point):
    process, session, _ = holder()
    run_until(process, place, point, "s.close()")
    with reopened(place) as ws:
        ended = "abandoned" if point == "catalog:before-commit" else "closed"
        assert events(ws) == [(session, "opened", 0), (session, ended, 200)]
        assert files_with(place[0], CANARY) == []


@product
@pytest.mark.parametrize("point", ["catalog:before-commit", "catalog:after-commit"])
@pytest.mark.parametrize(
    "act",
    [
        "ws.ephemeral()",
        's.create("more", {"id": "int64"}, primary_key=["id"])',
        's.insert("scratch", [{"id": n, "word": "xyzzy-canary-value-plugh"} for n in range(1000, 1500)])',
        "s.extend(100)",
    ],
    ids=["open", "create", "insert", "extend"],
)
def test_a_kernel_that_dies_in_the_middle_of_anything_leaves_no_session_and_no_table(
    place, holder, act, point
):
    process, session, _ = holder()
    run_until(process, place, point, act)
    done = point == "catalog:after-commit"
    with reopened(place) as ws:
        told = events(ws)
        assert [each for each in told if each[0] == session] == [
            (session, "opened", 0),
            (session, "abandoned", 700 if done and "insert" in act else 200),
        ]
        assert [each[1] for each in told if each[0] != session] == (
            ["opened", "abandoned"] if done and "ephemeral" in act else []
        )
        with services_of(ws).catalog.database.read() as tx:
            left = tx.fetch("SELECT log_id, kind FROM logs")
            question = (
                "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"
                if services_of(ws).catalog.database.dialect.file is None
                else "SELECT name FROM sqlite_master WHERE type = 'table'"
            )
            names = {name for (name,) in tx.fetch(question) if name.startswith("log_")}
            assert {kind for _, kind in left} == {"topic"}
            assert names == {entries_table(log_id) for log_id, _ in left}
        assert files_with(place[0], CANARY) == []


def test_two_kernels_that_open_at_once_end_it_once(place, holder, start_python):
    process, session, _ = holder()
    kill(process, place)
    code = "import sys, jammi_lab as jl; jl.open(sys.argv[1], catalog=sys.argv[2] or None).close()"
    children = [start_python(code, *place) for _ in range(2)]
    assert [child.wait(60) for child in children] == [0, 0]
    with reopened(place) as ws:
        assert events(ws) == [(session, "opened", 0), (session, "abandoned", 200)]
